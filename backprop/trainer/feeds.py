"""Where batches come from: rows of a plan, or a loader of the caller's."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from backprop.errors import InputError
from backprop.trainer.batches import Plan
from backprop.trainer.randomness import seed_all

__all__ = ["Feed", "LoaderFeed", "PlanFeed", "Work"]

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Work:
    """What one optimiser step learns from.

    Args:
        rows: how many, in all processes.
        own: this process's share: row numbers, or batches with their number of rows.
    """

    rows: int
    own: Sequence[Any]


class Feed(Protocol):
    """A source of steps."""

    divisible: bool
    """Whether ``parts`` can make smaller batches."""

    def steps_per_epoch(self) -> int | None:
        """Return how many steps an epoch has; None where that isn't known."""

    def steps(self, epoch: int) -> Iterator[Work]:
        """Yield the steps of an epoch, always the same ones for the same number."""

    def parts(self, work: Work, size: int) -> Iterator[tuple[int, Any]]:
        """Yield how many rows and the batch, for batches of at most ``size`` rows."""


class PlanFeed:
    """Batches of numbered rows.

    Args:
        plan: which rows make a step.
        batch: returns the batch of some rows.
        index: number of this process.
        count: of processes; each takes its share of every step.
    """

    divisible = True

    def __init__(
        self, plan: Plan, batch: Callable[[Sequence[int]], Any], index: int, count: int
    ) -> None:
        self.plan = plan
        self._batch = batch
        self._index = index
        self._count = count

    def steps_per_epoch(self) -> int:
        """Return the steps of the first epoch; with groups, others may have one more or less."""
        return len(self.plan.steps(0))

    def steps(self, epoch: int) -> Iterator[Work]:
        """Yield the steps as planned."""
        for rows in self.plan.steps(epoch):
            yield Work(len(rows), self.plan.share(rows, self._index, self._count))

    def parts(self, work: Work, size: int) -> Iterator[tuple[int, Any]]:
        """Yield the batches of this process's share."""
        for rows in self.plan.cut(list(work.own), size) if work.own else ():
            yield len(rows), self._batch(rows)


class LoaderFeed:
    """Batches of the caller's own making.

    Args:
        loader: iterated anew each epoch, or a callable that returns what is iterated.
        rows_per_step: batches are gathered until they have so many rows; None makes each a step.
        seed: whatever the loader draws at random follows from it.
        index: number of this process.
        count: of processes. Every process goes through all batches and takes each ``count``-th of
            a step; where each batch is a step, ``count`` of them are one.
    """

    divisible = False

    def __init__(
        self,
        loader: Iterable[Any] | Callable[[], Iterable[Any]],
        *,
        rows_per_step: int | None,
        seed: int,
        index: int,
        count: int,
    ) -> None:
        self._loader = loader
        self._rows_per_step = rows_per_step
        self._seed = seed
        self._index = index
        self._count = count

    def steps_per_epoch(self) -> int | None:
        """Return the number of steps, if the loader knows its length and its batches' size."""
        loader: Any = self._loader
        try:
            batches = len(loader)
        except TypeError:  # an iterator or a function, or a DataLoader over a stream
            return None
        size = getattr(loader, "batch_size", None)
        if self._rows_per_step is None:
            return -(-batches // self._count)
        return -(-batches // -(-self._rows_per_step // size)) if isinstance(size, int) else None

    def steps(self, epoch: int) -> Iterator[Work]:
        """Yield the loader's batches, gathered.

        Raises:
            InputError: it has none.
        """
        gathered: list[tuple[int, Any]] = []
        empty = True
        for batch in self._batches(epoch):
            empty = False
            gathered.append((rows_in(batch), batch))
            if self._is_step(gathered):
                yield self._work(gathered)
                gathered = []
        if gathered:
            yield self._work(gathered)
        if empty:
            raise InputError(
                f"train_dataloader gave no batch in epoch {epoch + 1}; pass what can be iterated "
                "once an epoch, a DataLoader or list, or a function that returns a new iterator."
            )

    def parts(self, work: Work, size: int) -> Iterator[tuple[int, Any]]:
        """Yield the batches as they are."""
        yield from work.own

    def _batches(self, epoch: int) -> Iterator[Any]:
        # A batch drawn at random follows from its number, so that a resumed run may pass over
        # those it has done without training on them.
        seed_all(CPU, self._seed, "loader", epoch)
        for generator in _generators(self._loader):
            generator.manual_seed(int(torch.randint(2**62, ())))
        batches = iter(self._loader() if callable(self._loader) else self._loader)
        number = 0
        while True:
            seed_all(CPU, self._seed, "loader", epoch, number)
            try:
                batch = next(batches)
            except StopIteration:
                return
            yield batch
            number += 1

    def _is_step(self, gathered: list[tuple[int, Any]]) -> bool:
        if self._rows_per_step is None:
            return len(gathered) == self._count
        return sum(rows for rows, _ in gathered) >= self._rows_per_step

    def _work(self, gathered: list[tuple[int, Any]]) -> Work:
        rows = sum(rows for rows, _ in gathered)
        return Work(rows, gathered[self._index :: self._count])


def _generators(loader: Any) -> list[torch.Generator]:
    """Return the generators of its own that a DataLoader draws an epoch's order from."""
    sampler = getattr(loader, "sampler", None)
    inner = getattr(getattr(loader, "batch_sampler", None), "sampler", None)
    found = [getattr(each, "generator", None) for each in (loader, sampler, inner)]
    return [each for each in found if isinstance(each, torch.Generator)]


def rows_in(batch: Any) -> int:
    """Return how many rows a batch has: the length of the first tensor in it, else 1."""
    if isinstance(batch, Tensor):
        return len(batch) if batch.ndim else 1
    if isinstance(batch, Mapping):
        batch = list(batch.values())
    if isinstance(batch, (list, tuple)):
        found = [rows_in(each) for each in batch if isinstance(each, (Tensor, Mapping, tuple))]
        return found[0] if found else max(len(batch), 1)
    return 1
