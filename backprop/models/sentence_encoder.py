"""Sentence encoders: vectors, and what can be done with vectors alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor

from backprop.engines.torch import TorchEngine
from backprop.errors import ArtefactError
from backprop.handlers import emotions
from backprop.handlers.extract import Extracts
from backprop.handlers.label_vectors import Calibration, LabelVectors, PhraseEmotions
from backprop.handlers.text_vectors import TextVectors
from backprop.models.base import PathModel
from backprop.models.hf import read_tokenizer, tokens_of, write_tokenizer
from backprop.models.places import find_folder

__all__ = ["STModel"]

TEMPLATES = ("{}", "This is about {}.")
"""Measured best on average over eight sets: bench/quality/zero_shot_text.py."""

CALIBRATION = Calibration(slope=13.0, middle=0.17, temperature=0.055)
"""Fitted by log-loss for all-minilm-l6-v2: bench/quality/zero_shot_text.py."""


class STModel(PathModel):
    """Any sentence-transformers folder, whatever its modules.

    Besides vectors it does zero-shot classification and emotion by the likeness of text and label
    vectors, and summaries made of the text's own sentences.

    Args:
        model_path: a folder, a catalogue name, or a hub repository.
        name: see ``BaseModel``.
        description: see ``BaseModel``.
        tasks: a part of those it can do; all by default.
        details: see ``BaseModel``.
        prompt: put before every text; by default what the folder says.
        templates: sentences a label is put in for zero-shot classification.
        calibration: ``slope``, ``middle`` and ``temperature`` of ``Calibration``.
        device: such as ``"cpu"`` or ``"cuda:0"``.
    """

    HANDLERS: ClassVar[Mapping[str, str]] = {
        "text-vectorisation": "text_vectors",
        "text-classification": "label_vectors",
        "emotion": "emotions",
        "summarisation": "extracts",
    }

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

    def settings(self) -> dict[str, Any]:
        """Return prompt, templates and calibration."""
        return {
            "prompt": self.prompt,
            "templates": list(self.templates),
            "calibration": {
                "slope": self.calibration.slope,
                "middle": self.calibration.middle,
                "temperature": self.calibration.temperature,
            },
        }

    def save_files(self, folder: Path) -> None:
        """Write a sentence-transformers folder."""
        self.model.save_pretrained(str(folder), create_model_card=False)
        write_tokenizer(self.tokenizer_json, folder)

    def text_vectors(self) -> TextVectors:
        """Return the handler of ``text-vectorisation``."""
        normalises = any(type(module).__name__ == "Normalize" for module in self.model)
        return TextVectors(
            TorchEngine(self, {"text_vectors": self._vectors}),
            tokens_of(self, self.model.max_seq_length or 512),
            dimensions=self.model.get_embedding_dimension(),
            normalise=normalises,
            prompt=self.prompt,
        )

    def label_vectors(self) -> LabelVectors:
        """Return the handler of ``text-classification``."""
        return LabelVectors(
            self.text_vectors(), templates=self.templates, calibration=self.calibration
        )

    def emotions(self) -> PhraseEmotions:
        """Return the handler of ``emotion``."""
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
