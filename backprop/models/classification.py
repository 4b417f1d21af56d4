"""Text classifiers: with labels of their own, and zero-shot by natural language inference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification

from backprop.collate import Features
from backprop.engines.torch import Split, TorchEngine
from backprop.errors import InputError
from backprop.handlers.classifier import EmotionClasses, TextClasses
from backprop.handlers.nli import Entailment
from backprop.handlers.tokens import Tokens
from backprop.models.heads import (
    class_labels,
    last_layers,
    problem_type,
    replace_layer,
    tell_config,
)
from backprop.models.hf import (
    TEXT_INPUTS,
    HFModel,
    WithHead,
    kept_tokens,
    length_limit,
    warn_if_untrained,
)
from backprop.models.training_rows import (
    Classes,
    class_loss,
    class_row,
    class_text,
    padded,
    tokens_over,
)

__all__ = ["HFNLIModel", "HFSeqTCModel"]


class _Classifier(HFModel):
    """What both share: a sequence classification head, run by the function ``logits``."""

    model_class = WithHead(AutoModelForSequenceClassification)

    def _engine(self) -> TorchEngine:
        """Return the engine with the function ``logits``."""
        warn_if_untrained(self)
        return TorchEngine(self, {"logits": self._logits}, {"logits": self._split()})

    def _split(self) -> Split | None:
        """Return the logits as an encoder and simple layers; None for other architectures."""
        model = self.model
        head: Any
        kind, head = model.config.model_type, getattr(model, "classifier", None)
        encoder: Any = getattr(model, model.base_model_prefix, None)
        layers: tuple[Any, ...] = ()
        if kind == "bert":
            layers = (encoder.pooler.dense, "tanh", head)
        elif kind in ("roberta", "xlm-roberta", "camembert"):
            layers = (head.dense, "tanh", head.out_proj)
        elif kind == "distilbert":
            layers = (model.pre_classifier, "relu", head)
        return Split(encoder, "first", layers) if layers else None

    def tokens(self) -> Tokens:
        """Return the torch-free tokenizer."""
        return kept_tokens(self, length_limit(self.model.config, self.tokenizer))

    def _logits(self, **tensors: Tensor) -> Tensor:
        logits: Tensor = self.model(**tensors).logits
        return logits


class HFSeqTCModel(_Classifier):
    """A text classifier with labels of its own; emotion too, where those are emotions.

    Args:
        model_path: see ``HFModel``.
        tasks: ``["text-classification"]`` by default; add ``"emotion"`` where it fits.
        options: the other arguments of ``HFModel``.
    """

    HANDLERS: ClassVar[Mapping[str, str]] = {
        "text-classification": "text_classes",
        "emotion": "emotions",
    }
    LEARNS = ("text-classification", "emotion")
    tasks = ["text-classification"]

    def text_classes(self) -> TextClasses:
        """Return the handler of ``text-classification``."""
        return TextClasses(self._engine(), self.tokens(), **asdict(self.classes()))

    def emotions(self) -> EmotionClasses:
        """Return the handler of ``emotion``."""
        return EmotionClasses(self._engine(), self.tokens(), **asdict(self.classes()))

    def classes(self) -> Classes:
        """Return what the model tells apart."""
        config = self.model.config
        labels = class_labels(config)
        # A single output has nothing to compete with: softmax would always say 1.
        several = config.problem_type == problem_type(multi_label=True) or len(labels) == 1
        return Classes(tuple(labels), several)

    # --- Finetuning ----------------------------------------------------------------------

    def classifies(self, task: str) -> bool:
        """Return whether ``task`` is learnt as classes, so that ``pre_finetuning`` needs labels."""
        return task in self.LEARNS

    def pre_finetuning(
        self,
        labels: Mapping[int, str],
        multi_label: bool = False,
        *,
        task: str = "text-classification",
    ) -> None:
        """Give the model a head for ``labels``; one that has these very labels already stays.

        Args:
            labels: number of the output, from 0 on, to its name.
            multi_label: whether a text may have several labels, or none.
            task: what it is to do with them: ``text-classification`` or ``emotion``.

        Raises:
            InputError: ``labels`` are no such numbers and names.
        """
        classes = Classes.read(labels, multi_label)
        if list(classes.labels) != class_labels(self.model.config):
            replace_layer(self.model, self._head_name(), len(classes.labels))
        tell_config(self.model.config, classes.labels, multi_label=multi_label)
        self._need_padding()
        self.model.untrained = []
        self.tasks = list(dict.fromkeys([*self.tasks, task]))
        self.forget_handlers()

    def process_batch(self, params: Mapping[str, Any], task: str) -> Features:
        """Return a row's text as tokens, cut at its limit, and its class under ``labels``.

        Raises:
            UnsupportedTaskError: ``task`` is not one of ``LEARNS``.
            InputError: a value is missing or wrong, or the label is not one of the model's.
        """
        if task not in self.LEARNS:
            return super().process_batch(params, task)
        return class_row(self.tokens(), params, task, self.classes())

    def collate(self, rows: Sequence[Features]) -> Mapping[str, Any]:
        """Return the rows as one batch, padded as the tokenizer pads."""
        return padded(self.tokens(), rows)

    def training_step(self, batch: Mapping[str, Any]) -> Tensor:
        """Return the mean loss of a row; see ``class_loss``."""
        logits = self._logits(**{name: batch[name] for name in TEXT_INPUTS if name in batch})
        return class_loss(logits, batch["labels"], self.class_weights)

    def cut(self, params: Mapping[str, Any], task: str) -> int:
        """Return how many tokens ``process_batch`` cuts off a row's text."""
        return tokens_over(self.tokens(), *class_text(self.tokens(), params, task))

    def head(self, task: str) -> nn.Linear | None:
        """Return the last layer; None where it reads each token by itself, as decoders' do."""
        name = self._head_name()
        found = self.model.get_submodule(name) if task in self.LEARNS else None
        return found if isinstance(found, nn.Linear) and name != TOKEN_HEAD else None

    def _head_name(self) -> str:
        """Return the name of the last linear layer outside the body, which makes the logits.

        Raises:
            InputError: there is none.
        """
        names = last_layers(self.model)
        if not names:
            raise InputError(
                f"{type(self.model).__name__} has no linear layer with an output for each of its "
                f"{self.model.config.num_labels} labels, so it can't be given others; use another "
                "model."
            )
        return names[-1]

    def _need_padding(self) -> None:
        """Let a decoder that knows no padding, such as GPT-2, pad with its end of text.

        transformers looks for the last token before the padding, which the decoder's head reads.
        """
        config = self.model.config
        if config.pad_token_id is None:
            if self.tokenizer.pad_token_id is None:
                self.tokenizer.pad_token = self.tokenizer.eos_token
            config.pad_token_id = self.tokenizer.pad_token_id


TOKEN_HEAD = "score"
"""What transformers calls the head of a decoder, which is applied before a token is chosen."""


class HFNLIModel(_Classifier):
    """A natural language inference model: zero-shot classification with any labels.

    Args:
        model_path: see ``HFModel``.
        template: sentence a label is put in.
        options: the other arguments of ``HFModel``.

    Raises:
        InputError: none of the model's classes is entailment.
    """

    HANDLERS: ClassVar[Mapping[str, str]] = {"text-classification": "entailment"}

    def __init__(
        self,
        model_path: str | Path,
        *args: Any,
        template: str = "This example is {}.",
        **options: Any,
    ) -> None:
        super().__init__(model_path, *args, **options)
        self.template = template
        self.classes = entailment_classes(class_labels(self.model.config))

    def settings(self) -> dict[str, Any]:
        """Return the template."""
        return {"template": self.template}

    def entailment(self) -> Entailment:
        """Return the handler of ``text-classification``."""
        entails, contradicts = self.classes
        return Entailment(
            self._engine(),
            self.tokens(),
            entailment=entails,
            contradiction=contradicts,
            template=self.template,
        )


def entailment_classes(labels: list[str]) -> tuple[int, int]:
    """Return the indices of entailment and of its opposite.

    Three classes: entailment, neutral, contradiction in any order. Two: entailment and not.

    Raises:
        InputError: which is which can't be told from the labels.
    """
    names = [label.lower() for label in labels]
    entails = [i for i, name in enumerate(names) if name.startswith("entail")]
    contradicts = [i for i, name in enumerate(names) if name.startswith("contra")]
    if len(names) == 2 and len(entails) == 1:
        contradicts = [1 - entails[0]]
    if len(entails) != 1 or len(contradicts) != 1:
        raise InputError(
            f"This is no natural language inference model: its labels are {labels}, among which "
            "one entailment and one contradiction were looked for; use HFSeqTCModel."
        )
    return entails[0], contradicts[0]
