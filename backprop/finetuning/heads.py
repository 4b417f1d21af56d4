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

__all__ = [
    "MANY_ROWS",
    "Cached",
    "Head",
    "answering_quickly",
    "cache",
    "logits_of",
    "solvable",
    "solve",
]

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
    remembered = _Remembered(before)
    for own, batch in objective.batches(list(place)):
        found = remembered.inputs(_arrays(batch))
        inputs[[place[row] for row in own]] = torch.from_numpy(found)
    remembered.keep()


def _arrays(batch: Any) -> dict[str, NDArray[Any]]:
    return {name: batch[name].numpy() for name in TEXT_INPUTS if name in batch}


class _Remembered:
    """What reaches a last layer: read from disk where it is known, else computed.

    Args:
        before: computes it.
    """

    def __init__(self, before: BeforeLast) -> None:
        self._engine = before.engine
        self._frozen = Frozen(before.identity)
        self._known = self._frozen.read()
        self._new: dict[bytes, Array] = {}

    def inputs(self, arrays: dict[str, NDArray[Any]]) -> Array:
        """Return it for one padded batch, shape (rows, width)."""
        keys = keys_of(arrays)
        missing = [i for i, key in enumerate(keys) if key not in self._known]
        if missing:
            some = {name: array[missing] for name, array in arrays.items()}
            vectors = self._engine.run("inputs", **some)
            fresh = dict(zip([keys[i] for i in missing], vectors, strict=True))
            self._known.update(fresh)
            self._new.update(fresh)
        return np.stack([self._known[key] for key in keys])

    def keep(self) -> None:
        """Write what is new to disk."""
        if self._new:
            self._frozen.add(list(self._new), np.stack(list(self._new.values())))


class _Quick:
    """An engine whose ``logits`` are a last layer on what is remembered.

    Args:
        before: computes what reaches the layer.
        layer: the last one.
    """

    single = None

    def __init__(self, before: BeforeLast, layer: nn.Linear) -> None:
        self.batch_tokens = before.engine.batch_tokens
        self._remembered = _Remembered(before)
        self._weight = layer.weight.detach().cpu().numpy()
        self._bias = layer.bias.detach().cpu().numpy()

    def run(self, function: str, **arrays: NDArray[Any]) -> Array:
        """Return the logits of one padded batch."""
        found: Array = self._remembered.inputs(arrays) @ self._weight.T + self._bias
        return found


@contextmanager
def answering_quickly(model: BaseModel, task: str, layer: nn.Linear) -> Iterator[None]:
    """Let the model answer from the vectors that its last layer was solved on, in this block.

    Texts that are not among them are computed by a fast engine; where there is none, by torch.
    """
    before = before_last(model, task, layer)
    handler: Any = model.torch_handler(task)
    if before is None:
        yield
        return
    engine, handler.engine = handler.engine, _Quick(before, layer)
    try:
        yield
    finally:
        handler.engine = engine


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
    start: Head | None = None,
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
        start: where the first starts from; by default all weights are 0.

    Source: multinomial and one-vs-rest logistic regression with an L2 penalty; L-BFGS, Liu and
    Nocedal 1989.
    """
    centre = train.inputs.mean(0)
    scale = (train.inputs - centre).square().sum(1).mean().sqrt().clamp_min(1e-12)
    inputs = (train.inputs - centre) / scale
    if start is None:
        weight, bias = torch.zeros(classes, inputs.shape[1]), torch.zeros(classes)
    else:
        weight, bias = start.weight * scale, start.bias + start.weight @ centre
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
