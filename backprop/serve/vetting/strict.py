"""JSON as strictly as it can be read: no key twice, no NaN, bounded in size, depth and values."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

from backprop.serve.vetting.refusing import refuse, shown

__all__ = ["parse", "read_json", "read_object", "read_text"]

MAX_DEPTH = 20
MOST_DIGITS = 40
"""Tokenizers write 10^30 for "no limit"."""

MOST_VALUES_PER_MIB = 524_288
LEAST_VALUES = 16_384

HALF_PAIR = re.compile(rb"\\u[dD][89a-fA-F]")


def read_text(path: Path, where: str, most_bytes: int) -> str:
    """Return the text of a file.

    Raises:
        ArtefactError: it is too large, is not UTF-8 or holds a NUL byte.
    """
    return _decoded(_read(path, where, most_bytes), where)


def read_object(path: Path, where: str, most_bytes: int) -> dict[str, Any]:
    """Return the JSON object in a file.

    Raises:
        ArtefactError: see ``read_json``, or it holds something else.
    """
    content = read_json(path, where, most_bytes)
    if not isinstance(content, dict):
        refuse(where, f"it holds {shown(content)} instead of a JSON object")
    return content


def read_json(path: Path, where: str, most_bytes: int) -> Any:
    """Return the JSON in a file.

    Raises:
        ArtefactError: it is too large or no strict JSON.
    """
    return parse(_read(path, where, most_bytes), where)


def parse(raw: bytes, where: str) -> Any:
    """Return the JSON in ``raw``.

    What it holds is counted first: each value costs a hundred bytes and more of memory, so a small
    file of nothing but brackets would ask for gigabytes.

    Raises:
        ArtefactError: it is no strict JSON, is too deep or holds too many values.
    """
    most = max(LEAST_VALUES, len(raw) * MOST_VALUES_PER_MIB >> 20)
    if sum(map(raw.count, (b"[", b"{", b","))) > most:
        refuse(where, f"it holds more than {most:,} values for its size of {len(raw):,} bytes")
    text = _decoded(raw, where)
    try:
        content = json.loads(
            text,
            object_pairs_hook=_unique,
            parse_constant=_no_constant,
            parse_float=_finite,
            parse_int=_short,
        )
    except (ValueError, RecursionError) as error:
        reason = "too deep" if isinstance(error, RecursionError) else str(error)
        refuse(where, f"it is not strict JSON ({reason})")
    _check_depth(content, where)
    if HALF_PAIR.search(raw):
        _check_pairs(content, where)
    return content


def _read(path: Path, where: str, most_bytes: int) -> bytes:
    with path.open("rb") as file:
        raw = file.read(most_bytes + 1)
    if len(raw) > most_bytes:
        refuse(where, f"it has more than the {most_bytes:,} bytes allowed for this file")
    return raw


def _decoded(raw: bytes, where: str) -> str:
    if b"\0" in raw:
        refuse(where, "it holds a NUL byte", "write it as plain UTF-8 text")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        refuse(where, f"it is not UTF-8 at byte {error.start:,}", "write it as plain UTF-8 text")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        raise ValueError("a key stands twice")
    return content


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{shown(text)} is no finite number")
    return number


def _short(text: str) -> int:
    if len(text) > MOST_DIGITS:
        raise ValueError(f"a number has {len(text)} digits")
    return int(text)


def _check_depth(content: Any, where: str) -> None:
    """Go level by level, so that no depth of the upload is one of our own calls."""
    level = [content] if isinstance(content, (dict, list)) else []
    for _ in range(MAX_DEPTH):
        deeper: list[Any] = []
        for value in level:
            inner = value.values() if isinstance(value, dict) else value
            deeper += [item for item in inner if isinstance(item, (dict, list))]
        level = deeper
    if level:
        refuse(where, f"it is nested more than {MAX_DEPTH} deep")


def _check_pairs(content: Any, where: str) -> None:
    """Refuse strings with half of a surrogate pair, which no encoder takes."""
    pending = [content]
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            pending += value.keys()
            pending += value.values()
        elif isinstance(value, list):
            pending += value
        elif isinstance(value, str):
            try:
                value.encode()
            except UnicodeEncodeError:
                refuse(where, f"{shown(value)} is not valid Unicode")
