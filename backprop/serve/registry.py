"""The models of a server: found by name, loaded at first use, unloaded when memory is needed."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import logging
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from typing import Any, TypeVar

from backprop import catalogue
from backprop.engines.threads import threads as cores
from backprop.errors import InputError, NotFoundError, UnsupportedTaskError
from backprop.inputs import Row
from backprop.serve.batcher import Batcher, Expired, Full
from backprop.serve.children import end_all
from backprop.serve.costs import MOST_COST
from backprop.serve.held import Held, Loaded
from backprop.serve.loading import Model, open_model
from backprop.serve.metrics import Metrics
from backprop.serve.settings import Settings
from backprop.serve.store.hub import Hub
from backprop.serve.store.rows import Version
from backprop.specs import SPECS

__all__ = ["Registry", "Target"]

logger = logging.getLogger("backprop.serve")

T = TypeVar("T")
Key = tuple[str, str]
"""What identifies a model's weights, and a task."""

FRESH_S = 1.0
"""How long the version that a name stands for is remembered: another server may change it."""
CHECK_S = 5.0
"""How often idle models are looked for."""
REMEMBERED = 1024
"""Versions of names that are remembered."""
COMPARED = 500
"""Uploaded names that one which is not there is compared with."""
LOAD_RETRY_S = 5.0
FAILED_S = 10.0
"""How long a model that could not be loaded is not tried again."""
MOST_RECENT = 20_000
"""Requests whose times are kept, to tell how many come in a second."""


@dataclass(frozen=True)
class Target:
    """What a name in a request stands for.

    Args:
        name: of the model.
        tasks: what it does.
        version: of the hub; None for a catalogue model.
    """

    name: str
    tasks: tuple[str, ...]
    version: Version | None = None

    @property
    def label(self) -> str:
        """The name for people, with its version, such as ``my-model@3``."""
        return self.name if self.version is None else f"{self.name}@{self.version.number}"

    @property
    def identity(self) -> str:
        """What is equal for equal weights."""
        return self.name if self.version is None else self.version.digest


@dataclass(eq=False)
class _Loading:
    """A model that is being loaded, and those who wait for it."""

    work: asyncio.Task[Loaded]
    callers: int = 0
    rows: int = 0


class Registry:
    """Lends the models that requests name.

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
        self.served = _served(settings.models)
        self.loaded: dict[Key, Loaded] = {}
        """What is in memory; read by other threads too, which take a copy of its values."""
        self.recent: deque[float] = deque(maxlen=MOST_RECENT)
        """When the latest requests came."""
        self.started = time.monotonic()
        self._loading: dict[Key, _Loading] = {}
        self._failed: dict[Key, tuple[float, BaseException]] = {}
        self._versions: dict[str, tuple[float, Version]] = {}
        self._changes = 0
        self._threads = ThreadPoolExecutor(8, "backprop-model", initializer=_step_back)
        self._loaders = ThreadPoolExecutor(8, "backprop-loader", initializer=_step_back)
        self._cores = settings.threads or cores()
        self.lanes = {False: asyncio.Semaphore(self._cores), True: asyncio.Semaphore(1)}
        """Of models that read, and of those that write."""
        self._sweeper: asyncio.Task[None] | None = None
        self._ending: set[asyncio.Task[None]] = set()

    # --- Finding ---------------------------------------------------------------------------

    async def find(self, name: str, task: str) -> Target:
        """Return what a name stands for.

        Args:
            name: of a model, ``name@version``, or empty for the task's default.
            task: task string.

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
        known = self.served.get(catalogue.task_aliases(task).get(plain, plain).lower())
        if known is not None and not ref:
            return known
        try:
            version = await self._version(plain, ref or "latest")
        except NotFoundError as error:
            hint = await self.in_thread(partial(self._hint, plain))
            raise NotFoundError(f"{error} {hint}") from error
        return Target(version.name, tuple(version.meta.get("tasks", ())), version)

    def _hint(self, name: str) -> str:
        """Return what to do about a name that nothing here has, or not in that version."""
        served = {each.name for each in self.served.values()}
        entry = catalogue.find(name)
        if entry is None:
            names = served.union(self.hub.names(COMPARED) if self.hub is not None else ())
            near = [] if name in names else get_close_matches(name.lower(), names, n=3)
            nearest = f"The nearest names are: {', '.join(near)}. " if near else ""
            return f"{nearest}GET /models lists what there is."
        if entry.name in served:
            return "It is of the catalogue, and has no versions."
        return f"It is in the catalogue: start the server with --model {entry.name} to serve it."

    async def _version(self, name: str, ref: str) -> Version:
        if self.hub is None:
            raise NotFoundError(f"There is no model {name!r}. See GET /models.")
        key, now, changes = f"{name}@{ref}", time.monotonic(), self.hub.changes
        if self._changes != changes or len(self._versions) > REMEMBERED:
            self._changes = changes
            self._versions.clear()
        kept = self._versions.get(key)
        if kept is None or now - kept[0] > FRESH_S:
            kept = now, await self.in_thread(partial(self.hub.version, name, ref))
            if changes == self.hub.changes:
                self._versions[key] = kept
        return kept[1]

    # --- Lending -----------------------------------------------------------------------------

    async def using(self, target: Target, task: str, rows: int = 0) -> Held:
        """Return the model, loaded, for a ``with`` block, in which it stays so.

        Args:
            target: what ``find`` returned.
            task: a task it does.
            rows: that wait for it.

        Raises:
            Full: too many wait for it to be loaded.
            Expired: loading takes too long.
            BackpropError: it can't be loaded.
        """
        loaded = await self._ready(target, task, rows)
        loaded.users += 1  # before anything else runs
        self.recent.append(time.monotonic())
        return Held(self, loaded)

    async def _ready(self, target: Target, task: str, rows: int) -> Loaded:
        """Return the loaded model, waiting for it with others that want it too."""
        key = target.identity, task
        found = self.loaded.get(key)
        if found is not None:
            return found
        self._refuse_failed(key)
        loading = self._loading.get(key)
        if loading is None:
            work = asyncio.get_running_loop().create_task(self._load(key, target, task))
            loading = self._loading[key] = _Loading(work)
            work.add_done_callback(partial(self._ended, key, loading))
        if loading.rows and loading.rows + rows > self.settings.queue:
            raise Full(LOAD_RETRY_S)
        loading.rows += rows
        loading.callers += 1
        try:
            wait_s = self.settings.deadline_s
            return await asyncio.wait_for(asyncio.shield(loading.work), wait_s)
        except asyncio.TimeoutError as error:
            raise Expired from error
        finally:
            loading.rows -= rows
            loading.callers -= 1
            self._forget_loading(key, loading)

    def _ended(self, key: Key, loading: _Loading, work: asyncio.Task[Loaded]) -> None:
        """Note how a load ended."""
        if not work.cancelled():
            error = work.exception()
            if error is not None:
                self._failed[key] = time.monotonic(), error.with_traceback(None)
        self._forget_loading(key, loading)

    def _forget_loading(self, key: Key, loading: _Loading) -> None:
        """Until then the model is not unloaded: whoever waited has not begun to use it."""
        is_mine = self._loading.get(key) is loading
        if is_mine and loading.work.done() and not loading.callers:
            self._loading.pop(key)

    def _refuse_failed(self, key: Key) -> None:
        """Tell again what went wrong a moment ago, rather than try at each request."""
        if key in self._failed:
            when, error = self._failed[key]
            if time.monotonic() - when < FAILED_S:
                raise error.with_traceback(None)
            self._failed.pop(key)

    async def _load(self, key: Key, target: Target, task: str) -> Loaded:
        start = time.monotonic()
        loop = asyncio.get_running_loop()
        model = await loop.run_in_executor(self._loaders, partial(self._open, target, task))
        batcher = Batcher(
            partial(self._compute, model),
            most_cost=MOST_COST[task],
            queue=self.settings.queue,
            parallel=1 if model.writes else self._cores,
            wait_s=self.settings.wait_s,
            observe=partial(self.metrics.batch, target.name, task),
        )
        loaded = Loaded(target.name, target.label, task, model, batcher, time.monotonic())
        self.loaded[key] = loaded
        took_ms = round((time.monotonic() - start) * 1e3)
        logger.info("loaded", extra={"model": target.label, "task": task, "ms": took_ms})
        await self._make_room(loaded)
        return loaded

    def _open(self, target: Target, task: str) -> Model:
        if target.version is None or self.hub is None:
            return open_model(target.name, task)
        return open_model(str(self.hub.materialise(target.version)), task)

    async def _compute(
        self, model: Model, rows: Sequence[Row], options: Mapping[str, Any]
    ) -> list[Any]:
        writes = model.writes or options.get("style") == "abstractive"
        async with self.lanes[writes]:
            return await self.in_thread(partial(model.answer, list(rows), options))

    async def in_thread(self, call: Callable[[], T]) -> T:
        """Return what a call returns that computes, or asks the database."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)

    def end_later(self, work: asyncio.Task[None]) -> None:
        """Keep a task that nobody waits for until it has ended."""
        self._ending.add(work)
        work.add_done_callback(self._ending.discard)

    # --- Memory ------------------------------------------------------------------------------

    def memory_bytes(self) -> int:
        """Return what the loaded models take together, shared networks counted once."""
        sizes: dict[str, int] = {}
        for loaded in list(self.loaded.values()):
            sizes |= loaded.model.sizes
        return sum(sizes.values())

    async def _make_room(self, kept: Loaded) -> None:
        """Unload what is idle, what was used longest ago first, until all is within the budget."""
        while self.memory_bytes() > self.settings.memory_bytes:
            idle = [key for key, own in self._idle() if own is not kept]
            if not idle:
                return
            await self._unload(min(idle, key=lambda key: self.loaded[key].used))

    def _idle(self) -> Iterator[tuple[Key, Loaded]]:
        for key, loaded in self.loaded.items():
            if not loaded.users and loaded.batcher.is_idle and key not in self._loading:
                yield key, loaded

    async def _unload(self, key: Key) -> None:
        loaded = self.loaded.pop(key)
        logger.info("unloaded", extra={"model": loaded.label, "task": key[1]})
        await self.in_thread(partial(_free, loaded.model))

    async def _sweep(self) -> None:
        """Unload what nobody asked for in a while, or what is over the budget, again and again."""
        idle_s = self.settings.idle_s
        while True:
            await asyncio.sleep(min(CHECK_S, idle_s or CHECK_S))
            now = time.monotonic()
            for key in [key for key, (when, _) in self._failed.items() if now - when > FAILED_S]:
                self._failed.pop(key)
            try:
                while idle_s and (old := self._oldest(idle_s)) is not None:
                    await self._unload(old)
                # Models that were all in use when the last was loaded stayed in spite of it.
                if self.loaded:
                    await self._make_room(max(self.loaded.values(), key=_is_wanted))
                # Last, since it fails while the database is out of reach.
                while (gone := await self._deleted()) is not None:
                    await self._unload(gone)
            except Exception as error:
                logger.error("failed", exc_info=error)

    async def _deleted(self) -> Key | None:
        """Return an idle model of which the hub has no version now, if there is one."""
        own = {target.identity for target in self.served.values()}
        digests = {digest for digest, _ in self.loaded if digest not in own}
        if self.hub is None or not digests:
            return None
        gone = digests - await self.in_thread(partial(self.hub.kept, digests))
        return next((key for key, _ in self._idle() if key[0] in gone), None)

    def _oldest(self, idle_s: float) -> Key | None:
        """Return an idle model that was not used for so long, if there is one now."""
        now = time.monotonic()
        return next((key for key, own in self._idle() if now - own.used > idle_s), None)

    # --- Start and end -----------------------------------------------------------------------

    async def start(self) -> None:
        """Load what shall be loaded before the first request.

        Raises:
            NotFoundError: one of these models is not served.
        """
        for task, name in _preloaded(self.settings.preload):
            with await self.using(await self.find(name, task), task):
                pass
        self._sweeper = asyncio.get_running_loop().create_task(self._sweep())

    async def close(self) -> None:
        """Let go of everything, and end every process that was started."""
        if self._sweeper is not None:
            self._sweeper.cancel()
            with suppress(asyncio.CancelledError):
                await self._sweeper
        end_all()
        if self._ending:
            await asyncio.wait(self._ending, timeout=1)
        for loaded in self.loaded.values():
            loaded.model.close()
        self.loaded.clear()
        for pool in (self._threads, self._loaders):
            pool.shutdown(wait=False, cancel_futures=True)


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


def _step_back() -> None:
    """Let the thread that computes step back where the event loop wants a core.

    There are as many of these as cores, and whoever is to be refused must be told at once.
    """
    if sys.platform == "linux":  # where a thread has a priority of its own
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)


NICE = 5


def _is_wanted(loaded: Loaded) -> tuple[bool, float]:
    """Return what is greatest for the model that others shall make room for."""
    return loaded.users > 0, loaded.used


def _free(model: Model) -> None:
    """Let a model go and give its memory back to the system.

    Handlers and engines refer to each other, so without the collector half a gigabyte of weights
    would stay until it happens to run.
    """
    model.close()
    gc.collect()
    with suppress(OSError, AttributeError):  # glibc only
        ctypes.CDLL(None).malloc_trim(0)
