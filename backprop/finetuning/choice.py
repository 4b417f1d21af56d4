"""Which of the methods suits a model, its data and the machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from backprop.errors import InputError
from backprop.finetuning.heads import solvable
from backprop.finetuning.objectives import Objective, moved
from backprop.finetuning.options import Options
from backprop.finetuning.recipes import planned_epochs, recipe_for

__all__ = ["Choice", "choose", "form_of"]

PATIENCE_S = 900
"""What ``auto`` may take on a CPU before it settles for the last layer alone."""

FLOPS_PER_CORE_S = 40e9
"""Multiply-adds count as two. Of full finetuning of MiniLM in float32 on an AVX2 core:
bench/finetune/speed.py. Estimates only choose a method, so a rough figure is enough."""

LARGE = 50_000_000
"""Weights from which factors are trained instead of the weights, on a CPU."""

LARGE_ON_GPU = 1_000_000_000

SAMPLED_ROWS = 8


@dataclass(frozen=True)
class Choice:
    """A method.

    Args:
        method: ``full``, ``lora`` or ``head``.
        why: one sentence; empty where the caller named it.
    """

    method: str
    why: str = ""


def choose(objective: Objective, rows: Sequence[int], options: Options) -> Choice:
    """Return the method to use: the caller's, or the best within its time.

    Full finetuning measured best wherever it can be afforded (``bench/finetune``); the last layer
    alone costs one look at each row; LoRA needs the least memory.

    Args:
        objective: what is learnt.
        rows: training rows.
        options: the caller's; the method ``auto`` leaves it open.

    Raises:
        InputError: ``head`` where there is no such layer.
    """
    method = options.method
    has_head = solvable(objective.model, objective.data.task) is not None
    if method == "head" and not has_head:
        raise InputError(
            f"method='head' needs a last linear layer of classes, with biases, which "
            f"{_name(objective)} does not have for {objective.data.task}; use method='full' or "
            "method='lora'."
        )
    if method != "auto":
        return Choice(method)
    weights = sum(parameter.numel() for parameter in objective.model.parameters())
    if objective.model.device.type != "cpu":
        if weights > LARGE_ON_GPU:
            return Choice("lora", f"{weights / 1e9:.1f} billion weights are many to train.")
        return Choice("full", "the model fits a GPU.")
    if not has_head:
        if weights > LARGE:
            return Choice("lora", f"{weights / 1e6:.0f} million weights are many for a CPU.")
        return Choice("full", "the model is small enough for a CPU.")
    passes = planned_epochs(objective.model, options, recipe_for(form_of(objective), "full"))
    seconds = 3 * _flops_of_a_row(objective, rows) * len(rows) * passes / _speed()
    if seconds > PATIENCE_S:
        return Choice(
            "head",
            f"all layers would take about {seconds / 60:.0f} minutes; pass method='full' for them.",
        )
    return Choice("full", f"{len(rows):,} rows take about {_minutes(seconds)} on this CPU.")


def form_of(objective: Objective) -> str:
    """Return the form of training, by which recipes go."""
    task = objective.data.task
    if task.endswith("vectorisation"):
        return "vectors"
    if task == "image-classification":
        return "images"
    if hasattr(objective.model, "writer"):
        return "written"
    return "spans" if task == "qa" else "classes"


def _flops_of_a_row(objective: Objective, rows: Sequence[int]) -> float:
    """Return the operations of one row's forward pass, the mean of some."""
    some = list(rows[:: max(1, len(rows) // SAMPLED_ROWS)])[:SAMPLED_ROWS]
    objective.model.eval()
    total = 0
    with torch.no_grad():
        for row in some:
            batch = moved(objective.batch([row]), objective.model.device)
            with FlopCounterMode(display=False) as counter:
                objective.model.training_step(objective.inputs(batch))
            total += counter.get_total_flops()
    return total / len(some)


def _speed() -> float:
    return FLOPS_PER_CORE_S * torch.get_num_threads()


def _minutes(seconds: float) -> str:
    return "a minute" if seconds < 90 else f"{seconds / 60:.0f} minutes"


def _name(objective: Objective) -> str:
    return objective.model.name or type(objective.model).__name__
