"""Which labels a row has, in columns of labels and in emotions written as text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from backprop.specs import Training

__all__ = ["are_lists", "label_column", "parts"]

MOST_WORDS = 3
"""Words a label in a list of emotions has at most; longer ones are taken as sentences."""


def label_column(task: str, training: Training) -> str:
    """Return the name of the column whose values are labels; empty where there is none."""
    if task == "emotion":
        return "output_text"
    return next((column.name for column in training.columns if column.kind == "label"), "")


def are_lists(task: str, values: Sequence[Any]) -> bool:
    """Return whether rows have lists of labels rather than one label each.

    So they do where any value is a list. Emotions are written as text, ``"joy, love"``: they are
    lists where at least one row has a comma and every part of every row is a label, which is to
    say one to three words without a full stop, exclamation or question mark.
    """
    if any(isinstance(value, (list, tuple)) or getattr(value, "ndim", 0) for value in values):
        return True
    if task != "emotion":
        return False
    texts = [value for value in values if isinstance(value, str)]
    listed = any("," in text for text in texts)
    return listed and all(_is_label(part) for text in texts for part in text.split(","))


def parts(text: str) -> list[str]:
    """Return the labels in a text with commas between them."""
    return [part.strip() for part in text.split(",") if part.strip()]


def _is_label(part: str) -> bool:
    return 1 <= len(part.split()) <= MOST_WORDS and not set(part) & set(".!?\n")
