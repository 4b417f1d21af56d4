"""Few-shot text classification: this library against SetFit, on the same encoder and rows.

Banking77, 77 intents: a few rows of each are learned, 20 % of the file (always the same rows) are
judged. Logistic regression on the frozen encoder's vectors is the baseline. The contenders take
turns, each in a process of its own; seconds are those of training, without loading and judging.

Run as ``python bench/finetune/few_shot.py [DATA_FOLDER]``, on an idle machine, after
``python -m bench.environment``.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from backprop.models.places import find_folder
from bench.environment import FOLDER, python_of
from bench.finetune.peers import processes, rows

OURS, SETFIT, LOGISTIC = "backprop", "SetFit", "logistic"
SCRIPTS = {OURS: "ours.py", SETFIT: "setfit_few_shot.py", LOGISTIC: "logistic.py"}

Results = list[dict[str, Any]]
"""A run each: ``contender``, ``seed`` and what the contender answered."""


def main() -> None:
    """Print a line a run, then means and what they compare to."""
    arguments = parse()
    results: Results = []
    print(f"{'seed':>4}  {'contender':<12}{'accuracy %':>12}{'seconds':>10}")
    for name, job in jobs(arguments):
        results.append(compete(name, job, arguments))
        if arguments.json:
            arguments.json.write_text(json.dumps(results, indent=1), encoding="utf-8")
    print_summary(results)


def parse() -> argparse.Namespace:
    """Return the arguments; end where SetFit is asked for and not installed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    data = os.getenv("BACKPROP_DATA", "../shared/data")
    parser.add_argument("data", nargs="?", type=Path, default=Path(data))
    parser.add_argument("--each", type=int, default=8, help="rows learned of each class")
    parser.add_argument("--seeds", type=int, default=5, help="draws of those rows")
    parser.add_argument("--peer-seeds", type=int, default=5, help="of which SetFit learns so many")
    parser.add_argument("--pairs", type=int, default=20, help="SetFit's R; 0: all pairs there are")
    parser.add_argument("--classes", type=int, default=0, help="only the first; 0 is all 77")
    parser.add_argument("--method", default="auto", help="of this library")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--peers", type=Path, default=FOLDER, help="their environment")
    parser.add_argument("--without", nargs="*", choices=SCRIPTS, default=[], help="leave out")
    parser.add_argument("--json", type=Path, help="file for all figures, written after each run")
    arguments = parser.parse_args()
    if SETFIT in arguments.without:
        arguments.peer_seeds = 0
    if arguments.peer_seeds:
        python_of(arguments.peers)
    return arguments


def jobs(arguments: argparse.Namespace) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each contender's name and job, the contenders taking turns."""
    every = rows.banking(arguments.data)
    if arguments.classes:
        every = rows.only(every, sorted(set(every.labels))[: arguments.classes])
    learned, judged = rows.split(every)
    folder = str(find_folder("all-minilm-l6-v2"))
    for seed in range(arguments.seeds):
        drawn = rows.few(learned, arguments.each, seed=seed)
        job = {
            "folder": folder,
            "seed": seed,
            "items": drawn.items,
            "labels": drawn.labels,
            "test_items": judged.items,
            "test_labels": judged.labels,
            "pairs": arguments.pairs,
            # All rows are learned, none kept aside, as SetFit does.
            "options": {"method": arguments.method, "seed": seed, "validation_split": 0.0},
        }
        for name in SCRIPTS:
            if name not in arguments.without and (name != SETFIT or seed < arguments.peer_seeds):
                yield name, job


def compete(name: str, job: dict[str, Any], arguments: argparse.Namespace) -> dict[str, Any]:
    """Return and print what one contender makes of a job."""
    is_peer = name == SETFIT
    python = python_of(arguments.peers) if is_peer else sys.executable
    answer = processes.run(SCRIPTS[name], job, threads=arguments.threads, python=python)
    accuracy, seconds = 100 * answer["accuracy"], answer["seconds"]
    print(f"{job['seed']:>4}  {name:<12}{accuracy:>12.2f}{seconds:>10.1f}", flush=True)
    return {"contender": name, "seed": job["seed"], **answer}


def print_summary(results: Results) -> None:
    """Print every contender's mean, then this library against SetFit on the seeds they share."""
    print()
    for name in SCRIPTS:
        runs = [run for run in results if run["contender"] == name]
        if runs:
            print(f"mean  {name:<12}{accuracy_of(runs):>12.2f}{seconds_of(runs):>10.1f}", end="")
            print(f"   seeds: {len(runs)}")
    shared = {run["seed"] for run in results if run["contender"] == SETFIT}
    ours = [run for run in results if run["contender"] == OURS and run["seed"] in shared]
    peer = [run for run in results if run["contender"] == SETFIT]
    if ours and peer:
        points = accuracy_of(ours) - accuracy_of(peer)
        times = seconds_of(peer) / seconds_of(ours)
        print(
            f"\nOn SetFit's seeds ({len(shared)}): {points:+.2f} points, {times:.1f} times as fast."
        )


def accuracy_of(runs: Sequence[dict[str, Any]]) -> float:
    """Return the mean accuracy in percent."""
    return 100 * statistics.mean(float(run["accuracy"]) for run in runs)


def seconds_of(runs: Sequence[dict[str, Any]]) -> float:
    """Return the mean seconds of training."""
    return statistics.mean(float(run["seconds"]) for run in runs)


if __name__ == "__main__":
    main()
