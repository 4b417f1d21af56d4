"""How good finetuned models are on rows that they did not learn.

- Banking77, 77 intents: 80 % of each label's texts are learned, the others judged.
- STS-B: the training file is learned; Spearman's correlation on the dev file, before and after.
- CIFAR-10, 32 px photos: 80 % of each class are learned, the others judged.

Run as ``python bench/finetune/quality.py [DATA_FOLDER] [--only banking,stsb,cifar]``.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import backprop
from bench.finetune.peers import rows

Params = Mapping[str, list[Any]]
METHODS = ("head", "full", "auto")


@dataclass(frozen=True)
class Case:
    """Data, and what to make of it."""

    title: str
    task: Callable[[], Any]
    metric: str
    learned: Params
    judged: Params
    methods: tuple[str, ...] = METHODS
    answers_untrained: bool = False


@dataclass(frozen=True)
class Line:
    """One line of the table; ``before`` and ``after`` in percent, ``aside`` a share of the rows."""

    data: str
    method: str
    picked: str
    aside: float
    learned: int
    judged: int
    metric: str
    before: float | None
    after: float
    seconds: float


def main() -> None:
    """Print a line for each set of data and method."""
    arguments = parse()
    print_head()
    lines: list[Line] = []
    for name in arguments.only.split(","):
        case = CASES[name](arguments.data, arguments.rows or None)
        for method in arguments.methods.split(",") if arguments.methods else case.methods:
            lines.append(run(case, method, arguments.aside))
            print_line(lines[-1])
            if arguments.json:
                table = [asdict(line) for line in lines]
                arguments.json.write_text(json.dumps(table, indent=1), encoding="utf-8")


def parse() -> argparse.Namespace:
    """Return the arguments."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    data = os.getenv("BACKPROP_DATA", "../shared/data")
    parser.add_argument("data", nargs="?", type=Path, default=Path(data))
    parser.add_argument("--only", default=",".join(CASES), help="some of these, with commas")
    parser.add_argument("--methods", help="some of head,lora,full,auto; by default what fits")
    parser.add_argument("--aside", type=float, default=0.15, help="share kept for validation")
    parser.add_argument("--rows", type=int, default=0, help="learn only so many; 0 is all")
    parser.add_argument("--json", type=Path, help="file for all figures, written after each line")
    arguments = parser.parse_args()
    if unknown := set(arguments.only.split(",")) - set(CASES):
        parser.error(f"--only got {', '.join(unknown)}; there are: {', '.join(CASES)}")
    return arguments


def run(case: Case, method: str, aside: float) -> Line:
    """Return what a method makes of a case; seconds are those of training."""
    task = case.task()
    before = evaluate(task, case) if case.answers_untrained else None
    start = time.perf_counter()
    report = task.finetune(case.learned, method=method, validation_split=aside, seed=0)
    seconds = time.perf_counter() - start
    return Line(
        data=case.title,
        method=method,
        picked=report.method,
        aside=aside,
        learned=length(case.learned),
        judged=length(case.judged),
        metric=case.metric,
        before=before,
        after=evaluate(task, case),
        seconds=seconds,
    )


def evaluate(task: Any, case: Case) -> float:
    """Return the case's metric on the rows to judge, in percent."""
    return 100 * float(task.evaluate(case.judged).metrics[case.metric])


def banking(data: Path, count: int | None) -> Case:
    """Return Banking77, of whose training file a fifth is judged."""
    learned, judged = rows.split(rows.banking(data))
    return Case(
        title="Banking77",
        task=lambda: backprop.TextClassification("all-minilm-l6-v2"),
        metric="accuracy",
        learned=params("texts", learned.take(range(count or len(learned)))),
        judged=params("texts", judged),
    )


def stsb(data: Path, count: int | None) -> Case:
    """Return STS-B, whose dev file is judged."""
    return Case(
        title="STS-B",
        task=lambda: backprop.TextVectorisation("all-minilm-l6-v2"),
        metric="spearman",
        learned={name: column[:count] for name, column in rows.pairs(data, "train").items()},
        judged=rows.pairs(data, "dev"),
        methods=("auto",),
        answers_untrained=True,
    )


def cifar(data: Path, count: int | None) -> Case:
    """Return CIFAR-10, of whose photos a fifth is judged."""
    learned, judged = rows.split(rows.cifar(data))
    return Case(
        title="CIFAR-10",
        task=lambda: backprop.ImageClassification("efficientnet-lite0"),
        metric="accuracy",
        learned=params("images", learned.take(range(count or len(learned)))),
        judged=params("images", judged),
    )


CASES = {"banking": banking, "stsb": stsb, "cifar": cifar}


def params(column: str, chosen: rows.Rows) -> Params:
    """Return rows as the columns of a classification task."""
    return {column: chosen.items, "labels": chosen.labels}


def length(columns: Params) -> int:
    """Return the number of rows."""
    return len(next(iter(columns.values())))


def print_head() -> None:
    """Print the table's first line."""
    print(f"{'data':<11}{'method':<8}{'picked':<8}{'aside':>6}{'learned':>9}{'judged':>8}", end="")
    print(f"  {'metric':<10}{'before %':>9}{'after %':>9}{'seconds':>9}")


def print_line(line: Line) -> None:
    """Print a line of the table."""
    before = "" if line.before is None else f"{line.before:.2f}"
    print(f"{line.data:<11}{line.method:<8}{line.picked:<8}{line.aside:>6.2f}", end="")
    print(f"{line.learned:>9}{line.judged:>8}  {line.metric:<10}", end="")
    print(f"{before:>9}{line.after:>9.2f}{line.seconds:>9.1f}", flush=True)


if __name__ == "__main__":
    main()
