"""What is wrong with an answer, in words: its form, its JSON, its difference from another."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from backprop.pictures import describe
from backprop.specs import TaskSpec

__all__ = ["TOLERANCE", "difference", "fault_of_batch", "fault_of_json", "fault_of_row"]

TOLERANCE = 1e-4
"""How far two numbers that should be equal may be apart, relative or absolute."""

JSON_TYPES = (str, int, float, bool, type(None))


def fault_of_row(spec: TaskSpec, answer: object, given: Mapping[str, Any]) -> str:
    """Return what is wrong with the answer to one row; empty where nothing is.

    Args:
        spec: the task's.
        answer: what the model gave.
        given: what it was given: the row's own labels, and the options.
    """
    wanted = given.get("num_generations", 1)
    if wanted > 1:
        if not isinstance(answer, list) or len(answer) != wanted:
            return f"{describe(answer)} is not a list of {wanted} texts"
        return next((fault for text in answer if (fault := _fault_of_text(text, given))), "")
    return FAULTS[spec.answer](answer, given)


def fault_of_batch(spec: TaskSpec, answer: object, rows: Sequence[Mapping[str, Any]]) -> str:
    """Return what is wrong with the answer to a list of rows; empty where nothing is."""
    if not isinstance(answer, list):
        return f"a list of {len(rows)} gave {type(answer).__name__}, not a list"
    if len(answer) != len(rows):
        return f"a list of {len(rows)} gave {len(answer)} answers"
    faults = [fault_of_row(spec, own, row) for own, row in zip(answer, rows, strict=True)]
    lengths = (
        sorted({len(own) for own in answer}) if spec.answer == "vector" and not any(faults) else []
    )
    if len(lengths) > 1:
        return f"vectors differ in length: {', '.join(map(str, lengths))}"
    return next(filter(None, faults), "")


def fault_of_json(answer: object) -> str:
    """Return why ``answer`` is not plain JSON; empty where it is."""
    try:
        json.dumps(answer, allow_nan=False)
    except (TypeError, ValueError) as error:
        return str(error)
    return _not_plain(answer, "the answer")


def difference(found: object, expected: object) -> str:
    """Return how two answers differ, numbers by more than ``TOLERANCE``; empty where they don't."""
    if isinstance(found, float | int) and isinstance(expected, float | int):
        close = math.isclose(found, expected, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
        return "" if close else f"{found!r} instead of {expected!r}"
    if isinstance(found, dict) and isinstance(expected, dict) and found.keys() == expected.keys():
        pairs = [(found[key], expected[key]) for key in expected]
        return next(filter(None, (difference(*pair) for pair in pairs)), "")
    if isinstance(found, list | tuple) and isinstance(expected, list | tuple):
        if len(found) == len(expected):
            pairs = list(zip(found, expected, strict=True))
            return next(filter(None, (difference(*pair) for pair in pairs)), "")
    elif type(found) is type(expected) and not isinstance(found, dict) and bool(found == expected):
        return ""
    return f"{describe(found)} instead of {describe(expected)}"


def _fault_of_text(answer: object, given: Mapping[str, Any]) -> str:
    if isinstance(answer, str):
        return ""
    # Options that make the answer richer: Emotion's top_k, QA's details.
    if isinstance(answer, dict) and given.get("details"):
        return "" if isinstance(answer.get("answer"), str) else f"{describe(answer)} has no answer"
    if isinstance(answer, dict) and "top_k" in given:
        return _fault_of_probabilities(answer, given)
    return f"{describe(answer)} is of type {type(answer).__name__}, not str"


def _fault_of_probabilities(answer: object, given: Mapping[str, Any]) -> str:
    if not isinstance(answer, dict):
        return f"{describe(answer)} is of type {type(answer).__name__}, not a dict"
    strange = [label for label in answer if not isinstance(label, str)]
    if strange or not answer:
        return f"the label {strange[0]!r} is no string" if strange else "there is no label in {}"
    for label, value in answer.items():
        if not _is_number(value) or not 0 <= value <= 1:
            return f"{label!r} has {describe(value)}, which is no probability from 0 to 1"
    values = list(answer.values())
    if any(after > before for before, after in zip(values, values[1:], strict=False)):
        return f"probabilities are not sorted, highest first: {describe(values)}"
    return _fault_of_labels(answer, given)


def _fault_of_labels(answer: Mapping[str, Any], given: Mapping[str, Any]) -> str:
    """Return whether labels are missing, too many, or others than were asked for."""
    top_k, labels = given.get("top_k"), given.get("labels")
    if top_k and len(answer) > top_k:
        return f"top_k={top_k} gave {len(answer)} labels"
    if labels is None:
        return ""
    if not answer.keys() <= set(labels):
        return f"labels {describe(list(answer))} are not those asked for: {labels}"
    if not top_k and len(answer) < len(labels):
        return f"{len(labels)} labels were asked for and {len(answer)} came back"
    return ""


def _fault_of_vector(answer: object, given: Mapping[str, Any]) -> str:
    if not isinstance(answer, list) or not answer:
        return f"{describe(answer)} is of type {type(answer).__name__}, not a list of numbers"
    for value in answer:
        if not _is_number(value):
            return f"a vector holds {describe(value)} of type {type(value).__name__}, not a float"
        if not math.isfinite(value):
            return f"a vector holds {value!r}"
    return ""


FAULTS: Mapping[str, Callable[[object, Mapping[str, Any]], str]] = {
    "text": _fault_of_text,
    "probabilities": _fault_of_probabilities,
    "vector": _fault_of_vector,
}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _not_plain(value: object, where: str) -> str:
    """Return which part of ``value`` JSON has no own form for; empty where there is none.

    ``json`` itself writes keys that are numbers as text and takes NumPy's float64 for a float.
    """
    if isinstance(value, dict):
        for key, item in value.items():
            if type(key) is not str:
                return f"{where} has the key {key!r} of type {type(key).__name__}, not str"
            if fault := _not_plain(item, f"{where}[{key!r}]"):
                return fault
        return ""
    if isinstance(value, list | tuple):
        items = (_not_plain(item, f"{where}[{i}]") for i, item in enumerate(value))
        return next(filter(None, items), "")
    kind = type(value)
    return "" if kind in JSON_TYPES else f"{where} is of type {kind.__module__}.{kind.__name__}"
