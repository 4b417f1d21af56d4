"""Single or batched input becomes checked rows in ``read``; answers go back in ``unwrap``.

Everything between the two handles lists only. Nothing the caller passed is changed.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from backprop.errors import InputError
from backprop.pictures import Picture, describe, open_picture
from backprop.specs import Field, Option, TaskSpec, spec_of

__all__ = ["Request", "Row", "one_by_one", "read", "unwrap"]

Row = dict[str, Any]
"""One row's fields by name: str, ``Picture``, or list of str."""


@dataclass(frozen=True)
class Request:
    """A checked call.

    Args:
        rows: one dictionary a row; optional fields that were left out are not in it.
        options: the options that were passed; those left out or None are not in it.
        single: whether the caller passed one item rather than a list.
    """

    rows: list[Row]
    options: dict[str, Any]
    single: bool


def read(task: str, task_input: object, *, paths: bool = True) -> Request:
    """Return ``task_input`` as rows and options, every value checked against the task's spec.

    Args:
        task: task string.
        task_input: the dictionary of the task's schema.
        paths: whether an image may be given as a path; a server says no.

    Raises:
        UnsupportedTaskError: no such task.
        InputError: a key or value that is not allowed; the message names the field, the value
            received and the remedy.
    """
    spec = spec_of(task)
    given = _given(spec, task_input)
    single = not _is_list(given[spec.primary.name])
    count = 1 if single else len(_as_list(given[spec.primary.name]))
    rows: list[Row] = [{} for _ in range(count)]
    for field in spec.fields:
        if field.name in given:
            reader = READERS[field.kind]
            values = reader(field, given[field.name], count, single, paths)
            for row, value in zip(rows, values, strict=True):
                row[field.name] = value
    options = {
        option.name: check_option(option, given[option.name])
        for option in spec.options
        if option.name in given
    }
    check = CROSS_CHECKS.get(spec.name)
    if check is not None:
        check(given, rows, options)
    return Request(rows, options, single)


def unwrap(answers: list[Any], *, single: bool) -> Any:
    """Return ``answers`` in the shape of the call: the only one, or the list."""
    return answers[0] if single else answers


def one_by_one(task: str, given: Mapping[str, Any], request: Request) -> list[dict[str, Any]]:
    """Return a batch as single inputs, for models that do not know lists.

    Args:
        task: task string.
        given: what the caller passed.
        request: the same, checked.
    """

    def items(column: object) -> list[Any]:
        return _as_list(_plain(column))

    fields = {field.name for field in spec_of(task).fields}
    shared = {key: value for key, value in given.items() if key not in fields}
    return [
        {
            **{name: row[name] if name in LISTS else items(given[name])[i] for name in row},
            **shared,
        }
        for i, row in enumerate(request.rows)
    ]


LISTS = ("prev_q", "prev_a", "labels")
"""Fields that are a list for a single row already."""


def check_option(option: Option, value: object) -> Any:
    """Return ``value`` in the option's own type.

    Raises:
        InputError: of another type, not finite, or out of bounds.
    """
    checked = CONVERTERS[option.kind](value)
    if checked is None:
        raise InputError(
            f"{option.name} must be {WANTED[option.kind]}; received "
            f"{describe(value)} of type {type(value).__name__}."
        )
    if option.choices and checked not in option.choices:
        raise InputError(
            f"{option.name} must be one of {', '.join(map(repr, option.choices))}; "
            f"received {describe(value)}."
        )
    if option.kind in ("int", "float"):
        _check_bounds(option, checked)
    return checked


def _check_bounds(option: Option, value: float) -> None:
    highest = LARGEST if option.high is None else option.high
    too_low = option.low is not None and (
        value <= option.low if option.above_low else value < option.low
    )
    if too_low or value > highest:
        low = "" if option.low is None else f"{'above' if option.above_low else 'at least'} "
        low += "" if option.low is None else f"{option.low:g}"
        bounds = " and ".join(part for part in (low, f"at most {highest:g}") if part)
        raise InputError(f"{option.name} must be {bounds}; received {describe(value)}.")


LARGEST = 2**63 - 1
"""Bound of numbers that have no other: what NumPy and torch can hold."""


def _given(spec: TaskSpec, task_input: object) -> dict[str, object]:
    """Return what was passed: known keys only, None meaning left out."""
    if not isinstance(task_input, Mapping):
        raise InputError(
            f"{spec.name} takes a dictionary with {', '.join(spec.keys)}; received "
            f"{describe(task_input)} of type {type(task_input).__name__}."
        )
    unknown = [key for key in task_input if key not in spec.keys]
    if unknown:
        near = get_close_matches(str(unknown[0]), spec.keys, n=1)
        hint = f" did you mean {near[0]!r}?" if near else ""
        raise InputError(
            f"{spec.name} has no field {describe(unknown[0])};{hint} It takes: "
            f"{', '.join(spec.keys)}."
        )
    given = {key: _plain(value) for key, value in task_input.items() if value is not None}
    missing = [field.name for field in spec.fields if field.required and field.name not in given]
    if missing:
        raise InputError(
            f"{spec.name} needs {missing[0]!r}; received only: {', '.join(given) or 'nothing'}."
        )
    return given


def _plain(value: object) -> object:
    """Return a list for what holds one (NumPy arrays, pandas columns), else ``value`` itself."""
    to_list = getattr(value, "tolist", None)
    is_one = isinstance(value, (str, bytes, memoryview))  # NumPy's own str and bytes among them
    return to_list() if callable(to_list) and not is_one else value


def _is_list(value: object) -> bool:
    return isinstance(value, (list, tuple))


def _as_list(value: object) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _column(field: Field, value: object, count: int, single: bool) -> list[Any]:
    """Return the field's values, one a row, or say how the shapes differ."""
    if single == _is_list(value):
        wanted = "one value, as the other fields are" if single else f"a list of {count}"
        tip = "" if single else f"; pass one for each row (the same for all: [value] * {count})"
        raise InputError(
            f"{field.name} must be {wanted}; received {describe(value)} of type "
            f"{type(value).__name__}{tip}."
        )
    values = _as_list(value)
    if len(values) != count:
        raise InputError(
            f"{field.name} has {len(values)} item{'s' * (len(values) != 1)} for {count} rows; "
            "pass one for each row."
        )
    return values


def _read_text(field: Field, value: object, count: int, single: bool, _paths: bool) -> list[str]:
    values = _column(field, value, count, single)
    return [check_text(item, _where(field, i, single)) for i, item in enumerate(values)]


def _read_image(
    field: Field, value: object, count: int, single: bool, paths: bool
) -> list[Picture]:
    values = _column(field, value, count, single)
    return [
        open_picture(item, _where(field, i, single), paths=paths) for i, item in enumerate(values)
    ]


def _read_history(
    field: Field, value: object, count: int, single: bool, _paths: bool
) -> list[list[str]]:
    if not _is_list(value):
        raise InputError(f"{field.name} must be a list; received {describe(value)}.")
    values = _as_list(value)
    if not values:
        return [[] for _ in range(count)]
    if single:
        return [_read_strings(values, field.name, blank_ok=True)]
    if len(values) != count or not all(map(_is_list, values)):
        raise InputError(
            f"{field.name} must be a list of {count} lists, one for each question of the "
            f"batch (empty where there is no history); received {describe(value)}."
        )
    return [
        _read_strings(_as_list(item), f"{field.name}[{i}]", blank_ok=True)
        for i, item in enumerate(values)
    ]


def _read_labels(
    field: Field, value: object, count: int, single: bool, _paths: bool
) -> list[list[str]]:
    if not _is_list(value):
        raise InputError(
            f"{field.name} must be a list of strings; received {describe(value)} of type "
            f"{type(value).__name__}."
        )
    values = _as_list(value)
    nested = [_is_list(item) for item in values]
    if not any(nested) and (values or count or single):
        shared = check_labels(values, field.name)
        return [list(shared) for _ in range(count)]
    if single or not all(nested):
        shape = "one list of strings" if single else "all strings, or one list for each row"
        raise InputError(f"{field.name} must be {shape}; received {describe(value)}.")
    if len(values) != count:
        raise InputError(
            f"{field.name} has {len(values)} lists for {count} rows; pass one for each row, or "
            "one flat list for all."
        )
    return [check_labels(_as_list(item), f"{field.name}[{i}]") for i, item in enumerate(values)]


READERS: dict[str, Callable[[Field, object, int, bool, bool], list[Any]]] = {
    "text": _read_text,
    "image": _read_image,
    "history": _read_history,
    "labels": _read_labels,
}


def check_text(value: object, where: str, *, blank_ok: bool = False) -> str:
    """Return ``value``, a string that holds something and can be encoded.

    Raises:
        InputError: it is not.
    """
    if not isinstance(value, str):
        raise InputError(
            f"{where} must be a string; received {describe(value)} of type {type(value).__name__}."
        )
    if not blank_ok and not value.strip():
        raise InputError(f"{where} is blank (received {describe(value)}); pass some text.")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"{where} is not valid Unicode at position {error.start} (received "
            f"{describe(value[error.start])}, half of a pair); decode the text again with "
            "errors='replace'."
        ) from error
    return str(value)


def check_labels(values: Sequence[object], where: str) -> list[str]:
    """Return ``values``: at least one label, all different, none blank.

    Raises:
        InputError: they are not.
    """
    if not values:
        raise InputError(f"{where} is empty; pass at least one label, or leave it out.")
    labels = _read_strings(values, where, blank_ok=False)
    if len(set(labels)) < len(labels):
        twice = next(label for i, label in enumerate(labels) if label in labels[:i])
        raise InputError(f"{where} has {twice!r} more than once; pass each label once.")
    return labels


def _read_strings(values: Sequence[object], where: str, *, blank_ok: bool) -> list[str]:
    return [check_text(item, f"{where}[{i}]", blank_ok=blank_ok) for i, item in enumerate(values)]


def _where(field: Field, index: int, single: bool) -> str:
    return field.name if single else f"{field.name}[{index}]"


def _to_bool(value: object) -> bool | None:
    if isinstance(value, bool):
        return value
    return bool(value) if type(value).__name__ == "bool_" else None  # numpy.bool_


def _to_int(value: object) -> int | None:
    if isinstance(value, numbers.Integral) and not isinstance(value, bool):
        return int(value)  # not by way of a float, which is not exact
    number = _to_float(value)
    return int(number) if number is not None and number.is_integer() else None


def _to_float(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _to_str(value: object) -> str | None:
    return str(value) if _is_text(value) and str(value).strip() else None


def _to_strings(value: object) -> list[str] | None:
    values = _as_list(value)
    fine = all(_is_text(item) and item for item in values)
    return [str(item) for item in values] if values and fine else None


def _is_text(value: object) -> bool:
    """Whether ``value`` is a string that can be encoded; half of a surrogate pair can't."""
    try:
        return isinstance(value, str) and bool(value.encode() or True)
    except UnicodeEncodeError:
        return False


CONVERTERS: dict[str, Callable[[object], Any]] = {
    "bool": _to_bool,
    "int": _to_int,
    "float": _to_float,
    "str": _to_str,
    "strings": _to_strings,
}


def _check_history(given: Mapping[str, object], rows: list[Row], options: dict[str, Any]) -> None:
    """Make prev_q and prev_a pairs, or say which row has more of one."""
    if ("prev_q" in given) != ("prev_a" in given):
        there = "prev_q" if "prev_q" in given else "prev_a"
        raise InputError(f"Received {there!r} alone; pass prev_q and prev_a together.")
    for i, row in enumerate(rows):
        questions, answers = row.get("prev_q", []), row.get("prev_a", [])
        if len(questions) != len(answers):
            raise InputError(
                f"Row {i} has {len(questions)} prev_q and {len(answers)} prev_a; pass one "
                "answer for each question."
            )


def _check_template(given: Mapping[str, object], rows: list[Row], options: dict[str, Any]) -> None:
    template = options.get("template")
    if template is not None and template.count("{}") != 1:
        raise InputError(
            f"template must hold {{}} once, where the label goes; received {template!r}."
        )


def _check_generation(
    given: Mapping[str, object], rows: list[Row], options: dict[str, Any]
) -> None:
    low, high = options.get("min_length", 0), options.get("max_length", math.inf)
    if low > high:
        raise InputError(f"min_length ({low}) is above max_length ({high}).")
    samples = options.get("do_sample", any(options.get(key) for key in SAMPLING))
    wanted, beams = options.get("num_generations", 1), options.get("num_beams", 1)
    greedy = options.get("do_sample") is False or options.get("temperature") == 0
    if wanted > beams and (greedy or beams > 1):
        raise InputError(
            f"num_generations is {wanted} but there are only {beams} beams to choose from; pass "
            "do_sample=True without num_beams, or num_beams of at least num_generations."
        )
    if samples and options.get("temperature") == 0 and "do_sample" in options:
        raise InputError("temperature 0 can't be sampled from; pass do_sample=False or raise it.")


WANTED = {
    "bool": "True or False",
    "int": "a whole number",
    "float": "a finite number",
    "str": "a string of valid Unicode that is not blank",
    "strings": "a string of valid Unicode or a list of them, none empty",
}

SAMPLING = ("temperature", "top_k", "top_p")
"""Options that only mean something when sampling; giving one turns it on."""

CROSS_CHECKS: dict[str, Callable[[Mapping[str, object], list[Row], dict[str, Any]], None]] = {
    "qa": _check_history,
    "text-classification": _check_template,
    "image-classification": _check_template,
    "text-generation": _check_generation,
}
