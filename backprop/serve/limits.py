"""The most that a request may hold, checked before anything is tokenised or decoded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from backprop.errors import InputError
from backprop.specs import TaskSpec

__all__ = [
    "MAX_BODY_BYTES",
    "MAX_BRACKETS",
    "MAX_CHARACTERS",
    "MAX_LABELS",
    "MAX_ROWS",
    "MAX_TEXT",
    "LENGTHS",
    "OPTION_BOUNDS",
    "check",
]

MAX_BODY_BYTES = 16 << 20
MAX_BRACKETS = 200_000
"""Lists and objects of a body: each takes a hundred times the memory that its brackets do."""
MAX_ROWS = 256
MAX_TEXT = 100_000
"""Characters of one string."""
MAX_CHARACTERS = 2_000_000
"""Characters of all strings of a request but images."""
MAX_LABELS = 1000
MAX_HISTORY = 100
"""Turns of a conversation."""
MAX_STOPS = 16
MAX_WRITTEN = 64
"""Texts or beams that one request may have written at a time, over all rows."""

OPTION_BOUNDS: Mapping[str, float] = {
    "num_beams": 16,
    "num_generations": 16,
    "top_k": 1_000_000,
    "dimensions": 100_000,
}
"""Highest value of options that cost time, where the task's spec allows any."""

MOST_OF_LIST = {"labels": MAX_LABELS, "history": MAX_HISTORY}


LENGTHS = ("min_length", "max_length")
"""Options that are bounded by the server's settings."""


def check(spec: TaskSpec, body: Mapping[str, Any], most_tokens: int) -> None:
    """Return if a request is within all bounds.

    Args:
        spec: the task's.
        body: its input as it came, types unchecked.
        most_tokens: that may be asked for of one text.

    Raises:
        InputError: something is too long, too large or too many.
    """
    primary = body.get(spec.primary.name)
    rows = len(primary) if isinstance(primary, list) else 1
    _most(spec.primary.name, rows, MAX_ROWS, "items; send several requests")
    total = 0
    for field in spec.fields:
        if field.kind == "image":
            continue
        most = MOST_OF_LIST.get(field.kind, MAX_ROWS)
        for text in _strings(body.get(field.name), field.name, most):
            _most(field.name, len(text), MAX_TEXT, "characters in one string")
            total += len(text)
    _most("The request", total, MAX_CHARACTERS, "characters in all; send several requests")
    _check_options(spec, body, rows, {**OPTION_BOUNDS, **dict.fromkeys(LENGTHS, most_tokens)})


def _check_options(
    spec: TaskSpec, body: Mapping[str, Any], rows: int, bounds: Mapping[str, float]
) -> None:
    for option in spec.options:
        value = body.get(option.name)
        if isinstance(value, str):
            _most(option.name, len(value), MAX_TEXT, "characters")
        elif isinstance(value, list):
            _most(option.name, len(value), MAX_STOPS, "strings")
            for text in value:
                if isinstance(text, str):
                    _most(option.name, len(text), MAX_TEXT, "characters in one string")
        elif isinstance(value, (int, float)) and value > bounds.get(option.name, value):
            raise InputError(
                f"{option.name} is at most {bounds[option.name]:g} here; received {value}."
            )
    copies = [body.get(name) for name in ("num_beams", "num_generations")]
    wanted = max((value for value in copies if isinstance(value, int)), default=1)
    if wanted > 1:
        _most("The request", rows * wanted, MAX_WRITTEN, "beams or texts over all its rows")


def _strings(value: object, name: str, most: int, depth: int = 0) -> Iterator[str]:
    """Yield the strings in a value, at most a list of lists; others are refused later, by kind."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list) and depth < 2:
        _most(name, len(value), max(most, MAX_ROWS) if depth == 0 else most, "items")
        for item in value:
            yield from _strings(item, name, most, depth + 1)


def _most(name: str, count: int, most: int, what: str) -> None:
    if count > most:
        raise InputError(f"{name} has {count:,} {what}; at most {most:,} are allowed.")
