"""Vetting in a process of its own, with bounds on its time and memory.

What is wrong with an upload may be that reading it never ends. The process writes nothing, imports
neither torch nor transformers, and sends back one line of JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from backprop.errors import ArtefactError

__all__ = ["main", "vet"]

TIMEOUT_S = 300
CPU_S = 120
MEMORY_BYTES = 2 << 30

TOO_MUCH = (
    "The upload took more time or memory to check than any saved model does; save the model "
    "again with backprop."
)


def vet(folder: Path) -> dict[str, Any]:
    """Return what ``backprop.json`` says of an uploaded model that may be served.

    Args:
        folder: the upload, whole, under names that it gave; nothing else writes to it.

    Raises:
        ArtefactError: it may not be served; the message is for the uploader and names no path of
            the server.
    """
    package = str(Path(__file__).resolve().parents[3])
    path = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH", ""), package]))
    try:
        done = subprocess.run(
            [sys.executable, "-m", "backprop.serve.vetting", os.path.abspath(folder)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=TIMEOUT_S,
            cwd=sys.prefix,
            env={**os.environ, "PYTHONPATH": path},
            check=False,
        )
        answer: dict[str, Any] = json.loads(done.stdout)
    except (subprocess.TimeoutExpired, ValueError) as error:
        raise ArtefactError(TOO_MUCH) from error
    if "refused" in answer:
        raise ArtefactError(answer["refused"])
    meta: dict[str, Any] = answer["meta"]
    return meta


def main(folder: Path) -> None:
    """Write the answer for one folder to standard output."""
    _bound()
    from backprop.serve.vetting.checking import check  # within the bounds too

    try:
        answer: dict[str, Any] = {"meta": check(folder)}
    except ArtefactError as error:
        answer = {"refused": str(error)}
    except (MemoryError, RecursionError):
        answer = {"refused": TOO_MUCH}
    sys.stdout.write(json.dumps(answer))


def _bound() -> None:
    """Bound this process's time, memory and files, where the system can."""
    if sys.platform == "win32":
        return
    import resource

    for name, most in (("CPU", CPU_S), ("AS", MEMORY_BYTES), ("FSIZE", 0), ("CORE", 0)):
        kind = getattr(resource, f"RLIMIT_{name}")
        hard = resource.getrlimit(kind)[1]
        allowed = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (allowed, allowed))
