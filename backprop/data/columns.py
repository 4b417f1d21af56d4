"""Which column of a table is which of the task's, and so which way to finetune is meant."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches

from backprop.data.problems import Problems
from backprop.data.tables import Table
from backprop.errors import InputError
from backprop.pictures import describe
from backprop.specs import Column, TaskSpec, Training

__all__ = ["ALIASES", "choose", "match"]

ALIASES: Mapping[str, tuple[str, ...]] = {
    "questions": ("question",),
    "answers": ("answer",),
    "contexts": ("context",),
    "prev_qas": ("prev_qa", "history"),
    "texts": ("text", "sentence", "sentences"),
    "labels": ("label", "category", "categories", "class"),
    "input_text": ("input", "inputs", "input_texts", "text", "texts", "prompt", "prompts"),
    "output_text": (
        *("output", "outputs", "output_texts", "target", "targets", "completion", "response"),
        *("summary", "summaries", "emotion", "emotions", "label", "labels"),
    ),
    "texts1": ("text1", "text_1", "sentence1", "sentences1"),
    "texts2": ("text2", "text_2", "sentence2", "sentences2"),
    "imgs1": ("img1", "images1", "image1", "image_1"),
    "imgs2": ("img2", "images2", "image2", "image_2"),
    "similarity_scores": ("similarity_score", "scores", "score", "similarity"),
    "images": ("image", "imgs", "img"),
    "groups": ("group",),
}
"""Column of a task to other names it is known by, in any case."""


def choose(spec: TaskSpec, table: Table, variant: str | None, given: Mapping[str, str]) -> Training:
    """Return the way to finetune that ``variant`` names or, by default, that the columns fit.

    Where they fit several, that is the first of the table of tasks; where they fit none, the one
    they come nearest to.

    Args:
        spec: of the task.
        table: the data.
        variant: of the task, None to tell by the columns.
        given: our names to the table's, by the caller.

    Raises:
        InputError: the task has no such variant.
    """
    if variant:
        named = [each for each in spec.training if each.variant == variant]
        if not named:
            there = ", ".join(repr(each.variant) for each in spec.training if each.variant)
            raise InputError(
                f"{spec.name} has no variant {variant!r}; use {there or 'variant=None'}."
            )
        return named[0]
    return max(spec.training, key=lambda each: _fit(each, table, given))


def _fit(training: Training, table: Table, given: Mapping[str, str]) -> tuple[bool, int]:
    """Return whether no column is missing, and how many there are."""
    found = [bool(_names(column, table, given)) for column in training.columns if column.required]
    return all(found), sum(found)


def match(
    training: Training, table: Table, given: Mapping[str, str], problems: Problems
) -> dict[str, str]:
    """Return our name of each column to the table's; what is missing or unclear is a problem.

    Args:
        training: the columns looked for.
        table: the data.
        given: our names to the table's, by the caller; the others are found by themselves.
        problems: where faults are noted.
    """
    _check_given(training, table, given, problems)
    found: dict[str, str] = {}
    for column in training.columns:
        names = _names(column, table, given)
        if len(names) > 1:
            problems.add(
                f"{column.name} may be any of {', '.join(map(repr, names))}; say which, with "
                f"columns={{{column.name!r}: {names[0]!r}}}."
            )
        if names:
            found[column.name] = names[0]
        elif column.required and column.name not in given:
            problems.add(_missing(column, table))
    if table.strict:
        _check_unknown(training, table, found, problems)
    return found


def _names(column: Column, table: Table, given: Mapping[str, str]) -> list[str]:
    """Return the table's names that ``column`` may have: one exact, or any number of others."""
    if column.name in given:
        return [given[column.name]] if given[column.name] in table.names else []
    if column.name in table.names:
        return [column.name]
    taken = set(given.values())
    known = {column.name, *ALIASES.get(column.name, ())}
    return [name for name in table.names if _plain(name) in known and name not in taken]


def _plain(name: str) -> str:
    return name.strip().lower().replace(" ", "_").replace("-", "_")


def _missing(column: Column, table: Table) -> str:
    near = get_close_matches(column.name, table.names, n=1)
    hint = f"did you mean {near[0]!r}? Else name it" if near else "add it, or name it"
    there = f"there are: {_listed(table)}{table.hint}"
    return (
        f"the column {column.name!r} is missing ({there}); {hint} with "
        f"columns={{{column.name!r}: …}}."
    )


def _listed(table: Table) -> str:
    return ", ".join(map(describe, table.names)) or "none"


def _check_given(
    training: Training, table: Table, given: Mapping[str, str], problems: Problems
) -> None:
    ours = [column.name for column in training.columns]
    for name, theirs in given.items():
        if name not in ours:
            swapped = f" The other way round: columns={{{theirs!r}: {name!r}}}."
            problems.add(
                f"columns= names {name!r}, but the columns are: {', '.join(ours)}."
                + swapped * (theirs in ours)
            )
        elif theirs not in table.names:
            near = get_close_matches(theirs, table.names, n=1)
            problems.add(
                f"columns= says that {name!r} is {theirs!r}, but there are only: {_listed(table)}."
                + (f" Did you mean {near[0]!r}?" if near else "")
            )


def _check_unknown(
    training: Training, table: Table, found: Mapping[str, str], problems: Problems
) -> None:
    ours = [column.name for column in training.columns]
    for name in table.names:
        if name not in found.values():
            near = get_close_matches(name, [each for each in ours if each not in found], n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"use only: {', '.join(ours)}."
            problems.add(f"{name!r} is not a column that is learnt from here; {hint}")
