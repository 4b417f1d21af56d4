"""Training rows as the model takes them: each processed once, and kept while there is room."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from backprop.collate import Features
from backprop.data import Data
from backprop.models.base import BaseModel
from backprop.pictures import Picture
from backprop.specs import Column

__all__ = ["Samples"]

ROOM_BYTES = 2_000_000_000
"""Processed rows kept in memory; images beyond it are decoded again in each epoch."""


class Samples:
    """The rows of ``data`` through the model's ``process_batch``.

    Args:
        model: what processes them.
        data: checked.
        extra: further keys of each row for ``process_batch``: lengths, ``class_to_idx``.
    """

    def __init__(self, model: BaseModel, data: Data, extra: Mapping[str, Any]) -> None:
        self.model = model
        self.data = data
        self.extra = dict(extra)
        self.sides = _sides(data.training.columns)
        self._kept: dict[tuple[int, int], Features] = {}
        self._room_bytes = ROOM_BYTES

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.data)

    def features(self, row: int, side: int = 0) -> Features:
        """Return what ``process_batch`` makes of a row, or of one side of a pair."""
        key = (row, side)
        if key in self._kept:
            return self._kept[key]
        params = self.params(row, side)
        made = self.model.process_batch(params, task=self.data.task)
        size = _size_bytes(made)
        if size <= self._room_bytes and not self._is_cropped(params):
            self._room_bytes -= size
            self._kept[key] = made
        return made

    def _is_cropped(self, params: Mapping[str, Any]) -> bool:
        """Whether a context was cut around its answer, which may come out otherwise next time."""
        return self.data.task == "qa" and self.model.cut(params, "qa") > 0

    def params(self, row: int, side: int = 0) -> dict[str, Any]:
        """Return a row as ``process_batch`` takes it."""
        values = self.data.columns
        own = {
            column.row: _plain(values[column.name][row])
            for column in self.sides[side]
            if column.name in values
        }
        if any(column.kind == "history" for column in self.sides[side]):
            own.setdefault("prev_qa", [])
        return {**own, **self.extra}

    def length(self, row: int) -> int:
        """Return the tokens of a row, all its sides together; 1 where it has none."""
        found = [self.features(row, side).get("input_ids") for side in range(len(self.sides))]
        return sum(len(ids) for ids in found if ids is not None) or 1

    @property
    def has_lengths(self) -> bool:
        """Whether rows differ in length, as texts do."""
        return "input_ids" in self.features(0)


def _sides(columns: tuple[Column, ...]) -> list[list[Column]]:
    """Return the columns that reach ``process_batch``, those of each side of a pair together."""
    shown = [column for column in columns if column.row]
    first = [column for column in shown if column.name.endswith("1")]
    second = [column for column in shown if column.name.endswith("2")]
    return [first, second] if second else [shown]


def _plain(value: Any) -> Any:
    """Return an image as models know it: its path as a string where it has one."""
    if not isinstance(value, Picture):
        return value
    return str(value.source) if isinstance(value.source, Path) else value.source


def _size_bytes(features: Features) -> int:
    return sum(_value_bytes(value) for value in features.values())


def _value_bytes(value: Any) -> int:
    return (
        value.nbytes
        if isinstance(value, Tensor)
        else 8 * len(value)
        if isinstance(value, list)
        else 8
    )
