"""``read``: training data in any form becomes checked columns, or one error with all its faults."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from PIL import Image

from backprop.data.columns import choose, match
from backprop.data.forms import table_of
from backprop.data.images import read_images
from backprop.data.labels import are_lists, label_column, parts
from backprop.data.problems import Fault, Problems
from backprop.data.tables import Table
from backprop.data.values import (
    Reader,
    read_blank_text,
    read_group,
    read_history,
    read_label,
    read_labels,
    read_score,
    read_text,
)
from backprop.errors import InputError
from backprop.pictures import Picture, describe
from backprop.specs import Column, Training, spec_of

__all__ = ["Data", "keys", "read"]

logger = logging.getLogger(__name__)

MULTI_LABEL = "multi_label"


@dataclass(frozen=True)
class Data:
    """Checked data to finetune or evaluate on.

    Args:
        task: task string.
        variant: of the task; empty where there is one way only.
        columns: values by the names in ``SPECS``, all columns of one length: texts, labels and
            emotions as str (labels as a list of str where there are several a row), images as
            ``Picture``, scores as float, groups hashable, histories as lists of pairs.
        labels: all labels there are, sorted; empty where the task has none.
        multi_label: whether a row may have none, one or several of them.
        place: says where a row came from, such as ``row 3 (line 5)``.
    """

    task: str
    variant: str
    columns: Mapping[str, list[Any]]
    labels: list[str]
    multi_label: bool = False
    place: Callable[[int], str] = field(default="row {}".format, compare=False, repr=False)

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(next(iter(self.columns.values())))

    @property
    def training(self) -> Training:
        """The entry of ``SPECS`` that these are the columns of."""
        ways = spec_of(self.task).training
        return next(each for each in ways if each.variant == self.variant)

    @property
    def label_sets(self) -> list[list[str]]:
        """The labels of each row, in order; empty where the task has none."""
        column = label_column(self.task, self.training)
        return [_label_set(value, self.multi_label) for value in self.columns.get(column, ())]


def read(
    task: str,
    params: Any,
    *,
    variant: str | None = None,
    columns: Mapping[str, str] | None = None,
    for_training: bool = True,
) -> Data:
    """Return ``params`` as checked columns.

    Whole numbers and booleans as labels become strings. Emotions with commas are lists where
    ``labels.are_lists`` says so. Rows that are the same but for their label are warned of.

    Args:
        task: task string.
        params: dictionary of lists, pandas or Polars frame, Hugging Face dataset, list of
            dictionaries, or path of a CSV, TSV, JSON or JSON lines file, or of a folder of images
            with one folder a class. Obvious names of columns are known (``columns.ALIASES``);
            further columns are ignored, except in a dictionary of lists, where they are mistakes.
        variant: of the task; by default the first that the columns and labels fit.
        columns: our name of a column to its name in ``params``.
        for_training: whether there must be enough to learn from: two rows, two classes, two rows
            of some group.

    Raises:
        UnsupportedTaskError: no such task.
        InputError: the data can't be read, or has faults. All of them are in the message, with
            row numbers, counted from 0, and lines of a file, counted from 1.
    """
    spec, table, given = spec_of(task), table_of(params), dict(columns or {})
    training = choose(spec, table, variant, given)
    problems = Problems(table.place)
    for fault in table.faults:
        problems.add(fault)
    names = match(training, table, given, problems)
    raw = _fetched(table, names, problems)
    training, multi_label = _by_labels(task, training, raw, variant)
    checked = _values(task, training, raw, multi_label, table, problems)
    _check_lengths(checked, problems)
    labels = _labels(task, training, checked, multi_label)
    if for_training and not problems:
        _check_enough(task, training, checked, labels, multi_label, problems)
    problems.check(task)
    data = Data(task, training.variant, checked, labels, multi_label, table.place)
    _warn_of_contradictions(data)
    return data


def _fetched(table: Table, names: Mapping[str, str], problems: Problems) -> dict[str, list[Any]]:
    raw: dict[str, list[Any]] = {}
    for name, theirs in names.items():
        try:
            raw[name] = table.fetch(theirs)
        except InputError as error:
            problems.add(str(error))
    return raw


def _by_labels(
    task: str, training: Training, raw: Mapping[str, list[Any]], variant: str | None
) -> tuple[Training, bool]:
    """Return the way to finetune that the labels ask for, and whether rows have several."""
    lists = are_lists(task, raw.get(label_column(task, training), ()))
    multi = [each for each in spec_of(task).training if each.variant == MULTI_LABEL]
    if lists and multi and not variant:
        return multi[0], True
    return training, training.variant == MULTI_LABEL or (lists and task == "emotion")


# --- Values ------------------------------------------------------------------------------


def _values(
    task: str,
    training: Training,
    raw: Mapping[str, list[Any]],
    multi_label: bool,
    table: Table,
    problems: Problems,
) -> dict[str, list[Any]]:
    """Return the columns with their values in the form training has them; faults are noted."""
    checked: dict[str, list[Any]] = {}
    for column in training.columns:
        if column.name not in raw:
            continue
        values, note = raw[column.name], partial(problems.add_row, column.name)
        if column.kind == "image":
            checked[column.name] = read_images(values, column.name, table.folder, note)
        else:
            reader = _reader(task, column, multi_label)
            checked[column.name] = [_read(reader, i, each, note) for i, each in enumerate(values)]
        if column.kind == "score":
            _check_scores(column.name, checked[column.name], note)
    return checked


def _reader(task: str, column: Column, multi_label: bool) -> Reader:
    if task == "emotion" and column.name == "output_text":
        return _read_emotions if multi_label else read_label
    if task == "qa" and column.name == "answers":
        return read_blank_text  # blank: the context has no answer
    return read_labels if column.kind == "label" and multi_label else READERS[column.kind]


READERS: Mapping[str, Reader] = {
    "text": read_text,
    "label": read_label,
    "score": read_score,
    "group": read_group,
    "history": read_history,
}
"""Kind of a column to what reads its values."""


def _read_emotions(value: Any) -> str:
    labels = read_labels(read_text(value) if isinstance(value, str) else value)
    if any("," in label for label in labels):
        raise Fault("with a comma in an emotion", "commas stand between emotions", describe(value))
    return ", ".join(labels)


def _read(reader: Reader, row: int, value: Any, note: Callable[[int, Fault], None]) -> Any:
    """Return the value as the reader gives it, None where it has a fault, which is noted."""
    try:
        return reader(value)
    except Fault as fault:
        note(row, fault)
        return None


def _check_scores(name: str, scores: Sequence[Any], note: Callable[[int, Fault], None]) -> None:
    """Note scores that no cosine can reach."""
    there = [score for score in scores if score is not None]
    is_five = bool(there) and 1 < max(there) <= 5 and min(there) >= 0
    remedy = "divide scores from 0 to 5 by 5" if is_five else "scale them to 0 to 1"
    for i, score in enumerate(scores):
        if score is not None and not -1 <= score <= 1:
            note(i, Fault("above 1 or below -1", remedy, f"{score:g}"))


# --- The data as a whole -----------------------------------------------------------------


def _check_lengths(columns: Mapping[str, list[Any]], problems: Problems) -> None:
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{name} {count:,}" for name, count in lengths.items())
        problems.add(f"the columns differ in length ({listed}); each row needs a value in each.")


def _label_set(value: Any, multi_label: bool) -> list[str]:
    if isinstance(value, list):
        return value
    return parts(value) if multi_label else [value]


def _labels(
    task: str, training: Training, columns: Mapping[str, list[Any]], multi_label: bool
) -> list[str]:
    sets = _sets(task, training, columns, multi_label)
    return sorted({label for labels in sets for label in labels})


def _sets(
    task: str, training: Training, columns: Mapping[str, list[Any]], multi_label: bool = True
) -> list[list[str]]:
    """Return the labels of each row that has a value."""
    values = columns.get(label_column(task, training), ())
    return [_label_set(value, multi_label) for value in values if value is not None]


def _check_enough(
    task: str,
    training: Training,
    columns: Mapping[str, list[Any]],
    labels: Sequence[str],
    multi_label: bool,
    problems: Problems,
) -> None:
    """Note what makes learning impossible, however good the rows."""
    rows = len(next(iter(columns.values())))
    if rows < 2:
        problems.add(f"there {'is 1 row' if rows else 'are no rows'}; pass at least 2.")
    elif label_column(task, training) and len(labels) < (1 if multi_label else 2):
        there = f"only the label {labels[0]!r}" if labels else "no label"
        problems.add(f"there is {there}; there must be at least two classes to tell apart.")
    elif multi_label and all(set(own) == set(labels) for own in _sets(task, training, columns)):
        problems.add(
            f"every row has all {len(labels)} labels ({', '.join(labels[:5])}), so there is "
            "nothing to tell apart; list the names of a row's own labels, not a 0 or 1 for each."
        )
    if "groups" in columns and rows >= 2:
        sizes = Counter(columns["groups"])
        if max(sizes.values()) < 2:
            problems.add(
                f"groups: each of the {len(sizes):,} groups has one row only; rows that belong "
                "together need the same group, and at least one group two rows."
            )
        elif len(sizes) < 2:
            problems.add(
                f"groups: there is one group only ({next(iter(sizes))!r}); pass at least two."
            )


def _warn_of_contradictions(data: Data) -> None:
    """Log how many rows are the same as another but for their labels."""
    if not label_column(data.task, data.training):
        return
    found: dict[Hashable, set[Hashable]] = {}
    every = keys(data)
    for key, labels in zip(every, data.label_sets, strict=True):
        found.setdefault(key, set()).add(tuple(sorted(labels)))
    count = sum(len(found[key]) > 1 for key in every)
    if count:
        reason = "are the same as another row but for their labels; no model can get all right"
        logger.warning("%s: %d rows %s.", data.task, count, reason)


def keys(data: Data) -> list[Hashable]:
    """Return for each row what it has beside its labels; equal for rows that are the same."""
    column = label_column(data.task, data.training)
    inputs = [values for name, values in data.columns.items() if name != column]
    return [tuple(map(_key, row)) for row in zip(*inputs, strict=True)]


def _key(value: Any) -> Hashable:
    if isinstance(value, list):
        return tuple(value)
    source = value.source if isinstance(value, Picture) else value
    key: Hashable = id(source) if isinstance(source, Image.Image) else source
    return key
