"""Measures text vectors on the STS benchmark's dev split: Spearman's correlation with people.

Run as ``python bench/quality/vectors.py [DATA_FOLDER]``.
"""

from __future__ import annotations

import argparse
import csv
import os
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import backprop

Floats = NDArray[np.float64]


def main() -> None:
    """Print the correlation of the default model's cosines with people's scores."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", nargs="?", default=os.getenv("BACKPROP_DATA", "../shared/data"))
    folder = Path(parser.parse_args().data)
    with (folder / "stsb" / "dev.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))  # two sentences and a score from 0 to 5
    task = backprop.TextVectorisation()
    start = time.perf_counter()
    sides = [task([row[side] for row in rows]) for side in (0, 1)]
    seconds = time.perf_counter() - start
    cosines = backprop.cosine_similarity(*sides)
    correlation = spearman(np.array(cosines), np.array([float(row[2]) for row in rows]))
    print(f"{'data':<12}{'pairs':>8}{'Spearman %':>12}{'seconds':>9}")
    print(f"{'STS-B dev':<12}{len(rows):>8}{100 * correlation:>12.2f}{seconds:>9.1f}")


def spearman(first: Floats, second: Floats) -> float:
    """Return the correlation of ranks; those that are equal share their mean rank."""
    return float(np.corrcoef(ranks(first), ranks(second))[0, 1])


def ranks(values: Floats) -> Floats:
    """Return each value's rank, from 0."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    found: Floats = (last - (counts + 1) / 2)[place]
    return found


if __name__ == "__main__":
    main()
