"""Measures emotion detection on GoEmotions' dev split.

Hit rate is the share of texts whose emotion is one of the gold ones; macro-F1 is the mean over
the 28 labels of the F1 of that one emotion against all gold ones.

Run as ``python bench/quality/emotion.py [DATA_FOLDER] [--rows N]``.
"""

from __future__ import annotations

import argparse
import os
import random
import time
from pathlib import Path

import backprop


def main() -> None:
    """Print hit rate and macro-F1 of the default model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", nargs="?", default=os.getenv("BACKPROP_DATA", "../shared/data"))
    parser.add_argument("--rows", type=int, default=0, help="a sample; 0 is all 5,426")
    arguments = parser.parse_args()
    labels, rows = read(Path(arguments.data) / "goemotions")
    if arguments.rows:
        rows = random.Random(0).sample(rows, arguments.rows)
    start = time.perf_counter()
    answers = backprop.Emotion()([text for text, _ in rows])
    seconds = time.perf_counter() - start
    gold = [emotions for _, emotions in rows]
    hits = sum(answer in emotions for answer, emotions in zip(answers, gold, strict=True))
    print(f"{'data':<12}{'rows':>8}{'hit rate %':>12}{'macro-F1 %':>12}{'seconds':>9}")
    print(f"{'GoEmotions':<12}{len(rows):>8}{100 * hits / len(rows):>12.2f}", end="")
    print(f"{100 * macro_f1(answers, gold, labels):>12.2f}{seconds:>9.1f}")


def read(folder: Path) -> tuple[list[str], list[tuple[str, set[str]]]]:
    """Return the labels, and the text and gold emotions of each row."""
    labels = (folder / "labels.txt").read_text(encoding="utf-8").split()
    rows = []
    with (folder / "dev.tsv").open(encoding="utf-8", newline="\n") as file:
        for line in file:
            text, numbers, _ = line.rstrip("\n").split("\t")
            rows.append((text, {labels[int(number)] for number in numbers.split(",")}))
    return labels, rows


def macro_f1(answers: list[str], gold: list[set[str]], labels: list[str]) -> float:
    """Return the mean over ``labels`` of F1; a label that is neither answered nor gold counts 0."""
    total = 0.0
    for label in labels:
        answered = [answer == label for answer in answers]
        true = [label in emotions for emotions in gold]
        both = sum(a and t for a, t in zip(answered, true, strict=True))
        total += 2 * both / max(sum(answered) + sum(true), 1)
    return total / len(labels)


if __name__ == "__main__":
    main()
