"""Sentence encoders: vectors, and what can be done with vectors alone."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar

import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor, nn

from backprop.collate import Features
from backprop.engines.torch import Split, TorchEngine
from backprop.errors import ArtefactError
from backprop.handlers import emotions
from backprop.handlers.classifier import EmotionClasses, TextClasses
from backprop.handlers.extract import Extracts
from backprop.handlers.label_vectors import Calibration, LabelVectors, PhraseEmotions
from backprop.handlers.text_vectors import TextVectors
from backprop.handlers.tokens import Tokens
from backprop.models import starter_adapters
from backprop.models.base import PathModel
from backprop.models.heads import load_heads, save_heads
from backprop.models.hf import TEXT_INPUTS, kept_tokens, read_tokenizer, write_tokenizer
from backprop.models.places import find_folder
from backprop.models.training_rows import (
    Classes,
    class_loss,
    class_row,
    class_text,
    limit_of,
    padded,
    text_of,
    text_row,
    tokens_over,
)

__all__ = ["STModel"]

TEMPLATES = ("{}", "This is about {}.")
"""Measured best on average over eight sets: bench/quality/zero_shot_text.py."""

CALIBRATION = Calibration(slope=13.0, middle=0.17, temperature=0.055)
"""Fitted by log-loss for all-minilm-l6-v2: bench/quality/zero_shot_text.py."""

BERT_RANGE = 0.02
"""Standard deviation of BERT's new weights (Devlin et al. 2018, arXiv:1810.04805)."""


class STModel(PathModel):
    """Any sentence-transformers folder, whatever its modules.

    Besides vectors it does zero-shot classification and emotion by the likeness of text and label
    vectors, and summaries made of the text's own sentences. Finetuned on classes or emotions, it
    answers with those by a linear layer on the vectors.

    Args:
        model_path: a folder, a catalogue name, or a hub repository.
        name: see ``BaseModel``.
        description: see ``BaseModel``.
        tasks: a part of those it can do; all by default.
        details: see ``BaseModel``.
        prompt: put before every text; by default what the folder says.
        templates: sentences a label is put in for zero-shot classification.
        calibration: ``slope``, ``middle`` and ``temperature`` of ``Calibration``.
        classes: task to ``labels`` and ``multi_label`` of the heads in ``classifier.safetensors``.
        adapter: one of those that ship with the library, trained on this very folder.
        device: such as ``"cpu"`` or ``"cuda:0"``.
    """

    HANDLERS: ClassVar[Mapping[str, str]] = {
        "text-vectorisation": "text_vectors",
        "text-classification": "text_classification",
        "emotion": "emotions",
        "summarisation": "extracts",
    }
    LEARNS = ("text-vectorisation", "text-classification", "emotion")

    def __init__(
        self,
        model_path: str | Path,
        name: str | None = None,
        description: str | None = None,
        tasks: list[str] | None = None,
        details: Mapping[str, Any] | None = None,
        prompt: str | None = None,
        templates: tuple[str, ...] | list[str] = TEMPLATES,
        calibration: Mapping[str, float] | None = None,
        classes: Mapping[str, Mapping[str, Any]] | None = None,
        adapter: str | None = None,
        device: str | torch.device | None = None,
    ) -> None:
        folder = find_folder(model_path)
        super().__init__(
            folder,
            None,
            name,
            description,
            tasks,
            details,
            init_model=_load,
            device=device,
        )
        self.tokenizer = self.model.tokenizer
        self.tokenizer_json = read_tokenizer(folder)
        advised = self.model.prompts.get(self.model.default_prompt_name or "", "")
        self.prompt = advised if prompt is None else prompt
        self.templates = tuple(templates)
        self.calibration = CALIBRATION if calibration is None else Calibration(**calibration)
        self.classes: dict[str, Classes] = {}
        self.heads = nn.ModuleDict()
        if classes:
            self._read_heads(folder, classes)
        if adapter is not None:
            self._adapt(starter_adapters.read(adapter))

    def _adapt(self, adapter: starter_adapters.Adapter) -> None:
        """Become what the adapter was trained to be; saved, the model is whole without it."""
        starter_adapters.add(adapter, self.model[0].auto_model)
        for task, own in adapter.details["classes"].items():
            labels = dict(enumerate(own["labels"]))
            self.pre_finetuning(labels, own["multi_label"], task=task)
            self.heads[task].load_state_dict(dict(adapter.head))

    def settings(self) -> dict[str, Any]:
        """Return prompt, templates, calibration and classes."""
        return {
            "classes": {
                task: {"labels": list(own.labels), "multi_label": own.multi_label}
                for task, own in self.classes.items()
            },
            "prompt": self.prompt,
            "templates": list(self.templates),
            "calibration": {
                "slope": self.calibration.slope,
                "middle": self.calibration.middle,
                "temperature": self.calibration.temperature,
            },
        }

    def save_files(self, folder: Path) -> None:
        """Write a sentence-transformers folder, and beside its files the heads, if any."""
        self.model.save_pretrained(str(folder), create_model_card=False)
        write_tokenizer(self.tokenizer_json, folder)
        save_heads(dict(self.heads.items()), folder)

    def tokens(self) -> Tokens:
        """Return the torch-free tokenizer."""
        return kept_tokens(self, self.model.max_seq_length or 512)

    def text_vectors(self) -> TextVectors:
        """Return the handler of ``text-vectorisation``."""
        return TextVectors(
            TorchEngine(self, {"text_vectors": self._vectors}, {"text_vectors": self._split()}),
            self.tokens(),
            dimensions=self.model.get_embedding_dimension(),
            normalise=self._normalises(),
            prompt=self.prompt,
        )

    def text_classification(self) -> TextClasses | LabelVectors:
        """Return the handler of ``text-classification``: for learnt labels, or for any."""
        if "text-classification" in self.classes:
            return TextClasses(**self._head_options("text-classification"))
        return LabelVectors(
            self.text_vectors(), templates=self.templates, calibration=self.calibration
        )

    def emotions(self) -> EmotionClasses | PhraseEmotions:
        """Return the handler of ``emotion``: for learnt emotions, or for the library's own."""
        if "emotion" in self.classes:
            return EmotionClasses(**self._head_options("emotion"))
        return PhraseEmotions(
            self.text_vectors(),
            phrases=emotions.PHRASES,
            offsets=emotions.OFFSETS,
            calibration=emotions.CALIBRATION,
        )

    def extracts(self) -> Extracts:
        """Return the handler of ``summarisation``."""
        return Extracts(self.text_vectors())

    def _vectors(self, **tensors: Tensor) -> Tensor:
        vectors: Tensor = self.model(tensors)["sentence_embedding"]
        return vectors

    def _split(self, *more: nn.Module) -> Split | None:
        """Return the vectors as an encoder and simple layers, and ``more`` after these.

        None where the folder has other modules.
        """
        first, *rest = self.model
        pool = POOLS.get(getattr(rest[0], "pooling_mode", "")) if rest else None
        encoder = getattr(first, "auto_model", None)
        if pool is None or encoder is None or not getattr(rest[0], "include_prompt", True):
            return None
        layers: list[nn.Linear | str] = []
        for module in [*rest[1:], *more]:
            kind = type(module).__name__
            if kind == "Normalize":
                layers.append("unit")
            elif isinstance(module, nn.Linear):
                layers.append(module)
            else:
                return None
        return Split(encoder, pool, tuple(layers))

    def _normalises(self) -> bool:
        return any(type(module).__name__ == "Normalize" for module in self.model)

    def _logits(self, task: str, **tensors: Tensor) -> Tensor:
        logits: Tensor = self.heads[task](self._vectors(**tensors))
        return logits

    def _head_options(self, task: str) -> dict[str, Any]:
        return {
            "engine": TorchEngine(
                self,
                {"logits": functools.partial(self._logits, task)},
                {"logits": self._split(self.heads[task])},
            ),
            "tokens": self.tokens(),
            "prompt": self.prompt,
            **asdict(self.classes[task]),
        }

    # --- Finetuning ----------------------------------------------------------------------

    def classifies(self, task: str) -> bool:
        """Return whether ``task`` is learnt as classes, so that ``pre_finetuning`` needs labels."""
        return task in CLASS_TASKS

    def pre_finetuning(
        self,
        labels: Mapping[int, str] | None = None,
        multi_label: bool = False,
        *,
        task: str = "text-classification",
    ) -> None:
        """Give ``task`` a head for ``labels``; one that has these very labels already stays.

        Args:
            labels: number of the output, from 0 on, to its name; none for vectors.
            multi_label: whether a text may have several labels, or none.
            task: ``text-classification`` or ``emotion``; the other's head stays as it is.

        Raises:
            InputError: ``labels`` are no such numbers and names.
        """
        if labels is None:
            return
        classes = Classes.read(labels, multi_label)
        known = self.classes.get(task)
        if known is None or known.labels != classes.labels:
            self.heads[task] = self._new_head(len(classes.labels))
        self.classes[task] = classes
        self.forget_handlers()

    def process_batch(self, params: Mapping[str, Any], task: str) -> Features:
        """Return a row's text as tokens, cut at its limit; for classes ``labels`` and ``task``.

        Args:
            params: one row; for vectors ``max_length`` may be among its keys.
            task: one of ``LEARNS``.

        Raises:
            UnsupportedTaskError: ``task`` is another.
            InputError: a value is missing or wrong, or there is no head for its label yet.
        """
        tokens = self.tokens()
        if task in CLASS_TASKS:
            classes = self.classes.get(task, Classes(()))
            return {**class_row(tokens, params, task, classes, self.prompt), "task": task}
        if task not in self.LEARNS:
            return super().process_batch(params, task)
        limit = limit_of(params, "max_length", tokens.max_length)
        return text_row(tokens, self.prompt + text_of(params, "text"), limit)

    def collate(self, rows: Sequence[Features]) -> Mapping[str, Any]:
        """Return the rows as one batch, padded as the tokenizer pads."""
        return padded(self.tokens(), rows)

    def training_step(self, batch: Mapping[str, Any]) -> Tensor:
        """Return the mean loss of a row with ``labels``, else the vectors, shape (n, dimensions).

        See ``class_loss``.
        """
        tensors = {name: batch[name] for name in TEXT_INPUTS if name in batch}
        if "labels" not in batch:
            return self._vectors(**tensors)
        logits = self._logits(batch["task"][0], **tensors)
        return class_loss(logits, batch["labels"], self.class_weights)

    def cut(self, params: Mapping[str, Any], task: str) -> int:
        """Return how many tokens ``process_batch`` cuts off a row's text."""
        tokens = self.tokens()
        if task in CLASS_TASKS:
            text, limit = class_text(tokens, params, task)
        else:
            text = text_of(params, "text")
            limit = limit_of(params, "max_length", tokens.max_length)
        return tokens_over(tokens, self.prompt + text, limit)

    def head(self, task: str) -> nn.Linear | None:
        """Return the linear layer that makes the task's logits of vectors, if it has one."""
        found = self.heads[task] if task in self.classes else None
        return found if isinstance(found, nn.Linear) else None

    def _new_head(self, outputs: int) -> nn.Linear:
        """Return a head whose first logits are spread as those of BERT's new heads are.

        There the inputs' norm is about the square root of their number. Vectors here mostly have
        norm 1, so the weights are larger by that factor; else all gradients would start near zero.
        """
        width = int(self.model.get_embedding_dimension())
        head = nn.Linear(width, outputs)
        scale = math.sqrt(width) if self._normalises() else 1.0
        nn.init.normal_(head.weight, std=BERT_RANGE * scale)
        nn.init.zeros_(head.bias)
        return head.to(self.device)

    def _read_heads(self, folder: Path, classes: Mapping[str, Mapping[str, Any]]) -> None:
        """Take the heads that ``save_files`` wrote."""
        for task, own in classes.items():
            self.classes[task] = Classes(tuple(own["labels"]), bool(own["multi_label"]))
        outputs = {task: len(own.labels) for task, own in self.classes.items()}
        width = int(self.model.get_embedding_dimension())
        self.heads.update(load_heads(folder, width, outputs))
        self.heads.to(self.device)


POOLS = {"mean": "mean", "cls": "first"}
"""How sentence-transformers calls a way to pool, to what ``Split`` calls it."""

CLASS_TASKS = ("text-classification", "emotion")


def _load(path: str) -> SentenceTransformer:
    _check_modules(Path(path))
    return SentenceTransformer(
        path,
        device="cpu",
        local_files_only=True,
        trust_remote_code=False,
        model_kwargs={"use_safetensors": True, "dtype": torch.float32},
    )


def _check_modules(folder: Path) -> None:
    """Refuse a folder that brings modules of its own.

    sentence-transformers before 6 imports them from a local folder even without
    ``trust_remote_code``, so loading would run the folder's code.

    Raises:
        ArtefactError: a module is not one of sentence-transformers'.
    """
    path = folder / "modules.json"
    modules = json.loads(path.read_text("utf-8")) if path.is_file() else []
    for module in modules:
        if not str(module["type"]).startswith("sentence_transformers."):
            raise ArtefactError(
                f"{folder.name} has the module {module['type']!r}, which is not part of "
                "sentence-transformers; code that comes with a model is never run."
            )
