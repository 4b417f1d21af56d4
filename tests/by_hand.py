"""What the checks of handlers share: results worked out word by word, and ways to compare."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from backprop.engines import Array
from backprop.errors import InputError
from backprop.handlers.text_vectors import TextVectors
from tests import fakes
from tests.fakes import WIDTH, meaning, word_tokens

CATS, DOGS = "cats sleep on the warm roof", "dogs run"
MANY = "one two three four five six seven eight nine ten"


def texts(*values: str, **shared: Any) -> list[dict[str, Any]]:
    return [{"text": value, **shared} for value in values]


def mean(words: str) -> Array:
    """Return the vector of a text by hand: the mean meaning of [CLS], its words and [SEP]."""
    tokens = ["[CLS]", *words.split(), "[SEP]"]
    total: Array = sum((meaning(token) for token in tokens), np.zeros(WIDTH)) / len(tokens)
    return total


def unit(vector: Array) -> Array:
    scaled: Array = vector / math.sqrt(sum(float(value) ** 2 for value in vector))
    return scaled


def sigmoid(score: float) -> float:
    return 1 / (1 + math.exp(-score))


def softmax(scores: Sequence[float]) -> list[float]:
    return [math.exp(score) / sum(map(math.exp, scores)) for score in scores]


def same(found: Any, expected: Any) -> None:
    np.testing.assert_allclose(found, expected, atol=1e-5)


def same_ranking(found: dict[str, float], expected: dict[str, float]) -> None:
    """Check that the labels come highest first, with these probabilities."""
    assert list(found) == sorted(expected, key=lambda label: -expected[label]), (found, expected)
    same([found[label] for label in expected], list(expected.values()))


def refused(call: Callable[[], object], *words: str) -> None:
    try:
        call()
    except InputError as error:
        assert all(word in str(error) for word in words), error
    else:
        raise AssertionError(f"not refused; expected an error with {words}")


def text_vectors(*known: str, normalise: bool = False, **options: Any) -> TextVectors:
    prompt = options.pop("prompt", "")
    tokens = word_tokens(*known, **options)
    engine = fakes.TextEngine(tokens)
    return TextVectors(engine, tokens, dimensions=WIDTH, normalise=normalise, prompt=prompt)


def cosines(text: str, *phrases: Sequence[str]) -> list[float]:
    """Return the likeness of ``text`` to each group: to the mean of its phrases' directions."""
    sides = [unit(sum((unit(mean(p)) for p in group), np.zeros(WIDTH))) for group in phrases]
    return [float(unit(mean(text)) @ side) for side in sides]


def logits(first: str, second: str = "") -> Array:
    """Return the logits by hand: words of a second text, and the [SEP] after it, count twice."""
    ones = ["[CLS]", *first.split(), "[SEP]"]
    twos = [*second.split(), "[SEP]"] if second else []
    total = sum((meaning(token) for token in [*ones, *twos, *twos]), np.zeros(WIDTH))
    found: Array = 3 * total / (len(ones) + len(twos))
    return found
