"""Image vectors, image classes and zero-shot image labels of models that see images and text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from backprop.engines import Array, Engine
from backprop.engines.threads import threads
from backprop.errors import InputError
from backprop.handlers.classifier import check_known
from backprop.handlers.pixels import Pixels
from backprop.handlers.probabilities import ranked, sigmoid, softmax
from backprop.handlers.text_vectors import TextVectors
from backprop.handlers.vectors import finish, unit
from backprop.inputs import Row
from backprop.pictures import Picture

__all__ = ["ImageClasses", "ImageLabels", "ImageVectors", "look"]

MAX_IMAGES = 16
TINY = 1e-300
"""Keeps from dividing by nothing; the likeliest of unlikely labels still sum to 1."""

LabelScorer = Callable[[Array, Sequence[str]], Array]
"""Class probabilities (n, classes) and a caller's labels to (n, labels), each row summing to 1."""


def look(engine: Engine, function: str, pixels: Pixels, pictures: Sequence[Picture]) -> Array:
    """Return ``function`` of every picture, shape (len(pictures), width); at least one picture.

    Pictures are decoded while others are computed. Where the engine has a ``single``, which
    computes on one core, each core does both for pictures of its own.
    """
    single = engine.single if len(pictures) > AT_ONCE else None
    size = MAX_IMAGES if single is None else AT_ONCE
    batches = [pictures[i : i + size] for i in range(0, len(pictures), size)]
    if len(batches) == 1:
        return engine.run(function, pixel_values=pixels.arrays(pictures))
    for picture in pictures:
        picture.load()
    if single is not None:
        own = single
        with ThreadPoolExecutor(threads()) as pool:
            found = pool.map(lambda b: own.run(function, pixel_values=pixels.arrays(b)), batches)
            return np.concatenate(list(found))
    results = []
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(pixels.arrays, batches[0])
        for following in [*batches[1:], None]:
            arrays = coming.result()
            if following is not None:
                coming = pool.submit(pixels.arrays, following)
            results.append(engine.run(function, pixel_values=arrays))
    return np.concatenate(results)


AT_ONCE = 8
"""Pictures a core computes together."""


class ImageVectors:
    """Answers ``image-vectorisation``.

    Args:
        engine: has the function ``image_vectors``.
        pixels: the model's input rules.
        dimensions: length of a vector.
        normalise: whether vectors are scaled to L2 norm 1 unless the caller says otherwise.
    """

    def __init__(
        self, engine: Engine, pixels: Pixels, *, dimensions: int, normalise: bool = True
    ) -> None:
        self.engine = engine
        self.pixels = pixels
        self.dimensions = dimensions
        self.normalise = normalise

    def answer(self, rows: list[Row], options: dict[str, Any]) -> list[list[float]]:
        """Return one vector a row.

        Args:
            rows: each has ``image``.
            options: ``normalise``, ``dimensions``.
        """
        vectors = self.vectors([row["image"] for row in rows])
        return finish(vectors, options, normalise=self.normalise)

    def vectors(self, pictures: Sequence[Picture]) -> Array:
        """Return the pictures' vectors, shape (len(pictures), dimensions), float32, unscaled."""
        if not pictures:
            return np.zeros((0, self.dimensions), np.float32)
        return look(self.engine, "image_vectors", self.pixels, pictures)


class ImageClasses:
    """Answers ``image-classification`` with a model's own labels.

    Args:
        engine: has the function ``logits``.
        pixels: the model's input rules.
        labels: in the order of the model's outputs.
        multi_label: whether an image may have several labels (sigmoid) or one (softmax).
        scorer: carries the model's class probabilities to labels of the caller's choosing;
            without one only the model's own labels may be asked for.
    """

    def __init__(
        self,
        engine: Engine,
        pixels: Pixels,
        *,
        labels: Sequence[str],
        multi_label: bool = False,
        scorer: LabelScorer | None = None,
    ) -> None:
        self.engine = engine
        self.pixels = pixels
        self.labels = list(labels)
        self.multi_label = multi_label
        self.scorer = scorer

    def answer(self, rows: list[Row], options: dict[str, Any]) -> list[dict[str, float]]:
        """Return {label: probability} a row, highest first.

        Args:
            rows: each has ``image`` and perhaps ``labels``.
            options: ``top_k``.

        Raises:
            InputError: labels or a template the model can't use.
        """
        if "template" in options:
            raise InputError("template is for models that read text; this one sees images only.")
        if self.scorer is None:
            for row in rows:
                check_known(row.get("labels", ()), self.labels)
        if not rows:
            return []
        logits = look(self.engine, "logits", self.pixels, [row["image"] for row in rows])
        scores = sigmoid(logits) if self.multi_label else softmax(logits)
        answers: list[dict[str, float]] = [{}] * len(rows)
        for labels, alike in _by_labels(rows).items():
            own = self._for_labels(scores[alike], labels)
            for i, probabilities in zip(alike, own, strict=True):
                answers[i] = ranked(labels or self.labels, probabilities, options.get("top_k", 0))
        return answers

    def _for_labels(self, scores: Array, labels: Sequence[str]) -> Array:
        """Return the probabilities of ``labels``, shape (n, labels); none means the model's own."""
        if not labels:
            return scores
        if self.scorer is not None:
            return self.scorer(scores, labels)
        chosen: Array = scores[:, [self.labels.index(label) for label in labels]]
        return chosen if self.multi_label else chosen / np.maximum(chosen.sum(1)[:, None], TINY)


def _by_labels(rows: Sequence[Row]) -> dict[tuple[str, ...], list[int]]:
    """Return the numbers of the rows that ask for the same labels, by those labels."""
    groups: dict[tuple[str, ...], list[int]] = {}
    for i, row in enumerate(rows):
        groups.setdefault(tuple(row.get("labels", ())), []).append(i)
    return groups


class ImageLabels:
    """Answers ``image-classification`` with labels of the caller's, by image-text likeness.

    Args:
        images: the model's image side.
        texts: its text side.
        scale: what cosines are multiplied by.
        bias: added after; with sigmoid models.
        independent: whether the model was trained with a sigmoid a pair (SigLIP).
        template: sentence the label is put in.

    Source: CLIP, Radford et al. 2021, arXiv:2103.00020; SigLIP, Zhai et al. 2023,
        arXiv:2303.15343.
    """

    def __init__(
        self,
        images: ImageVectors,
        texts: TextVectors,
        *,
        scale: float,
        bias: float = 0.0,
        independent: bool = False,
        template: str = "a photo of {}.",
    ) -> None:
        self.images = images
        self.texts = texts
        self.scale = scale
        self.bias = bias
        self.independent = independent
        self.template = template

    def answer(self, rows: list[Row], options: dict[str, Any]) -> list[dict[str, float]]:
        """Return {label: probability} a row, highest first, summing to 1.

        Args:
            rows: each has ``image`` and ``labels``.
            options: ``top_k``, ``template``.

        Raises:
            InputError: a row has no labels.
        """
        if any("labels" not in row for row in rows):
            raise InputError(
                "This model classifies by labels you name and received none; pass labels=[…]."
            )
        template = options.get("template", self.template)
        labels = list(dict.fromkeys(label for row in rows for label in row["labels"]))
        sides = [template.replace("{}", label) for label in labels]
        directions = dict(zip(labels, unit(self.texts.vectors(sides)), strict=True))
        vectors = unit(self.images.vectors([row["image"] for row in rows]))
        answers = []
        for row, vector in zip(rows, vectors, strict=True):
            cosines = np.stack([directions[label] for label in row["labels"]]) @ vector
            answers.append(ranked(row["labels"], self._share(cosines), options.get("top_k", 0)))
        return answers

    def _share(self, cosines: Array) -> Array:
        scores = cosines * self.scale + self.bias
        if not self.independent:
            return softmax(scores)
        likely = sigmoid(scores)
        share: Array = likely / max(likely.sum(), TINY)
        return share
