"""Regular expressions of tokenizers, searched in every text that comes: they may not run long."""

from __future__ import annotations

import re
from typing import Any

from backprop.serve.vetting.refusing import refuse, shown

__all__ = ["check_pattern"]

LONGEST = 2000
MOST_REPEATS = 2
MOST_OPTIONS = 8
LARGEST_COUNT = 1000
MOST_COUNTS = 32

CHOICE = "\0"
"""Stands behind what was a group with a choice."""

UNIT = re.compile(r"\\.|\[(?:\\.|\[:\^?\w+:\]|[^\]\\])*\]", re.DOTALL)
"""What stands for one character: an escape, or a class of characters."""

ODD = re.compile(r"\(\?(?![:!=>]|i:|i-s:)")
"""Groups with a name, that look behind, call another or are switches."""

GROUP = re.compile(r"\((?:\?(?:i-s:|i:|[:!=>]))?([^()]*)\)")
QUANTIFIED = re.compile(r"[*+]|\{\d*,?\d*\}")
UNBOUNDED = re.compile(r"[*+]|\{\d*,\}")
COUNTS = re.compile(r"\{(\d*),?(\d*)\}")


def check_pattern(value: Any, where: str) -> None:
    """Refuse a pattern that can take much longer than the text it is searched in is long.

    A repeat around a repeat or a choice takes exponential time, and each further repeat of a row
    multiplies it by the length of the text. So no group that can match in two ways is repeated, at
    most two repeats without bound stand in a row, and nothing refers back to what was matched.

    Raises:
        ArtefactError: it can, or it is longer than tokenizers need.
    """
    if not isinstance(value, str) or len(value) > LONGEST:
        refuse(where, f"received {shown(value)} instead of a pattern of at most {LONGEST:,}")
    if re.search(r"\\[1-9kgGK]", value):
        refuse(where, f"the pattern {shown(value)} refers back to what was matched")
    flat = UNIT.sub("x", value)
    if ODD.search(flat):
        refuse(where, f"the pattern {shown(value)} has groups of a kind that is not allowed")
    if any(int(count or 0) > LARGEST_COUNT for pair in COUNTS.findall(flat) for count in pair):
        refuse(where, f"the pattern {shown(value)} repeats more than {LARGEST_COUNT:,} times")
    flat = re.sub(r"([*+?}])[+?]", r"\1", flat)  # possessive and lazy ones
    for branch in _flattened(flat, value, where).split("|"):
        _check_branch(branch, value, where)


def _flattened(flat: str, value: str, where: str) -> str:
    """Return the pattern with groups taken apart, none of which is repeated and has a choice."""
    while (group := GROUP.search(flat)) is not None:
        inside, after = group[1], flat[group.end() :]
        if re.search(rf"[|?*+{{{CHOICE}]", inside) and QUANTIFIED.match(after):
            refuse(where, f"the pattern {shown(value)} repeats a group that can match in two ways")
        branches = inside.split("|")
        for branch in branches:
            _check_branch(branch, value, where)
        longest = max(branches, key=lambda branch: len(UNBOUNDED.findall(branch)))
        flat = flat[: group.start()] + longest + CHOICE * (len(branches) > 1) + after
    return flat


def _check_branch(branch: str, value: str, where: str) -> None:
    large = [pair for pair in COUNTS.findall(branch) if int(pair[1] or pair[0] or 0) > MOST_COUNTS]
    if len(UNBOUNDED.findall(branch)) + len(large) > MOST_REPEATS:
        refuse(where, f"the pattern {shown(value)} has more than {MOST_REPEATS} repeats in a row")
    if branch.count("?") > MOST_OPTIONS:
        refuse(where, f"the pattern {shown(value)} has more than {MOST_OPTIONS} optional parts")
