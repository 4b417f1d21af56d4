"""What a killed or interrupted run goes on from, and what it refuses to go on from."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections import Counter, OrderedDict
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from backprop import folders, manifest
from backprop.errors import ArtefactError, InputError
from backprop.trainer import History, Settings
from backprop.trainer.flattening import flatten, unflatten
from tests.guard import ROOT
from tests.training_script import Problem

pytestmark = pytest.mark.usefixtures("one_thread")

STEPS_AN_EPOCH = 7  # 97 rows by 16


class Stop(Exception):
    """Ends a run as a kill would: nothing is tidied up on disk."""


def problem() -> Problem:
    return Problem(dropout=0.3, norm=True)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        epochs=3,
        batch_size=6,
        optimal_batch_size=16,
        learning_rate=1e-2,
        early_stopping_epochs=2,
        checkpoint=tmp_path / "checkpoint",
        checkpoint_every_s=0,
    )


def stopping(trained: Problem, at: int) -> Callable[[Any], Tensor]:
    """Return the step that raises Stop in the middle of the ``at``-th call."""
    calls = 0

    def step(batch: Any) -> Tensor:
        nonlocal calls
        calls += 1
        loss = trained.step(batch)
        if calls == at:
            raise Stop
        return loss

    return step


def same(first: Problem, second: Problem) -> bool:
    theirs = second.weights()
    return all(torch.equal(value, theirs[name]) for name, value in first.weights().items())


def told(history: History) -> list[Any]:
    """Return the parts of a history that do not measure time."""
    return [
        history.best_epoch,
        history.stopped,
        history.batch_size,
        *[(each.loss, each.metrics, each.learning_rate) for each in history.epochs],
    ]


HOOKS: dict[str, Callable[[list[Tensor]], Any]] = {
    "adafactor": lambda weights: torch.optim.Adafactor(weights, lr=0.05),
    "momentum and milestones": lambda weights: _with_milestones(weights),
    "one cycle": lambda weights: _with_one_cycle(weights),
}


def _with_milestones(weights: list[Tensor]) -> Any:
    optimizer = torch.optim.SGD(weights, lr=0.1, momentum=0.9)
    return optimizer, torch.optim.lr_scheduler.MultiStepLR(optimizer, [1, 2])


def _with_one_cycle(weights: list[Tensor]) -> Any:
    optimizer = torch.optim.AdamW(weights, lr=0.1, amsgrad=True)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, 40)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


@pytest.mark.parametrize("hook", [None, *HOOKS])
@pytest.mark.parametrize("calls", [(1,), (5, 20, 20), (22,), (43,)])
def test_a_stopped_run_ends_as_one_that_was_not(
    calls: tuple[int, ...], hook: str | None, settings: Settings
) -> None:
    configure = HOOKS[hook] if hook else None
    whole = problem()
    expected = whole.fit(replace(settings, checkpoint=None), configure_optimizers=configure)
    for at in calls:
        stopped = problem()
        with pytest.raises(Stop):
            stopped.fit(settings, step=stopping(stopped, at), configure_optimizers=configure)
    resumed = problem()
    history = resumed.fit(settings, configure_optimizers=configure)
    assert same(resumed, whole)
    assert told(history) == told(expected)
    assert len(resumed.seen) < len(whole.seen) or calls == (1,)


@pytest.mark.parametrize("at", [0, 1, 2])
def test_a_run_stopped_in_validation_goes_on_there(at: int, settings: Settings) -> None:
    whole, stopped, resumed = problem(), problem(), problem()
    whole.fit(replace(settings, checkpoint=None))
    left = iter(range(at))
    with pytest.raises(StopIteration):
        stopped.fit(settings, validate=lambda: (next(left), stopped.validate())[1])
    resumed.fit(settings)
    assert same(resumed, whole)


def test_batches_of_a_dataloader_that_were_done_are_passed_over(settings: Settings) -> None:
    def run(to_train: Problem, **changed: Any) -> None:
        whole = torch.utils.data.TensorDataset(to_train.inputs, to_train.targets)
        loader = torch.utils.data.DataLoader(whole, batch_size=14, shuffle=True)
        chosen = replace(settings, batch_size=None, optimal_batch_size=None)
        to_train.fit(
            replace(chosen, **changed.pop("settings", {})), train_dataloader=loader, **changed
        )

    whole, stopped, resumed = problem(), problem(), problem()
    run(whole, settings={"checkpoint": None})
    with pytest.raises(Stop):
        run(stopped, step=stopping(stopped, 11))
    run(resumed)
    assert same(resumed, whole)


def test_a_finished_run_returns_at_once(settings: Settings) -> None:
    first, again = problem(), problem()
    expected = first.fit(settings)
    history = again.fit(settings)
    assert same(first, again)
    assert history == expected
    assert again.seen == []
    assert not again.module.training


def test_patience_goes_on_where_it_was(settings: Settings) -> None:
    chosen = replace(settings, epochs=6)
    losses = iter([1.0, 2.0])
    stopped, resumed = problem(), problem()
    with pytest.raises(StopIteration):
        stopped.fit(chosen, validate=lambda: {"loss": next(losses)})
    history = resumed.fit(chosen, validate=lambda: {"loss": 3.0})
    assert (history.stopped, history.best_epoch, len(history.epochs)) == ("early", 1, 3)


def test_control_c_leaves_a_checkpoint_to_go_on_from(settings: Settings) -> None:
    chosen = replace(settings, checkpoint_every_s=1000)
    whole, stopped, resumed = problem(), problem(), problem()
    whole.fit(replace(chosen, checkpoint=None))
    calls = iter(range(29))

    def step(batch: Any) -> Tensor:
        loss = stopped.step(batch)
        if next(calls, None) is None:
            raise KeyboardInterrupt
        return loss

    assert stopped.fit(chosen, step=step).stopped == "interrupted"
    history = resumed.fit(chosen)
    assert same(resumed, whole)
    assert history.stopped == "epochs"
    assert len(resumed.seen) <= len(whole.seen) - 27


def test_checkpoints_within_an_epoch_keep_their_distance(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[Path] = []
    building = folders.building

    def counted(path: Path) -> AbstractContextManager[Path]:
        written.append(path)
        return building(path)

    monkeypatch.setattr(folders, "building", counted)
    problem().fit(replace(settings, checkpoint_every_s=1000))
    assert len(written) == 4  # the start, two epochs, and the end
    written.clear()
    problem().fit(replace(settings, checkpoint=tmp_path / "each"))
    assert len(written) == 4 + 3 * STEPS_AN_EPOCH


def test_the_size_that_was_found_is_kept(settings: Settings) -> None:
    chosen = replace(settings, batch_size=None, optimal_batch_size=32)
    stopped, resumed = problem(), problem()
    calls = 0

    def step(batch: Any) -> Tensor:
        nonlocal calls
        calls += 1
        if len(batch[1]) > 8:
            raise MemoryError
        if calls == 12:
            raise Stop
        return stopped.step(batch)

    with pytest.raises(Stop):
        stopped.fit(chosen, step=step)
    assert resumed.fit(chosen).batch_size == 8
    assert max(map(len, resumed.seen)) <= 8


# --- What is refused -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"learning_rate": 0.5}, "learning_rate was 0.01, now 0.5"),
        ({"seed": 1}, "seed was 0, now 1"),
        ({"fingerprint": '{"data": "b", "task": "qa"}'}, "data was 'a', now 'b'"),
        ({"fingerprint": "other"}, "fingerprint was None, now 'other'; data was 'a', now None"),
    ],
)
def test_another_runs_checkpoint_is_refused(
    changed: dict[str, Any], said: str, settings: Settings
) -> None:
    chosen = replace(settings, fingerprint='{"data": "a", "task": "qa"}')
    problem().fit(replace(chosen, epochs=3))
    with pytest.raises(InputError, match="is of another run") as refused:
        problem().fit(replace(chosen, **changed))
    assert said in str(refused.value)
    assert "epochs" not in str(refused.value)


def test_other_rows_weights_or_torch_are_refused(settings: Settings) -> None:
    problem().fit(settings)
    with pytest.raises(InputError, match="rows was 97, now 90"):
        Problem(90, norm=True).fit(settings)
    with pytest.raises(InputError, match="weights: no longer the same"):
        Problem().fit(settings)
    with pytest.raises(InputError, match="lengths and groups: no longer"):
        problem().fit(settings, lengths=[1] * 97)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(InputError, match="torch was"):
        patch.setattr(torch, "__version__", "9.9")
        problem().fit(settings)


def test_a_damaged_checkpoint_is_refused(settings: Settings) -> None:
    problem().fit(settings)
    assert settings.checkpoint is not None
    for file in sorted(settings.checkpoint.iterdir()):
        content = file.read_bytes()
        file.write_bytes(content[: len(content) // 2] + b"!" + content[len(content) // 2 + 1 :])
        with pytest.raises(ArtefactError, match="is damaged.*delete the folder"):
            problem().fit(settings)
        file.write_bytes(content)
    problem().fit(settings)


@pytest.mark.parametrize("file", ["state.json", "now.safetensors"])
@pytest.mark.parametrize("other", ["nothing", "odd", "less"])
def test_a_whole_folder_that_no_run_wrote_is_refused(
    file: str, other: str, settings: Settings
) -> None:
    stopped, resumed = problem(), problem()
    with pytest.raises(Stop):
        stopped.fit(settings, step=stopping(stopped, 9))
    assert settings.checkpoint is not None
    forge(settings.checkpoint / file, other)
    before = resumed.weights()
    with pytest.raises(ArtefactError, match="delete (the|its) folder"):
        resumed.fit(settings)
    assert all(torch.equal(value, before[name]) for name, value in resumed.weights().items())


def forge(path: Path, other: str) -> None:
    """Put other content in a file of a checkpoint, and list it in the manifest."""
    if path.suffix == ".json":
        state = json.loads(path.read_text())
        contents: dict[str, Any] = {
            "nothing": {"format": state["format"], "identity": state["identity"]},
            "odd": {**state, "position": {"pickle": "x"}},
            "less": {**state, "optimisation": {"tensor": "none"}},
        }
        path.write_text(json.dumps(contents[other]))
    else:
        tensors = load_file(path)
        weight = "weights.0.weight"
        changed = {"nothing": {}, "odd": {**tensors, weight: tensors[weight][:1].clone()}}
        less = {name: each for name, each in tensors.items() if name != weight}
        save_file(changed.get(other, less), path)
    listed = manifest.describe(path.parent, ignore={"manifest.json"})
    manifest.write_manifest(path.parent / "manifest.json", listed)


def test_a_folder_of_other_things_is_left_alone(tmp_path: Path, settings: Settings) -> None:
    note = tmp_path / "note.txt"
    note.write_text("mine")
    with pytest.raises(InputError, match="is no checkpoint, so it is left alone"):
        problem().fit(replace(settings, checkpoint=tmp_path))
    assert note.read_text() == "mine"
    with pytest.raises(InputError, match="is no checkpoint"):
        problem().fit(replace(settings, checkpoint=note))


def test_an_empty_folder_will_do(tmp_path: Path, settings: Settings) -> None:
    problem().fit(replace(settings, checkpoint=tmp_path))
    assert (tmp_path / "manifest.json").is_file()


def test_an_optimiser_that_cannot_be_kept_is_refused(settings: Settings) -> None:
    class Odd(torch.optim.SGD):
        def state_dict(self) -> Any:
            return {**super().state_dict(), "odd": object()}

    with pytest.raises(InputError, match="can't hold the object"):
        problem().fit(settings, configure_optimizers=lambda weights: Odd(weights, lr=0.1))


def test_nested_state_comes_back_as_it_was() -> None:
    state = {
        0: {"step": torch.tensor(3.0), "flag": True, "none": None, "rate": np.float64(0.1)},
        "pair": (1, [2.5, math.inf, "a"]),
        "counts": Counter({5: 2}),
        "ordered": OrderedDict(a=torch.ones(2, dtype=torch.bfloat16)),
    }
    tensors: dict[str, Tensor] = {}
    written = json.loads(json.dumps(flatten(state, tensors, "x"), allow_nan=False))
    again = unflatten(written, tensors)
    assert again[0]["step"] == 3 and again[0]["flag"] is True and again[0]["none"] is None
    assert again["pair"] == (1, [2.5, math.inf, "a"])
    assert again["counts"] == Counter({5: 2}) and isinstance(again["counts"], Counter)
    assert torch.equal(again["ordered"]["a"], torch.ones(2, dtype=torch.bfloat16))


# --- Kills ---------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_kills_at_random_moments_change_nothing() -> None:
    memory = Path("/dev/shm")  # where syncing costs nothing
    place = {"TMPDIR": str(memory)} if os.access(memory, os.W_OK) else {}
    process = subprocess.run(
        [sys.executable, str(ROOT / "bench" / "finetune" / "kills.py"), "4"],
        cwd=ROOT,
        env={**os.environ, **place, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert process.returncode == 0, process.stderr + process.stdout
    kills, _, runs, _, identical, *_ = process.stdout.split()
    assert int(kills) >= int(runs) == int(identical) == 4
