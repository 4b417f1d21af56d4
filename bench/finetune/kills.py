"""Kills a training run at random moments, lets it go on, and counts the bit-identical finals.

Run as ``python bench/finetune/kills.py [KILLS] [SEED]``. Prints a line a kill with ``-v``.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from backprop.trainer import Settings, fit

ROWS, FEATURES, EPOCHS = 150, 8, 4
MOST_KILLS_A_RUN = 3


def main(arguments: Sequence[str]) -> int:
    """Print how many runs ended with the weights of one that was not killed; 0 if all did."""
    verbose = "-v" in arguments
    numbers = [int(argument) for argument in arguments if argument != "-v"]
    wanted, seed = (*numbers, *(100, 0)[len(numbers) :])
    draw = random.Random(seed)
    # A process's first optimiser imports for seconds; copies of this process need not.
    torch.optim.AdamW([nn.Parameter(torch.zeros(1))])
    with tempfile.TemporaryDirectory() as place:
        out = Path(place, "final")
        start = time.perf_counter()
        wait(start_training(Path(place, "whole"), out))
        seconds = time.perf_counter() - start
        expected = out.read_bytes()
        kills, runs, same = 0, 0, 0
        while kills < wanted:
            out.unlink()
            folder = Path(place, f"run{runs}")
            most = min(draw.randint(1, MOST_KILLS_A_RUN), wanted - kills)
            killed = sum(kill_after(draw.uniform(0, seconds), folder, out) for _ in range(most))
            wait(start_training(folder, out))
            identical = out.read_bytes() == expected
            kills, runs, same = kills + killed, runs + 1, same + identical
            if verbose:
                print(f"run {runs}: {killed} kills, {'same' if identical else 'DIFFERENT'}")
    print(f"{kills} kills, {runs} runs, {same} bit-identical finals")
    return 0 if same == runs else 1


def kill_after(seconds: float, folder: Path, out: Path) -> bool:
    """Return whether a run was killed before it ended by itself."""
    process = start_training(folder, out)
    time.sleep(seconds)
    os.kill(process, signal.SIGKILL)
    _, status = os.waitpid(process, 0)
    return os.WIFSIGNALED(status)


def wait(process: int) -> None:
    """Return when the run has ended well.

    Raises:
        RuntimeError: it failed; its traceback is on standard error.
    """
    _, status = os.waitpid(process, 0)
    if status:
        raise RuntimeError(f"a training run ended with status {status}")


def start_training(folder: Path, out: Path) -> int:
    """Return the id of a process that trains, and writes its final weights to ``out``."""
    # A copy of a process with threads of torch's could hang; this one computes nothing itself.
    process = os.fork()
    if process:
        return process
    try:
        train(folder, out)
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


def train(folder: Path, out: Path) -> None:
    """Train with all that a checkpoint must keep: dropout, running means, patience, a schedule."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Linear(FEATURES, 32), nn.BatchNorm1d(32), nn.Dropout(0.2), nn.ReLU(), nn.Linear(32, 2)
    )
    inputs = torch.randn(ROWS, FEATURES)
    targets = (inputs[:, 0] > inputs[:, 1]).long()

    def batch(rows: Sequence[int]) -> tuple[Tensor, Tensor]:
        noise = torch.randn(len(rows), FEATURES) * random.random()
        return inputs[list(rows)] + noise, targets[list(rows)]

    def validate() -> dict[str, float]:
        return {"loss": float(cross_entropy(module(inputs), targets))}

    fit(
        module,
        rows=ROWS,
        lengths=[1 + row % 7 for row in range(ROWS)],
        batch=batch,
        step=lambda rows: cross_entropy(module(rows[0]), rows[1]),
        validate=validate,
        settings=Settings(
            epochs=EPOCHS,
            batch_size=8,
            optimal_batch_size=16,
            early_stopping_epochs=2,
            learning_rate=0.05,
            checkpoint=folder,
            checkpoint_every_s=0,
        ),
        show=False,
    )
    # A half-written file is not a final.
    unfinished = out.with_suffix(".new")
    unfinished.write_bytes(save(dict(module.state_dict())))
    unfinished.rename(out)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
