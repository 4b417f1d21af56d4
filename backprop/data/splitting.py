"""Which rows are learnt from and which are kept aside to judge by."""

from __future__ import annotations

import numbers
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from typing import Any

import numpy as np

from backprop.data.reading import Data
from backprop.errors import InputError
from backprop.pictures import describe

__all__ = ["split"]


def split(
    data: Data,
    validation_split: float | tuple[Sequence[int], Sequence[int]] = 0.15,
    *,
    seed: int = 0,
) -> tuple[list[int], list[int]]:
    """Return the numbers of the training rows and of the validation rows, each in order.

    The same data, share and seed give the same rows in every process. With labels each class has
    its share of the validation rows and keeps at least one training row; a row of several labels
    counts as its rarest. With groups, validation takes two rows or more of a group, which find
    each other, and leaves it two; where no group has four, whole groups are kept aside.

    Args:
        data: checked.
        validation_split: share of the rows to keep aside, from 0 (none) to below 1, or the row
            numbers of both sides, which are used as they are.
        seed: of the choice.

    Raises:
        InputError: not a share; row numbers that do not exist, or are on both sides or twice on
            one, or no training rows; or no row can be spared.
    """
    if isinstance(validation_split, (tuple, list)):
        return _given(validation_split, len(data))
    share = _share(validation_split)
    if share == 0:
        return list(range(len(data))), []
    wanted = max(1, round(share * len(data)))
    random = np.random.default_rng(seed)
    if "groups" in data.columns:
        kept = _from_groups(data.columns["groups"], wanted, random)
    elif data.labels:
        members = _members(_rarest_labels(data.label_sets))
        kept = _taken(members, [len(rows) - 1 for rows in members], 1, wanted, random)
        kept = _spared(kept, data.label_sets, wanted, random)
    else:
        count = min(wanted, len(data) - 1)
        kept = random.permutation(len(data))[:count].tolist()
    if not kept:
        raise InputError(
            f"No row of {len(data)} can be spared for validation: each class or group needs its "
            "rows for training. Pass more rows, or validation_split=0 to train without."
        )
    aside = set(kept)
    return [i for i in range(len(data)) if i not in aside], sorted(aside)


def _share(value: Any) -> float:
    is_number = not isinstance(value, bool) and isinstance(value, numbers.Real)
    if not (is_number and 0 <= float(value) < 1):
        raise InputError(
            "validation_split must be a share from 0 to below 1, or (training rows, validation "
            f"rows); received {describe(value)}."
        )
    return float(value)


def _given(sides: Sequence[Any], count: int) -> tuple[list[int], list[int]]:
    """Return the caller's row numbers as they are, checked."""
    if len(sides) != 2:
        raise InputError(
            f"validation_split must be two lists, (training rows, validation rows); received "
            f"{len(sides)}."
        )
    train, aside = (_rows(side, count) for side in sides)
    if not train:
        raise InputError("validation_split has no training rows; list at least one.")
    twice = [row for row, times in Counter([*train, *aside]).items() if times > 1]
    if twice:
        raise InputError(
            f"validation_split lists {len(twice)} rows more than once ({_first(twice)}); each row "
            "may be on one side, once."
        )
    return train, aside


def _rows(side: Any, count: int) -> list[int]:
    if isinstance(side, (str, bytes)) or not isinstance(side, Iterable):
        raise InputError(
            f"validation_split must hold two lists of row numbers; received {describe(side)}."
        )
    rows = list(side)
    wrong = [row for row in rows if not _is_row(row, count)]
    if wrong:
        raise InputError(
            f"validation_split has {len(wrong)} row numbers that are not whole numbers from 0 to "
            f"{count - 1}: {_first(wrong)}."
        )
    return [int(row) for row in rows]


def _is_row(row: Any, count: int) -> bool:
    is_whole = not isinstance(row, bool) and isinstance(row, numbers.Integral)
    return is_whole and 0 <= int(row) < count


def _first(values: Sequence[Any]) -> str:
    return ", ".join(describe(value) for value in values[:10]) + ", …" * (len(values) > 10)


def _rarest_labels(label_sets: Sequence[Sequence[str]]) -> list[str]:
    """Return each row's label that the fewest rows have, "" for a row without."""
    counts = Counter(label for labels in label_sets for label in labels)
    return [
        min(labels, key=lambda label: (counts[label], label), default="") for labels in label_sets
    ]


def _spared(
    rows: Sequence[int],
    label_sets: Sequence[Sequence[str]],
    wanted: int,
    random: np.random.Generator,
) -> list[int]:
    """Return the rows whose labels others have too, and random ones for those that are left out.

    A row by itself leaves its class one; but a label that always comes with rarer ones may go with
    them.
    """
    counts = Counter(label for labels in label_sets for label in labels)
    spared: list[int] = []
    for row in dict.fromkeys([*rows, *random.permutation(len(label_sets)).tolist()]):
        if len(spared) < wanted and all(counts[label] > 1 for label in label_sets[row]):
            counts.subtract(label_sets[row])
            spared.append(row)
    return spared


def _from_groups(groups: Sequence[Hashable], wanted: int, random: np.random.Generator) -> list[int]:
    """Return the rows kept aside: pairs of large groups, else whole groups."""
    members = _members(groups)
    if any(len(rows) >= 4 for rows in members):
        most = [max(0, len(rows) - 2) // 2 for rows in members]
        return _taken(members, most, 2, wanted, random)
    return _whole_groups(members, wanted, random)


def _whole_groups(
    members: Sequence[list[int]], wanted: int, random: np.random.Generator
) -> list[int]:
    """Return the rows of random groups of two or more, until there are enough; two groups stay."""
    pairs = [rows for rows in members if len(rows) > 1]
    kept: list[int] = []
    for i in random.permutation(len(pairs))[2:]:
        if len(kept) >= wanted:
            break
        kept += pairs[i]
    return kept


def _members(keys: Sequence[Hashable]) -> list[list[int]]:
    """Return the rows of each key; keys in order of appearance, since not all can be sorted."""
    members: dict[Hashable, list[int]] = {}
    for row, key in enumerate(keys):
        members.setdefault(key, []).append(row)
    return list(members.values())


def _taken(
    members: Sequence[list[int]],
    most: Sequence[int],
    unit: int,
    wanted: int,
    random: np.random.Generator,
) -> list[int]:
    """Return random rows, of each key as many as its share, in units of ``unit`` rows.

    Args:
        members: rows of each key.
        most: units that may be taken of each.
        unit: rows taken together.
        wanted: rows in all; fewer where ``most`` allows no more.
        random: source of chance.
    """
    limits = np.array(most)
    sizes = np.array([len(rows) for rows in members])
    ideal = sizes * max(1, round(wanted / unit)) / sizes.sum()
    counts = np.minimum(np.floor(ideal).astype(int), limits)
    # The largest remainders get one more; equal ones in random order.
    order = np.lexsort([random.random(len(members)), counts - ideal])
    left = min(max(1, round(wanted / unit)), int(limits.sum())) - int(counts.sum())
    while left > 0:
        able = [i for i in order if counts[i] < limits[i]][:left]
        counts[able] += 1
        left -= len(able)
    picked = [random.permutation(rows)[: unit * n] for rows, n in zip(members, counts, strict=True)]
    return [int(row) for rows in picked for row in rows]
