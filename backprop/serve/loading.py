"""From a model's name to what answers: its converted network, or a process of its own with torch.

The server never imports torch. Conversion happens in a child process that ends afterwards; a model
that no fast engine can run, or an option of it, is answered by a child that stays.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from backprop import folders
from backprop.errors import BackpropError, SourceError
from backprop.handlers.plans import Plan
from backprop.inputs import Row
from backprop.models.ready import asked, plan_of
from backprop.serve.worker import Worker

__all__ = ["Model", "open_model"]

CONVERT_S = 1800.0
"""Time that fetching and converting a model may take."""
TORCH_BYTES = 600 << 20
"""Memory of a process that has imported torch, about."""


class _NeedsTorch(Exception):
    """The fast engine can't do what was asked."""


@dataclass(eq=False)
class Model:
    """A loaded model that does a task; its methods block.

    Args:
        place: catalogue name, or folder of a saved model.
        task: task string.
        handler: on a fast engine; None where there is none.
        sizes: bytes of each network it has loaded, by the network's key; others may share it.
    """

    place: str
    task: str
    handler: Any = None
    sizes: dict[str, int] = field(default_factory=dict)
    _worker: Worker | None = None

    @property
    def writes(self) -> bool:
        """Whether it writes text, token by token."""
        return self.task == "text-generation" or hasattr(self.handler, "writer")

    def answer(self, rows: list[Row], options: Mapping[str, Any]) -> list[Any]:
        """Return one answer a row.

        Raises:
            InputError: what was asked does not suit the model.
        """
        if self.handler is not None:
            try:
                found: list[Any] = self.handler.answer(rows, dict(options))
                return found
            except _NeedsTorch:
                pass
        return self.worker.answer(rows, options)

    def stream(self, row: Row, options: Mapping[str, Any]) -> Iterator[str]:
        """Yield the answer to one row in pieces; tasks that don't write have one piece.

        Raises:
            InputError: what was asked does not suit the model.
        """
        own = getattr(self.handler, "stream", None)
        if own is None:
            yield from self.worker.stream(row, options)
            return
        try:
            yield from own(row, dict(options))
        except _NeedsTorch:
            yield from self.worker.stream(row, options)

    def count(self, texts: list[str]) -> list[int]:
        """Return how many tokens each text has; 0 where that is not known here."""
        tokens = getattr(self.handler, "tokens", None)
        if tokens is None:
            tokens = getattr(getattr(self.handler, "writer", None), "tokens", None)
        return tokens.count(texts) if tokens is not None else [0] * len(texts)

    @property
    def most_new(self) -> int:
        """Tokens it writes at most where nobody says; 0 where that is not known here."""
        writer = getattr(self.handler, "writer", None)
        return writer.defaults.max_new if writer is not None else 0

    @property
    def worker(self) -> Worker:
        """The process that answers by torch, started at first use."""
        if self._worker is None:
            self._worker = Worker(self.place, self.task)
            self.sizes[f"worker-{self.place}-{self.task}"] = TORCH_BYTES
        return self._worker

    def close(self) -> None:
        """Let go of all memory."""
        self.handler = None
        if self._worker is not None:
            self._worker.close()
            self._worker = None


def open_model(place: str, task: str) -> Model:
    """Return a model, loaded; blocks for seconds, or minutes where it must be converted.

    Args:
        place: catalogue name, or folder of a saved model that was verified.
        task: a task it does.

    Raises:
        SourceError: its weights can't be fetched.
        BackpropError: it can't be loaded.
    """
    model = Model(place, task)
    plan = _ready(place, task)
    if plan is None:
        _ = model.worker  # answers from the start, and says now what is wrong with the model
        return model
    model.handler = plan.handler(_refuse_torch)
    model.sizes = _sizes(plan)
    return model


def _ready(place: str, task: str) -> Plan | None:
    """Return the plan of a model and of those that it takes label vectors from, converted now."""
    chosen = asked("auto")
    if chosen == "torch":
        return None
    plan = plan_of(place, task, chosen)
    if plan is None:
        _convert(place, task)
        plan = plan_of(place, task, chosen)
    if plan is None:
        return None
    for name in _label_models(plan.description):
        if _ready(name, "text-vectorisation") is None:
            return None
    return plan


def _convert(place: str, task: str) -> None:
    """Convert a model in a process of its own."""
    command = [sys.executable, "-m", "backprop.serve.convert", place, task]
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=CONVERT_S,
        check=False,
        env=dict(os.environ),
    )
    if done.returncode == UNFIT:
        raise SourceError(done.stderr.decode(errors="replace").strip().splitlines()[-1])
    if done.returncode:
        raise BackpropError(f"{task}: the model could not be loaded (exit {done.returncode}).")


UNFIT = 3
"""Exit code of a conversion that says on standard error, last line, what is wrong."""


def _refuse_torch() -> Any:
    raise _NeedsTorch


def _label_models(description: Any) -> Iterator[str]:
    """Yield the names of models whose vectors of labels a handler asks for."""
    if isinstance(description, list):
        for each in description:
            yield from _label_models(each)
    elif isinstance(description, Mapping):
        named = description.get("named")
        if isinstance(named, list) and named[:1] == ["labels"]:
            yield str(named[1])
        for each in description.values():
            yield from _label_models(each)


def _sizes(plan: Plan) -> dict[str, int]:
    sizes = {unit.key: folders.tree_bytes(unit.folder) for unit in plan.units}
    for name in _label_models(plan.description):
        own = plan_of(name, "text-vectorisation", asked("auto"))
        sizes |= _sizes(own) if own is not None else {}
    return sizes
