"""What finetuning makes small: losses of vectors, of classes and of text."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from backprop.collate import IGNORED

__all__ = [
    "classification_loss",
    "cosine_similarity_loss",
    "ranking_loss",
    "triplet_loss",
    "writing_loss",
]

MARGIN = 0.2
"""How much farther a stranger should be, in squared distance; Schroff et al. 2015."""

SCALE = 20.0
"""What cosines are multiplied by before they are ranked; Su 2022."""


def cosine_similarity_loss(vectors1: Tensor, vectors2: Tensor, scores: Tensor) -> Tensor:
    """Return the mean squared difference between cosine and score, a scalar.

    Args:
        vectors1: shape (n, dim).
        vectors2: shape (n, dim).
        scores: shape (n,), what each pair's cosine should be.
    """
    cosines = functional.cosine_similarity(vectors1, vectors2)
    return functional.mse_loss(cosines, scores.to(cosines))


def ranking_loss(
    vectors1: Tensor, vectors2: Tensor, scores: Tensor, scale: float = SCALE
) -> Tensor:
    """Return how far cosines are from the order of the scores, a scalar of 0 or more.

    log(1 + sum of exp(scale * (cosine of i - cosine of j))) over all i, j where the score of i is
    below that of j: pairs in the right order cost next to nothing, whatever the values.

    Args:
        vectors1: shape (n, dim).
        vectors2: shape (n, dim).
        scores: shape (n,); only their order counts.
        scale: higher makes pairs nearly in order cost less.

    Source: CoSENT, Su 2022, https://kexue.fm/archives/8847.
    """
    cosines = functional.cosine_similarity(vectors1, vectors2) * scale
    below = scores[:, None] < scores[None, :]
    gaps = (cosines[:, None] - cosines[None, :])[below]
    return torch.cat([gaps.new_zeros(1), gaps]).logsumexp(0)


def triplet_loss(vectors: Tensor, groups: Tensor, margin: float = MARGIN) -> Tensor:
    """Return the mean loss over all pairs of a group in the batch, a scalar.

    Of each pair, an anchor and its fellow, the loss is what their squared distance, plus
    ``margin``, is more than that of the anchor and a stranger. The stranger is the nearest of
    those farther away than the fellow (semi-hard), or, where none is, the farthest. Vectors are
    scaled to norm 1 first, so a squared distance is 2 - 2 * cosine.

    Args:
        vectors: shape (n, dim).
        groups: shape (n,), a number each; equal numbers belong together.
        margin: between 0 and 4.

    Returns:
        0, still differentiable, where no row has both a fellow and a stranger.

    Source: Schroff et al. 2015, arXiv:1503.03832.
    """
    # Next to 1, numbers of 16 bits can't tell one cosine from another.
    with torch.autocast(vectors.device.type, enabled=False):
        return _triplets(vectors.float() if vectors.itemsize < 4 else vectors, groups, margin)


def _triplets(vectors: Tensor, groups: Tensor, margin: float) -> Tensor:
    directions = functional.normalize(vectors)
    distances = 2 - 2 * directions @ directions.T
    alike = groups[:, None] == groups[None, :]
    fellows = alike & ~torch.eye(len(groups), dtype=torch.bool, device=alike.device)
    fellows = fellows & ~alike.all(1, keepdim=True)
    anchors, others = fellows.nonzero(as_tuple=True)
    if not len(anchors):
        return vectors.sum() * 0
    near = distances[anchors, others]
    losses = functional.relu(near - _strangers(distances[anchors], alike[anchors], near) + margin)
    return losses.mean()


def _strangers(distances: Tensor, alike: Tensor, near: Tensor) -> Tensor:
    """Return each anchor's distance to the stranger it is compared with, shape (pairs,).

    Args:
        distances: from the anchor of each pair to every row, shape (pairs, n).
        alike: whether that row is of the anchor's group.
        near: from the anchor to its fellow, shape (pairs,).
    """
    farther = ~alike & (distances > near[:, None])
    nearest = distances.masked_fill(~farther, torch.inf).amin(1)
    farthest = distances.masked_fill(alike, -torch.inf).amax(1)
    return torch.where(farther.any(1), nearest, farthest)


def classification_loss(
    logits: Tensor, targets: Tensor, *, multi_label: bool, class_weights: Tensor | None = None
) -> Tensor:
    """Return the mean cross-entropy, a scalar.

    Args:
        logits: shape (n, classes).
        targets: shape (n,), the number of each row's class; with ``multi_label`` shape
            (n, classes), 1 where a row has the label, else 0.
        multi_label: whether each label is judged by itself.
        class_weights: shape (classes,). What a row of each class counts for; with
            ``multi_label``, what a row with the label counts for beside one without. The mean is
            over rows, not weights, so that batches add up whatever classes they have.
    """
    if multi_label:
        return functional.binary_cross_entropy_with_logits(
            logits, targets.to(logits), pos_weight=class_weights
        )
    losses = functional.cross_entropy(
        logits, targets.long(), weight=class_weights, reduction="none"
    )
    return losses.mean()


def writing_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the mean over rows of the mean cross-entropy of a row's tokens, a scalar.

    Every row counts the same, however long, so the losses of parts of a batch add up to that of
    the whole by their rows; a mean over all tokens would weigh a part's few tokens as many.

    Args:
        logits: shape (n, length, vocabulary).
        labels: shape (n, length), the token each place should say; -100 where none is learnt.
    """
    losses = functional.cross_entropy(
        logits.flatten(0, 1).float(), labels.flatten(), ignore_index=IGNORED, reduction="none"
    )
    counts = (labels != IGNORED).sum(1).clamp(min=1)
    return (losses.view_as(labels).sum(1) / counts).mean()
