"""Measures emotion detection on GoEmotions' dev split.

Hit rate is the share of texts whose emotion is one of the gold ones. Macro-F1 is the mean over the
28 labels of the F1 of the emotions that are present, from a probability of 0.5 on; for a model that
gives one emotion a text, of that one.

Run as ``python bench/quality/emotion.py [DATA_FOLDER] [--model NAME] [--rows N]``.
"""

from __future__ import annotations

import argparse
import os
import random
from pathlib import Path

import backprop


def main() -> None:
    """Print hit rate and macro-F1 of a model, by default the task's."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", nargs="?", default=os.getenv("BACKPROP_DATA", "../shared/data"))
    parser.add_argument("--model", help="name or path")
    parser.add_argument("--rows", type=int, default=0, help="a sample; 0 is all 5,426")
    arguments = parser.parse_args()
    rows = read(Path(arguments.data) / "goemotions")
    if arguments.rows:
        rows = random.Random(0).sample(rows, arguments.rows)
    texts, emotions = zip(*rows, strict=True)
    task = backprop.Emotion(arguments.model)
    answers = task(list(texts))
    hits = sum(answer in own for answer, own in zip(answers, emotions, strict=True))
    report = task.evaluate({"input_text": texts, "output_text": [", ".join(x) for x in emotions]})
    print(f"{'data':<12}{'model':<24}{'rows':>6}{'hit %':>8}{'macro-F1 %':>12}{'s/text':>8}")
    print(f"{'GoEmotions':<12}{task.name:<24}{len(rows):>6}{100 * hits / len(rows):>8.2f}", end="")
    print(f"{100 * report.metrics['macro_f1']:>12.2f}{report.seconds / len(rows):>8.4f}")


def read(folder: Path) -> list[tuple[str, list[str]]]:
    """Return the text and the gold emotions of each row."""
    labels = (folder / "labels.txt").read_text(encoding="utf-8").split()
    rows = []
    with (folder / "dev.tsv").open(encoding="utf-8", newline="\n") as file:
        for line in file:
            text, numbers, _ = line.rstrip("\n").split("\t")
            rows.append((text, [labels[int(number)] for number in numbers.split(",")]))
    return rows


if __name__ == "__main__":
    main()
