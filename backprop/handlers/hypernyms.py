"""ImageNet class probabilities carried to labels of the caller's choosing.

A label that names a kind of thing ("dog") gets the classes WordNet puts under it; any other label
("a person on a beach") gets a share of each class by the likeness of their vectors. Both are the
same thing, a share of a class's probability, so they may be mixed in one call.

Source: ConSE, Norouzi et al. 2013, arXiv:1312.5650, for labels without classes; WordNet 3.0,
Princeton University (see imagenet.LICENSE). Constants measured by bench/quality/images.py.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from importlib import resources
from typing import Any

import numpy as np

from backprop.engines import Array
from backprop.errors import InputError
from backprop.handlers.probabilities import sigmoid, softmax
from backprop.handlers.vectors import unit

__all__ = [
    "HypernymLabels",
    "class_names",
    "class_sets",
    "class_texts",
    "class_words",
    "label_probabilities",
]

Encode = Callable[[list[str]], Array]
"""Texts to vectors of one length, shape (len(texts), dimensions)."""

# Chance that a class belongs to a label without classes of its own: sigmoid over their cosine.
# The slope is a logistic fit of WordNet's 461 glosses to the classes under them; the middle is
# lower than the fit's 0.65, for a caller's label is likelier to apply than a random gloss.
SLOPE, MIDDLE = 12.0, 0.5
# How a class under none of the labels is shared among them: softmax over cosines ...
TEMPERATURE = 0.1
# ... in which a label with classes of its own counts less, for WordNet did not list this one.
CLOSED_WORLD = 0.3
# Only an image's likeliest classes are compared to the labels (ConSE has 10); the long tail of
# the rest counts for labels it belongs to and else says nothing.
COMPARED = 20

GENERATIONS = 3  # hypernyms told to the text encoder with a class's name
ENDINGS = (("ies", "y"), ("ves", "f"), ("ves", "fe"), ("men", "man"), ("es", ""), ("s", ""))


class HypernymLabels:
    """Scores a caller's labels from ImageNet-1k class probabilities; usable as a label scorer.

    Args:
        encode: texts to vectors. Without it only labels with classes of their own can be
            scored, and what falls under none of them is shared evenly.
    """

    def __init__(self, encode: Encode | None = None) -> None:
        self.encode = encode
        self._class_vectors: dict[int, Array] = {}

    def __call__(self, probabilities: Array, labels: Sequence[str]) -> Array:
        """Return shape (n, len(labels)), each row summing to 1; no row depends on another.

        Args:
            probabilities: shape (n, 1000), of the classes in ImageNet-1k's order.
            labels: at least one.

        Raises:
            InputError: no labels, or a label without classes and no text encoder.
        """
        if not labels:
            raise InputError("labels is empty; pass at least one label.")
        sets = [class_sets(label) for label in labels]
        if self.encode is None:
            self._check_sets(labels, sets)
        probabilities = np.asarray(probabilities, np.float64)
        top = np.argsort(-probabilities, axis=1, kind="stable")[:, :COMPARED]
        compared: list[int] = np.unique(top).tolist()
        hard, known = narrow_shares(sets), np.array([classes is not None for classes in sets])
        gain = np.zeros_like(hard)  # what likeness adds to, or takes from, what WordNet says
        own = hard[compared]
        gain[compared] = shares(own, known, self._cosines(compared, labels)) - own
        rows = np.arange(len(top))[:, None]
        likely = np.einsum("nt,ntl->nl", probabilities[rows, top], gain[top])
        scores = probabilities @ hard + likely
        total: Array = scores / scores.sum(axis=1, keepdims=True)
        return total

    def _cosines(self, classes: Sequence[int], labels: Sequence[str]) -> Array:
        """Return shape (len(classes), len(labels)), all 0 without a text encoder."""
        if self.encode is None or not classes:
            return np.zeros((len(classes), len(labels)), np.float32)
        if missing := [index for index in classes if index not in self._class_vectors]:
            vectors = self.encode([class_texts()[index] for index in missing])
            self._class_vectors.update(zip(missing, vectors, strict=True))
        sides = np.stack([self._class_vectors[index] for index in classes])
        cosines: Array = unit(sides) @ unit(self.encode(list(labels))).T
        return cosines

    @staticmethod
    def _check_sets(labels: Sequence[str], sets: Sequence[Sequence[int] | None]) -> None:
        pairs = zip(labels, sets, strict=True)
        if unknown := [label for label, classes in pairs if classes is None]:
            raise InputError(
                f"No ImageNet class falls under the labels {unknown} and there is no text encoder "
                "to compare them by; name common kinds of things, such as 'dog' or 'vehicle'."
            )


def label_probabilities(
    probabilities: Array, labels: Sequence[str], *, encode: Encode | None = None
) -> Array:
    """Return shape (n, len(labels)), each row summing to 1; see ``HypernymLabels``.

    Keep a ``HypernymLabels`` for more than one call: it encodes a class only once.
    """
    return HypernymLabels(encode)(probabilities, labels)


def narrow_shares(sets: Sequence[Sequence[int] | None]) -> Array:
    """Return how the labels with classes split those, shape (1000, len(sets)).

    The narrower a label, the larger its share: a dog is a "dog" before an "animal".
    Rows sum to 1, or to 0 where a class belongs to no label.
    """
    split = np.zeros((len(class_names()), len(sets)))
    for column, classes in enumerate(sets):
        if classes:
            split[list(classes), column] = 1 / len(classes)
    normal: Array = split / np.maximum(split.sum(axis=1, keepdims=True), 1e-12)
    return normal


def shares(hard: Array, known: Array, cosines: Array) -> Array:
    """Return how classes split among labels, shape (classes, labels), each row summing to 1.

    The chance that a class belongs to a label, by WordNet or by likeness, goes to that label;
    the chance that it belongs to none goes to all by likeness.

    Args:
        hard: see ``narrow_shares``; its rows of these classes.
        known: whether each label has classes of its own.
        cosines: of classes and labels, shape (classes, labels).
    """
    soft = np.where(known, 0.0, sigmoid((cosines - MIDDLE) * SLOPE))
    belongs = hard + soft
    claimed = np.maximum(hard.sum(axis=1), soft.max(axis=1))[:, None]
    prior = np.where(known, np.log(CLOSED_WORLD), 0.0)  # cancels out if every label is known
    alike = softmax(cosines / TEMPERATURE + prior)
    split: Array = (
        claimed * belongs / np.maximum(belongs.sum(axis=1, keepdims=True), 1e-12)
        + (1 - claimed) * alike
    )
    return split


def class_names() -> list[str]:
    """Return a distinct display name for each ImageNet-1k class, in order."""
    return list(_table()["names"])


@lru_cache
def class_texts() -> tuple[str, ...]:
    """Return what the text encoder is told of each class: its name and nearest hypernyms.

    With names alone, labels were right on 74 % of photos; with three hypernyms on 99 %.
    """
    return tuple(", ".join([name, *_lineage(row)]) for row, name in enumerate(class_names()))


def class_sets(label: str) -> list[int] | None:
    """Return the ImageNet-1k classes that are a ``label``, ascending, or None if none is.

    Case, a leading article, underscores, hyphens and plurals make no difference.

    Args:
        label: a noun: a class's name or synonym, or a kind ("dog", "musical instruments").
    """
    words = class_words()
    for form in _forms(label):
        if form in words:
            return list(words[form])
    return None


@lru_cache
def class_words() -> Mapping[str, tuple[int, ...]]:
    """Return every word the table knows, in normal form, to its classes."""
    table = _table()
    found: dict[str, set[int]] = defaultdict(set)
    for row, classes in enumerate(_descendants()):
        for lemma in _lemmas(row):
            found[_normal(lemma)] |= classes
    for index, name in enumerate(table["names"]):
        found[_normal(name)].add(index)
    for word, targets in table["instead"].items():
        found[word] = _members(targets, found)
    for word, targets in table["also"].items():
        found[word] = found.get(word, set()) | _members(targets, found)
    return {word: tuple(sorted(classes)) for word, classes in found.items()}


@lru_cache
def _table() -> Mapping[str, Any]:
    file = resources.files("backprop.handlers") / "imagenet.json"
    table: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return table


def _lemmas(row: int) -> list[str]:
    return [lemma for lemma in _table()["synsets"][row][0].split("|") if lemma]


def _descendants() -> list[set[int]]:
    """Return the classes under each synset, itself included; the first rows are the classes."""
    synsets = _table()["synsets"]
    below: list[set[int]] = [set() for _ in synsets]
    for index in range(len(class_names())):
        waiting = [index]
        while waiting:
            row = waiting.pop()
            if index not in below[row]:
                below[row].add(index)
                waiting += synsets[row][1]
    return below


def _members(targets: Sequence[int | str], found: Mapping[str, set[int]]) -> set[int]:
    """Return the classes of a hand-written row: class indices and other words."""
    sets = ({target} if isinstance(target, int) else found[target] for target in targets)
    return set[int]().union(*sets)


def _lineage(row: int) -> Iterator[str]:
    """Yield a name of each of the nearest hypernyms, nearest first."""
    synsets = _table()["synsets"]
    for _ in range(GENERATIONS):
        parents = synsets[row][1]
        if not parents:
            return
        row = parents[0]
        yield from _lemmas(row)[:1]


def _normal(label: str) -> str:
    """Return ``label`` in the form the table's words are kept in."""
    words = re.sub(r"[\s_-]+", " ", label.casefold()).strip(" .,!?")
    return re.sub(r"^(an?|the|some) ", "", words)


def _forms(label: str) -> Iterator[str]:
    """Yield ``label`` as it is, then what its singular may be, likeliest first."""
    word = _normal(label)
    yield word
    head, space, last = word.rpartition(" ")
    irregular: Mapping[str, str] = _table()["plurals"]
    if last in irregular:
        yield head + space + irregular[last]
    for ending, single in ENDINGS:
        if word.endswith(ending):
            yield word.removesuffix(ending) + single
