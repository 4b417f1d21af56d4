"""``evaluate``: how good any model's answers are on any data."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from backprop import data as training_data
from backprop.finetuning.answers import Answers, Ask
from backprop.report import Report

__all__ = ["evaluate"]


def evaluate(
    name: str,
    task: str,
    params: Any,
    ask: Ask,
    *,
    variant: str | None = None,
    columns: Mapping[str, str] | None = None,
    options: Mapping[str, Any] | None = None,
    written: bool = False,
) -> Report:
    """Return the task's figures for a model's answers to ``params``.

    Args:
        name: of the model, for the report.
        task: task string.
        params: data in any form ``backprop.data.read`` knows, with what the answers should be.
        ask: asks the model, as the task does.
        variant: of the task; by default the one the columns fit.
        columns: our name of a column to its name in ``params``.
        options: of the task's input.
        written: whether the model writes its answers.

    Raises:
        InputError: faults of the data.
    """
    started = time.perf_counter()
    data = training_data.read(task, params, variant=variant, columns=columns, for_training=False)
    measured = Answers(ask, options, written=written).measure(data, range(len(data)))
    return Report(
        task=task,
        variant=data.variant,
        model=name,
        method="",
        labels=data.labels,
        rows={"validation": len(data)},
        metrics=dict(measured.values),
        main=measured.main,
        per_class=measured.per_class,
        confusion=measured.confusion,
        seconds=time.perf_counter() - started,
    )
