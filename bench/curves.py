"""What time and memory cost as work grows: texts, their length, labels, and texts of one call.

Run as ``python bench/curves.py --out docs/curves`` on an idle machine: writes ``curves.json`` and
``curves.png`` there, and prints a line a point. Each curve runs in a process of its own; memory is
what the process holds at most, less what it held before the first point.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import backprop
from backprop.bench.sides import texts

COUNTS = (1, 10, 100, 1_000, 10_000, 100_000)
WORDS = (1, 4, 16, 64, 128, 180)
LABELS = (2, 5, 10, 20, 50, 100, 200, 500, 1_000)
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
REPEATS = 3


def main() -> None:
    """Measure every curve, or, told one, print its points as JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("docs/curves"))
    parser.add_argument("--curve", choices=[*CURVES], help="internal: measure this one here")
    arguments = parser.parse_args()
    if arguments.curve:
        print(json.dumps(CURVES[arguments.curve]()))
        return
    found = {}
    for name in CURVES:
        command = [sys.executable, __file__, "--curve", name]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        found[name] = json.loads(done.stdout)
        for point in found[name]:
            print(f"{name:<22}{point['at']:>9,}{point['s']:>12.4f} s{point['mb']:>9.1f} MB")
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "curves.json").write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    draw(found, arguments.out / "curves.png")


Point = dict[str, float]


def points(sizes: tuple[int, ...], work: Callable[[int], Any]) -> list[Point]:
    """Return time and memory of the work at each size; the fastest of some runs where short."""
    work(sizes[0])
    before = peak_mb()
    found = []
    for size in sizes:
        times = []
        for _ in range(REPEATS):
            started = time.perf_counter()
            work(size)
            times.append(time.perf_counter() - started)
            if times[-1] > 10:
                break
        found.append({"at": size, "s": min(times), "mb": peak_mb() - before})
    return found


def peak_mb() -> float:
    """Return the most memory that this process has held, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def by_count() -> list[Point]:
    """Texts of a few words through ``stream_map``, from an iterator, answers dropped."""
    task = backprop.TextVectorisation()

    def work(count: int) -> None:
        own = (f"A note of number {i} about the town." for i in range(count))
        assert sum(1 for _ in task.stream_map(own, show=False)) == count

    return points(COUNTS, work)


def by_words() -> list[Point]:
    """One text that grows; the model reads about 200 words at most."""
    task = backprop.TextVectorisation()
    return points(WORDS, lambda words: task(" ".join(["town"] * words)))


def by_labels() -> list[Point]:
    """One text, classified among labels that were never seen before."""
    task = backprop.TextClassification()
    turn = iter(range(10**9))

    def work(count: int) -> None:
        new = next(turn)
        task("The library will open in June.", [f"label {new} {i}" for i in range(count)])

    return points(LABELS, work)


def by_batch() -> list[Point]:
    """Texts of mixed length in one call."""
    task = backprop.TextVectorisation()
    own = texts(max(BATCHES))
    return points(BATCHES, lambda size: task(own[:size]))


CURVES: dict[str, Callable[[], list[Point]]] = {
    "texts, streamed": by_count,
    "words of a text": by_words,
    "new labels": by_labels,
    "texts in one call": by_batch,
}


def draw(found: dict[str, list[Point]], path: Path) -> None:
    """Draw each curve: seconds above, memory below, both axes logarithmic."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.4 * len(found), 5.6), layout="constrained")
    axes = figure.subplots(2, len(found), sharex="col")
    for (name, own), (above, below) in zip(found.items(), axes.T, strict=True):
        at = [point["at"] for point in own]
        above.loglog(at, [point["s"] for point in own], "o-", color="#1f77b4")
        below.semilogx(at, [point["mb"] for point in own], "o-", color="#d62728")
        below.set_ylim(bottom=0)
        below.set_xlabel(name)
        for each in (above, below):
            each.grid(alpha=0.3)
    axes[0][0].set_ylabel("seconds")
    axes[1][0].set_ylabel("memory beyond the start, MB")
    FigureCanvasAgg(figure)
    figure.savefig(path)


if __name__ == "__main__":
    main()
