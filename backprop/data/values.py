"""What a value of each kind of column must be."""

from __future__ import annotations

import json
import math
import numbers
from collections.abc import Callable, Hashable
from typing import Any

import numpy as np

from backprop.data.labels import parts
from backprop.data.problems import Fault
from backprop.errors import InputError
from backprop.inputs import check_text
from backprop.pictures import describe

__all__ = [
    "Reader",
    "is_missing",
    "read_blank_text",
    "read_group",
    "read_history",
    "read_label",
    "read_labels",
    "read_score",
    "read_text",
]

Reader = Callable[[Any], Any]
"""Takes a value, returns it in the form training has it, or raises ``Fault``."""

FILL = "fill in or remove such rows"


def is_missing(value: object) -> bool:
    """Return whether ``value`` is None, or NaN, NA or NaT as frames have them."""
    if isinstance(value, str):
        return False  # at once, since nearly all values are
    if isinstance(value, numbers.Real):
        return bool(value != value)  # math.isnan can't take a whole number beyond 1e308
    return value is None or type(value).__name__ in ("NAType", "NaTType")


def read_text(value: Any) -> str:
    """Return a text that holds something, as it is.

    Raises:
        Fault: it is none.
    """
    text = read_blank_text(value)
    if not text.strip():
        raise Fault("blank", FILL, describe(value))
    return text


def read_blank_text(value: Any) -> str:
    """Return a text, which may be blank.

    Raises:
        Fault: it is none.
    """
    _check_there(value)
    if not isinstance(value, str):
        raise Fault(f"of type {type(value).__name__}", "pass strings", describe(value))
    try:
        return check_text(value, "", blank_ok=True)
    except InputError as error:
        raise Fault("not valid Unicode", "decode it again, with errors='replace'") from error


def read_label(value: Any) -> str:
    """Return a label as a string without space around it; whole numbers and booleans are labels.

    So is 2.0, as frames have a 2 in a column where other values are missing.

    Raises:
        Fault: it is none.
    """
    if isinstance(value, (list, tuple)):
        raise Fault("a list of labels", "pass one a row, or variant='multi_label'", describe(value))
    if isinstance(value, (float, np.floating)) and not is_missing(value):
        if not float(value).is_integer():
            raise Fault("a fraction", "pass names or whole numbers as labels", describe(value))
        value = int(value)
    is_number = isinstance(value, numbers.Integral) or isinstance(value, np.bool_)
    return str(value) if is_number else read_text(value).strip()


def read_labels(value: Any) -> list[str]:
    """Return the labels of a row: a list, a list as JSON, or a string with commas between them.

    An empty list, or blank string, is a row that has none.

    Raises:
        Fault: it is none of these, or has a label twice.
    """
    _check_there(value)
    if hasattr(value, "tolist") and not isinstance(value, (str, bytes)):
        value = value.tolist()
    if isinstance(value, str):
        listed = _from_json(value)
        value = parts(value) if listed is None else listed
    if not isinstance(value, (list, tuple)):
        value = [value]
    labels = [read_label(each) for each in value]
    if len(set(labels)) < len(labels):
        remedy = "list names, each once, rather than a 0 or 1 for each label"
        raise Fault("with a label twice", remedy, describe(value))
    return labels


def read_score(value: Any) -> float:
    """Return a number as a float; its bounds are for the whole column to judge.

    Raises:
        Fault: it is none, or not finite.
    """
    _check_there(value)
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise Fault("not a finite number", "pass one from 0 to 1", describe(value))
    return number


def read_group(value: Any) -> Hashable:
    """Return what names a row's group.

    Raises:
        Fault: it is missing, blank, or can't be compared.
    """
    _check_there(value)
    if isinstance(value, str):
        return read_text(value).strip()
    try:
        hash(value)
    except TypeError as error:
        raise Fault("no name of a group", "pass strings or numbers", describe(value)) from error
    return value  # type: ignore[no-any-return]


def read_history(value: Any) -> list[tuple[str, str]]:
    """Return earlier questions and answers as pairs; missing means none, JSON text is read.

    Raises:
        Fault: it is no list of pairs of texts.
    """
    if is_missing(value) or value == "":
        return []
    pairs = _from_json(value) if isinstance(value, str) else value
    if not isinstance(pairs, (list, tuple)) or not all(map(_is_pair, pairs)):
        raise Fault("not pairs", "pass [(question, answer), …], or [] for none", describe(value))
    return [(str(question), str(answer)) for question, answer in pairs]


def _is_pair(value: Any) -> bool:
    right = isinstance(value, (list, tuple)) and len(value) == 2
    return right and all(isinstance(each, str) for each in value)


def _check_there(value: object) -> None:
    if is_missing(value):
        raise Fault("missing", FILL)


def _from_json(text: str) -> list[Any] | None:
    """Return the list that ``text`` is as JSON, None where it is none."""
    if not text.lstrip().startswith("["):
        return None
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, list) else None
