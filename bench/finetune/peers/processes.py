"""Runs each contender in a process of its own: none warms another up, or takes its memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


def run(
    script: str, job: Mapping[str, Any], *, threads: int, python: str = sys.executable
) -> dict[str, Any]:
    """Return what a contender answers to a job.

    Args:
        script: file of this folder; it is called with the path of the job as JSON, and the last
            line it prints is its answer as JSON.
        job: what to do; JSON.
        threads: of every numeric library.
        python: interpreter to run it with.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "job.json"
        path.write_text(json.dumps(job), encoding="utf-8")
        done = subprocess.run(
            [python, str(HERE / script), str(path)],
            env=environment(threads),
            cwd=folder,
            capture_output=True,
            encoding="utf-8",
        )
    if done.returncode:
        raise SystemExit(f"{script} failed:\n{done.stderr[-3000:]}")
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def environment(threads: int) -> dict[str, str]:
    """Return environment variables that hold every library to ``threads``, and to this machine."""
    libraries = ("OMP", "MKL", "OPENBLAS", "RAYON")
    limits = {f"{name}_NUM_THREADS": str(threads) for name in libraries}
    return {**os.environ, **limits, "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}


def read_job() -> dict[str, Any]:
    """Return the job that a contender was started with."""
    job: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    return job
