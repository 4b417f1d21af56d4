"""How many threads an engine computes with, and how those wait for work."""

from __future__ import annotations

import os

__all__ = ["read_by", "readers", "settle", "threads"]

_readers: list[int] = []


def threads() -> int:
    """Return the number of threads of one engine: ``OMP_NUM_THREADS``, or a core each."""
    asked = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    if asked.isdigit() and int(asked) > 0:
        return int(asked)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def readers() -> int:
    """Return the number of threads of one call of what reads: ``threads``, unless ``read_by``."""
    return _readers[0] if _readers else threads()


def read_by(count: int) -> None:
    """Let each call of an engine that reads, rather than writes, compute with so many threads.

    For servers, where calls run side by side: threads of one call wait for each other at each
    layer, which costs most where others need the cores. Holds for what is loaded from now on.
    """
    _readers[:] = [count]


def settle() -> None:
    """Let OpenMP's threads wait awake for a moment, and then sleep.

    Each engine has threads of its own. Once there are more than cores, GNU's OpenMP lets them sleep
    after a hundred turns, some microseconds, and waking them for each layer doubles the time of
    every model in the process. So they are told to stay awake longer, a thousand turns; and, where
    they don't outnumber the cores, a third of a millisecond instead of three, on cores that the
    next engine needs. Only has an effect before the first engine is loaded, and where the user has
    not said otherwise.

    Source: GCC's libgomp, env.c, initialize_env: gomp_throttled_spin_count_var. Measured by
    ``bench/together.py``.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ["OMP_WAIT_POLICY"] = "ACTIVE"
        os.environ.setdefault("GOMP_SPINCOUNT", "30000")
