"""Training data in whatever form people have it, as a table."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from backprop.data.files import read_file, read_folder
from backprop.data.tables import Table, from_columns, from_rows, values_of
from backprop.errors import InputError
from backprop.pictures import describe

__all__ = ["table_of"]

FORMS = (
    "a dictionary of lists, a pandas or Polars frame, a Hugging Face dataset, a list of "
    "dictionaries, or the path of a CSV, TSV, JSON or JSON lines file or of a folder of images"
)


def table_of(params: Any) -> Table:
    """Return ``params`` as a table.

    pandas and ``datasets`` are known by what they look like: they need not be installed.

    Raises:
        InputError: it is nothing that has columns, or can't be read.
    """
    if isinstance(params, (str, Path)):
        path = Path(params).expanduser()
        return read_folder(path) if os.path.isdir(path) else read_file(path)
    if isinstance(params, Mapping):
        _check_one_split(params)
        return from_columns(params, strict=True)
    if isinstance(params, Sequence):
        _check_rows(params)
        return from_rows(params)
    names = getattr(params, "column_names", getattr(params, "columns", None))
    if names is not None and hasattr(params, "__getitem__"):
        return _from_frame(params, list(names))
    hint = " A streamed dataset must be loaded first." if names is not None else ""
    raise InputError(
        f"Training data must be {FORMS}; received {describe(params)} of type "
        f"{type(params).__name__}.{hint}"
    )


def _check_one_split(params: Mapping[Any, Any]) -> None:
    """Refuse a ``DatasetDict``: a dictionary, but of whole datasets."""
    if params and all(hasattr(each, "column_names") for each in params.values()):
        raise InputError(
            f"This dictionary holds whole datasets ({', '.join(map(str, params))}); pass one of "
            f"them, such as params[{next(iter(params))!r}]."
        )


def _check_rows(rows: Sequence[Any]) -> None:
    other = next((i for i, row in enumerate(rows) if not isinstance(row, Mapping)), None)
    if other is not None:
        raise InputError(
            f"A list of rows must hold dictionaries; item {other} is {describe(rows[other])} of "
            f"type {type(rows[other]).__name__}. Training data may be {FORMS}."
        )


def _from_frame(frame: Any, names: list[Any]) -> Table:
    by_name = {str(name): name for name in names}
    if len(by_name) < len(names):
        raise InputError(f"Two columns have the same name; received {describe(names)}.")

    def fetch(name: str) -> list[Any]:
        values = values_of(frame[by_name[name]], name)
        class_names = _class_names(frame, name)
        return [_named(value, class_names) for value in values] if class_names else values

    return Table(list(by_name), fetch)


def _class_names(frame: Any, name: str) -> Sequence[str] | None:
    """Return the names behind a ``datasets`` column of class numbers (``ClassLabel``)."""
    features = getattr(frame, "features", None)
    feature = features.get(name) if isinstance(features, Mapping) else None
    names: Sequence[str] | None = getattr(feature, "names", None)
    inner = getattr(feature, "feature", None)  # a list of class numbers a row
    return names if names is not None else getattr(inner, "names", None)


def _named(value: Any, names: Sequence[str]) -> Any:
    """Return the name of a class number; what is no such number stays, to be found as a fault."""
    if isinstance(value, list):
        return [_named(each, names) for each in value]
    is_class = isinstance(value, int) and 0 <= value < len(names)
    return names[value] if is_class else None if value == -1 else value
