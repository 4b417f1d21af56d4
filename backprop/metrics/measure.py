"""``measure``: the figures of a task, from answers and the truth."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from backprop.errors import InputError
from backprop.metrics.classification import measure_multi_label, measure_single_label
from backprop.metrics.measures import Measures
from backprop.metrics.texts import measure_qa, measure_written
from backprop.metrics.vectors import measure_groups, measure_scores
from backprop.specs import spec_of

__all__ = ["MAIN", "Measures", "main_figure", "measure"]

MAIN: Mapping[tuple[str, str], str] = MappingProxyType(
    {
        ("qa", ""): "f1",
        ("text-classification", "single_label"): "accuracy",
        ("text-classification", "multi_label"): "macro_f1",
        ("emotion", ""): "accuracy",
        ("emotion", "multi_label"): "macro_f1",
        ("summarisation", ""): "rouge_l",
        ("text-generation", ""): "rouge_l",
        ("text-vectorisation", "cosine_similarity"): "spearman",
        ("text-vectorisation", "triplet"): "recall@1",
        ("image-classification", "single_label"): "accuracy",
        ("image-classification", "multi_label"): "macro_f1",
        ("image-vectorisation", "cosine_similarity"): "spearman",
        ("image-vectorisation", "triplet"): "recall@1",
        ("image-text-vectorisation", "cosine_similarity"): "spearman",
        ("image-text-vectorisation", "triplet"): "recall@1",
    }
)
"""Task and variant to the figure to judge by; of each, more is better."""


def measure(
    task: str,
    variant: str,
    answers: Any,
    truth: Sequence[Any],
    *,
    labels: Sequence[str] | None = None,
    multi_label: bool = False,
    thresholds: Mapping[str, float] | None = None,
) -> Measures:
    """Return the figures of ``answers``.

    Args:
        task: task string.
        variant: of the task; empty where there is one way only.
        answers: one a row, as the task gives them: texts, ``{label: probability}`` with all
            labels, emotions (str, list of str or probabilities), or vectors of shape (n,
            dimensions); for ``cosine_similarity`` two such arrays, ``(vectors1, vectors2)``.
        truth: one a row: text or list of texts, label, list of labels, score or group.
        labels: those the model knows, in order; others that occur are measured too.
        multi_label: whether a row may have several labels.
        thresholds: label to the probability from which it counts as present; 0.5 by default.

    Raises:
        UnsupportedTaskError: no such task.
        InputError: the task has no such variant, there are no rows, or the numbers differ.
    """
    main = main_figure(task, variant, multi_label=multi_label)
    pair = _pair(answers) if main == "spearman" else None
    _check_counts([len(side) for side in pair or (answers,)], len(truth))
    if pair:
        return measure_scores(*pair, truth)
    if main == "accuracy":
        return measure_single_label(answers, truth, labels)
    if main == "macro_f1":
        return measure_multi_label(answers, truth, labels, thresholds)
    return BY_MAIN[main](answers, truth)


BY_MAIN: Mapping[str, Callable[[Any, Sequence[Any]], Measures]] = {
    "f1": measure_qa,
    "rouge_l": measure_written,
    "recall@1": measure_groups,
}
"""Figure to judge by to what measures it, where answers and truth are all that takes."""


def main_figure(task: str, variant: str, *, multi_label: bool = False) -> str:
    """Return the name of the figure that the task's variant is judged by.

    Raises:
        UnsupportedTaskError: no such task.
        InputError: the task has no such variant.
    """
    key = (spec_of(task).name, "multi_label" if multi_label else variant)
    if key not in MAIN:
        there = ", ".join(repr(other) for name, other in MAIN if name == task)
        raise InputError(f"{task} has no variant {key[1]!r} to measure; use one of: {there}.")
    return MAIN[key]


def _pair(answers: Any) -> tuple[Any, Any]:
    if len(answers) != 2:
        raise InputError(
            f"Similarity is measured of two lists, (vectors1, vectors2); received {len(answers)}."
        )
    return answers[0], answers[1]


def _check_counts(answers: list[int], truth: int) -> None:
    if not truth or any(count != truth for count in answers):
        listed = " and ".join(f"{count:,}" for count in answers)
        raise InputError(
            f"There are {listed} answers for {truth:,} rows; pass one for each, of at least one "
            "row."
        )
