"""How a training run goes: every number the caller may choose."""

from __future__ import annotations

import math
import numbers
from dataclasses import dataclass
from pathlib import Path

from backprop.errors import InputError

__all__ = ["DEFAULT_ROWS", "SCHEDULES", "Settings"]

DEFAULT_ROWS = 32
"""Rows of an optimiser step where the caller names none."""

SCHEDULES = ("linear", "cosine", "constant")

AT_LEAST = {
    "epochs": 1,
    "batch_size": 1,
    "optimal_batch_size": 1,
    "early_stopping_epochs": 0,
    "learning_rate": 0,
    "weight_decay": 0,
    "warmup": 0,
    "least_epochs": 0,
    "max_grad_norm": 0,
    "seed": 0,
    "checkpoint_every_s": 0,
}
"""Setting to the least it may be."""

WHOLE = {
    *("epochs", "batch_size", "optimal_batch_size", "early_stopping_epochs", "least_epochs"),
    "seed",
}


@dataclass(frozen=True)
class Settings:
    """How a training run goes.

    Args:
        epochs: how often each row is seen, at most.
        batch_size: rows of one forward pass; None finds what fits in memory.
        optimal_batch_size: rows of an optimiser step, gathered over several passes; None is
            ``batch_size``, or 32 without one. Never less than ``batch_size``.
        early_stopping_epochs: epochs without improvement after which it stops; 0 never stops.
        learning_rate: the peak of the schedule.
        weight_decay: of AdamW, on matrices alone: biases and norms have none.
        warmup: share of these steps over which the rate rises to its peak, 0 to 1.
        schedule: how it falls afterwards: ``"linear"``, ``"cosine"`` or ``"constant"``.
        least_epochs: before these it does not stop early: figures often dip while the rate is high.
        max_grad_norm: gradients of a larger L2 norm are scaled down to it; None leaves them.
        seed: of the order of rows and of all that is drawn at random; below 2**32.
        monitor: which of the validation's figures picks the best epoch.
        maximise: whether more of it is better.
        checkpoint: folder that a killed run goes on from; None keeps none.
        checkpoint_every_s: seconds between two checkpoints within an epoch; 0 is after every step.
        fingerprint: what data and settings of the caller's this run has. A JSON object lets a
            refusal name the entries that differ.

    Raises:
        InputError: a number out of its range, or an unknown schedule.
    """

    epochs: int = 20
    batch_size: int | None = None
    optimal_batch_size: int | None = None
    early_stopping_epochs: int = 1
    learning_rate: float = 2e-5
    weight_decay: float = 0.01
    warmup: float = 0.06
    schedule: str = "linear"
    least_epochs: int = 0
    max_grad_norm: float | None = 1.0
    seed: int = 0
    monitor: str = "loss"
    maximise: bool = False
    checkpoint: Path | None = None
    checkpoint_every_s: float = 30.0
    fingerprint: str = ""

    def __post_init__(self) -> None:
        """Check every number."""
        for name, least in AT_LEAST.items():
            value = getattr(self, name)
            kind = numbers.Integral if name in WHOLE else numbers.Real
            right = isinstance(value, kind) and not isinstance(value, bool)
            if value is not None and not (right and math.isfinite(value) and value >= least):
                what = "a whole number" if name in WHOLE else "a number"
                raise InputError(f"{name} must be {what} of at least {least}; received {value!r}.")
        if self.warmup > 1:
            raise InputError(f"warmup is a share of all steps, 0 to 1; received {self.warmup}.")
        if self.seed >= 2**32:
            raise InputError(f"seed must be below 2**32; received {self.seed}.")
        if self.schedule not in SCHEDULES:
            raise InputError(
                f"schedule must be one of {', '.join(SCHEDULES)}; received {self.schedule!r}."
            )

    @property
    def rows_per_step(self) -> int:
        """Rows of one optimiser step, over all passes and processes."""
        wanted = self.optimal_batch_size or self.batch_size or DEFAULT_ROWS
        return max(wanted, self.batch_size or 1)
