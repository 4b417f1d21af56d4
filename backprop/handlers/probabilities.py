"""Scores to probabilities, probabilities to the answer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from backprop.engines import Array

__all__ = ["ranked", "sigmoid", "softmax"]


def softmax(scores: Array) -> Array:
    """Return probabilities that sum to 1 along the last axis, float64."""
    exact = np.asarray(scores, np.float64)
    powers = np.exp(exact - exact.max(axis=-1, keepdims=True))
    result: Array = powers / powers.sum(axis=-1, keepdims=True)
    return result


def sigmoid(scores: Array) -> Array:
    """Return an independent probability for each score, float64."""
    exact = np.clip(np.asarray(scores, np.float64), -500, 500)
    result: Array = 1 / (1 + np.exp(-1 * exact))
    return result


def ranked(labels: Sequence[str], probabilities: Array, top_k: int = 0) -> dict[str, float]:
    """Return {label: probability}, highest first, ties in the order of ``labels``.

    Args:
        labels: one a probability.
        probabilities: shape (len(labels),).
        top_k: how many to return; 0 returns all.
    """
    order = np.argsort(-np.asarray(probabilities), kind="stable")
    kept = order[:top_k] if top_k else order
    return {labels[i]: float(probabilities[i]) for i in kept}
