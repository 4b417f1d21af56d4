"""The last layer of a model that learns: solved for before the others train, and after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from backprop.finetuning.few import prototypes
from backprop.finetuning.heads import Cached, Head, cache, solve
from backprop.finetuning.objectives import Objective
from backprop.finetuning.thresholds import fold_thresholds

__all__ = ["LastLayer"]

FOLDS = 5
AGAIN_STRENGTHS = (3.0, 10.0, 30.0)
"""As ``STRENGTHS`` of heads.py, the part that trained layers gain by."""


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

    def is_back(self) -> None:
        """Note that the layer has the weights that were solved for first."""
        self.head = self._first

    @property
    def norm(self) -> float | None:
        """Mean length of what reached the layer; None before it was solved for."""
        if self._cached is None:
            return None
        return float(self._cached.inputs.norm(dim=1).mean().clamp_min(1e-12))

    def solve_again(self, seed: int) -> bool:
        """Solve on what the trained layers below give, with the rows kept aside too.

        They have judged, and are the only rows that those layers do not know by heart. Each fifth
        of them is judged by a solution with the other four; unless that is worse than the trained
        layer by more than its standard error, the solution with all rows is kept.

        Args:
            seed: says which rows are in which fifth.

        Returns:
            Whether it is kept.

        Source: the one-standard-error rule, Breiman et al. 1984, Classification and Regression
        Trees, section 3.4.3.
        """
        train, aside = (
            cache(self.objective, self.layer, each) for each in (self.train, self.aside)
        )
        trained = Head(self.layer.weight.detach().cpu(), self.layer.bias.detach().cpu(), 0.0)
        strength, right = self._cross_fitted(train, aside, seed)
        gains = right.float() - trained.right(aside).float()
        if float(gains.mean() + gains.std(correction=0) / len(gains) ** 0.5) < 0:
            return False
        both = train.joined(aside)
        self._put(solve(both, None, strengths=(strength,), **self._classes()))
        return True

    def _cross_fitted(self, train: Cached, aside: Cached, seed: int) -> tuple[float, Tensor]:
        """Return the best strength, and which rows of ``aside`` it gets right, bools."""
        order = torch.randperm(len(aside), generator=torch.Generator().manual_seed(seed))
        found: list[tuple[float, float, Tensor]] = []
        for strength in AGAIN_STRENGTHS:
            right = torch.zeros(len(aside), dtype=torch.bool)
            for fold in range(FOLDS):
                out = order[fold::FOLDS]
                kept = torch.ones(len(aside), dtype=torch.bool)
                kept[out] = False
                more = train.joined(aside.of(kept.nonzero()[:, 0]))
                head = solve(more, None, strengths=(strength,), **self._classes())
                right[out] = head.right(aside.of(out))
            found.append((float(right.float().mean()), strength, right))
        _, strength, right = max(found, key=lambda each: each[0])
        return strength, right

    def use_all_rows(self, thresholds: Mapping[str, float] | None) -> None:
        """Solve once more with the rows kept aside too, now that they have judged; ``head`` only.

        Args:
            thresholds: of each label, folded into the biases as before.
        """
        if self._cached is None or self._cached_aside is None or self.head is None:
            return
        both = self._cached.joined(self._cached_aside)
        again = solve(both, None, strengths=(self.head.strength,), **self._classes())
        (again.shifted(thresholds.values()) if thresholds else again).put(self.layer)

    def thresholds(self, *, trained: bool) -> dict[str, float]:
        """Return each label's threshold, which from now on is a half.

        Args:
            trained: whether the layers below have changed since the first ``solve``.
        """
        kept = None if trained else self._cached_aside
        found = fold_thresholds(self.layer, kept or cache(self.objective, self.layer, self.aside))
        return dict(zip(self.objective.data.labels, found, strict=True))

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
