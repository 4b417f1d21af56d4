"""Figures of answers that are labels, one a row or any number of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from backprop.errors import InputError
from backprop.metrics.measures import Measures

__all__ = ["PRESENT", "measure_multi_label", "measure_single_label", "thresholds"]

Array: TypeAlias = "np.ndarray[Any, np.dtype[Any]]"

PRESENT = 0.5
"""Probability from which a label counts as present, where it has no threshold of its own."""


def measure_single_label(
    answers: Sequence[Any], truth: Sequence[str], labels: Sequence[str] | None = None
) -> Measures:
    """Return accuracy, macro and weighted F1, each class's figures and the confusion matrix.

    Macro F1 is the mean over the classes that occur in the truth or in the answers, weighted F1
    that by number of true rows, both as scikit-learn has them. A true label that the model does
    not know can't be answered, and so counts as wrong.

    Args:
        answers: label, or ``{label: probability}``, of each row.
        truth: label of each row.
        labels: those to measure, in order; any others that occur follow, sorted.
    """
    guesses = [_best(answer) for answer in answers]
    names = _all_labels(labels, [truth, guesses])
    index = {name: i for i, name in enumerate(names)}
    confusion = np.zeros((len(names), len(names)), int)
    np.add.at(confusion, ([index[each] for each in truth], [index[each] for each in guesses]), 1)
    hits, actual = confusion.diagonal(), confusion.sum(axis=1)
    classes = _Classes(hits, confusion.sum(axis=0), actual)
    values = {
        "accuracy": float(hits.sum() / len(truth)),
        "macro_f1": classes.macro_f1,
        "weighted_f1": float((classes.f1 * actual).sum() / actual.sum()),
    }
    return Measures(values, "accuracy", classes.table(names), confusion.tolist(), names)


def measure_multi_label(
    answers: Sequence[Any],
    truth: Sequence[Sequence[str]],
    labels: Sequence[str] | None = None,
    at: Mapping[str, float] | None = None,
) -> Measures:
    """Return micro and macro F1, the share of rows without any mistake, and figures of each class.

    Macro F1 is the mean over the classes that occur in the truth or in the answers.

    Args:
        answers: ``{label: probability}``, list of labels, or labels with commas between them, of
            each row.
        truth: list of labels, or labels with commas between them, of each row.
        labels: those to measure, in order; any others that occur follow, sorted.
        at: label to the probability from which it counts as present; 0.5 by default.
    """
    guesses = [_present(answer, at or {}) for answer in answers]
    truths = [_present(each, {}) for each in truth]
    names = _all_labels(labels, [*guesses, *truths])
    guessed, actual = _flags(guesses, names), _flags(truths, names)
    hits = (guessed & actual).sum(axis=0)
    classes = _Classes(hits, guessed.sum(axis=0), actual.sum(axis=0))
    values = {
        "micro_f1": float(_f1(hits.sum(), guessed.sum(), actual.sum())),
        "macro_f1": classes.macro_f1,
        "subset_accuracy": float((guessed == actual).all(axis=1).mean()),
    }
    return Measures(values, "macro_f1", classes.table(names), None, names)


def thresholds(probabilities: Any, truth: Any) -> list[float]:
    """Return, for each label, the probability from which taking it as present gives the best F1.

    It lies in the middle between the two probabilities that it separates; of several as good,
    the one with the most room. A label that no row has gets 0.5.

    Args:
        probabilities: shape (n, labels), from 0 to 1.
        truth: shape (n, labels), 0 or 1.

    Raises:
        InputError: the shapes differ, or there are no rows.
    """
    chances, flags = np.asarray(probabilities, np.float64), np.asarray(truth, bool)
    if chances.shape != flags.shape or chances.ndim != 2 or not len(chances):
        raise InputError(
            f"Thresholds need two matrices of one shape (rows, labels); received {chances.shape} "
            f"and {flags.shape}."
        )
    return [_threshold(*column) for column in zip(chances.T, flags.T, strict=True)]


def _threshold(chances: Array, flags: Array) -> float:
    if not flags.any():
        return PRESENT
    order = np.argsort(-chances, kind="stable")
    above = chances[order]
    below = np.append(above[1:], 0.0)
    f1 = _f1(np.cumsum(flags[order]), np.arange(1, len(flags) + 1), flags.sum())
    parts = above > below  # no threshold lies between rows of one probability
    parts[-1] = True  # all rows are above, or at, the last
    f1 = np.where(parts, f1, -1)
    room = np.where(f1 >= f1.max() - 1e-12, above - below, -1)
    best = int(room.argmax())
    middle = float(above[best] + below[best]) / 2
    return middle if middle > below[best] else float(above[best])  # next to each other: no middle


class _Classes:
    """Precision, recall and F1 of each class; 0 where there is nothing to divide by.

    Args:
        hits: rows rightly given the class, shape (classes,).
        guessed: rows given it.
        actual: rows that have it.
    """

    def __init__(self, hits: Array, guessed: Array, actual: Array) -> None:
        self.precision = hits / np.maximum(guessed, 1)
        self.recall = hits / np.maximum(actual, 1)
        self.f1 = _f1(hits, guessed, actual)
        self.support = actual
        self.occurs = guessed + actual > 0

    @property
    def macro_f1(self) -> float:
        return float(self.f1[self.occurs].mean()) if self.occurs.any() else 0.0

    def table(self, names: Sequence[str]) -> dict[str, dict[str, float]]:
        columns = (self.precision, self.recall, self.f1, self.support)
        rows = np.stack(columns, axis=1).tolist()
        return {
            name: {"precision": p, "recall": r, "f1": f1, "support": int(support)}
            for name, (p, r, f1, support) in zip(names, rows, strict=True)
        }


def _f1(hits: Any, guessed: Any, actual: Any) -> Any:
    return 2 * hits / np.maximum(guessed + actual, 1)


def _best(answer: Any) -> str:
    """Return the label of an answer, the likeliest where there are several."""
    if isinstance(answer, Mapping):
        return str(max(answer, key=answer.__getitem__, default=""))
    return str(answer[0] if isinstance(answer, (list, tuple)) and answer else answer or "").strip()


def _present(answer: Any, at: Mapping[str, float]) -> set[str]:
    """Return the labels that an answer says are there."""
    if isinstance(answer, Mapping):
        return {label for label, chance in answer.items() if chance >= at.get(label, PRESENT)}
    parts = answer.split(",") if isinstance(answer, str) else answer
    return {part.strip() for part in parts if part.strip()}


def _all_labels(labels: Sequence[str] | None, used: Sequence[Any]) -> list[str]:
    known = list(labels or ())
    return [*known, *sorted({label for each in used for label in each}.difference(known))]


def _flags(sets: Sequence[set[str]], names: Sequence[str]) -> Array:
    """Return whether each row has each label, shape (rows, labels)."""
    index = {name: i for i, name in enumerate(names)}
    flags = np.zeros((len(sets), len(names)), bool)
    for row, labels in enumerate(sets):
        flags[row, [index[label] for label in labels]] = True
    return flags
