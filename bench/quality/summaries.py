"""Measures both styles of summary on SciTLDR's dev split.

ROUGE-L is the F-measure of the longest common subsequence of words (runs of letters and digits,
lower case, no stemming), the best over a text's reference summaries. "In text" is the share of a
summary's words that its text holds.

Run as ``python bench/quality/summaries.py [DATA_FOLDER] [--rows N] [--written N]``.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import time
from pathlib import Path

import backprop


def main() -> None:
    """Print ROUGE-L and the share of words found in the text, a line a style."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", nargs="?", default=os.getenv("BACKPROP_DATA", "../shared/data"))
    parser.add_argument("--rows", type=int, default=0, help="extractive sample; 0 is all 619")
    parser.add_argument("--written", type=int, default=60, help="abstractive sample; 0 is all 619")
    arguments = parser.parse_args()
    rows = read(Path(arguments.data) / "scitldr" / "dev.jsonl")
    random.Random(0).shuffle(rows)
    print(f"{'style':<12}{'rows':>6}{'ROUGE-L %':>11}{'in text %':>11}", end="")
    print(f"{'not shorter':>13}{'s/text':>9}")
    for style, count in (("extractive", arguments.rows), ("abstractive", arguments.written)):
        print(measure(style, rows[: count or None]), flush=True)


def read(path: Path) -> list[tuple[str, list[str]]]:
    """Return (text, reference summaries) of each row."""
    with path.open(encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    return [(row["text"], row["summaries"]) for row in rows]


def measure(style: str, rows: list[tuple[str, list[str]]]) -> str:
    """Return the table's line for ``style``."""
    start = time.perf_counter()
    summaries = backprop.Summarisation()([text for text, _ in rows], style=style)
    seconds = (time.perf_counter() - start) / len(rows)
    pairs = list(zip(summaries, rows, strict=True))
    rouge = sum(max(rouge_l(summary, one) for one in gold) for summary, (_, gold) in pairs)
    found = sum(share_found(summary, text) for summary, (text, _) in pairs)
    longer = sum(len(summary) >= len(text) for summary, (text, _) in pairs)
    line = f"{style:<12}{len(rows):>6}{100 * rouge / len(rows):>11.2f}"
    return line + f"{100 * found / len(rows):>11.2f}{longer:>13}{seconds:>9.2f}"


def rouge_l(summary: str, reference: str) -> float:
    """Return the F-measure of the longest common subsequence of words.

    Source: Lin 2004, "ROUGE: A Package for Automatic Evaluation of Summaries", section 3.
    """
    ours, theirs = words(summary), words(reference)
    lengths = [0] * (len(theirs) + 1)
    for word in ours:
        diagonal = 0
        for column, other in enumerate(theirs, start=1):
            above = lengths[column]
            lengths[column] = diagonal + 1 if word == other else max(above, lengths[column - 1])
            diagonal = above
    return 2 * lengths[-1] / max(len(ours) + len(theirs), 1)


def share_found(summary: str, text: str) -> float:
    """Return the share of the summary's words that occur in ``text``."""
    present, ours = set(words(text)), words(summary)
    return sum(word in present for word in ours) / max(len(ours), 1)


def words(text: str) -> list[str]:
    """Return the runs of letters and digits of ``text``, in lower case."""
    return re.findall(r"\w+", text.lower())


if __name__ == "__main__":
    main()
