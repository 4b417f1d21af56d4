"""Measures question answering on half of XQuAD English, by SQuAD's exact match and F1.

Run as ``python bench/quality/qa.py [DATA_FOLDER] [--rows N]``.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import string
import time
from collections import Counter
from pathlib import Path

import backprop


def main() -> None:
    """Print exact match and F1 of the default model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", nargs="?", default=os.getenv("BACKPROP_DATA", "../shared/data"))
    parser.add_argument("--rows", type=int, default=150, help="a sample; 0 is all 635")
    arguments = parser.parse_args()
    rows = read(Path(arguments.data) / "xquad" / "en_dev.json")
    random.Random(0).shuffle(rows)
    rows = rows[-arguments.rows :]  # the first 150 chose the prompt
    start = time.perf_counter()
    answers = backprop.QA()([row[0] for row in rows], [row[1] for row in rows])
    seconds = time.perf_counter() - start
    scores = [
        [max(metric(answer, true) for true in gold) for metric in (exact, f1)]
        for answer, (_, _, gold) in zip(answers, rows, strict=True)
    ]
    invented = sum(answer not in row[1] for answer, row in zip(answers, rows, strict=True))
    matches, overlaps = (100 * sum(column) / len(rows) for column in zip(*scores, strict=True))
    print(f"{'data':<12}{'rows':>6}{'EM %':>8}{'F1 %':>8}{'not in text':>13}{'s/question':>12}")
    print(f"{'XQuAD en':<12}{len(rows):>6}{matches:>8.2f}{overlaps:>8.2f}", end="")
    print(f"{invented:>13}{seconds / len(rows):>12.2f}")


def read(path: Path) -> list[tuple[str, str, list[str]]]:
    """Return (question, context, gold answers) of each question of a SQuAD v1.1 file."""
    return [
        (question["question"], paragraph["context"], [gold["text"] for gold in question["answers"]])
        for article in json.loads(path.read_text(encoding="utf-8"))["data"]
        for paragraph in article["paragraphs"]
        for question in paragraph["qas"]
    ]


def exact(answer: str, gold: str) -> float:
    """Return 1 where both hold the same words, else 0."""
    return float(words(answer) == words(gold))


def f1(answer: str, gold: str) -> float:
    """Return the F1 of the words of ``answer`` against those of ``gold``, repeats counted."""
    answered, true = words(answer), words(gold)
    both = sum((Counter(answered) & Counter(true)).values())
    if not answered or not true:
        return float(answered == true)
    return 2 * both / (len(answered) + len(true))


def words(text: str) -> list[str]:
    """Return the words that count: lower case, no punctuation, no articles.

    Source: the evaluation of SQuAD v1.1, Rajpurkar et al. 2016, arXiv:1606.05250.
    """
    bare = "".join(letter for letter in text.lower() if letter not in string.punctuation)
    return re.sub(r"\b(a|an|the)\b", " ", bare).split()


if __name__ == "__main__":
    main()
