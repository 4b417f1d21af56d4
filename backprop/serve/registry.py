"""The models of a server: found by name, loaded at first use, unloaded when memory is needed."""

from __future__ import annotations

import asyncio
import ctypes
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import psutil

from backprop import catalogue
from backprop.engines.threads import threads
from backprop.errors import InputError, NotFoundError, UnsupportedTaskError
from backprop.inputs import Row
from backprop.serve.batcher import Batcher, Expired, Full
from backprop.serve.costs import MOST_COST, costs_of, key_of
from backprop.serve.loading import Model, open_model
from backprop.serve.metrics import Metrics
from backprop.serve.settings import Settings
from backprop.serve.store.hub import Hub
from backprop.serve.store.rows import Version
from backprop.specs import SPECS

__all__ = ["Registry", "Target"]

logger = logging.getLogger("backprop.serve")

T = TypeVar("T")
FRESH_S = 1.0
"""How long the version that a name stands for is remembered: another server may change it."""
CHECK_S = 5.0
"""How often idle models are looked for."""
REMEMBERED = 1024
"""Times of requests that percentiles are taken of."""
LOAD_RETRY_S = 5.0
FAILED_S = 10.0
"""How long a model that could not be loaded is not tried again."""


@dataclass(frozen=True)
class Target:
    """What a name in a request stands for.

    Args:
        label: name for people and metrics, such as ``my-model@3``.
        tasks: what it does.
        version: of the hub; None for a catalogue model.
    """

    label: str
    tasks: tuple[str, ...]
    version: Version | None = None


@dataclass(eq=False)
class _Loaded:
    """A model that does a task, with its queue."""

    target: Target
    model: Model
    batcher: Batcher
    used: float
    users: int = 0
    requests: int = 0
    times_s: deque[float] = field(default_factory=lambda: deque(maxlen=REMEMBERED))

    def __enter__(self) -> _Loaded:
        """Stay loaded as long as the block lasts."""
        self.users += 1
        return self

    def __exit__(self, *_: object) -> None:
        """Note when it was used last."""
        self.users -= 1
        self.used = time.monotonic()


@dataclass(eq=False)
class _Loading:
    """A model that is being loaded, and those who wait for it."""

    task: asyncio.Task[_Loaded]
    callers: int = 0
    rows: int = 0


class Registry:
    """Answers requests by the model they name.

    Models that write compute one batch at a time, on all cores: they wait for memory. All others
    compute a batch a core, each on its own, since cores that share a batch wait for each other at
    every layer. So that a long text does not keep short requests waiting, both run side by side.

    Args:
        settings: of the server.
        hub: uploaded models; None has none.
        metrics: told what happens.
    """

    def __init__(self, settings: Settings, hub: Hub | None, metrics: Metrics) -> None:
        self.settings = settings
        self.hub = hub
        self.metrics = metrics
        self._loaded: dict[tuple[str, str], _Loaded] = {}
        self._loading: dict[tuple[str, str], _Loading] = {}
        self._failed: dict[tuple[str, str], tuple[float, BaseException | None]] = {}
        self._versions: dict[str, tuple[float, Version]] = {}
        self._changes = 0
        self._served = _served(settings.models)
        self._threads = ThreadPoolExecutor(8, "backprop-model")
        self._loaders = ThreadPoolExecutor(2, "backprop-loader")  # a load may take minutes
        self._cores = settings.threads or threads()
        self._lanes = {False: asyncio.Semaphore(self._cores), True: asyncio.Semaphore(1)}
        self._sweeper: asyncio.Task[None] | None = None
        self._started = time.monotonic()
        self._recent: deque[float] = deque(maxlen=20 * REMEMBERED)

    # --- Answering -------------------------------------------------------------------------

    async def answer(
        self, name: str, task: str, rows: list[Row], options: Mapping[str, Any]
    ) -> list[Any]:
        """Return one answer a row.

        Args:
            name: of a model, ``name@version``, or empty for the task's default.
            task: task string.
            rows: checked by ``inputs.read``.
            options: the same.

        Raises:
            NotFoundError: there is no such model.
            UnsupportedTaskError: it does not do the task.
            Full: too much waits already.
            Expired: it waited too long.
            InputError: what was asked does not suit the model.
        """
        target = await self.find(name, task)
        loaded = await self._ready(target, task, len(rows))
        start = self._count(loaded)
        with loaded:
            answers = await loaded.batcher.submit(
                rows,
                options,
                costs=costs_of(task, rows, options),
                key=key_of(options),
                deadline=asyncio.get_running_loop().time() + self.settings.deadline_s,
            )
        loaded.times_s.append(time.monotonic() - start)
        return answers

    async def stream(
        self, name: str, task: str, row: Row, options: Mapping[str, Any]
    ) -> AsyncIterator[str]:
        """Yield the answer to one row in pieces; several streams take turns, piece by piece.

        Raises:
            NotFoundError: there is no such model.
            UnsupportedTaskError: it does not do the task.
            Full: as many are streamed already as may wait.
            InputError: what was asked does not suit the model.
        """
        target = await self.find(name, task)
        loaded = await self._ready(target, task, 1)
        if loaded.users >= self.settings.queue:
            raise Full(LOAD_RETRY_S)
        start = self._count(loaded)
        with loaded:
            pieces = loaded.model.stream(row, options)
            try:
                while True:
                    async with self._lanes[True]:
                        piece = await self._in_thread(partial(next, pieces, None))
                    if piece is None:
                        loaded.times_s.append(time.monotonic() - start)
                        return
                    yield piece
            finally:
                await asyncio.shield(self._in_thread(partial(_close, pieces)))

    async def count(self, name: str, task: str, texts: list[str]) -> list[int]:
        """Return how many tokens each text has for a model; 0 where that is not known."""
        with await self._ready(await self.find(name, task), task, 0) as loaded:
            return await self._in_thread(partial(loaded.model.count, texts))

    async def length(self, name: str, task: str) -> int:
        """Return how many tokens a model writes at most where nobody says; 0 if not known."""
        return (await self._ready(await self.find(name, task), task, 0)).model.most_new

    async def find(self, name: str, task: str) -> Target:
        """Return what a name stands for.

        Raises:
            NotFoundError: there is no such model, or it is not served.
            UnsupportedTaskError: it does not do the task.
        """
        target = await self._find(name, task)
        if task not in target.tasks:
            raise UnsupportedTaskError(
                f"{target.label} does not do {task!r}; it does: {', '.join(target.tasks)}."
            )
        return target

    async def _find(self, name: str, task: str) -> Target:
        plain, _, ref = name.partition("@")
        plain = plain or SPECS[task].default
        known = self._served.get(catalogue.task_aliases(task).get(plain, plain).lower())
        if known is not None and not ref:
            return known
        version = await self._version(plain, ref or "latest")
        tasks = tuple(version.meta.get("tasks", ()))
        return Target(f"{version.name}@{version.number}", tasks, version)

    async def _version(self, name: str, ref: str) -> Version:
        if self.hub is None:
            raise NotFoundError(f"There is no model {name!r}. See GET /models.")
        key, now = f"{name}@{ref}", time.monotonic()
        if self._changes != self.hub.changes or len(self._versions) > REMEMBERED:
            self._changes = self.hub.changes
            self._versions.clear()
        kept = self._versions.get(key)
        if kept is None or now - kept[0] > FRESH_S:
            changes = self.hub.changes
            kept = now, await self._in_thread(partial(self.hub.version, name, ref))
            if changes == self.hub.changes:
                self._versions[key] = kept
        return kept[1]

    # --- Loading ---------------------------------------------------------------------------

    async def _ready(self, target: Target, task: str, rows: int) -> _Loaded:
        """Return the loaded model, waiting for it with others that want it too."""
        key = _identity(target), task
        found = self._loaded.get(key)
        if found is not None:
            return found
        self._refuse_failed(key)
        loading = self._loading.get(key)
        if loading is None:
            task_of_loop = asyncio.get_running_loop().create_task(self._load(key, target, task))
            loading = self._loading[key] = _Loading(task_of_loop)
            task_of_loop.add_done_callback(partial(self._loaded_or_failed, key))
        if loading.rows and loading.rows + rows > self.settings.queue:
            raise Full(LOAD_RETRY_S)
        loading.rows += rows
        loading.callers += 1
        try:
            wait = asyncio.wait_for(asyncio.shield(loading.task), self.settings.deadline_s)
            return await wait
        except asyncio.TimeoutError as error:
            raise Expired from error
        finally:
            # Whoever has waited begins to use the model now, before anything else runs.
            loading.rows -= rows
            loading.callers -= 1
            if not loading.callers and loading.task.done():
                self._loading.pop(key, None)

    def _loaded_or_failed(self, key: tuple[str, str], done: asyncio.Task[_Loaded]) -> None:
        """Note how a load ended; one that nobody waits for any more is forgotten."""
        loading = self._loading.get(key)
        if loading is not None and not loading.callers:
            self._loading.pop(key)
        if not done.cancelled() and done.exception() is not None:
            self._failed[key] = time.monotonic(), done.exception()

    def _refuse_failed(self, key: tuple[str, str]) -> None:
        """Tell again what went wrong a moment ago, rather than try at each request."""
        when, error = self._failed.get(key, (0.0, None))
        if error is None:
            return
        if time.monotonic() - when < FAILED_S:
            raise error.with_traceback(None)
        self._failed.pop(key, None)
        if self._loading.get(key) is not None:
            self._loading.pop(key)

    async def _load(self, key: tuple[str, str], target: Target, task: str) -> _Loaded:
        start = time.monotonic()
        loop = asyncio.get_running_loop()
        model = await loop.run_in_executor(self._loaders, partial(self._open, target, task))
        batcher = Batcher(
            partial(self._compute, model),
            most_cost=MOST_COST[task],
            queue=self.settings.queue,
            parallel=1 if model.writes else self._cores,
            wait_s=self.settings.wait_s,
            observe=partial(self.metrics.batch, target.label, task),
        )
        loaded = _Loaded(target, model, batcher, time.monotonic())
        self._loaded[key] = loaded
        took_ms = round((time.monotonic() - start) * 1e3)
        logger.info("loaded", extra={"model": target.label, "task": task, "ms": took_ms})
        await self._make_room(loaded)
        return loaded

    def _open(self, target: Target, task: str) -> Model:
        if target.version is None or self.hub is None:
            return open_model(target.label, task)
        folder: Path = self.hub.materialise(target.version)
        return open_model(str(folder), task)

    async def _compute(
        self, model: Model, rows: Sequence[Any], options: Mapping[str, Any]
    ) -> list[Any]:
        writes = model.writes or options.get("style") == "abstractive"
        async with self._lanes[writes]:
            return await self._in_thread(partial(model.answer, list(rows), options))

    async def _in_thread(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)

    def _count(self, loaded: _Loaded) -> float:
        """Count a request, and return when it began."""
        now = time.monotonic()
        self._recent.append(now)
        loaded.requests += 1
        return now

    # --- Memory ----------------------------------------------------------------------------

    def memory_bytes(self) -> int:
        """Return what the loaded models take together, shared networks counted once."""
        sizes: dict[str, int] = {}
        for loaded in self._loaded.values():
            sizes |= loaded.model.sizes
        return sum(sizes.values())

    async def _make_room(self, newest: _Loaded) -> None:
        """Unload what was used longest ago, until the rest is within the budget."""
        while self.memory_bytes() > self.settings.memory_bytes:
            idle = [key for key, own in self._idle() if own is not newest]
            if not idle:
                return
            await self._unload(min(idle, key=lambda key: self._loaded[key].used))

    def _idle(self) -> Iterator[tuple[tuple[str, str], _Loaded]]:
        for key, loaded in self._loaded.items():
            if not loaded.users and loaded.batcher.is_idle and key not in self._loading:
                yield key, loaded

    async def _unload(self, key: tuple[str, str]) -> None:
        loaded = self._loaded.pop(key)
        logger.info("unloaded", extra={"model": loaded.target.label, "task": key[1]})
        await self._in_thread(partial(_free, loaded.model))

    async def sweep(self) -> None:
        """Unload what nobody asked for in a while, again and again."""
        while True:
            await asyncio.sleep(min(CHECK_S, self.settings.idle_s or CHECK_S))
            now = time.monotonic()
            for key, loaded in list(self._idle()):
                kept = self.settings.idle_s and now - loaded.used <= self.settings.idle_s
                if not kept and self.settings.idle_s and key in self._loaded:
                    await self._unload(key)

    # --- Start and end -----------------------------------------------------------------------

    async def start(self) -> None:
        """Load what shall be loaded before the first request.

        Raises:
            NotFoundError: one of these models is not served.
        """
        for task, name in _preloaded(self.settings.preload):
            await self._ready(await self.find(name, task), task, 0)
        self._sweeper = asyncio.get_running_loop().create_task(self.sweep())

    async def close(self) -> None:
        """Let go of everything."""
        if self._sweeper is not None:
            self._sweeper.cancel()
            with suppress(asyncio.CancelledError):
                await self._sweeper
        for loaded in self._loaded.values():
            loaded.model.close()
        self._loaded.clear()
        for pool in (self._threads, self._loaders):
            pool.shutdown(wait=False, cancel_futures=True)

    # --- Telling -----------------------------------------------------------------------------

    async def listed(self) -> list[dict[str, Any]]:
        """Return all that is served."""
        return await self._in_thread(self.models)

    def models(self) -> list[dict[str, Any]]:
        """Return all that is served, as ``GET /models`` tells it; reads the database."""
        found = [self._told(target) for target in self._served.values() if target.label]
        unique = {each["name"]: each for each in found}
        for own in self.hub.models() if self.hub is not None else []:
            unique[own.name] = self._told_of_hub(own)
        return list(unique.values())

    def model(self, name: str) -> dict[str, Any]:
        """Return what is known of one model, its card too.

        Raises:
            NotFoundError: there is no such model.
        """
        known = self._served.get(name.lower())
        if known is not None:
            return {**self._told(known), "card": _card(known.label)}
        if self.hub is None:
            raise NotFoundError(f"There is no model {name!r}. See GET /models.")
        own = self.hub.model(name)
        return {**self._told_of_hub(own), "card": own.latest.card}

    def _told(self, target: Target) -> dict[str, Any]:
        entry = catalogue.get(target.label)
        return {
            "name": entry.name,
            "tasks": entry.tasks,
            "description": entry.description,
            "source": "catalogue",
            "licence": entry.licence,
            "languages": entry.languages,
            "size": entry.size,
            "parameters": entry.parameters,
            "default_for": [name for name, spec in SPECS.items() if spec.default == entry.name],
            "versions": [],
            "latest": None,
            "aliases": {},
            "loaded": self._is_loaded(entry.name),
        }

    def _told_of_hub(self, own: Any) -> dict[str, Any]:
        return {
            "name": own.name,
            "tasks": list(own.latest.meta.get("tasks", [])),
            "description": own.latest.description or own.latest.meta.get("description", ""),
            "source": "hub",
            "licence": "",
            "languages": [],
            "size": "",
            "parameters": 0,
            "default_for": [],
            "versions": list(own.versions),
            "latest": own.latest.number,
            "aliases": dict(own.aliases),
            "loaded": self._is_loaded(own.name),
        }

    def _is_loaded(self, name: str) -> bool:
        return any(own.target.label.partition("@")[0] == name for own in self._loaded.values())

    def stats(self) -> dict[str, Any]:
        """Return what is loaded now and how it does."""
        now = time.monotonic()
        recent = [each for each in self._recent if now - each <= RATE_S]
        models = []
        for (_, task), own in list(self._loaded.items()):
            times = sorted(own.times_s)
            models.append(
                {
                    "name": own.target.label,
                    "task": task,
                    "loaded": True,
                    "memory_bytes": sum(own.model.sizes.values()),
                    "queue": own.batcher.waiting,
                    "requests": own.requests,
                    "p50_ms": _percentile(times, 0.5),
                    "p99_ms": _percentile(times, 0.99),
                    "batch_mean": self.metrics.batch_mean(own.target.label, task),
                }
            )
        return {
            "models": models,
            "rss_bytes": psutil.Process().memory_info().rss,
            "uptime_s": now - self._started,
            "requests_per_s": len(recent) / RATE_S,
        }

    def depths(self) -> dict[tuple[str, str], int]:
        """Return how many rows wait, by model and task."""
        return {
            (own.target.label, task): own.batcher.waiting for (_, task), own in self._loaded.items()
        }


RATE_S = 10.0


def _served(names: Sequence[str]) -> dict[str, Target]:
    """Return the catalogue models that are served, by each of their names.

    Raises:
        NotFoundError: there is none of that name.
    """
    chosen = [catalogue.get(name) for name in names] or catalogue.entries(size="starter")
    found = {}
    for entry in chosen:
        target = Target(entry.name, tuple(entry.tasks))
        found.update({name.lower(): target for name in (entry.name, *entry.aliases)})
    return found


def _preloaded(wanted: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield task and model of what ``--preload`` names: a task, or ``task=model``.

    Raises:
        InputError: there is no such task.
    """
    for each in wanted:
        task, _, name = each.partition("=")
        if task not in SPECS:
            raise InputError(
                f"preload takes a task, or task=model; received {each!r}; tasks: "
                f"{', '.join(SPECS)}."
            )
        yield task, name


def _identity(target: Target) -> str:
    return target.label if target.version is None else target.version.digest


def _card(name: str) -> str:
    """Return the card of a catalogue model: its description and its scores."""
    entry = catalogue.get(name)
    lines = [f"# {entry.name}", "", entry.description, ""]
    if entry.scores:
        lines += ["| task | dataset | metric | value | source |", "|---|---|---|---|---|"]
        lines += [
            "| " + " | ".join(str(score.get(key, "")) for key in SCORE) + " |"
            for score in entry.scores
        ]
    return "\n".join(lines) + "\n"


SCORE = ("task", "dataset", "metric", "value", "source")


def _percentile(times_s: Sequence[float], share: float) -> float | None:
    if not times_s:
        return None
    return round(times_s[min(int(share * len(times_s)), len(times_s) - 1)] * 1e3, 2)


def _close(pieces: Any) -> None:
    close = getattr(pieces, "close", None)
    if close is not None:
        close()


def _free(model: Model) -> None:
    """Let a model go and give its memory back to the system."""
    model.close()
    with suppress(OSError, AttributeError):  # glibc only
        ctypes.CDLL(None).malloc_trim(0)
