"""One progress bar for work that takes a while, and one log line where nobody watches."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["progress"]

logger = logging.getLogger(__name__)


@contextmanager
def progress(
    what: str, *, measure: Callable[[], int] | None = None, size_bytes: int | None = None
) -> Iterator[None]:
    """Log ``what``, and show a bar while the block runs if standard error is a terminal.

    Args:
        what: e.g. ``"Fetching all-minilm-l6-v2"``.
        measure: returns the bytes done by now; called from another thread. Without it the time
            that has passed is shown.
        size_bytes: how many there will be, None where that isn't known.
    """
    size = f" ({size_bytes / 1e6:.1f} MB)" if size_bytes is not None else ""
    logger.info("%s%s", what, size)
    if sys.stderr is None or not sys.stderr.isatty():
        yield
        return
    # Here, since a start with everything cached shows no bar and should not pay for it.
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    bytes_done = (BarColumn(None), DownloadColumn(), TimeRemainingColumn())
    waiting = (SpinnerColumn(), TimeElapsedColumn())
    with Progress(
        TextColumn("{task.description}"),
        *(waiting if measure is None else bytes_done),
        console=Console(stderr=True),
        transient=True,
        expand=True,
    ) as bar:
        task = bar.add_task(what, total=size_bytes)
        finished = threading.Event()

        def poll() -> None:
            while not finished.wait(0.2):
                done = measure() if measure is not None else 0
                bar.update(task, completed=done if size_bytes is None else min(done, size_bytes))

        poller = threading.Thread(target=poll, daemon=True)
        poller.start()
        try:
            yield
        finally:
            finished.set()
            poller.join()
