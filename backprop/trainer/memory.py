"""How many rows fit in memory at once."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import torch
from accelerate.utils.memory import clear_device_cache

__all__ = ["fitting_rows", "free_bytes", "is_out_of_memory", "release"]

SAMPLE = 8
"""The part of a batch that tells how much the whole of it would take."""

SHARE = 0.5
"""Of free memory that a batch may take; the rest is for the optimiser and for what is not seen."""

POLL_S = 0.002

# What a control group may take and takes, version 2 and version 1: a container's own limits.
LIMITS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    (
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        "/sys/fs/cgroup/memory/memory.usage_in_bytes",
    ),
)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether the error says that memory ran out, on whatever device."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    said = str(error)
    return isinstance(error, RuntimeError) and (
        "out of memory" in said or "can't allocate memory" in said
    )


def release() -> None:
    """Give back what nothing uses any more."""
    gc.collect()
    clear_device_cache()


def free_bytes() -> int:
    """Return how much memory this process may still take, a container's limit included."""
    free = [int(psutil.virtual_memory().available)]
    for limit, used in LIMITS:
        with suppress(OSError, ValueError):  # no such file, or "max"
            free.append(int(Path(limit).read_text()) - int(Path(used).read_text()))
    return max(min(free), 0)


def fitting_rows(attempt: Callable[[int], None], most: int, device: torch.device) -> int:
    """Return how many rows can be trained on in one pass: ``most``, or the half of it, or so on.

    Args:
        attempt: trains on that many of the longest rows, and undoes it.
        most: rows that would be best.
        device: on a GPU running out of memory is an error, so it is tried; elsewhere the system
            may end the process, so the need is told from an eighth of the rows.

    Raises:
        RuntimeError: not even one row fits.
    """
    release()  # or what is freed meanwhile would hide what the attempt takes
    while True:
        # One row alone would have no variance for a layer to norm by.
        tried = min(most, max(2, most // SAMPLE)) if device.type == "cpu" else most
        try:
            with _growth() as grown:
                attempt(tried)
            break
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error) or tried == 1:
                raise
        release()
        most = max(1, tried // 2)
    if device.type != "cpu":
        return most
    while most > 1 and grown[0] / tried * most > free_bytes() * SHARE:
        most = -(-most // 2)
    return most


@contextmanager
def _growth() -> Iterator[list[int]]:
    """Yield a list whose only item is by how many bytes the process grew at most, in the end."""
    process = psutil.Process()
    before = process.memory_info().rss
    grown, finished = [0], threading.Event()

    def watch() -> None:
        while not finished.is_set():
            grown[0] = max(grown[0], process.memory_info().rss - before)
            time.sleep(POLL_S)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield grown
    finally:
        finished.set()
        watcher.join()
