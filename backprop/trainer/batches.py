"""Which rows make which optimiser step, and how a step is cut to fit in memory."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

__all__ = ["Plan"]

# Rows are sorted by length within pools of so many steps: enough for batches that hardly pad, few
# enough that each epoch has other batches.
POOL_STEPS = 50
POOLS_AT_LEAST = 4

GROUP_ROWS = 4
"""Rows of one group that a step holds, where the group has as many."""

LOOK_AHEAD = 50
"""Blocks among which one of another group is looked for."""

Rows = list[int]


@dataclass(frozen=True)
class Plan:
    """The order of rows, which follows from the seed and the number of the epoch alone.

    Args:
        rows: how many there are.
        rows_per_step: of one optimiser step.
        seed: not negative.
        lengths: of each row; rows of like length then share a step.
        groups: of each row; a step then holds at least two rows of each group in it, but for
            groups of one row. Lengths have no say then.
    """

    rows: int
    rows_per_step: int
    seed: int = 0
    lengths: Sequence[int] | None = None
    groups: Sequence[Hashable] | None = None

    def steps(self, epoch: int) -> list[Rows]:
        """Return the row numbers of each step of an epoch; each row is in one of them.

        Within a step, rows are sorted by length or by group where there are any.
        """
        generator = np.random.default_rng([self.seed, epoch])
        if self.groups is not None:
            return self._steps_of_groups(generator)
        order = generator.permutation(self.rows)
        if self.lengths is not None:
            order = self._sorted_in_pools(order)
        steps = _even_end([part.tolist() for part in _chunks(order, self.rows_per_step)])
        if self.lengths is not None:
            steps = [steps[i] for i in generator.permutation(len(steps))]
        return steps

    def cut(self, rows: Rows, size: int) -> list[Rows]:
        """Return the rows in parts of at most ``size``, about equal.

        Rows of one group stay together where ``size`` lets them, two of them at the least.
        """
        if self.groups is not None:
            return _packed(self._runs(rows), size)
        count = -(-len(rows) // size)
        return [self.share(rows, i, count) for i in range(count)]

    def share(self, rows: Rows, index: int, count: int) -> Rows:
        """Return the part of a step that process ``index`` of ``count`` takes; it may be empty.

        The rows of a group go to one process.
        """
        if self.groups is None:
            return rows[len(rows) * index // count : len(rows) * (index + 1) // count]
        own, start = [], 0
        for run in self._runs(rows):
            if start * count // len(rows) == index:
                own += run
            start += len(run)
        return own

    def longest(self, count: int) -> Rows:
        """Return the numbers of the ``count`` longest rows."""
        if self.lengths is None:
            return list(range(min(count, self.rows)))
        order: Rows = np.argsort(self.lengths, kind="stable")[-count:].tolist()
        return order

    def _sorted_in_pools(self, order: np.ndarray) -> np.ndarray:
        steps = -(-self.rows // self.rows_per_step)
        pool = max(1, min(POOL_STEPS, steps // POOLS_AT_LEAST)) * self.rows_per_step
        lengths = np.asarray(self.lengths)
        pools = [each[np.argsort(lengths[each], kind="stable")] for each in _chunks(order, pool)]
        return np.concatenate(pools)

    def _steps_of_groups(self, generator: np.random.Generator) -> list[Rows]:
        members: dict[Hashable, Rows] = {}
        for row, group in enumerate(self.groups or ()):
            members.setdefault(group, []).append(row)
        blocks: list[Rows] = []
        places: list[float] = []
        for rows in members.values():
            count = max(1, round(len(rows) / GROUP_ROWS))
            blocks += [part.tolist() for part in np.array_split(generator.permutation(rows), count)]
            # Spread over the epoch, so that a large group is not left alone at its end.
            places += ((np.arange(count) + generator.random(count)) / count).tolist()
        mixed = [blocks[i] for i in np.argsort(places, kind="stable")]
        self._separate(mixed)
        steps = _packed(mixed, self.rows_per_step)
        self._give_company(steps)
        return steps

    def _separate(self, blocks: list[Rows]) -> None:
        """Swap blocks so that neighbours are of different groups, where one nearby is."""
        groups = self.groups or ()
        for i in range(1, len(blocks)):
            before = groups[blocks[i - 1][0]]
            for j in range(i, min(i + LOOK_AHEAD, len(blocks))):
                if groups[blocks[j][0]] != before:
                    blocks[i], blocks[j] = blocks[j], blocks[i]
                    break

    def _give_company(self, steps: list[Rows]) -> None:
        """Move rows of another group to the last step if it has one group alone."""
        last, groups = steps[-1], self.groups or ()
        if len(self._runs(last)) > 1:
            return
        room = self.rows_per_step - len(last)
        for step in reversed(steps[:-1]):
            runs = self._runs(step)
            for run in runs:
                moved = run if len(runs) > 2 else run[:2] if len(run) >= 4 else []
                if 0 < len(moved) <= room and groups[moved[0]] != groups[last[0]]:
                    step[:] = [row for row in step if row not in moved]
                    last += moved
                    return

    def _runs(self, rows: Rows) -> list[Rows]:
        """Return the rows in stretches of one group."""
        groups = self.groups or ()
        return [list(run) for _, run in groupby(rows, key=lambda row: groups[row])]


def _even_end(steps: list[Rows]) -> list[Rows]:
    """Return the steps, the last two of one size: one row alone is noise, and has no variance."""
    if len(steps) < 2:
        return steps
    rows = steps[-2] + steps[-1]
    middle = -(-len(rows) // 2)
    return [*steps[:-2], rows[:middle], rows[middle:]]


def _chunks(order: np.ndarray, size: int) -> Iterator[np.ndarray]:
    for start in range(0, len(order), size):
        yield order[start : start + size]


def _packed(blocks: Sequence[Rows], size: int) -> list[Rows]:
    """Return the blocks in bins of at most ``size`` rows.

    A block is split where that fills a bin, but never so that one row of it stands alone, unless
    bins are too small for anything else.
    """
    bins: list[Rows] = [[]]
    for block in blocks:
        rest = block
        while rest:
            fits = _piece(len(rest), size - len(bins[-1]), empty=not bins[-1])
            if not fits:
                bins.append([])
            bins[-1] += rest[:fits]
            rest = rest[fits:]
    return bins


def _piece(rows: int, room: int, *, empty: bool) -> int:
    """Return how many of a block's rows go into a bin that has ``room``."""
    if rows <= room:
        return rows
    most = min(room, rows - 2)
    if most >= 2:
        return most
    return room if empty else 0
