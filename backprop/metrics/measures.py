"""What measuring answers gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

__all__ = ["Measures"]


@dataclass(frozen=True)
class Measures:
    """Figures of one set of answers.

    Args:
        values: figure by name. Shares from 0 to 1, correlations from -1 to 1; more is better.
        main: name of the figure to judge by.
        per_class: label to its ``precision``, ``recall``, ``f1`` and ``support``, the number of
            rows that truly have it; None where there are no classes.
        confusion: number of rows by true label, then by answer, both in the order of ``labels``;
            None where there are no classes, or several a row.
        labels: all labels measured.
    """

    values: Mapping[str, float]
    main: str
    per_class: Mapping[str, Mapping[str, float]] | None = None
    confusion: Sequence[Sequence[int]] | None = None
    labels: Sequence[str] = field(default_factory=list)
