"""How fast finetuning is: this library's methods against the transformers Trainer.

Banking77 and the same encoder for all. ``full`` and ``lora``: one epoch of the same rows in batches
of 32, as examples a second, without loading and validation. ``head`` learns in another way, so it
is given twice: its whole run (encode, solve, validate, solve on all rows) against one epoch of the
Trainer on the same rows; and as rows times epochs a second. Contenders take turns, each in a
process of its own; a figure is the median of the rounds.

Run as ``python bench/finetune/speed.py [DATA_FOLDER]``, on an idle machine. The Trainer's epoch is
worked out from its speed on a part of the rows, unless ``--whole`` lets it see them all, to a whole
batch; then both are also judged on rows that neither has seen. ``head`` says of each run whether it
encoded its rows or had their vectors from a run before, which the library keeps in its cache.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from backprop.models.places import find_folder
from bench.finetune.peers import processes
from bench.finetune.peers.rows import Rows, banking, split

BATCH_SIZE, MAX_LENGTH = 32, 128
VALIDATION_ROWS = 64
OURS = ("full", "lora")
TRAINER = {
    "Trainer, dynamic padding": "dynamic",
    "Trainer, grouped by length": "grouped",
    "Trainer, padded to 128": "max_length",
}
BASE, PADDED = "Trainer, dynamic padding", "Trainer, padded to 128"
HEAD = "head"

Answer = dict[str, Any]


def main() -> None:
    """Print a line a run, then the medians and their ratios."""
    arguments = parse()
    runs = contenders(arguments)
    answers: dict[str, list[Answer]] = {name: [] for name in runs}
    for number in range(1, arguments.rounds + 1):
        for name, run in runs.items():
            answers[name].append(run())
            print(
                f"round {number}  {name:<28}{answers[name][-1]['examples_per_s']:>10.1f} /s",
                flush=True,
            )
            if arguments.json:
                arguments.json.write_text(json.dumps(answers, indent=1), encoding="utf-8")
    print_rates(answers)
    if HEAD in answers and BASE in answers:
        print_head(answers)


def parse() -> argparse.Namespace:
    """Return the arguments."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    data = os.getenv("BACKPROP_DATA", "../shared/data")
    parser.add_argument("data", nargs="?", type=Path, default=Path(data))
    parser.add_argument("--rows", type=int, default=1600, help="rows of an epoch")
    parser.add_argument("--whole", action="store_true", help="all rows, then judged on others")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", nargs="*", choices=[*OURS, *TRAINER, HEAD])
    parser.add_argument("--json", type=Path, help="file for all figures, written after each run")
    return parser.parse_args()


def contenders(arguments: argparse.Namespace) -> dict[str, Callable[[], Answer]]:
    """Return what to run, by name."""
    learned, judged = split(banking(arguments.data))
    rows = len(learned.items) if arguments.whole else arguments.rows
    count = rows // BATCH_SIZE * BATCH_SIZE
    test = {"test_items": judged.items, "test_labels": judged.labels} if arguments.whole else {}
    found: dict[str, Callable[..., Answer]] = {
        **{method: partial(run_epoch, learned, count, method) for method in OURS},
        **{
            name: partial(run_trainer, learned, count, padding, test)
            for name, padding in TRAINER.items()
        },
        HEAD: partial(run_head, learned, test),
    }
    chosen = arguments.only or found
    threads = arguments.threads
    return {name: partial(run, threads=threads) for name, run in found.items() if name in chosen}


def run_epoch(learned: Rows, count: int, method: str, *, threads: int) -> Answer:
    """Return what this library says of one epoch of the first ``count`` rows.

    The validation rows that it needs follow them, and are taken off where there are no more.
    """
    last = min(count + VALIDATION_ROWS, len(learned.items))
    count = (last - VALIDATION_ROWS) // BATCH_SIZE * BATCH_SIZE
    sample = learned.take(range(last))
    options = {
        "method": method,
        "epochs": 1,
        "batch_size": BATCH_SIZE,
        "max_length": MAX_LENGTH,
        "validation_split": [list(range(count)), list(range(count, last))],
        "seed": 0,
    }
    job = {"items": sample.items, "labels": sample.labels, "options": options}
    answer = processes.run("ours.py", job, threads=threads)
    return {**answer, "examples_per_s": answer["examples_per_s"][0]}


def run_trainer(learned: Rows, count: int, padding: str, test: Answer, *, threads: int) -> Answer:
    """Return what the Trainer makes of the same rows, and of those of ``test`` afterwards."""
    sample = learned.take(range(count))
    job = {
        "folder": str(find_folder("all-minilm-l6-v2")),
        "items": sample.items,
        "labels": sample.labels,
        "steps": count // BATCH_SIZE,
        "batch_size": BATCH_SIZE,
        "padding": padding,
        "max_length": MAX_LENGTH,
        "seed": 0,
        **test,
    }
    return processes.run("trainer.py", job, threads=threads)


def run_head(learned: Rows, test: Answer, *, threads: int) -> Answer:
    """Return what this library says of a head for all rows; its whole run is what counts."""
    options = {"method": HEAD, "max_length": MAX_LENGTH, "seed": 0}
    job = {"items": learned.items, "labels": learned.labels, "options": options, **test}
    answer = processes.run("ours.py", job, threads=threads)
    passed = answer["train_rows"] * answer["epochs"]
    return {**answer, "examples_per_s": passed / answer["seconds"]}


def print_rates(answers: dict[str, list[Answer]]) -> None:
    """Print each contender's examples a second, and how often the Trainer's that is."""
    rates = {name: median(runs, "examples_per_s") for name, runs in answers.items()}
    print(f"\n{'median of the rounds':<30}{'examples/s':>12}{'x dynamic':>12}{'x padded':>12}")
    for name, value in rates.items():
        print(f"{name:<30}{value:>12.1f}", end="")
        for base in (BASE, PADDED):
            print(f"{value / rates[base]:>12.2f}" if base in rates else f"{'':>12}", end="")
        print("   (rows x passes over cached inputs, whole run)" if name == HEAD else "")


def print_head(answers: dict[str, list[Answer]]) -> None:
    """Print the head's whole run against one epoch of the Trainer."""
    rows = answers[HEAD][0]["rows"]
    epoch = rows / median(answers[BASE], "examples_per_s")
    whole = answers[BASE][0]["settings"]["steps"] * BATCH_SIZE > rows - BATCH_SIZE
    print(f"\n{BASE}, one epoch of {rows} rows{'' if whole else ', worked out'}: {epoch:.1f} s")
    for number, run in enumerate(answers[HEAD], 1):
        took, cold = run["seconds"], "encoded" if run["encoded"] else "vectors in the cache"
        print(f"head, whole run {number}, {cold}: {took:.1f} s, {epoch / took:.1f} times as fast")
    for name in (HEAD, BASE):
        if answers[name][0]["accuracy"] is not None:
            print(f"{name}: accuracy {median(answers[name], 'accuracy'):.4f} on other rows")


def median(runs: list[Answer], figure: str) -> float:
    """Return the median of a figure."""
    return statistics.median(float(run[figure]) for run in runs)


if __name__ == "__main__":
    main()
