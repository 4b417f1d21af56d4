"""The measuring: sides take turns, results are compared, a table is printed and kept as JSON."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from backprop.bench.rows import COLD, ROWS, Cold, Row
from backprop.engines.threads import threads
from backprop.errors import BackpropError, InputError
from backprop.folders import sync_file

__all__ = ["Line", "main", "measure", "measure_cold"]

COLD_ROUNDS = 3
LEAST_COSINE = 0.9999


@dataclass(frozen=True)
class Line:
    """A line of the table.

    Args:
        name: key of the row.
        title: for people.
        unit: of the figures.
        peer: median of its rounds.
        ours: the same.
        spread: of ours, largest minus smallest, as a share of the median.
        ratio: how many times as fast ours is.
        asked: least ratio asked for.
        parity: how results compare.
        peak_bytes: memory of our process at most; 0 where it was not measured.
    """

    name: str
    title: str
    unit: str
    peer: float
    ours: float
    spread: float
    ratio: float
    asked: float
    parity: str
    peak_bytes: int = 0

    @property
    def is_met(self) -> bool:
        """Whether ours is as fast as asked, with the same results."""
        return self.ratio >= self.asked and not self.parity.startswith("differs")


def main(only: Sequence[str] = (), json_path: Path | None = None) -> list[Line]:
    """Measure, print a line each, and write all of them as JSON.

    Args:
        only: names of rows; all by default.
        json_path: where to write.

    Raises:
        InputError: there is no such row.
    """
    if unknown := sorted(set(only) - {*ROWS, *COLD}):
        raise InputError(f"There is no row {unknown[0]!r}; rows: {', '.join([*ROWS, *COLD])}.")
    _say(f"{threads()} threads a side; sides take turns; medians")
    _say(f"{'row':<11}{'what':<62}{'peer':>9}{'ours':>9}  {'':<9}{'ratio':>7}{'asked':>7}  results")
    lines = []
    for name in only or [*ROWS, *COLD]:
        line = measure(name, ROWS[name]) if name in ROWS else measure_cold(name, COLD[name])
        lines.append(line)
        _say(
            f"{name:<11}{line.title:<62}{line.peer:>9.2f}{line.ours:>9.2f}  {line.unit:<9}"
            f"{line.ratio:>6.1f}x{line.asked:>6.1f}x  {line.parity}"
        )
        if json_path is not None:
            text = json.dumps([asdict(each) for each in lines], indent=1)
            json_path.write_text(f"{text}\n", "utf-8")
            sync_file(json_path)
    return lines


def measure(name: str, row: Row) -> Line:
    """Return a row's line, having run both sides in turns."""
    with _Side(row.peer) as peer, _Side(row.ours) as ours:
        sides = (peer, ours)
        for side in sides:
            side.ask("go")
        times: tuple[list[float], list[float]] = ([], [])
        for _ in range(row.rounds):
            for side, own in zip(sides, times, strict=True):
                own.append(side.ask("go")["seconds"])
        parity = _parity(row, peer, ours)
        peak = ours.ask("memory")["peak_bytes"]
    slow, fast = (statistics.median(own) for own in times)
    return Line(
        name=name,
        title=row.title,
        unit=f"{row.unit}/s",
        peer=row.items / slow,
        ours=row.items / fast,
        spread=(max(times[1]) - min(times[1])) / fast,
        ratio=slow / fast,
        asked=row.asked,
        parity=parity,
        peak_bytes=peak,
    )


def measure_cold(name: str, row: Cold) -> Line:
    """Return the line of two programs, started anew each time; the first start is not counted."""
    codes = (row.peer, row.ours)
    for code in codes:
        _start(code)
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(COLD_ROUNDS):
        for code, own in zip(codes, times, strict=True):
            own.append(_start(code))
    slow, fast = (statistics.median(own) for own in times)
    return Line(
        name=name,
        title=row.title,
        unit="seconds",
        peer=slow,
        ours=fast,
        spread=(max(times[1]) - min(times[1])) / fast,
        ratio=slow / fast,
        asked=row.asked,
        parity=f"at most {row.most_s:g} s: {'yes' if fast <= row.most_s else 'no'}",
    )


def _start(code: str) -> float:
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", code], env=_environment(), capture_output=True, text=True
    )
    if done.returncode:
        raise BackpropError(f"A program of the benchmark failed: {done.stderr[-500:]}")
    return time.perf_counter() - started


class _Side:
    """A worker and how it is told what to do."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.process = subprocess.Popen(
            [sys.executable, "-m", "backprop.bench.worker", name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE if "BACKPROP_BENCH_DEBUG" not in os.environ else None,
            text=True,
            env=_environment(),
        )
        self._answer()

    def ask(self, what: str) -> Any:
        """Return the answer to a line."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{what}\n")
        self.process.stdin.flush()
        return self._answer()

    def _answer(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            _, said = self.process.communicate()
            raise BackpropError(f"The side {self.name} failed: {(said or '')[-500:]}")
        return json.loads(line)

    def __enter__(self) -> _Side:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()


def _environment() -> dict[str, str]:
    count = str(threads())
    # Installed packages are compiled beforehand; so is a checkout then, at its first start.
    inherited = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    return {
        **inherited,
        "OMP_NUM_THREADS": count,
        "MKL_NUM_THREADS": count,
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }


def _parity(row: Row, peer: _Side, ours: _Side) -> str:
    if not row.compare:
        return "another model"
    wanted, found = peer.ask("result"), ours.ask("result")
    if row.compare == "cosine":
        return cosines(wanted, found)
    if row.compare == "ranking":
        same = sum(rank(one) == rank(other) for one, other in zip(wanted, found, strict=True))
        return _said(same, len(wanted), "rankings")
    found = [found] if isinstance(found, str) else found
    same = sum(one == other for one, other in zip(wanted, found, strict=True))
    return _said(same, len(wanted), "results")


def rank(scores: dict[str, float]) -> list[str]:
    """Return labels, likeliest first."""
    return sorted(scores, key=lambda label: -scores[label])


def cosines(wanted: Any, found: Any) -> str:
    """Return how alike two sets of vectors are, in words."""
    a, b = (np.asarray(each, np.float64) for each in (wanted, found))
    norms = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
    least = float(((a * b).sum(-1) / norms).min())
    word = "alike" if least >= LEAST_COSINE else "differs"
    return f"{word}: cosine {least:.6f} at least"


def _said(same: int, count: int, what: str) -> str:
    return f"{'equal' if same == count else 'differs'}: {same} of {count} {what}"


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
