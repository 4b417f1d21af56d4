"""What validation looks at after each epoch, and training steps of the caller's own."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from backprop.errors import InputError
from backprop.finetuning.objectives import Objective, moved
from backprop.finetuning.options import Options
from backprop.models.hf import HFTextGenerationModel
from backprop.signatures import needed
from backprop.trainer.feeds import rows_in

__all__ = ["Validation", "user_step"]

ENOUGH_ROWS = 500
"""Validation rows from which shares of right answers are fine enough to tell epochs apart."""

ENOUGH_PAIRS = 30
"""The same for a correlation, which a few pairs leave to chance."""


class Validation:
    """Figures of the validation rows.

    Args:
        objective: what is learnt.
        rows: those kept aside.
        options: ``val_dataloader`` replaces the rows, ``step`` the loss.
    """

    def __init__(self, objective: Objective, rows: Sequence[int], options: Options) -> None:
        self.objective = objective
        self.rows = rows
        self.options = options
        self.step = user_step(options.step) if options.step is not None else objective.loss
        # Writing takes a second a row, so while training its loss has to do.
        written = isinstance(objective.model, HFTextGenerationModel)
        self.is_measured = bool(rows) and options.val_dataloader is None and not written
        self.monitor, self.maximise = "loss", False
        if self.is_measured and len(rows) >= self._enough():
            self.monitor, self.maximise = objective.main, True

    def _enough(self) -> int:
        """Return from how many rows on the task's figure tells epochs apart better than loss."""
        if self.objective.data.labels:
            return ENOUGH_ROWS
        return ENOUGH_PAIRS if self.objective.main == "spearman" else 1

    @property
    def is_possible(self) -> bool:
        """Whether there is anything to look at."""
        return bool(self.rows) or self.options.val_dataloader is not None

    def figures(self) -> dict[str, float]:
        """Return the mean loss, and the task's figures unless answers are long in coming."""
        self.objective.model.eval()
        self.objective.model.forget_handlers()
        figures = {"loss": self._loss()}
        if self.is_measured:
            figures.update(self.objective.measures(self.rows).values)
        return figures

    def is_worse(self, figures: Mapping[str, float], others: Mapping[str, float]) -> bool:
        """Return whether figures have a worse loss than others, and no better answers for it.

        A loss alone may be worse since answers, more of them right, are given more surely.
        """
        main = self.objective.main
        return figures["loss"] > others["loss"] and figures[main] <= others[main]

    def _loss(self) -> float:
        total, count = 0.0, 0
        with torch.inference_mode():
            for size, batch in self._batches():
                total += float(self.step(batch)) * size
                count += size
        if not count:
            raise InputError(
                "val_dataloader gave no batch; pass a DataLoader or list that has one, or a "
                "function that returns a new iterator."
            )
        return total / count

    def _batches(self) -> Any:
        loader = self.options.val_dataloader
        if loader is None:
            return ((len(own), batch) for own, batch in self.objective.batches(self.rows))
        made = loader() if callable(loader) else loader
        device = self.objective.model.device
        return ((rows_in(batch), moved(batch, device)) for batch in made)


def user_step(step: Callable[..., Any]) -> Callable[[Any], Tensor]:
    """Return the caller's own step, which takes a batch, or as in 2021 its number too.

    It returns the loss, or a dictionary with it. Batches are numbered from 0 in each process, so a
    step that uses the number goes on with other ones where a killed run is resumed.
    """
    numbered = needed(step) > 1
    numbers = itertools.count()

    def run(batch: Any) -> Tensor:
        result = step(batch, next(numbers)) if numbered else step(batch)
        loss = result.get("loss") if isinstance(result, Mapping) else result
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            raise InputError(
                "step must return the loss, a tensor of one number; received "
                f"{type(loss).__name__}."
            )
        return loss

    return run
