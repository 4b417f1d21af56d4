"""What a training run did, epoch by epoch, and how far one under way has come."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

__all__ = ["Epoch", "History", "Position", "Stopped", "is_better"]

Stopped = Literal["epochs", "early", "interrupted"]


@dataclass(frozen=True)
class Epoch:
    """One pass over the rows.

    Args:
        number: from 1.
        loss: mean over the rows, each as it was when its turn came.
        metrics: what validation found after it.
        seconds: of training and validation together.
        rows_per_s: rows a second, of training alone.
        learning_rate: of its last step.
    """

    number: int
    loss: float
    metrics: dict[str, float]
    seconds: float
    rows_per_s: float
    learning_rate: float


@dataclass(frozen=True)
class History:
    """What a training run did; ``dataclasses.asdict`` makes it JSON.

    Args:
        epochs: those that ended, in order.
        best_epoch: number of the one whose weights the model has now; 0 where none ended.
        stopped: after all ``"epochs"``, ``"early"`` for want of improvement, or ``"interrupted"``.
        batch_size: rows of one forward pass, at most.
        rows_per_step: rows of one optimiser step.
        seconds: of all of it, over every process that a checkpoint joins.
    """

    epochs: list[Epoch]
    best_epoch: int
    stopped: Stopped
    batch_size: int
    rows_per_step: int
    seconds: float


@dataclass
class Position:
    """How far a run has come: what its checkpoint holds beside tensors.

    Args:
        steps: optimiser steps done in all.
        step: those of the epoch under way.
        rows: rows seen in that epoch.
        loss: sum of their losses.
        training_s: seconds spent on them.
        seconds: seconds of the whole run up to the last step or epoch.
        batch_size: rows of one forward pass; 0 before it is chosen.
        best_epoch: number of the best epoch; 0 where none has ended.
        finished: why the run ended; None while it is under way.
        epochs: those that ended.
    """

    steps: int = 0
    step: int = 0
    rows: int = 0
    loss: float = 0.0
    training_s: float = 0.0
    seconds: float = 0.0
    batch_size: int = 0
    best_epoch: int = 0
    finished: Stopped | None = None
    epochs: list[Epoch] = field(default_factory=list)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Position:
        """Return the position that ``dataclasses.asdict`` wrote."""
        epochs = [Epoch(**each) for each in content["epochs"]]
        return cls(**{**content, "epochs": epochs})

    def to_json(self) -> dict[str, Any]:
        """Return what ``from_json`` reads."""
        return asdict(self)

    def end_epoch(self, metrics: dict[str, float], learning_rate: float, seconds: float) -> Epoch:
        """Return the epoch now ended, kept here too, and stand before the next."""
        ended = Epoch(
            number=len(self.epochs) + 1,
            loss=self.loss / max(self.rows, 1),
            metrics=metrics,
            seconds=self.training_s + seconds,
            rows_per_s=self.rows / max(self.training_s, 1e-9),
            learning_rate=learning_rate,
        )
        self.epochs.append(ended)
        self.step, self.rows, self.loss, self.training_s = 0, 0, 0.0, 0.0
        return ended

    def ended(self, epochs: int, patience: int, least: int = 0) -> Stopped | None:
        """Return why there is no further epoch; None where there is one.

        Args:
            epochs: how many there are at most.
            patience: epochs without improvement that are enough; 0 is never enough.
            least: epochs there are in any case.
        """
        if len(self.epochs) >= epochs:
            return "epochs"
        waited = len(self.epochs) - self.best_epoch
        is_enough = patience and waited >= patience and len(self.epochs) >= least
        return "early" if is_enough else None

    def history(self, stopped: Stopped, rows_per_step: int) -> History:
        """Return what the caller of the run gets."""
        return History(
            epochs=list(self.epochs),
            best_epoch=self.best_epoch,
            stopped=stopped,
            batch_size=self.batch_size,
            rows_per_step=rows_per_step,
            seconds=self.seconds,
        )


def is_better(value: float, best: float | None, *, maximise: bool) -> bool:
    """Return whether ``value`` beats the best so far; a number beats none, and beats NaN."""
    if best is None or math.isnan(best):
        return best is None or not math.isnan(value)
    return value > best if maximise else value < best
