"""A model put back as it was, where finetuning fails before it has trained anything."""

from __future__ import annotations

import copy
import logging
from types import TracebackType
from typing import Any

import torch
from torch import nn

from backprop.models.base import BaseModel

__all__ = ["PutBack"]

logger = logging.getLogger(__name__)

UNCOPIED = (AttributeError, NotImplementedError, RuntimeError, TypeError, ValueError)
"""What copying an object with, say, a lock or an open file in it raises."""


class PutBack:
    """A block after whose failure the model has its layers, labels and settings of before.

    Weights are not copied but for those of one layer, so the block may put other layers in place of
    some, and must call ``keep`` before it changes other weights.

    Args:
        model: what is put back.
        layer: whose weights the block may change.
    """

    def __init__(self, model: BaseModel, layer: nn.Module | None) -> None:
        self.model = model
        self.wanted = True
        own = layer.parameters() if layer is not None else ()
        self._copies = [(each, each.detach().clone()) for each in own]
        self._before = _without_weights(model)

    def keep(self) -> None:
        """Leave the model as it is from here on, whatever happens."""
        self.wanted = False

    def __enter__(self) -> PutBack:
        """Begin."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Put the model back if the block failed."""
        if error is None or not self.wanted or self._before is None:
            return
        vars(self.model).clear()
        vars(self.model).update(self._before)
        with torch.no_grad():
            for weights, before in self._copies:
                weights.copy_(before)


def _without_weights(model: BaseModel) -> dict[str, Any] | None:
    """Return a deep copy of a model's attributes that has the very tensors of the model.

    None where something in it can't be copied.
    """
    model.forget_handlers()
    shared = [*model.parameters(), *model.buffers()]
    tokenizer = getattr(model, "tokenizer", None)
    # The model too, for what refers to it, such as a bound method, must go on doing so.
    memo: dict[int, Any] = {id(each): each for each in (*shared, tokenizer, model)}
    try:
        return copy.deepcopy(vars(model), memo)
    except UNCOPIED as error:
        logger.debug("%s can't be put back if this fails: %s", type(model).__name__, error)
        return None
