"""From a model's name to what answers: its converted network, or a process of its own with torch.

The server never imports torch. Conversion happens in a child process that ends afterwards; a model
that no fast engine can run, or an option of it, is answered by a child that stays.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from backprop import folders
from backprop.errors import BackpropError, SourceError
from backprop.handlers.encoding import LabelEncoder
from backprop.handlers.plans import Plan
from backprop.inputs import Row
from backprop.models.ready import asked, plan_of
from backprop.serve.children import Child
from backprop.serve.convert import UNFIT
from backprop.serve.worker import Worker

__all__ = ["Model", "open_model"]

CONVERT_S = 1800.0
"""Time that fetching and converting a model may take."""
TORCH_BYTES = 600 << 20
"""Memory of a process that has imported torch, about."""

_CONVERTING = threading.Lock()
"""One conversion at a time: each takes all cores, and much memory."""


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
    _is_closed: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def writes(self) -> bool:
        """Whether it writes text, token by token; of a worker's, whether it may."""
        if self.handler is None:
            return self.task in WRITING
        return self.task == "text-generation" or hasattr(self.handler, "writer")

    def answer(self, rows: list[Row], options: Mapping[str, Any]) -> list[Any]:
        """Return one answer a row.

        Raises:
            InputError: what was asked does not suit the model.
        """
        handler = self.handler
        if handler is not None:
            try:
                found: list[Any] = handler.answer(rows, dict(options))
                return found
            except _NeedsTorch:
                pass
        return self._by_torch().answer(rows, options)

    def stream(self, row: Row, options: Mapping[str, Any]) -> Iterator[str]:
        """Yield the answer to one row in pieces; what torch answers is one piece.

        Raises:
            InputError: what was asked does not suit the model.
        """
        own = getattr(self.handler, "stream", None)
        try:
            if own is not None:
                yield from own(row, dict(options))
                return
        except _NeedsTorch:
            pass
        [answer] = self._by_torch().answer([row], options)
        yield answer

    def count(self, texts: list[str]) -> list[int]:
        """Return how many tokens each text has; 0 where that is not known here."""
        tokens = getattr(self.handler, "tokens", None)
        if tokens is None:
            tokens = getattr(getattr(self.handler, "writer", None), "tokens", None)
        return tokens.count(texts) if tokens is not None else [0] * len(texts)

    def count_read(self, rows: list[Row]) -> list[int]:
        """Return how many tokens the model reads for each row; 0 where that is not known here."""
        own = getattr(self.handler, "count_read", None)
        return own(rows) if own is not None else [0] * len(rows)

    @property
    def most_new(self) -> int:
        """Tokens it writes at most where nobody says; 0 where that is not known here."""
        writer = getattr(self.handler, "writer", None)
        return writer.defaults.max_new if writer is not None else 0

    def use_torch(self) -> None:
        """Start the process that answers by torch, so that it says now what is wrong."""
        self._by_torch()

    def _by_torch(self) -> Worker:
        with self._lock:
            if self._is_closed:
                raise BackpropError(f"The model for {self.task} was unloaded.")
            if self._worker is None:
                self._worker = Worker(self.place, self.task)
                self.sizes[f"worker-{self.place}-{self.task}"] = TORCH_BYTES
            return self._worker

    def close(self) -> None:
        """Let go of all memory; nothing can be asked any more."""
        self._is_closed = True
        self.handler = None
        with self._lock:
            if self._worker is not None:
                self._worker.close()
                self._worker = None


WRITING = ("text-generation", "summarisation", "qa", "emotion")


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
    ready = _ready(place, task)
    if ready is None:
        model.use_torch()
        return model
    model.handler = ready.handler()
    model.sizes = ready.sizes()
    return model


@dataclass(frozen=True)
class _Ready:
    """A plan, and by name those of the models that it takes label vectors from."""

    plan: Plan
    labels: Mapping[str, _Ready]

    def handler(self) -> Any:
        """Return the handler, its networks and those of its labels loaded."""
        return self.plan.handler(
            _refuse_torch, labels=lambda name: LabelEncoder(name, self.labels[name].handler())
        )

    def sizes(self) -> dict[str, int]:
        """Return the bytes of each network, by its key."""
        sizes = {unit.key: folders.tree_bytes(unit.folder) for unit in self.plan.units}
        for own in self.labels.values():
            sizes |= own.sizes()
        return sizes


LABELS_BY = "text-vectorisation"


def _ready(place: str, task: str) -> _Ready | None:
    """Return the plan of a model and of those that it takes label vectors from, converted now."""
    chosen = asked("auto")
    if chosen == "torch":
        return None
    plan = plan_of(place, task, chosen)
    if plan is None:
        with _CONVERTING:
            plan = plan_of(place, task, chosen)
            if plan is None:
                _convert(place, task)
                plan = plan_of(place, task, chosen)
    if plan is None:
        return None
    labels = {}
    for name in _label_models(plan.description):
        own = _ready(name, LABELS_BY)
        if own is None:
            return None
        labels[name] = own
    return _Ready(plan, labels)


def _convert(place: str, task: str) -> None:
    """Convert a model in a process of its own."""
    child = Child("backprop.serve.convert", place, task)
    try:
        code = child.wait(CONVERT_S)
    finally:
        child.close()
    if code == UNFIT:
        raise SourceError(child.last_line)
    if code:
        raise BackpropError(f"{task}: the model could not be loaded (exit {code}).")


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
