"""A model put back as it was, where finetuning fails before it has trained anything."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from backprop.models.base import BaseModel

__all__ = ["put_back_on_error"]

logger = logging.getLogger(__name__)

UNCOPIED = (AttributeError, NotImplementedError, RuntimeError, TypeError, ValueError)
"""What copying an object with, say, a lock or an open file in it raises."""


@contextmanager
def put_back_on_error(model: BaseModel) -> Iterator[None]:
    """Give the model its layers, labels and settings of before if the block fails.

    Weights are not copied, so the block may put other layers in place of some, and must not change
    the weights that there were.
    """
    kept = _without_weights(model)
    try:
        yield
    except BaseException:
        if kept is not None:
            vars(model).clear()
            vars(model).update(kept)
        raise


def _without_weights(model: BaseModel) -> dict[str, Any] | None:
    """Return a deep copy of a model's attributes that has the very tensors of the model."""
    model.forget_handlers()
    shared = [*model.parameters(), *model.buffers()]
    tokenizer = getattr(model, "tokenizer", None)
    memo: dict[int, Any] = {id(each): each for each in (*shared, tokenizer)}
    try:
        return copy.deepcopy(vars(model), memo)
    except UNCOPIED as error:
        logger.debug("%s can't be put back if this fails: %s", type(model).__name__, error)
        return None
