"""What is learnt from a batch, for each form of training that the tasks have."""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from backprop.data import Data
from backprop.errors import InputError
from backprop.finetuning.answers import Answers
from backprop.finetuning.samples import Samples
from backprop.losses import classification_loss, cosine_similarity_loss, ranking_loss, triplet_loss
from backprop.metrics import Measures
from backprop.metrics.measure import main_figure
from backprop.models.base import BaseModel
from backprop.models.image_classifier import EfficientNet
from backprop.signatures import takes

__all__ = ["Objective", "objective_for"]

SAMPLED_PICTURES = 100
"""Pictures whose size is looked at."""

EVALUATION_ROWS = 32
"""Rows of a batch where nothing is learnt."""


class Objective:
    """Rows to batches, batches to a loss; here the model's own loss.

    Args:
        model: what learns.
        data: checked.
        lengths: arguments of the task's own, in tokens.
        answers: the model's answers to rows of data, measured.
        class_weights: what each class counts for, shape (classes,).
    """

    targets = ""
    """Column that the model is not shown; each batch has it as a tensor beside its inputs."""

    def __init__(
        self,
        model: BaseModel,
        data: Data,
        lengths: Mapping[str, int],
        answers: Answers,
        class_weights: Tensor | None = None,
    ) -> None:
        self.model = model
        self.data = data
        self.answers = answers
        self.class_weights = class_weights
        self.label_sets = data.label_sets
        self.samples = Samples(model, data, self.extra(lengths))

    def extra(self, lengths: Mapping[str, int]) -> dict[str, Any]:
        """Return what ``process_batch`` gets beside the row's columns."""
        if self.data.task == "text-classification":
            return {"class_to_idx": self.class_numbers, **lengths}
        return dict(lengths)

    @property
    def class_numbers(self) -> dict[str, int]:
        """Label to its number."""
        return {label: number for number, label in enumerate(self.data.labels)}

    def prepare(self) -> None:
        """Let the model adjust itself, to its labels say."""
        if self.data.labels and (
            self.data.task == "text-classification" or self.model.classifies(self.data.task)
        ):
            labels = dict(enumerate(self.data.labels))
            self.model.pre_finetuning(labels=labels, **self._several(), **self._task())
            if self.class_weights is not None:
                self.model.class_weights = self.class_weights

    def _several(self) -> dict[str, bool]:
        """Return the argument for rows of several labels, which models of 2021 do not know.

        Raises:
            InputError: there are such rows, and this model is one of those.
        """
        if not self.data.multi_label:
            return {}
        if not takes(self.model.pre_finetuning, "multi_label"):
            if "images" in self.data.columns:
                return {}  # which gives logits, whatever they mean
            raise InputError(
                f"Rows have several labels, which {type(self.model).__name__} can't be told: its "
                "pre_finetuning has no argument multi_label. Pass one label a row."
            )
        return {"multi_label": True}

    def _task(self) -> dict[str, str]:
        """Return the argument for emotions, to models that keep them apart from other classes."""
        return {"task": "emotion"} if self.data.task == "emotion" else {}

    def batch(self, rows: Sequence[int]) -> Any:
        """Return the rows as one batch."""
        inputs = self.model.collate(
            [
                self.samples.features(row, side)
                for side in range(len(self.samples.sides))
                for row in rows
            ]
        )
        return {"inputs": inputs, "targets": self.target(rows)} if self.targets else inputs

    def target(self, rows: Sequence[int]) -> Tensor:
        """Return what the rows should give."""
        return torch.tensor([self.data.columns[self.targets][row] for row in rows])

    def class_targets(self, rows: Sequence[int]) -> Tensor:
        """Return each row's class, shape (n,), or, of several each, (n, classes) of 0 and 1."""
        numbers = self.class_numbers
        own = [self.label_sets[row] for row in rows]
        if not self.data.multi_label:
            return torch.tensor([numbers[label] for [label] in own])
        flags = torch.zeros(len(own), len(numbers))
        for i, labels in enumerate(own):
            flags[i, [numbers[label] for label in labels]] = 1
        return flags

    def inputs(self, batch: Any) -> Any:
        """Return the part of a batch that the model is shown."""
        return batch["inputs"] if self.targets else batch

    def loss(self, batch: Any) -> Tensor:
        """Return the mean loss over the batch's rows."""
        return self.model.training_step(batch)

    def batches(self, rows: Sequence[int]) -> Iterator[tuple[list[int], Any]]:
        """Yield rows of like length together, with their batch on the model's device."""
        # Without lengths, sorting would only decode every picture once more.
        ordered = sorted(rows, key=self.samples.length) if self.samples.has_lengths else list(rows)
        for start in range(0, len(ordered), EVALUATION_ROWS):
            own = ordered[start : start + EVALUATION_ROWS]
            yield own, moved(self.batch(own), self.model.device)

    def mean_loss(self, rows: Sequence[int]) -> float:
        """Return the mean loss over ``rows``, with nothing learnt."""
        total = 0.0
        with torch.inference_mode():
            for own, batch in self.batches(rows):
                total += float(self.loss(batch)) * len(own)
        return total / len(rows)

    def measures(self, rows: Sequence[int]) -> Measures:
        """Return the task's figures for the model's answers to ``rows``."""
        return self.answers.measure(self.data, rows)

    @property
    def main(self) -> str:
        """Name of the figure to judge by."""
        return main_figure(self.data.task, self.data.variant, multi_label=self.data.multi_label)

    @property
    def groups(self) -> Sequence[Hashable] | None:
        """Group of each row, where batches need several rows of a group."""
        return None

    together = False
    """Whether the loss compares the rows of a batch with each other."""


class LogitsObjective(Objective):
    """Image classification: the model gives logits."""

    targets = "labels"

    def extra(self, lengths: Mapping[str, int]) -> dict[str, Any]:
        return {}

    def prepare(self) -> None:
        self.model.pre_finetuning(
            labels=dict(enumerate(self.data.labels)),
            num_classes=len(self.data.labels),
            **self._several(),
            **self._size(),
        )

    def _size(self) -> dict[str, int]:
        """Return the argument for the size pictures are seen at, where another suits better."""
        if not isinstance(self.model, EfficientNet):
            return {}
        pictures = self.data.columns["images"]
        some = pictures[:: max(1, len(pictures) // SAMPLED_PICTURES)]
        size = self.model.size_for([min(picture.rgb().size) for picture in some])
        return {} if size is None else {"image_size": size}

    def target(self, rows: Sequence[int]) -> Tensor:
        return self.class_targets(rows)

    def loss(self, batch: Any) -> Tensor:
        logits = self.model.training_step(batch["inputs"])
        if logits.ndim != 2 or logits.shape[1] != len(self.data.labels):
            raise InputError(
                "training_step must return logits of shape (rows, classes), here "
                f"(…, {len(self.data.labels)}); received {tuple(logits.shape)}."
            )
        weights = self.class_weights.to(logits) if self.class_weights is not None else None
        return classification_loss(
            logits, batch["targets"], multi_label=self.data.multi_label, class_weights=weights
        )


class _Vectors(Objective):
    """Vectorisation: the model gives vectors."""

    together = True

    def extra(self, lengths: Mapping[str, int]) -> dict[str, Any]:
        # A row's only keys are text and image; a length the caller asks for comes beside them.
        usual = dict(self.data.training.arguments)
        return {name: value for name, value in lengths.items() if value != usual[name]}

    def prepare(self) -> None:
        self.model.pre_finetuning()


class PairsObjective(_Vectors):
    """Vectors of two sides, as alike as their score says."""

    targets = "similarity_scores"

    def loss(self, batch: Any) -> Tensor:
        first, second = self.model.training_step(batch["inputs"]).chunk(2)
        scores = batch["targets"].to(first)
        distance = cosine_similarity_loss(first, second, scores)
        return distance + RANKING_SHARE * ranking_loss(first, second, scores) / max(1, len(scores))


RANKING_SHARE = 1.0


class GroupsObjective(_Vectors):
    """Vectors of one group nearer to each other than to those of other groups."""

    targets = "groups"

    def target(self, rows: Sequence[int]) -> Tensor:
        return torch.tensor([self._numbers[self.data.columns["groups"][row]] for row in rows])

    @functools.cached_property
    def _numbers(self) -> Mapping[Hashable, int]:
        return {group: i for i, group in enumerate(dict.fromkeys(self.data.columns["groups"]))}

    def loss(self, batch: Any) -> Tensor:
        return triplet_loss(self.model.training_step(batch["inputs"]), batch["targets"])

    @property
    def groups(self) -> Sequence[Hashable]:
        return self.data.columns["groups"]


OBJECTIVES: Mapping[str, type[Objective]] = {
    "groups": GroupsObjective,
    "similarity_scores": PairsObjective,
    "images": LogitsObjective,
}
"""Column to what its presence says is to be learnt, the first that is there."""


def objective_for(data: Data) -> Callable[..., Objective]:
    """Return the kind of objective that ``data`` is for."""
    return next((kind for name, kind in OBJECTIVES.items() if name in data.columns), Objective)


def moved(batch: Any, device: torch.device) -> Any:
    """Return a batch with its tensors on ``device``."""
    if isinstance(batch, Tensor):
        return batch.to(device)
    if isinstance(batch, Mapping):
        return {name: moved(value, device) for name, value in batch.items()}
    if type(batch) in (list, tuple):
        return type(batch)(moved(value, device) for value in batch)
    return batch
