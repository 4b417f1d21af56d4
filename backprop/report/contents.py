"""What a report holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Contents"]


@dataclass(frozen=True, kw_only=True)
class Contents:
    """The facts of one finetuning, or of one evaluation; JSON throughout.

    Args:
        task: task string.
        variant: of the task; empty where there is one way only.
        model: name of the model it began with.
        method: ``full``, ``lora`` or ``head``; empty for an evaluation.
        why: why that method was picked, where it was; empty where the caller named it.
        labels: those the model now knows, in order; empty where the task has none.
        rows: number of rows, ``train`` (none in an evaluation) and ``validation``.
        settings: what the training was run with, by name.
        history: one dictionary an epoch: ``number`` (from 1), ``loss`` (mean over the training
            rows), ``metrics`` (figures on the validation rows, by name), ``seconds``,
            ``rows_per_s`` and ``learning_rate``. Empty where a method has no epochs.
        best_epoch: number of the epoch whose weights the model has; 0 where there are no epochs.
        stopped: why it ended: ``epochs`` (all done), ``early`` (no better any more) or
            ``interrupted``; empty where there are no epochs.
        metrics: figures of the finished model on the validation rows, by name; empty without any.
        main: name of the figure to judge by.
        per_class: label to ``precision``, ``recall``, ``f1`` and ``support``, or None.
        confusion: number of rows by true label, then by answer, in the order of ``per_class``, or
            None.
        thresholds: label to the probability from which it counts as present, or None.
        seconds: of the whole finetuning.
        warnings: what the user should know, one sentence each.
    """

    task: str
    model: str
    method: str
    variant: str = ""
    why: str = ""
    labels: Sequence[str] = ()
    rows: Mapping[str, int] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    history: Sequence[Mapping[str, Any]] = ()
    best_epoch: int = 0
    stopped: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    main: str = ""
    per_class: Mapping[str, Mapping[str, float]] | None = None
    confusion: Sequence[Sequence[int]] | None = None
    thresholds: Mapping[str, float] | None = None
    seconds: float = 0.0
    warnings: Sequence[str] = ()
