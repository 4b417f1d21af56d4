"""What the flags of ``backprop run TASK`` say, as one call of the task."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backprop import inputs
from backprop.cli.flags import field_flag, file_key, options_of
from backprop.errors import InputError
from backprop.specs import Field, TaskSpec

__all__ = ["Call", "read"]

STDIN = "-"

Flags = Mapping[str, Any]
"""Each flag's value by parameter name; None where it was left out."""


@dataclass(frozen=True)
class Call:
    """One call of a task, checked.

    Args:
        spec: of the task.
        fields: its fields, single values or lists.
        options: those that were given.
        single: whether the call is for one item rather than a batch.
    """

    spec: TaskSpec
    fields: Mapping[str, Any]
    options: Mapping[str, Any]
    single: bool

    @property
    def arguments(self) -> dict[str, Any]:
        """The keyword arguments; fields that share one, as prev_q and prev_a do, become pairs."""
        shared: dict[str, list[Any]] = {}
        for field in self.spec.fields:
            if field.name in self.fields:
                shared.setdefault(field.argument, []).append(self.fields[field.name])
        return {name: self._joined(sides) for name, sides in shared.items()} | dict(self.options)

    def _joined(self, sides: list[Any]) -> Any:
        if len(sides) == 1:
            return sides[0]
        if self.single:
            return list(zip(*sides, strict=True))
        return [list(zip(*row, strict=True)) for row in zip(*sides, strict=True)]


def read(spec: TaskSpec, flags: Flags) -> Call:
    """Return the call that the flags, standard input and files make.

    Raises:
        InputError: a field is missing, a value is not allowed, or a file can't be read; a fault in
            a line of JSON names the line.
    """
    _check_sources(spec, flags)
    fields = {field.name: FIELDS[field.kind](field, flags) for field in spec.fields}
    fields = {name: value for name, value in fields.items() if value is not None}
    options = {option.name: flags[option.name] for option in options_of(spec)}
    options = {name: value for name, value in options.items() if value is not None}
    if flags["jsonl"] is not None:
        fields |= _columns(spec, flags["jsonl"], fields | options)
    missing = [field for field in spec.fields if field.required and field.name not in fields]
    if missing:
        raise InputError(
            f"{spec.name} needs {field_flag(missing[0])}; received: "
            f"{', '.join(fields) or 'no input'}. See: backprop run {spec.name} --help"
        )
    request = inputs.read(spec.name, fields | options)
    return Call(spec, fields, options, request.single)


def _check_sources(spec: TaskSpec, flags: Flags) -> None:
    """Refuse flags that want standard input twice, or ``--lines`` of nothing."""
    places = [value for key, value in flags.items() if key == "jsonl" and value is not None]
    for field in spec.fields:
        places += [value for value in flags[field.name] or () if value == STDIN]
        places += flags.get(file_key(field)) or ()
    if sum(str(place) == STDIN for place in places) > 1:
        raise InputError(f"{STDIN} was given twice; only one flag can read standard input.")
    if flags["lines"] and (not places or flags["jsonl"] is not None):
        raise InputError("--lines needs a field that is read from - or a file, and no --jsonl.")


# --- Fields ------------------------------------------------------------------------------


def _texts(field: Field, flags: Flags) -> Any:
    values, files = flags[field.name], flags[file_key(field)]
    if values and files:
        raise InputError(
            f"{field_flag(field)} and {field_flag(field)}-file were both given; pass one of them."
        )
    items: list[str] = []
    for value in values or ():
        items += _pieces(value, flags) if value == STDIN else [value]
    for file in files or ():
        items += _pieces(file, flags)
    was_read = bool(files) or STDIN in (values or ())
    return _single_or_list(items, values or files, is_list=flags["lines"] and was_read)


def _images(field: Field, flags: Flags) -> Any:
    items: list[Any] = []
    for value in flags[field.name] or ():
        if value != STDIN:
            items.append(value)
        elif flags["lines"]:
            items += _pieces(value, flags)
        else:
            items.append(_bytes(STDIN))
    is_list = flags["lines"] and STDIN in (flags[field.name] or ())
    return _single_or_list(items, flags[field.name], is_list=is_list)


def _history(field: Field, flags: Flags) -> list[str] | None:
    found: list[str] | None = flags[field.name]
    return found


def _labels(field: Field, flags: Flags) -> list[str] | None:
    values = flags[field.name]
    return values and [label.strip() for value in values for label in value.split(",")]


FIELDS: Mapping[str, Callable[[Field, Flags], Any]] = {
    "text": _texts,
    "image": _images,
    "history": _history,
    "labels": _labels,
}
"""A field's kind to what its flags say; None where they were left out."""


def _single_or_list(items: list[Any], given: Any, *, is_list: bool) -> Any:
    if not given:
        return None
    return items if is_list or len(items) != 1 else items[0]


def _pieces(place: str | Path, flags: Flags) -> list[str]:
    """Return what is in a file, whole or by the line."""
    text = _text(place)
    return _lines(text) if flags["lines"] else [text]


def _lines(text: str) -> list[str]:
    """Return the lines of ``text``; unlike ``splitlines``, as editors and ``wc -l`` count them."""
    return [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")] if text else []


def _text(place: str | Path) -> str:
    try:
        return _bytes(place).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{_named(place)} is not UTF-8 text (byte {error.start} is "
            f"0x{error.object[error.start]:02x}); convert it, with iconv say."
        ) from error


def _bytes(place: str | Path) -> bytes:
    if str(place) == STDIN:
        return sys.stdin.buffer.read()
    try:
        return Path(place).read_bytes()
    except OSError as error:
        raise InputError(
            f"{_named(place)} can't be read ({error.strerror}); check the path."
        ) from error


def _named(place: str | Path) -> str:
    return "standard input" if str(place) == STDIN else str(place)


# --- JSON lines --------------------------------------------------------------------------


def _columns(spec: TaskSpec, place: Path, shared: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Return the fields of a file of JSON lines, each with one value a line.

    Args:
        spec: of the task.
        place: the file.
        shared: what holds for all lines, by flags.

    Raises:
        InputError: a line is not an object of the task's fields; the message has its number.
    """
    rows = []
    for number, line in enumerate(_lines(_text(place)), 1):
        try:
            rows.append(_row(spec, line, shared))
        except InputError as error:
            raise InputError(f"{_named(place)}, line {number}: {error}") from error
    columns: dict[str, list[Any]] = {}
    for field in spec.fields:
        there = [field.name in row for row in rows]
        if field.kind == "labels" and any(there) and not all(there):
            raise InputError(
                f"{_named(place)}, line {there.index(False) + 1}: {field.name!r} is missing, but "
                "other lines have it; give it in all lines, or once by its flag."
            )
        if any(there) or (field.required and not rows):
            columns[field.name] = [row.get(field.name, []) for row in rows]
    return columns


def _row(spec: TaskSpec, line: str, shared: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of one line.

    Raises:
        InputError: it is no object, or the task does not take what it holds.
    """
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(f"this is not JSON ({error}); received {line[:60]!r}.") from error
    names = [field.name for field in spec.fields]
    if not isinstance(found, dict):
        raise InputError(f"an object with {', '.join(names)} is needed; received {line[:60]!r}.")
    row = {key: value for key, value in found.items() if value is not None}
    for key in row:
        if key in shared:
            raise InputError(f"{key!r} is given by its flag too; leave out one of the two.")
        if key in spec.keys and key not in names:
            raise InputError(
                f"{key!r} holds for all lines; pass --{key.replace('_', '-')} instead."
            )
    if not inputs.read(spec.name, {**shared, **row}).single:
        raise InputError(f"{names[0]} must be one item, not a list; use one line for each.")
    return row
