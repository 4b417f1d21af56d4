"""Measures zero-shot text classification on Banking77: accuracy of the likeliest of 77 names.

Run as ``python bench/quality/zero_shot_text.py [DATA_FOLDER] [--rows N]``.
"""

from __future__ import annotations

import argparse
import csv
import os
import random
import time
from pathlib import Path

import backprop


def main() -> None:
    """Print the accuracy of the default model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", nargs="?", default=os.getenv("BACKPROP_DATA", "../shared/data"))
    parser.add_argument("--rows", type=int, default=0, help="a sample; 0 is all 10,003")
    arguments = parser.parse_args()
    rows = read(Path(arguments.data) / "banking77" / "train.csv")
    names = sorted({name for _, name in rows})
    if arguments.rows:
        rows = random.Random(0).sample(rows, arguments.rows)
    start = time.perf_counter()
    answers = backprop.TextClassification()([text for text, _ in rows], labels=names)
    seconds = time.perf_counter() - start
    right = sum(next(iter(answer)) == name for answer, (_, name) in zip(answers, rows, strict=True))
    print(f"{'data':<12}{'rows':>8}{'labels':>8}{'accuracy %':>12}{'seconds':>9}")
    print(f"{'Banking77':<12}{len(rows):>8}{len(names):>8}", end="")
    print(f"{100 * right / len(rows):>12.2f}{seconds:>9.1f}")


def read(path: Path) -> list[tuple[str, str]]:
    """Return (text, name of the intent) of each row; ``_`` in a name becomes a space."""
    with path.open(newline="", encoding="utf-8") as file:
        return [(row["text"], row["category"].replace("_", " ")) for row in csv.DictReader(file)]


if __name__ == "__main__":
    main()
