"""Kills training runs at random moments, lets them go on, and counts the bit-identical finals.

Half of the runs are ``task.finetune`` of a tiny text classifier, half the trainer alone on a module
with all that a checkpoint must keep. Each is killed once to three times, then ends, and its final
weights are compared with those of a run that was left alone.

Run as ``python bench/finetune/kills.py [RUNS] [SEED]``. Prints a line a run with ``-v``.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import backprop
from backprop.models import STModel
from backprop.trainer import Settings, fit
from tests import tiny

ROWS, FEATURES, EPOCHS = 150, 8, 4
MOST_KILLS_A_RUN = 3

Train = Callable[[Path], nn.Module]
"""Trains, with checkpoints in a folder, and returns the module."""


@dataclass(frozen=True)
class Reference:
    """A run that was left alone.

    Args:
        final: its weights, as bytes.
        seconds: that it took.
    """

    final: bytes
    seconds: float


def main(arguments: Sequence[str]) -> int:
    """Print how many runs ended with the weights of one that was not killed; 0 if all did."""
    verbose = "-v" in arguments
    numbers = [int(argument) for argument in arguments if argument != "-v"]
    wanted, seed = (*numbers, *(100, 0)[len(numbers) :])
    draw = random.Random(seed)
    warm_up()
    with tempfile.TemporaryDirectory() as place:
        out = Path(place, "final")
        references = {name: left_alone(name, Path(place, f"{name}-whole"), out) for name in RUNS}
        kills, same = 0, 0
        for run in range(wanted):
            name = list(RUNS)[run % len(RUNS)]
            folder = Path(place, f"run{run}")
            killed = kill_some(name, folder, out, references[name].seconds, draw)
            wait(start_training(name, folder, out))
            identical = out.read_bytes() == references[name].final
            kills, same = kills + killed, same + identical
            if verbose:
                line = f"run {run}: {name}, {killed} kills, {'same' if identical else 'DIFFERENT'}"
                print(line, flush=True)
    print(f"{kills} kills, {wanted} runs, {same} bit-identical finals")
    return 0 if same == wanted else 1


def warm_up() -> None:
    """Import and build what takes seconds, once for all copies of this process.

    Nothing is computed with several threads: a copy of a process that has done so could hang.
    """
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    torch.set_num_threads(1)
    torch.optim.AdamW([nn.Parameter(torch.zeros(1))])
    train_task(None)


def left_alone(name: str, folder: Path, out: Path) -> Reference:
    """Return what a run comes to that is not killed."""
    start = time.perf_counter()
    wait(start_training(name, folder, out))
    return Reference(out.read_bytes(), time.perf_counter() - start)


def kill_some(name: str, folder: Path, out: Path, seconds: float, draw: random.Random) -> int:
    """Return how often a run was killed, once at the least; it has not ended by then."""
    wanted, killed = draw.randint(1, MOST_KILLS_A_RUN), 0
    while killed < wanted:
        out.unlink(missing_ok=True)
        if kill_after(draw.uniform(0, seconds), name, folder, out):
            killed += 1
        elif killed:
            break  # it ended: going on takes less time than the whole
        else:
            shutil.rmtree(folder)
    out.unlink(missing_ok=True)
    return killed


def kill_after(seconds: float, name: str, folder: Path, out: Path) -> bool:
    """Return whether a run was killed before it ended by itself."""
    process = start_training(name, folder, out)
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


def start_training(name: str, folder: Path, out: Path) -> int:
    """Return the id of a process that trains, and writes its final weights to ``out``."""
    process = os.fork()
    if process:
        return process
    try:
        module = RUNS[name](folder)
        # A half-written file is not a final.
        unfinished = out.with_suffix(".new")
        unfinished.write_bytes(save(dict(module.state_dict())))
        unfinished.rename(out)
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


def train_module(folder: Path) -> nn.Module:
    """Train with all that a checkpoint must keep: dropout, running means, patience, a schedule."""
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
    return module


def train_task(folder: Path | None) -> nn.Module:
    """Finetune a text classifier as a user does; a few rows once, without a folder."""
    model = STModel(tiny.folder("sentence_transformer"), name="tiny")
    texts = [text[:150] for text in tiny.texts(ROWS // 3 if folder else 6)]
    task = backprop.TextClassification(model)
    task.finetune(
        {"texts": texts, "labels": ["even" if len(text) % 2 == 0 else "odd" for text in texts]},
        method="full",
        epochs=EPOCHS if folder else 1,
        batch_size=8,
        checkpoint=folder,
        show=False,
    )
    return model


RUNS: Mapping[str, Train] = {"task": train_task, "module": train_module}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
