"""A small problem to train on; run under ``accelerate launch`` it writes what came out."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from backprop.trainer import History, Settings, fit

ROWS, FEATURES = 97, 6


class Problem:
    """Which of two classes a row of numbers is, to a two-layer network.

    Args:
        rows: how many rows there are.
        dropout: 0 makes the outcome independent of how a step is cut.
        norm: whether there is a layer with running means.
    """

    def __init__(self, rows: int = ROWS, *, dropout: float = 0.0, norm: bool = False) -> None:
        generator = torch.Generator().manual_seed(1)
        self.inputs = torch.randn(rows, FEATURES, generator=generator)
        self.targets = (self.inputs[:, 0] * self.inputs[:, 1] > 0).long()
        self.seen: list[list[int]] = []
        self.losses: list[float] = []
        with torch.random.fork_rng():
            torch.manual_seed(2)
            self.module = nn.Sequential(
                nn.Linear(FEATURES, 16),
                nn.BatchNorm1d(16) if norm else nn.Identity(),
                nn.Tanh(),
                nn.Dropout(dropout),
                nn.Linear(16, 2),
            )

    def batch(self, rows: Sequence[int]) -> tuple[Tensor, Tensor]:
        self.seen.append(list(rows))
        return self.inputs[list(rows)], self.targets[list(rows)]

    def step(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        return cross_entropy(self.module(batch[0]), batch[1])

    def validate(self) -> Mapping[str, float]:
        scores = self.module(self.inputs)
        accuracy = (scores.argmax(1) == self.targets).float().mean()
        return {"loss": float(cross_entropy(scores, self.targets)), "accuracy": float(accuracy)}

    def fit(self, settings: Settings | None = None, **changed: Any) -> History:
        given = {
            "rows": len(self.inputs),
            "lengths": None,
            "batch": self.batch,
            "step": self.step,
            "validate": self.validate,
            "settings": settings or Settings(epochs=3, batch_size=16, learning_rate=1e-2),
            "show": False,
        }
        return fit(self.module, **{**given, **changed})

    def weights(self) -> dict[str, Tensor]:
        return {name: each.clone() for name, each in self.module.state_dict().items()}


def trained(rows: int, rows_per_step: int) -> Problem:
    """Return a problem trained; one of its weights has no part in it."""
    problem = Problem(rows)
    problem.module.register_parameter("unused", nn.Parameter(torch.ones(3, 3)))
    history = problem.fit(Settings(epochs=2, batch_size=rows_per_step, learning_rate=1e-2))
    problem.losses = [
        each for epoch in history.epochs for each in (epoch.loss, epoch.metrics["loss"])
    ]
    return problem


# Rows, and rows of a step. With one a step, one of two processes has nothing to do.
STEPS = {"many": (ROWS, 16), "one": (10, 1)}


def main(out: str) -> None:
    """Train, and write what came out, by the first of the processes."""
    torch.set_num_threads(1)
    for name, (rows, size) in STEPS.items():
        problem = trained(rows, size)
        if torch.distributed.get_rank() == 0:
            save_file(problem.weights(), Path(out, f"{name}.safetensors"))
            Path(out, f"{name}.json").write_text(json.dumps({"losses": problem.losses}))


if __name__ == "__main__":
    main(*sys.argv[1:])
