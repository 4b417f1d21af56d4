"""A model's answers to rows of data, and how good they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from backprop.data import Data
from backprop.errors import InputError
from backprop.metrics import Measures, measure
from backprop.pictures import Picture

__all__ = ["Answers", "Ask"]

Ask = Callable[[Mapping[str, Any]], list[Any]]
"""A task's input dictionary of lists to a list of answers."""

FIELDS: Mapping[str, Mapping[str, str]] = {
    "qa": {"question": "questions", "context": "contexts"},
    "text-classification": {"text": "texts"},
    "emotion": {"text": "input_text"},
    "summarisation": {"text": "input_text"},
    "text-generation": {"text": "input_text"},
    "text-vectorisation": {"text": "texts"},
    "image-classification": {"image": "images"},
    "image-vectorisation": {"image": "images"},
    "image-text-vectorisation": {"image": "images", "text": "texts"},
}
"""Task to the column that each field of its input is asked with."""

SIDES: Mapping[str, tuple[str, str]] = {
    "texts": ("texts1", "texts2"),
    "images": ("imgs1", "imgs2"),
}
"""Column to its two sides, where rows are pairs."""

TRUTHS = ("similarity_scores", "groups", "labels", "answers", "output_text")
"""Columns that hold what the answer should be; the first that is there."""

ROWS_AT_ONCE = 512

ALL = 1_000_000
"""More labels than any model has, which may be more than the data has."""


class Answers:
    """Asks a model and measures what it says.

    Args:
        ask: the task, with the model.
        options: of the task's input, such as ``max_length`` of written text.
        written: whether the model writes its answers, and so has no probabilities.
    """

    def __init__(
        self, ask: Ask, options: Mapping[str, Any] | None = None, *, written: bool = False
    ) -> None:
        self.ask = ask
        self.written = written
        self.options = dict(options or {})

    def measure(self, data: Data, rows: Sequence[int]) -> Measures:
        """Return the figures of the answers to ``rows``."""
        truth_column = next(name for name in TRUTHS if name in data.columns)
        truth = [data.columns[truth_column][row] for row in rows]
        if truth_column == "similarity_scores":
            answers: Any = tuple(self.of(data, rows, side) for side in (0, 1))
        else:
            answers = self.of(data, rows)
        return measure(
            data.task,
            data.variant,
            answers,
            truth,
            labels=data.labels or None,
            multi_label=data.multi_label,
        )

    def of(self, data: Data, rows: Sequence[int], side: int = 0) -> list[Any]:
        """Return one answer a row."""
        found: list[Any] = []
        for start in range(0, len(rows), ROWS_AT_ONCE):
            own = rows[start : start + ROWS_AT_ONCE]
            answers = self.ask({**self._input(data, own, side), **self._options(data)})
            if len(answers) != len(own):
                raise InputError(
                    f"The model gave {len(answers)} answers for {len(own)} rows; one each was "
                    "expected."
                )
            found += answers
        return found

    def _options(self, data: Data) -> dict[str, Any]:
        # Probabilities of every emotion, where a row may have several.
        several = data.task == "emotion" and data.multi_label and not self.written
        return {**self.options, **({"top_k": ALL} if several else {})}

    def _input(self, data: Data, rows: Sequence[int], side: int) -> dict[str, Any]:
        asked = {}
        for field, column in FIELDS[data.task].items():
            name = column if column in data.columns else SIDES[column][side]
            asked[field] = [_plain(data.columns[name][row]) for row in rows]
        if "prev_qas" in data.columns:
            turns = [data.columns["prev_qas"][row] for row in rows]
            asked["prev_q"] = [[question for question, _ in own] for own in turns]
            asked["prev_a"] = [[answer for _, answer in own] for own in turns]
        return asked


def _plain(value: Any) -> Any:
    """Return what an input dictionary takes: of a picture, where it is."""
    return value.source if isinstance(value, Picture) else value
