"""Any number of items through a task, in memory that does not grow."""

from __future__ import annotations

import itertools
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from typing import Any

from backprop.errors import InputError
from backprop.pictures import describe
from backprop.specs import TaskSpec

__all__ = ["answers"]

Run = Callable[[Mapping[str, Any]], Any]


def answers(
    run: Run,
    spec: TaskSpec,
    items: Iterable[Any],
    options: Mapping[str, Any],
    *,
    chunk: int,
    show: bool,
) -> Iterator[Any]:
    """Yield an answer an item, in order; items are read as they are needed.

    Args:
        run: answers a dictionary of lists.
        spec: of the task.
        items: each the value of the task's first field, or a dictionary of its fields.
        options: of the task's call.
        chunk: items that are answered together.
        show: whether a terminal shows how far it is.

    Raises:
        InputError: an item has other fields than those before it, or does not fit.
    """
    total = len(items) if isinstance(items, Sized) else None
    with _bar(spec.name, total, show=show) as advance:
        start = 0
        for own in _chunks(items, chunk):
            try:
                found = run({**_columns(spec, own, start), **options})
            except InputError as error:
                raise InputError(_counted_from(start, str(error))) from error
            start += len(own)
            advance(len(own))
            yield from found


def _counted_from(start: int, message: str) -> str:
    """Return an error's message with the item's own number, not that within its chunk."""
    return NUMBER.sub(lambda found: f"{found[1]}[{int(found[2]) + start}]", message, count=1)


NUMBER = re.compile(r"^(\w+)\[(\d+)\]")


def _chunks(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    iterator = iter(items)
    while own := list(itertools.islice(iterator, size)):
        yield own


def _columns(spec: TaskSpec, items: list[Any], start: int) -> dict[str, list[Any]]:
    """Return items as the lists of a task's fields."""
    if not any(isinstance(item, Mapping) for item in items):
        return {spec.primary.name: items}
    names = list(items[0]) if isinstance(items[0], Mapping) else [spec.primary.name]
    for i, item in enumerate(items):
        if not isinstance(item, Mapping) or list(item) != names:
            raise InputError(
                f"Item {start + i} must be a dictionary with {', '.join(map(str, names))}, as "
                f"those before it; received {describe(item)}."
            )
    return {name: [item[name] for item in items] for name in names}


class _bar:  # noqa: N801  # a context manager
    """How far it is, on a terminal; gives a function that takes the number of items done."""

    def __init__(self, what: str, total: int | None, *, show: bool) -> None:
        self.what = what
        self.total = total
        self.bar: Any = None
        self.show = show and sys.stderr is not None and sys.stderr.isatty()

    def __enter__(self) -> Callable[[int], None]:
        if not self.show:
            return lambda count: None
        # Here, since nobody else should pay for it.
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
        from rich.progress import TimeRemainingColumn as Left

        columns = (TextColumn("{task.description}"), BarColumn(None), MofNCompleteColumn(), Left())
        self.bar = Progress(*columns, console=Console(stderr=True), transient=True, expand=True)
        self.bar.start()
        task = self.bar.add_task(self.what, total=self.total)
        return lambda count: self.bar.advance(task, count)

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.stop()
