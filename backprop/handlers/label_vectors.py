"""Zero-shot classification by the likeness of text and label vectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from backprop.engines import Array
from backprop.errors import InputError
from backprop.handlers.kept import KeptVectors
from backprop.handlers.probabilities import ranked, sigmoid, softmax
from backprop.handlers.text_vectors import TextVectors
from backprop.handlers.vectors import unit
from backprop.inputs import Row

__all__ = ["Calibration", "LabelVectors", "PhraseEmotions"]


@dataclass(frozen=True)
class Calibration:
    """How cosines become probabilities; measured, see ``bench/quality``.

    Args:
        slope: of the sigmoid for labels judged one by one.
        middle: cosine at which that sigmoid is a half.
        temperature: cosines are divided by it before the softmax across labels.
    """

    slope: float
    middle: float
    temperature: float

    def probabilities(self, cosines: Array, *, multi_label: bool) -> Array:
        """Return a probability for each cosine."""
        if multi_label:
            return sigmoid((cosines - self.middle) * self.slope)
        return softmax(cosines / self.temperature)


class LabelVectors:
    """Answers ``text-classification`` with the caller's labels.

    Args:
        vectors: the text encoder.
        templates: sentences a label is put in; their vectors are averaged.
        calibration: cosines to probabilities.
    """

    def __init__(
        self, vectors: TextVectors, *, templates: Sequence[str], calibration: Calibration
    ) -> None:
        self.vectors = vectors
        self.templates = tuple(templates)
        self.calibration = calibration
        self._encode = KeptVectors(vectors)

    def answer(self, rows: list[Row], options: dict[str, Any]) -> list[dict[str, float]]:
        """Return {label: probability} a row, highest first.

        Args:
            rows: each has ``text`` and ``labels``.
            options: ``top_k``; ``template`` instead of the model's own; ``multi_label`` (default
                True: each label by itself); ``long`` (default ``chunk``: averaged).

        Raises:
            InputError: a row has no labels.
        """
        if any("labels" not in row for row in rows):
            raise InputError(
                "This model classifies by labels you name and received none; pass labels=[…]."
            )
        # Before the labels, since a text may be refused.
        texts = text_directions(self.vectors, rows, options)
        labels = list(dict.fromkeys(label for row in rows for label in row["labels"]))
        templates = (options["template"],) if "template" in options else self.templates
        phrases = {label: [t.replace("{}", label) for t in templates] for label in labels}
        directions = phrase_vectors(self._encode, phrases)
        answers = []
        for row, text in zip(rows, texts, strict=True):
            cosines = np.stack([directions[label] for label in row["labels"]]) @ text
            probabilities = self.calibration.probabilities(
                cosines, multi_label=options.get("multi_label", True)
            )
            answers.append(ranked(row["labels"], probabilities, options.get("top_k", 0)))
        return answers


class PhraseEmotions:
    """Answers ``emotion`` by the likeness of a text to phrases that express each emotion.

    Args:
        vectors: the text encoder.
        phrases: emotion to phrases; their vectors are averaged.
        offsets: added to the cosines of some emotions.
        calibration: cosines to probabilities.
    """

    def __init__(
        self,
        vectors: TextVectors,
        *,
        phrases: Mapping[str, Sequence[str]],
        offsets: Mapping[str, float],
        calibration: Calibration,
    ) -> None:
        self.vectors = vectors
        self.phrases = phrases
        self.offsets = offsets
        self.calibration = calibration
        self._encode = KeptVectors(vectors)

    def answer(self, rows: list[Row], options: dict[str, Any]) -> list[Any]:
        """Return the likeliest emotion of each row, or {emotion: probability} with ``top_k``."""
        texts = text_directions(self.vectors, rows, options)
        directions = np.stack(list(phrase_vectors(self._encode, self.phrases).values()))
        emotions = list(self.phrases)
        offsets = np.array([self.offsets.get(emotion, 0.0) for emotion in emotions])
        answers: list[Any] = []
        for cosines in texts @ directions.T + offsets:
            scores = self.calibration.probabilities(cosines, multi_label=False)
            found = ranked(emotions, scores, options.get("top_k", 1))
            answers.append(found if "top_k" in options else next(iter(found)))
        return answers


def text_directions(vectors: TextVectors, rows: list[Row], options: Mapping[str, Any]) -> Array:
    """Return each text's unit vector, long ones by ``long`` (default ``chunk``)."""
    long = options.get("long", "chunk")
    return unit(vectors.vectors([row["text"] for row in rows], long=long))


def phrase_vectors(encode: KeptVectors, phrases: Mapping[str, Sequence[str]]) -> dict[str, Array]:
    """Return each name's unit vector: the mean of its phrases' unit vectors."""
    encoded = iter(encode([phrase for own in phrases.values() for phrase in own]))
    return {
        name: unit(np.mean([next(encoded) for _ in own], axis=0)) for name, own in phrases.items()
    }
