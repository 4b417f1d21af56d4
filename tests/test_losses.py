"""Losses against values worked out by hand, and the properties they must have."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from backprop.losses import (
    classification_loss,
    cosine_similarity_loss,
    ranking_loss,
    triplet_loss,
    writing_loss,
)

pytestmark = pytest.mark.usefixtures("one_thread")

SEEDS = st.integers(0, 2**32 - 1)
EAST, NORTH, WEST = [1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]


def directions(*degrees: float) -> Tensor:
    """Return unit vectors at these angles, shape (n, 2)."""
    angles = torch.tensor(degrees, dtype=torch.float64).deg2rad()
    return torch.stack([angles.cos(), angles.sin()], 1)


def squared(degrees: float) -> float:
    """Return the squared distance of two unit vectors so many degrees apart."""
    return 2 - 2 * math.cos(math.radians(degrees))


def numbers(seed: int, *shape: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


# --- pairs with a score --------------------------------------------------------------------------


def test_cosine_similarity_loss_is_the_mean_squared_difference() -> None:
    left, right = torch.tensor([EAST, EAST, EAST]), torch.tensor([NORTH, WEST, [3.0, 0.0]])
    # Cosines 0, -1 and 1.
    loss = cosine_similarity_loss(left, right, torch.tensor([0.5, -1, 0.8]))
    assert loss.item() == pytest.approx((0.25 + 0 + 0.04) / 3)


def test_cosine_similarity_loss_takes_whole_numbers_as_scores() -> None:
    loss = cosine_similarity_loss(torch.tensor([EAST]), torch.tensor([NORTH]), torch.tensor([1]))
    assert loss.item() == pytest.approx(1)


def test_ranking_loss_sums_over_the_pairs_whose_scores_differ() -> None:
    vectors = directions(0, 0, 0)
    others = directions(60, 90, 180)  # cosines 0.5, 0, -1
    # Second below first, and second below third; first and third have equal scores.
    loss = ranking_loss(vectors, others, torch.tensor([5.0, 1, 5]), scale=2)
    expected = math.log(1 + math.exp(2 * (0 - 0.5)) + math.exp(2 * (0 + 1)))
    assert loss.item() == pytest.approx(expected)


@pytest.mark.parametrize("scores", [[0.5], [0.5, 0.5, 0.5]])
def test_ranking_loss_of_nothing_to_rank_is_zero_and_differentiable(scores: list[float]) -> None:
    vectors = directions(*range(len(scores))).requires_grad_()
    loss = ranking_loss(vectors, directions(*[50] * len(scores)), torch.tensor(scores))
    torch.autograd.backward(loss)
    assert loss.item() == 0
    assert vectors.grad is not None
    assert not vectors.grad.any()


@given(SEEDS, st.integers(2, 9))
def test_ranking_loss_sees_only_the_order_of_scores(seed: int, rows: int) -> None:
    left, right, scores = numbers(seed, rows, 3), numbers(seed + 1, rows, 3), numbers(seed, rows)
    by_value = ranking_loss(left, right, scores)
    by_place = ranking_loss(left, right, scores.argsort().argsort())
    torch.testing.assert_close(by_value, by_place)


def test_ranking_loss_is_least_in_the_right_order() -> None:
    angles = (10, 50, 90, 130)
    orders = list(itertools.permutations([4.0, 3, 2, 1]))
    losses = [
        ranking_loss(directions(0, 0, 0, 0), directions(*angles), torch.tensor(order)).item()
        for order in orders
    ]
    assert min(zip(losses, orders, strict=True))[1] == (4, 3, 2, 1)


# --- triplets ------------------------------------------------------------------------------------


def test_triplets_take_the_nearest_stranger_beyond_the_fellow() -> None:
    # Anchor 0 and fellow 20 (and the other way round); strangers at 10 (hard), 30 and 90.
    vectors, groups = directions(0, 20, 10, 30, 90), torch.tensor([7, 7, 1, 2, 3])
    near = squared(20)
    # From 0 the stranger is at 30; from 20 it is at 90, since 10 and 30 are nearer than 0 is.
    expected = [max(near - squared(30) + 0.2, 0), max(near - squared(70) + 0.2, 0)]
    loss = triplet_loss(vectors, groups, margin=0.2)
    assert loss.item() == pytest.approx(sum(expected) / 2)
    assert loss.item() > 0


def test_triplets_without_a_stranger_beyond_take_the_farthest() -> None:
    vectors, groups = directions(0, 90, 10, 30), torch.tensor([0, 0, 1, 2])
    # From 0 the farthest stranger is 30 away; from 90 it is 80 away.
    expected = [squared(90) - squared(30) + 0.2, squared(90) - squared(80) + 0.2]
    assert triplet_loss(vectors, groups).item() == pytest.approx(sum(expected) / 2)


def test_triplets_count_every_pair_of_a_group_both_ways() -> None:
    vectors, groups = directions(0, 5, 40, 180), torch.tensor([0, 0, 0, 1])
    expected = [
        max(squared(abs(a - b)) - squared(180 - a) + 1.9, 0)
        for a, b in itertools.permutations((0, 5, 40), 2)
    ]
    assert triplet_loss(vectors, groups, margin=1.9).item() == pytest.approx(np.mean(expected))


@pytest.mark.parametrize("groups", [[0, 1, 2], [4, 4, 4], [0]])
def test_triplets_need_a_fellow_and_a_stranger(groups: list[int]) -> None:
    vectors = directions(*range(len(groups))).requires_grad_()
    loss = triplet_loss(vectors, torch.tensor(groups))
    torch.autograd.backward(loss)
    assert loss.item() == 0
    assert vectors.grad is not None
    assert not vectors.grad.any()


def by_loops(vectors: Tensor, groups: Tensor, margin: float) -> float:
    """Return the same loss as the definition says it, pair by pair."""
    unit = vectors / vectors.norm(dim=1, keepdim=True)
    losses = []
    for anchor, fellow in itertools.permutations(range(len(groups)), 2):
        if groups[anchor] != groups[fellow]:
            continue
        near = (unit[anchor] - unit[fellow]).square().sum().item()
        far = [
            (unit[anchor] - unit[other]).square().sum().item()
            for other in range(len(groups))
            if groups[other] != groups[anchor]
        ]
        if far:
            stranger = min((d for d in far if d > near), default=max(far))
            losses.append(max(near - stranger + margin, 0))
    return sum(losses) / len(losses) if losses else 0.0


@given(SEEDS, st.integers(1, 12), st.integers(1, 4), st.floats(0.01, 3))
def test_triplets_equal_their_definition(seed: int, rows: int, kinds: int, margin: float) -> None:
    vectors = numbers(seed, rows, 5)
    groups = torch.from_numpy(np.random.default_rng(seed).integers(kinds, size=rows))
    assert triplet_loss(vectors, groups, margin).item() == pytest.approx(
        by_loops(vectors, groups, margin), abs=1e-9
    )


# --- all that take vectors -----------------------------------------------------------------------

SCORES = torch.tensor([0.9, 0.1, 0.5, 0.3], dtype=torch.float64)
GROUPS = torch.tensor([0, 1, 0, 1])
LOSSES: dict[str, Callable[[Tensor], Tensor]] = {
    "cosine": lambda vectors: cosine_similarity_loss(vectors, numbers(9, 4, 3), SCORES),
    "ranking": lambda vectors: ranking_loss(vectors, numbers(9, 4, 3), SCORES),
    "triplet": lambda vectors: triplet_loss(vectors, GROUPS, margin=2.0),
}


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_are_those_of_the_loss(name: str) -> None:
    assert torch.autograd.gradcheck(LOSSES[name], numbers(3, 4, 3).requires_grad_())


@pytest.mark.parametrize("name", LOSSES)
def test_only_the_direction_of_a_vector_counts(name: str) -> None:
    vectors = numbers(4, 4, 3)
    longer = vectors * torch.tensor([[0.1], [1], [7], [30]], dtype=torch.float64)
    torch.testing.assert_close(LOSSES[name](longer), LOSSES[name](vectors))


@pytest.mark.parametrize("name", LOSSES)
def test_equal_and_zero_vectors_give_finite_gradients(name: str) -> None:
    vectors = torch.zeros(4, 3, dtype=torch.float64)
    vectors[:2] = 1
    vectors.requires_grad_()
    torch.autograd.backward(LOSSES[name](vectors))
    assert vectors.grad is not None
    assert vectors.grad.isfinite().all()


# --- classes -------------------------------------------------------------------------------------


def test_classification_loss_is_the_mean_surprise() -> None:
    logits = torch.tensor([[0.0, math.log(3)], [0, 0]])
    loss = classification_loss(logits, torch.tensor([1, 0]), multi_label=False)
    assert loss.item() == pytest.approx((-math.log(3 / 4) - math.log(1 / 2)) / 2)


def test_class_weights_make_rows_of_a_class_count_more() -> None:
    logits, weights = torch.tensor([[0.0, math.log(3)], [0, 0]]), torch.tensor([1.0, 3.0])
    loss = classification_loss(
        logits, torch.tensor([1, 0]), multi_label=False, class_weights=weights
    )
    assert loss.item() == pytest.approx((-3 * math.log(3 / 4) - math.log(1 / 2)) / 2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.int64, torch.bool])
def test_several_labels_are_each_judged_by_themselves(dtype: torch.dtype) -> None:
    logits = torch.tensor([[0.0, math.log(3)]])
    loss = classification_loss(logits, torch.tensor([[1, 0]], dtype=dtype), multi_label=True)
    assert loss.item() == pytest.approx((-math.log(1 / 2) - math.log(1 / 4)) / 2)


def test_class_weights_of_several_labels_count_for_rows_that_have_them() -> None:
    logits, weights = torch.tensor([[0.0, math.log(3)]]), torch.tensor([5.0, 7.0])
    loss = classification_loss(
        logits, torch.tensor([[1, 0]]), multi_label=True, class_weights=weights
    )
    assert loss.item() == pytest.approx((-5 * math.log(1 / 2) - math.log(1 / 4)) / 2)


# --- texts ---------------------------------------------------------------------------------------


def test_writing_loss_is_the_mean_over_rows_of_the_mean_over_their_tokens() -> None:
    surprise = {token: -math.log(chance) for token, chance in enumerate((0.5, 0.25, 0.25))}
    logits = torch.tensor([0.5, 0.25, 0.25]).log().expand(3, 4, 3)
    labels = torch.tensor([[0, 0, 1, 1], [-100, -100, 2, -100], [-100] * 4])
    rows = [surprise[0] / 2 + surprise[1] / 2, surprise[2], 0]
    assert writing_loss(logits, labels).item() == pytest.approx(sum(rows) / 3)


@given(seed=SEEDS, cut=st.integers(1, 4))
def test_writing_losses_of_parts_add_up_by_their_rows(seed: int, cut: int) -> None:
    logits = numbers(seed, 5, 6, 7)
    labels = torch.from_numpy(np.random.default_rng(seed).integers(0, 7, (5, 6)))
    labels[numbers(seed + 1, 5, 6) > 0.5] = -100
    parts = [(logits[:cut], labels[:cut]), (logits[cut:], labels[cut:])]
    whole = sum(writing_loss(*part).item() * len(part[0]) for part in parts) / 5
    assert writing_loss(logits, labels).item() == pytest.approx(whole, rel=1e-5)
