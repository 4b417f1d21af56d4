"""Measures image classification: ImageNet's own classes, and zero-shot over labels we name.

- ImageNet: one photo for each of 300 classes; the number in a file's name is the class.
- Fourteen names: those photos whose class is one of them, as ImageNet's index ranges say.
- Nine phrases: what no class is called ("something to eat"); gold is WordNet's class of things.
  Mixed: every second phrase gives way to that plain word ("food").
- CIFAR-10: 32 px photos, far smaller than any the model was trained on.

Run as ``python bench/quality/images.py [DATA_FOLDER] [--cifar N]``.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import backprop
from backprop.handlers.hypernyms import class_names, class_sets

# First and last class of each name's ranges.
NAMES: dict[str, tuple[tuple[int, int], ...]] = {
    "dog": ((151, 268),),
    "cat": ((281, 285),),
    "bird": ((7, 24), (80, 100), (127, 146)),
    "fish": ((0, 6), (389, 397)),
    "frog": ((30, 32),),
    "turtle": ((33, 37),),
    "lizard": ((38, 48),),
    "snake": ((52, 68),),
    "spider": ((72, 77),),
    "insect": ((300, 320),),
    "monkey": ((369, 382),),
    "bear": ((294, 297),),
    "fruit": ((948, 957),),
    "mushroom": ((991, 996),),
}

PHRASES = {
    "food": "something to eat",
    "vehicle": "a means of transport",
    "furniture": "things you sit or sleep on at home",
    "clothing": "something to wear",
    "musical instrument": "for playing music",
    "animal": "a living creature",
    "building": "a place where people live or work",
    "tool": "used for repairing things",
    "weapon": "something dangerous used to fight",
}

Photos = list[tuple[Path, str]]
"""Files, each with its right label."""


def main() -> None:
    """Print the share of photos that get the right label, for each test."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", nargs="?", default=os.getenv("BACKPROP_DATA", "../shared/data"))
    parser.add_argument("--cifar", type=int, default=20, help="photos of each CIFAR-10 class")
    arguments = parser.parse_args()
    folder = Path(arguments.data)
    photos = [(file, int(file.name[:3])) for file in sorted(folder.glob("imagenet_samples/*.jpg"))]
    names = class_names()
    task = backprop.ImageClassification()
    print(f"{'test':<24}{'photos':>8}{'right %':>9}{'seconds':>9}")
    report(task, "ImageNet, 1,000 classes", [(file, names[index]) for file, index in photos], None)
    report(task, "zero-shot, 14 names", named(photos), list(NAMES))
    things = kinds(photos)
    phrased = [(file, PHRASES[kind]) for file, kind in things]
    report(task, "zero-shot, 9 words", things, list(PHRASES))
    report(task, "zero-shot, 9 phrases", phrased, list(PHRASES.values()))
    mixed = {kind: PHRASES[kind] if at % 2 else kind for at, kind in enumerate(PHRASES)}
    mixed_photos = [(file, mixed[kind]) for file, kind in things]
    report(task, "zero-shot, mixed", mixed_photos, list(mixed.values()))
    small = cifar(folder / "cifar10", arguments.cifar)
    report(task, "zero-shot, CIFAR-10", small, sorted({label for _, label in small}))


def classify(
    task: backprop.ImageClassification, files: Iterable[Path], labels: Sequence[str] | None = None
) -> list[str]:
    """Return the likeliest label of each file."""
    answers = task([str(file) for file in files], list(labels) if labels else None, top_k=1)
    return [next(iter(answer)) for answer in answers]


def report(
    task: backprop.ImageClassification, test: str, photos: Photos, labels: Sequence[str] | None
) -> None:
    """Print one line."""
    start = time.perf_counter()
    answers = classify(task, [file for file, _ in photos], labels)
    seconds = time.perf_counter() - start
    right = sum(answer == label for answer, (_, label) in zip(answers, photos, strict=True))
    print(f"{test:<24}{len(photos):>8}{100 * right / len(photos):>9.1f}{seconds:>9.1f}", flush=True)


def named(photos: Iterable[tuple[Path, int]]) -> Photos:
    """Return the photos whose class is in one of the ranges, with the name."""
    return [
        (file, name)
        for file, index in photos
        for name, ranges in NAMES.items()
        if any(first <= index <= last for first, last in ranges)
    ]


def kinds(photos: Iterable[tuple[Path, int]]) -> Photos:
    """Return the photos of exactly one kind of thing, with the kind."""
    members = {kind: set(class_sets(kind) or ()) for kind in PHRASES}
    found = []
    for file, index in photos:
        fitting = [kind for kind, classes in members.items() if index in classes]
        if len(fitting) == 1:
            found.append((file, fitting[0]))
    return found


def cifar(folder: Path, each: int) -> Photos:
    """Return the first ``each`` photos of every class."""
    classes = sorted(path for path in folder.iterdir() if path.is_dir())
    return [(file, path.name) for path in classes for file in sorted(path.glob("*.jpg"))[:each]]


if __name__ == "__main__":
    main()
