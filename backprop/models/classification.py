"""Text classifiers: with labels of their own, and zero-shot by natural language inference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor
from transformers import AutoModelForSequenceClassification

from backprop.engines.torch import TorchEngine
from backprop.errors import InputError
from backprop.handlers.classifier import EmotionClasses, TextClasses
from backprop.handlers.nli import Entailment
from backprop.handlers.tokens import Tokens
from backprop.models.hf import HFModel, length_limit, tokens_of

__all__ = ["HFNLIModel", "HFSeqTCModel", "class_labels"]


class _Classifier(HFModel):
    """What both share: a sequence classification head, run by the function ``logits``."""

    model_class = AutoModelForSequenceClassification

    def engine(self) -> TorchEngine:
        """Return the engine with the function ``logits``."""
        return TorchEngine(self, {"logits": self._logits})

    def tokens(self) -> Tokens:
        """Return the torch-free tokenizer."""
        return tokens_of(self, length_limit(self.model.config, self.tokenizer))

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
    tasks = ["text-classification"]

    def text_classes(self) -> TextClasses:
        """Return the handler of ``text-classification``."""
        return TextClasses(self.engine(), self.tokens(), **self._classes())

    def emotions(self) -> EmotionClasses:
        """Return the handler of ``emotion``."""
        return EmotionClasses(self.engine(), self.tokens(), **self._classes())

    def _classes(self) -> dict[str, Any]:
        config = self.model.config
        labels = class_labels(config)
        # A single output has nothing to compete with: softmax would always say 1.
        several = config.problem_type == "multi_label_classification" or len(labels) == 1
        return {"labels": labels, "multi_label": several}


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
            self.engine(),
            self.tokens(),
            entailment=entails,
            contradiction=contradicts,
            template=self.template,
        )


def class_labels(config: Any) -> list[str]:
    """Return a transformers configuration's labels in the order of the outputs."""
    return distinct([str(config.id2label[index]) for index in sorted(config.id2label)])


def distinct(labels: Sequence[str]) -> list[str]:
    """Return the labels, those that stand twice with their index, since answers go by label.

    The hub's ImageNet has two cranes: the bird, and the machine, here ``crane (517)``.
    """
    return [f"{name} ({i})" if name in labels[:i] else name for i, name in enumerate(labels)]


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
