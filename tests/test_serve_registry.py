"""Models of a server: held while they are used, loaded once, unloaded when they are not wanted."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from backprop.errors import BackpropError, SourceError, UnsupportedTaskError
from backprop.inputs import Row
from backprop.serve import registry as registry_module
from backprop.serve.batcher import Expired, Full
from backprop.serve.loading import Model
from backprop.serve.metrics import Metrics
from backprop.serve.registry import Registry, Target
from backprop.serve.settings import Settings
from backprop.serve.store import Hub
from backprop.serve.telling import Told
from tests.hub_tools import put_all, saved, vet

TASK = "text-vectorisation"
WRITES = "text-generation"


class Fake:
    """A handler that does what a test tells it, instead of a network."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.computing = threading.Semaphore(0)
        self.at_once = self.most_at_once = 0
        self.lock = threading.Lock()

    def _step(self) -> None:
        with self.lock:
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        self.computing.release()
        assert self.gate.wait(20)
        with self.lock:
            self.at_once -= 1

    def answer(self, rows: list[Row], options: Mapping[str, Any]) -> list[Any]:
        self._step()
        return [row["text"].upper() for row in rows]

    def stream(self, row: Row, options: Mapping[str, Any]) -> Iterator[str]:
        for letter in row["text"]:
            self._step()
            yield letter


class Loading(Registry):
    """A registry whose models are fakes."""

    def __init__(self, settings: Settings, hub: Hub | None = None, *, fails: bool = False) -> None:
        super().__init__(settings, hub, Metrics())
        self.fakes: dict[tuple[str, str], Fake] = {}
        self.opened: list[tuple[str, str]] = []
        self.closed: list[str] = []
        self.fails = fails

    def _open(self, target: Target, task: str) -> Model:
        self.opened.append((target.name, task))
        if self.fails:
            raise SourceError("it is not there")
        fake = self.fakes.setdefault((target.name, task), Fake())
        registry = self

        class Noted(Model):
            def close(self) -> None:
                registry.closed.append(target.name)
                super().close()

        return Noted(target.name, task, fake, {target.name: 100})


def settings(tmp_path: Path, **changes: Any) -> Settings:
    return Settings(data=tmp_path, threads=2, **changes)


def run(registry: Registry, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def all_of_it() -> None:
        try:
            await asyncio.wait_for(work(), 30)
        finally:
            await registry.close()

    asyncio.run(all_of_it())


async def ask(registry: Registry, text: str, name: str = "", task: str = TASK) -> Any:
    with await registry.using(await registry.find(name, task), task, 1) as model:
        [answer] = await model.answer([{"text": text}], {})
        return answer


async def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < end
        await asyncio.sleep(0.005)


def test_many_who_ask_at_once_load_a_model_once(tmp_path: Path) -> None:
    registry = Loading(settings(tmp_path))

    async def work() -> None:
        answers = await asyncio.gather(*(ask(registry, f"t{i}") for i in range(20)))
        assert answers == [f"T{i}" for i in range(20)]
        assert registry.opened == [("all-minilm-l6-v2", TASK)]

    run(registry, work)


def test_a_model_in_use_is_never_unloaded_and_an_idle_one_is(tmp_path: Path) -> None:
    registry = Loading(settings(tmp_path, idle_s=0.05))

    async def work() -> None:
        await registry.start()
        await ask(registry, "warm")
        [fake] = registry.fakes.values()
        fake.gate.clear()
        asking = asyncio.create_task(ask(registry, "slow"))
        await until(lambda: fake.at_once == 1)
        await asyncio.sleep(0.3)
        assert registry.closed == []
        fake.gate.set()
        assert await asking == "SLOW"
        await until(lambda: registry.closed == ["all-minilm-l6-v2"])
        assert await ask(registry, "again") == "AGAIN"

    run(registry, work)


def test_over_its_budget_the_model_used_longest_ago_goes(tmp_path: Path) -> None:
    registry = Loading(settings(tmp_path, memory_bytes=150))

    async def work() -> None:
        await ask(registry, "a", "all-minilm-l6-v2", TASK)
        await ask(registry, "b", "minilm-emotion", "emotion")
        assert registry.closed == ["all-minilm-l6-v2"]
        assert registry.memory_bytes() == 100

    run(registry, work)


def test_over_its_budget_models_go_once_nobody_uses_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry_module, "CHECK_S", 0.02)
    registry = Loading(settings(tmp_path, memory_bytes=150, idle_s=0))

    async def work() -> None:
        await registry.start()
        target, other = await registry.find("", TASK), await registry.find("", "emotion")
        with await registry.using(target, TASK) as held:
            with await registry.using(other, "emotion") as released:
                await asyncio.sleep(0.1)
                assert (registry.memory_bytes(), registry.closed) == (200, [])
                assert await released.answer([{"text": "b"}], {}) == ["B"]
            # The one that was used last, which nobody holds any more.
            await until(lambda: registry.closed == ["minilm-emotion"])
            assert await held.answer([{"text": "a"}], {}) == ["A"]
        await asyncio.sleep(0.1)
        assert registry.memory_bytes() == 100

    run(registry, work)


def test_a_model_that_was_deleted_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry_module, "CHECK_S", 0.02)
    own = settings(tmp_path, idle_s=0)
    hub = Hub(own, vet=lambda folder: {**vet(folder), "tasks": [TASK, "emotion"]})
    for word in ("one", "two"):
        hub.commit("mine", put_all(hub, saved(word)))
    registry = Loading(own, hub)

    async def work() -> None:
        await registry.start()
        for name in ("mine@1", "mine@2", ""):
            await ask(registry, "a", name)
        await ask(registry, "a", "mine@1", "emotion")
        with await registry.using(await registry.find("mine@1", TASK), TASK) as held:
            hub.delete("mine", 1)
            await until(lambda: registry.closed == ["mine"])  # the one that nobody uses
            await asyncio.sleep(0.1)
            assert registry.closed == ["mine"]
            assert await held.answer([{"text": "a"}], {}) == ["A"]
        await until(lambda: registry.closed == ["mine", "mine"])
        await asyncio.sleep(0.1)
        assert [own.label for own in registry.loaded.values()] == ["mine@2", "all-minilm-l6-v2"]

    run(registry, work)
    hub.close()


def test_a_load_that_failed_is_not_tried_at_each_request(tmp_path: Path) -> None:
    registry = Loading(settings(tmp_path), fails=True)

    async def work() -> None:
        for _ in range(5):
            with pytest.raises(SourceError):
                await ask(registry, "a")
        assert len(registry.opened) == 1

    run(registry, work)


def test_who_leaves_a_stream_keeps_nobody_waiting_and_the_model_loaded(tmp_path: Path) -> None:
    registry = Loading(settings(tmp_path))

    async def work() -> None:
        target = await registry.find("", WRITES)
        with await registry.using(target, WRITES) as model:
            pieces = model.stream({"text": "abc"}, {})
            assert await anext(pieces) == "a"
            [fake] = registry.fakes.values()
            fake.gate.clear()
            waiting: Any = asyncio.ensure_future(anext(pieces))
            await until(lambda: fake.at_once == 1)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            await pieces.aclose()
        [loaded] = registry.loaded.values()
        assert loaded.users == 1, "the piece that is computed still needs the model"
        fake.gate.set()
        await until(lambda: loaded.users == 0 and loaded.streams == 0)
        assert await ask(registry, "next", task=WRITES) == "NEXT"
        assert fake.most_at_once == 1

    run(registry, work)


def test_streams_take_turns_piece_by_piece(tmp_path: Path) -> None:
    registry = Loading(settings(tmp_path))

    async def work() -> None:
        order: list[str] = []

        async def follow(text: str) -> None:
            target = await registry.find("", WRITES)
            with await registry.using(target, WRITES) as model:
                async for piece in model.stream({"text": text}, {}):
                    order.append(piece)

        await ask(registry, "warm", task=WRITES)
        await asyncio.gather(follow("aaaa"), follow("bbbb"))
        assert sorted(order) == list("aaaabbbb")
        assert "".join(order) not in ("aaaabbbb", "bbbbaaaa")

    run(registry, work)


def test_a_stream_whose_turn_does_not_come_expires_and_is_not_computed(tmp_path: Path) -> None:
    registry = Loading(settings(tmp_path, deadline_s=0.2))

    async def work() -> None:
        target = await registry.find("", WRITES)
        await registry.lanes[True].acquire()
        with await registry.using(target, WRITES) as model:
            pieces = model.stream({"text": "abc"}, {})
            with pytest.raises(Expired):
                await anext(pieces)
        registry.lanes[True].release()
        [loaded] = registry.loaded.values()
        await until(lambda: loaded.users == 0)
        [fake] = registry.fakes.values()
        assert fake.most_at_once == 0

    run(registry, work)


def test_too_many_who_wait_for_a_load_are_refused(tmp_path: Path) -> None:
    registry = Loading(settings(tmp_path, queue=2))

    async def work() -> None:
        target = await registry.find("", TASK)
        first = asyncio.create_task(registry.using(target, TASK, 2))
        await asyncio.sleep(0)
        with pytest.raises(Full):
            await registry.using(target, TASK, 1)
        with await first:
            pass

    run(registry, work)


def test_what_is_served_is_told_while_models_come_and_go(tmp_path: Path) -> None:
    registry = Loading(settings(tmp_path))
    told = Told(registry)

    async def work() -> None:
        await ask(registry, "a")
        models = {each["name"]: each for each in told.models()}
        assert models["all-minilm-l6-v2"]["loaded"] and not models["minilm-qa"]["loaded"]
        assert "| task |" in told.model("minilm-qa")["card"]
        [own] = told.stats()["models"]
        assert (own["requests"], own["batch_mean"], own["queue"]) == (1, 1.0, 0)
        with pytest.raises(UnsupportedTaskError):
            await registry.find("minilm-qa", TASK)

    run(registry, work)


def test_a_model_that_was_closed_starts_no_process(tmp_path: Path) -> None:
    model = Model("all-minilm-l6-v2", TASK)
    model.close()
    with pytest.raises(BackpropError, match="unloaded"):
        model.answer([{"text": "a"}], {})
