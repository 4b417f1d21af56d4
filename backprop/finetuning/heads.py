"""The last layer alone: solved for on cached inputs, in seconds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from backprop.engines import Array
from backprop.finetuning.frozen import Frozen, keys_of
from backprop.finetuning.objectives import Objective
from backprop.losses import classification_loss
from backprop.models.base import BaseModel
from backprop.models.fast import BeforeLast, before_last
from backprop.models.hf import TEXT_INPUTS

__all__ = ["Cached", "Head", "cache", "logits_of", "solvable", "solve"]

STRENGTHS = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
"""Inverse strengths of the penalty that are tried, as scikit-learn's C."""

DEFAULT_STRENGTH = 30.0
"""Where no rows are kept aside to choose by."""

MAX_STEPS = 100

MANY_ROWS = 500
"""Rows from which a fast engine gains more than loading it costs."""


@dataclass(frozen=True)
class Cached:
    """What reaches the last layer.

    Args:
        inputs: shape (rows, width).
        targets: what ``classification_loss`` takes.
    """

    inputs: Tensor
    targets: Tensor

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.inputs)

    def joined(self, other: Cached) -> Cached:
        """Return these rows and the others."""
        return Cached(
            torch.cat([self.inputs, other.inputs]), torch.cat([self.targets, other.targets])
        )


@dataclass(frozen=True)
class Head:
    """Weights of a last layer.

    Args:
        weight: shape (classes, width).
        bias: shape (classes,).
        strength: inverse strength of the penalty they were found with.
        loss: mean loss on the rows kept aside; None where there were none.
        passes: how often the solver went over all cached rows.
    """

    weight: Tensor
    bias: Tensor
    strength: float
    loss: float | None = None
    passes: int = 0

    def shifted(self, thresholds: Iterable[float]) -> Head:
        """Return the head with its biases moved so that these probabilities become a half."""
        return replace(self, bias=self.bias - logits_of(thresholds))

    def put(self, layer: nn.Linear) -> None:
        """Make these the weights of ``layer``."""
        with torch.no_grad():
            layer.weight.copy_(self.weight)
            layer.bias.copy_(self.bias)


def logits_of(probabilities: Iterable[float]) -> Tensor:
    """Return the numbers whose sigmoids are ``probabilities``."""
    return torch.tensor([math.log(each / (1 - each)) for each in probabilities])


def solvable(model: BaseModel, task: str) -> nn.Linear | None:
    """Return the last layer, if there is one that can be solved for: it needs biases."""
    layer = model.head(task)
    return None if layer is None or layer.bias is None else layer


def cache(objective: Objective, layer: nn.Linear, rows: Sequence[int]) -> Cached:
    """Return what reaches ``layer`` for each of ``rows``, in their order.

    The model is run once, without dropout, augmentation or gradients; of many texts by a fast
    engine, where one gives the same, and only those that were not encoded before.
    """
    place = {row: i for i, row in enumerate(rows)}
    inputs = torch.empty(len(rows), layer.in_features)
    objective.model.eval()
    model, task = objective.model, objective.data.task
    engine = before_last(model, task, layer) if len(rows) >= MANY_ROWS else None
    if engine is not None:
        _encode(engine, objective, place, inputs)
        return Cached(inputs, objective.class_targets(rows))
    with _listening(layer) as heard, torch.inference_mode():
        for own, batch in objective.batches(rows):
            heard.clear()
            objective.model.training_step(objective.inputs(batch))
            inputs[[place[row] for row in own]] = torch.cat(heard).float().cpu()
    return Cached(inputs, objective.class_targets(rows))


def _encode(
    before: BeforeLast, objective: Objective, place: Mapping[int, int], inputs: Tensor
) -> None:
    """Fill ``inputs`` from what is kept on disk, and by the engine.

    Args:
        before: computes the inputs.
        objective: knows the rows.
        place: each row to where its inputs go.
        inputs: shape (rows, width).
    """
    frozen = Frozen(before.identity)
    known = frozen.read()
    new: dict[bytes, Array] = {}
    for own, batch in objective.batches(list(place)):
        arrays = _arrays(batch)
        keys = keys_of(arrays)
        missing = [i for i, key in enumerate(keys) if key not in known]
        if missing:
            some = {name: array[missing] for name, array in arrays.items()}
            vectors = before.engine.run("inputs", **some)
            fresh = dict(zip([keys[i] for i in missing], vectors, strict=True))
            known.update(fresh)
            new.update(fresh)
        found = np.stack([known[key] for key in keys])
        inputs[[place[row] for row in own]] = torch.from_numpy(found)
    if new:
        frozen.add(list(new), np.stack(list(new.values())))


def _arrays(batch: Any) -> dict[str, NDArray[Any]]:
    return {name: batch[name].numpy() for name in TEXT_INPUTS if name in batch}


@contextmanager
def _listening(layer: nn.Linear) -> Iterator[list[Tensor]]:
    heard: list[Tensor] = []
    hook = layer.register_forward_pre_hook(lambda _, given: heard.append(given[0].detach()))
    try:
        yield heard
    finally:
        hook.remove()


def solve(
    train: Cached,
    valid: Cached | None,
    *,
    classes: int,
    multi_label: bool,
    class_weights: Tensor | None = None,
    strengths: Sequence[float] = STRENGTHS,
) -> Head:
    """Return the weights of the least penalised mean loss, a convex problem.

    The penalty that loses least on ``valid`` is kept. Inputs are centred and scaled to a mean
    squared norm of 1 while solving, so that one range of penalties fits all models.

    Args:
        train: rows to learn from.
        valid: rows to choose the penalty by.
        classes: how many there are.
        multi_label: whether each label is judged by itself.
        class_weights: shape (classes,).
        strengths: tried in ascending order, each starting from the one before.

    Source: multinomial and one-vs-rest logistic regression with an L2 penalty; L-BFGS, Liu and
    Nocedal 1989.
    """
    centre = train.inputs.mean(0)
    scale = (train.inputs - centre).square().sum(1).mean().sqrt().clamp_min(1e-12)
    inputs = (train.inputs - centre) / scale
    weight = torch.zeros(classes, inputs.shape[1])
    bias = torch.zeros(classes)
    best: Head | None = None
    passes = 0
    if valid is None and len(strengths) > 1:
        strengths = (DEFAULT_STRENGTH,)
    for strength in strengths:
        penalty = 1 / (2 * strength * len(train))
        weight, bias, more = _minimise(
            inputs, train.targets, weight, bias, penalty, multi_label, class_weights
        )
        own, passes = weight / scale, passes + more
        found = Head(own, bias - own @ centre, strength, passes=passes)
        if valid is None:
            return found
        logits = valid.inputs @ found.weight.T + found.bias
        loss = float(classification_loss(logits, valid.targets, multi_label=multi_label))
        if best is not None and best.loss is not None and loss > best.loss:
            break
        best = replace(found, loss=loss)
    assert best is not None
    return replace(best, passes=passes)


def _minimise(
    inputs: Tensor,
    targets: Tensor,
    weight: Tensor,
    bias: Tensor,
    penalty: float,
    multi_label: bool,
    class_weights: Tensor | None,
) -> tuple[Tensor, Tensor, int]:
    """Return weight, bias, and how often all rows were looked at."""
    weight = weight.clone().requires_grad_()
    bias = bias.clone().requires_grad_()
    solver: Any = torch.optim.LBFGS(
        [weight, bias], max_iter=MAX_STEPS, history_size=10, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        solver.zero_grad()
        logits = inputs @ weight.T + bias
        loss = classification_loss(
            logits, targets, multi_label=multi_label, class_weights=class_weights
        )
        if multi_label:
            loss = loss * len(bias)  # a sum over labels, each as strong as it would be alone
        total = loss + penalty * weight.square().sum()
        total.backward()  # type: ignore[no-untyped-call]
        return total

    solver.step(closure)
    passes = int(solver.state[weight]["func_evals"])
    return weight.detach(), bias.detach(), passes
