"""From which probability on a label counts as present, where rows may have several."""

from __future__ import annotations

import torch
from torch import nn

from backprop.finetuning.heads import Cached
from backprop.metrics import thresholds

__all__ = ["best_thresholds"]

LEAST = 0.01


def best_thresholds(layer: nn.Linear, cached: Cached) -> list[float]:
    """Return the probability from which on each label counts as present for the best F1.

    Args:
        layer: the last one, whose outputs are logits.
        cached: what reaches it for the rows to choose by.
    """
    with torch.no_grad():
        chances = torch.sigmoid(layer(cached.inputs.to(layer.weight)).float().cpu())
    found = thresholds(chances.numpy(), cached.targets.numpy())
    return [min(max(value, LEAST), 1 - LEAST) for value in found]
