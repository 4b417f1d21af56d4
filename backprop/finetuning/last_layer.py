"""The last layer of a model that learns: solved for before the others train, and after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from backprop.finetuning.few import prototypes
from backprop.finetuning.heads import Cached, Head, cache, logits_of, solve
from backprop.finetuning.objectives import Objective
from backprop.finetuning.thresholds import best_thresholds

__all__ = ["LastLayer"]


class LastLayer:
    """One linear layer, what reaches it, and the weights that were found for it.

    Args:
        objective: what is learnt.
        layer: the last one of the model, with biases.
        train: rows to learn from.
        aside: rows to judge by.
    """

    def __init__(
        self, objective: Objective, layer: nn.Linear, train: Sequence[int], aside: Sequence[int]
    ) -> None:
        self.objective = objective
        self.layer = layer
        self.train = train
        self.aside = aside
        self.head: Head | None = None
        self._first: Head | None = None
        self._cached: Cached | None = None
        self._cached_aside: Cached | None = None

    def solve(self) -> None:
        """Solve for the layer, which training the others starts from too.

        Source: Kumar et al. 2022, arXiv:2202.10054: what the layers below know is better kept
        when the last one fits before they change.
        """
        self._cached = cache(self.objective, self.layer, self.train)
        self._cached_aside = cache(self.objective, self.layer, self.aside) if self.aside else None
        self._first = solve(self._cached, self._cached_aside, **self._classes())
        self._put(self._first)

    def start_from_means(self) -> None:
        """Compare with the mean of each class instead, which leaves the others more to learn."""
        if self._cached is not None:
            self._put(prototypes(self._cached, len(self.objective.data.labels)))

    def put_back(self) -> None:
        """Note that the layer has the weights that were solved for first."""
        self.head = self._first

    @property
    def norm(self) -> float | None:
        """Mean length of what reached the layer; None before it was solved for."""
        if self._cached is None:
            return None
        return float(self._cached.inputs.norm(dim=1).mean().clamp_min(1e-12))

    def use_all_rows(self, thresholds: Mapping[str, float] | None) -> bool:
        """Solve once more with the rows kept aside too, now that they have judged.

        Args:
            thresholds: of each label, folded into the biases as before.

        Returns:
            Whether there were any.
        """
        if self._cached is None or self._cached_aside is None or self.head is None:
            return False
        both = self._cached.joined(self._cached_aside)
        again = solve(
            both, None, strengths=(self.head.strength,), start=self.head, **self._classes()
        )
        (again.shifted(thresholds.values()) if thresholds else again).put(self.layer)
        return True

    def thresholds(self, *, trained: bool) -> dict[str, float]:
        """Return the probability from which on each label's F1 is best.

        Args:
            trained: whether the layers below have changed since ``solve``.
        """
        kept = None if trained else self._cached_aside
        if kept is None:
            kept = cache(self.objective, self.layer, self.aside)
        found = best_thresholds(self.layer, kept)
        return dict(zip(self.objective.data.labels, found, strict=True))

    def fold(self, thresholds: Mapping[str, float]) -> None:
        """Move the biases so that each label's threshold is a half, whatever runs the model."""
        with torch.no_grad():
            self.layer.bias.sub_(logits_of(thresholds.values()).to(self.layer.bias))

    def weights(self) -> list[nn.Parameter]:
        """Return the layer's weights."""
        return list(self.layer.parameters())

    def _put(self, head: Head) -> None:
        self.head = head
        head.put(self.layer)

    def _classes(self) -> dict[str, Any]:
        data = self.objective.data
        return {
            "classes": len(data.labels),
            "multi_label": data.multi_label,
            "class_weights": self.objective.class_weights,
        }
