"""Named columns, whatever they came from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backprop.errors import InputError
from backprop.pictures import describe

__all__ = ["Table", "from_columns", "from_rows", "values_of"]


@dataclass(frozen=True)
class Table:
    """Columns by name, each fetched when asked for: some forms decode images to give one.

    Args:
        names: of the columns, in order.
        fetch: returns a column's values.
        strict: whether a column that no task takes is a mistake.
        lines: line of the file each row starts on, counted from 1; None for what is no file.
        folder: where relative paths of images may start, besides the working directory.
        faults: what is wrong with the source itself.
        hint: what may be the cause where a column is missing.
    """

    names: Sequence[str]
    fetch: Callable[[str], list[Any]]
    strict: bool = False
    lines: Sequence[int] | None = None
    folder: Path | None = None
    faults: Sequence[str] = ()
    hint: str = ""

    def place(self, row: int) -> str:
        """Return how messages name a row."""
        in_file = self.lines is not None and row < len(self.lines)
        return f"row {row}" + (f" (line {self.lines[row]})" if in_file and self.lines else "")


def from_columns(columns: Mapping[str, Any], **options: Any) -> Table:
    """Return a table of columns that are there already; None is a column left out.

    Args:
        columns: name to values, in any form ``values_of`` takes.
        options: further arguments of ``Table``.
    """
    there = {str(name): values for name, values in columns.items() if values is not None}
    return Table(list(there), lambda name: values_of(there[name], name), **options)


def from_rows(rows: Sequence[Mapping[str, Any]], **options: Any) -> Table:
    """Return a table of rows; what a row does not have is None.

    Args:
        rows: name to value, each.
        options: further arguments of ``Table``.
    """
    keys = {str(key): key for row in rows for key in row}
    return Table(list(keys), lambda name: [row.get(keys[name]) for row in rows], **options)


def values_of(values: Any, name: str) -> list[Any]:
    """Return a column's values, whatever holds them; the values are not copied.

    Args:
        values: list, tuple, NumPy array, tensor, a column of pandas, Polars, Arrow or ``datasets``,
            or any other iterable that has an order.
        name: of the column, for the message.

    Raises:
        InputError: it is none of these.
    """
    if isinstance(values, list):
        return values
    for method in ("tolist", "to_list", "to_pylist"):
        convert = getattr(values, method, None)
        if callable(convert) and getattr(values, "ndim", 1) > 0:
            return list(convert())
    no_list = isinstance(values, (str, bytes, Mapping, Set)) or not isinstance(values, Iterable)
    if no_list or not getattr(values, "ndim", 1):
        raise InputError(
            f"{name} must be a list with one value a row; received {describe(values)} of type "
            f"{type(values).__name__}."
        )
    return list(values)
