"""A loaded model, and one that a request holds: it answers, streams and counts."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol, TypeVar

from backprop.inputs import Row
from backprop.serve.batcher import Batcher, Expired, Full
from backprop.serve.costs import costs_of, key_of
from backprop.serve.loading import Model
from backprop.serve.settings import Settings

__all__ = ["Held", "Loaded"]

T = TypeVar("T")
REMEMBERED = 1024
"""Times of requests that percentiles are taken of."""
BUSY_RETRY_S = 5.0


@dataclass(eq=False)
class Loaded:
    """A model that does a task, with its queue.

    Args:
        name: of the model.
        label: with its version.
        task: task string.
        model: what answers.
        batcher: its queue.
        used: when it was used last.
        users: requests that hold it.
        streams: of them, those that are streamed.
        requests: so far.
        times_s: of the latest requests.
    """

    name: str
    label: str
    task: str
    model: Model
    batcher: Batcher
    used: float
    users: int = 0
    streams: int = 0
    requests: int = 0
    times_s: deque[float] = field(default_factory=lambda: deque(maxlen=REMEMBERED))

    def let_go(self) -> None:
        """Note that a request is done with it."""
        self.users -= 1
        self.used = time.monotonic()


class Owner(Protocol):
    """What lends models."""

    settings: Settings
    lanes: dict[bool, asyncio.Semaphore]

    async def in_thread(self, call: Callable[[], T]) -> T:
        """Return what a call returns that computes."""

    def end_later(self, work: asyncio.Task[None]) -> None:
        """Keep a task that nobody waits for until it has ended."""


class Held:
    """A model that stays loaded as long as the ``with`` block lasts.

    Args:
        owner: lends it.
        loaded: what is held; its users count this one already.
    """

    def __init__(self, owner: Owner, loaded: Loaded) -> None:
        self._owner = owner
        self._loaded = loaded
        self.label = loaded.label
        """Its name, with the version."""
        self.name = loaded.name

    def __enter__(self) -> Held:
        """Hold it."""
        return self

    def __exit__(self, *_: object) -> None:
        """Let it go."""
        self._loaded.let_go()

    async def answer(self, rows: list[Row], options: Mapping[str, Any]) -> list[Any]:
        """Return one answer a row.

        Args:
            rows: checked by ``inputs.read``.
            options: the same.

        Raises:
            Full: too much waits already.
            Expired: it waited too long.
            InputError: what was asked does not suit the model.
        """
        loaded, start = self._loaded, time.monotonic()
        loaded.requests += 1
        answers = await loaded.batcher.submit(
            rows,
            options,
            costs=costs_of(loaded.task, rows, options),
            key=key_of(options),
            deadline=asyncio.get_running_loop().time() + self._owner.settings.deadline_s,
        )
        loaded.times_s.append(time.monotonic() - start)
        return answers

    async def stream(self, row: Row, options: Mapping[str, Any]) -> AsyncGenerator[str]:
        """Yield the answer to one row in pieces; several streams take turns, piece by piece.

        Raises:
            Full: as many are streamed already as may wait.
            Expired: the first piece waited too long for its turn.
            InputError: what was asked does not suit the model.
        """
        loaded, start = self._loaded, time.monotonic()
        if loaded.streams >= self._owner.settings.queue:
            raise Full(BUSY_RETRY_S)
        loaded.requests += 1
        stream = _Stream(self._owner, loaded, loaded.model.stream(row, options))
        try:
            while (piece := await stream.next()) is not None:
                yield piece
            loaded.times_s.append(time.monotonic() - start)
        finally:
            stream.abandon()

    async def count(self, texts: list[str]) -> list[int]:
        """Return how many tokens each text has; 0 where that is not known."""
        return await self._owner.in_thread(partial(self._loaded.model.count, texts))

    async def count_read(self, rows: list[Row]) -> list[int]:
        """Return how many tokens the model reads for each row; 0 where that is not known."""
        return await self._owner.in_thread(partial(self._loaded.model.count_read, rows))

    @property
    def most_new(self) -> int:
        """Tokens it writes at most where nobody says; 0 where that is not known."""
        return self._loaded.model.most_new


class _Stream:
    """Pieces of a text, each computed in the lane of models that write.

    A piece that is being computed can't be stopped. So each is a task of its own, which goes on
    when whoever waits for it has gone; the model is held until it has ended.
    """

    def __init__(self, owner: Owner, loaded: Loaded, pieces: Any) -> None:
        self._owner, self._loaded, self._pieces = owner, loaded, pieces
        self._step: asyncio.Task[str | None] | None = None
        self._is_abandoned = self._is_begun = False
        loaded.users += 1
        loaded.streams += 1

    async def next(self) -> str | None:
        """Return the next piece; None at the end."""
        step = asyncio.get_running_loop().create_task(self._compute())
        self._step = step
        if self._is_begun:
            return await asyncio.shield(step)
        wait_s = self._owner.settings.deadline_s
        done, _ = await asyncio.wait((step,), timeout=wait_s)
        if not done and not self._is_begun:
            raise Expired
        return await asyncio.shield(step)

    def abandon(self) -> None:
        """Compute no more, and let the model go once nothing is computed."""
        self._is_abandoned = True
        self._owner.end_later(asyncio.get_running_loop().create_task(self._end()))

    async def _compute(self) -> str | None:
        async with self._owner.lanes[True]:
            if self._is_abandoned:
                return None
            self._is_begun = True
            return await self._owner.in_thread(partial(next, self._pieces, None))

    async def _end(self) -> None:
        try:
            if self._step is not None:
                await asyncio.wait((self._step,))
                if not self._step.cancelled():
                    self._step.exception()  # it was told, or nobody is left to be told
            await self._owner.in_thread(self._pieces.close)
        finally:
            self._loaded.streams -= 1
            self._loaded.let_go()
