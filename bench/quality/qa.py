"""Measures question answering on half of XQuAD English, by SQuAD's exact match and F1.

Run as ``python bench/quality/qa.py [DATA_FOLDER] [--model NAME] [--rows N]``.
"""

from __future__ import annotations

import argparse
import json
import os
import random
from pathlib import Path

import backprop


def main() -> None:
    """Print exact match and F1 of a model, by default the task's."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", nargs="?", default=os.getenv("BACKPROP_DATA", "../shared/data"))
    parser.add_argument("--model", help="name or path")
    parser.add_argument("--rows", type=int, default=0, help="a sample; 0 is all 635")
    arguments = parser.parse_args()
    rows = read(Path(arguments.data) / "xquad" / "en_dev.json")
    if arguments.rows:
        rows = random.Random(0).sample(rows, arguments.rows)
    questions, contexts, answers = zip(*rows, strict=True)
    task = backprop.QA(arguments.model)
    report = task.evaluate({"questions": questions, "contexts": contexts, "answers": answers})
    print(f"{'data':<12}{'model':<24}{'rows':>6}{'EM %':>8}{'F1 %':>8}{'s/question':>12}")
    matches, overlaps = (100 * report.metrics[name] for name in ("exact_match", "f1"))
    print(f"{'XQuAD en':<12}{task.name:<24}{len(rows):>6}{matches:>8.2f}{overlaps:>8.2f}", end="")
    print(f"{report.seconds / len(rows):>12.3f}")


def read(path: Path) -> list[tuple[str, str, str]]:
    """Return question, context and answer of each question of a SQuAD v1.1 file."""
    return [
        (question["question"], paragraph["context"], question["answers"][0]["text"])
        for article in json.loads(path.read_text(encoding="utf-8"))["data"]
        for paragraph in article["paragraphs"]
        for question in paragraph["qas"]
    ]


if __name__ == "__main__":
    main()
