"""Small checks of JSON values, put together into schemas; whatever none names is refused."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeAlias

from backprop.errors import ArtefactError
from backprop.serve.vetting.refusing import refuse, shown

__all__ = [
    "Check",
    "anything",
    "either",
    "list_of",
    "maybe",
    "nothing",
    "number",
    "one_of",
    "record",
    "table_of",
    "text",
    "truth",
    "whole",
]

Check: TypeAlias = Callable[[Any, str], None]
"""Takes a value and where it stands; raises ArtefactError unless it is fine."""

CONTROLS = re.compile(r"[\0-\x08\x0b\x0c\x0e-\x1f\x7f]")


def truth(value: Any, where: str) -> None:
    """Refuse all but true and false."""
    if type(value) is not bool:
        refuse(where, f"received {shown(value)} instead of true or false")


def nothing(value: Any, where: str) -> None:
    """Refuse all but null and what is empty."""
    if value is not None and value is not False and value not in ({}, [], ""):
        refuse(where, f"received {shown(value)}, which is not supported", "remove the key")


def whole(low: int, high: int) -> Check:
    """Return the check of an integer."""

    def check(value: Any, where: str) -> None:
        if type(value) is not int or not low <= value <= high:
            refuse(
                where, f"received {shown(value)} instead of a whole number from {low} to {high:,}"
            )

    return check


def number(low: float, high: float) -> Check:
    """Return the check of any number."""

    def check(value: Any, where: str) -> None:
        if type(value) not in (int, float) or not low <= value <= high:
            refuse(where, f"received {shown(value)} instead of a number from {low:g} to {high:,g}")

    return check


def text(longest: int, pattern: str = "") -> Check:
    """Return the check of a string without control characters.

    Args:
        longest: most characters.
        pattern: what all of it must match, if given.
    """
    rule = re.compile(pattern) if pattern else None

    def check(value: Any, where: str) -> None:
        if not isinstance(value, str) or len(value) > longest:
            refuse(where, f"received {shown(value)} instead of at most {longest:,} characters")
        if CONTROLS.search(value):
            refuse(where, f"received {shown(value)}, which holds control characters")
        if rule is not None and not rule.fullmatch(value):
            refuse(where, f"received {shown(value)}, which is not allowed here")

    return check


def one_of(values: Collection[Any]) -> Check:
    """Return the check of a value from a list."""
    listed = ", ".join(map(str, sorted(values, key=str)))
    known = listed if len(listed) <= 300 else f"{listed[:280]}, ..."

    def check(value: Any, where: str) -> None:
        if isinstance(value, (dict, list)) or value not in values or type(value) is bool:
            refuse(where, f"received {shown(value)}, which is not one of those allowed ({known})")

    return check


def maybe(inner: Check) -> Check:
    """Return the check that lets null pass too."""

    def check(value: Any, where: str) -> None:
        if value is not None:
            inner(value, where)

    return check


def either(*checks: Check) -> Check:
    """Return the check that passes what one of ``checks`` passes; the last one's words are told."""

    def check(value: Any, where: str) -> None:
        for own in checks[:-1]:
            try:
                own(value, where)
            except ArtefactError:
                continue
            return
        checks[-1](value, where)

    return check


def list_of(inner: Check, most: int) -> Check:
    """Return the check of a list of at most ``most`` items."""

    def check(value: Any, where: str) -> None:
        if not isinstance(value, list) or len(value) > most:
            refuse(where, f"received {shown(value)} instead of a list of at most {most:,}")
        for i, item in enumerate(value):
            inner(item, f"{where}[{i}]")

    return check


def table_of(key: Check, inner: Check, most: int) -> Check:
    """Return the check of an object whose keys are free within ``key``."""

    def check(value: Any, where: str) -> None:
        if not isinstance(value, dict) or len(value) > most:
            refuse(where, f"received {shown(value)} instead of an object of at most {most:,}")
        for name, item in value.items():
            key(name, f"{where}, a key")
            inner(item, f"{where}[{shown(name)}]")

    return check


def record(fields: Mapping[str, Check], required: Collection[str] = ()) -> Check:
    """Return the check of an object with known keys alone."""

    def check(value: Any, where: str) -> None:
        if not isinstance(value, dict):
            refuse(where, f"received {shown(value)} instead of an object")
        for name in required:
            if name not in value:
                refuse(where, f"the key {name!r} is missing")
        for name, item in value.items():
            if name not in fields:
                refuse(where, f"the key {shown(name)} is not known", "remove it")
            fields[name](item, f"{where}, {name}")

    return check


def anything(most: int, longest: int) -> Check:
    """Return the check of JSON of any form, bounded; its depth is bounded by the reader.

    Args:
        most: values in all.
        longest: characters of each string and key.
    """
    words = text(longest)

    def check(value: Any, where: str) -> None:
        pending, seen = [value], 0
        while pending:
            item, seen = pending.pop(), seen + 1
            if seen > most:
                refuse(where, f"it holds more than {most:,} values")
            if isinstance(item, dict):
                for name in item:
                    words(name, f"{where}, a key")
                pending += item.values()
            elif isinstance(item, list):
                pending += item
            elif isinstance(item, str):
                words(item, where)

    return check
