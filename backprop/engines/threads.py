"""How many threads an engine computes with, and that idle ones stay out of the way."""

from __future__ import annotations

import os

__all__ = ["settle", "threads"]


def threads() -> int:
    """Return the number of threads of one engine: ``OMP_NUM_THREADS``, or a core each."""
    asked = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    if asked.isdigit() and int(asked) > 0:
        return int(asked)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def settle() -> None:
    """Let OpenMP's threads sleep at once when they have nothing to do.

    By default they spin for a fifth of a second, on cores that the next engine needs. Only has an
    effect before the first engine is loaded, and where the user has not said otherwise.
    """
    os.environ.setdefault("KMP_BLOCKTIME", "0")
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
