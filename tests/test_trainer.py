"""The training loop: what it trains on, when it stops, and what it leaves behind."""

from __future__ import annotations

import json
import logging
import math
import os
import random
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import backprop.trainer.display as display
from backprop.errors import BackpropError, InputError
from backprop.trainer import Epoch, Settings, memory
from backprop.trainer.batches import Plan
from backprop.trainer.history import Position
from backprop.trainer.memory import is_out_of_memory
from backprop.trainer.optimisers import default, schedule
from tests.guard import ROOT, run_python
from tests.training_script import ROWS, STEPS, Problem, trained

pytestmark = pytest.mark.usefixtures("one_thread")


def settings(**changed: Any) -> Settings:
    return Settings(**{"epochs": 3, "batch_size": 16, "learning_rate": 1e-2, **changed})


def same(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def close(first: Mapping[str, Tensor], second: Mapping[str, Tensor], within: float) -> bool:
    return all(torch.allclose(first[k], second[k], rtol=0, atol=within) for k in first)


# --- The plan of an epoch ------------------------------------------------------------------


@pytest.mark.parametrize("rows", [1, 15, 16, 97])
@pytest.mark.parametrize("lengths", [None, "many", "one"])
def test_each_row_is_seen_once_an_epoch(rows: int, lengths: str | None) -> None:
    given = {None: None, "many": [i * 7 % 31 for i in range(rows)], "one": [3] * rows}[lengths]
    steps = Plan(rows, 16, lengths=given).steps(0)
    assert sorted(sum(steps, [])) == list(range(rows))
    sizes = [len(step) for step in steps]
    assert len(sizes) == math.ceil(rows / 16)
    assert sum(size == 16 for size in sizes) >= len(sizes) - 2
    assert min(sizes) >= min(rows, 8)


def test_the_order_follows_from_the_seed_and_the_epoch() -> None:
    lengths = [i * 7 % 31 for i in range(ROWS)]
    plan = Plan(ROWS, 8, seed=3, lengths=lengths)
    assert plan.steps(1) == Plan(ROWS, 8, seed=3, lengths=lengths).steps(1)
    assert plan.steps(1) != plan.steps(2)
    assert plan.steps(1) != Plan(ROWS, 8, seed=4, lengths=lengths).steps(1)


def test_rows_of_like_length_share_a_step_and_steps_differ_between_epochs() -> None:
    lengths = np.random.default_rng(0).integers(5, 200, 3000).tolist()

    def padding(plan: Plan) -> float:
        padded = sum(len(rows) * max(lengths[row] for row in rows) for rows in plan.steps(0))
        return float(padded / sum(lengths) - 1)

    assert padding(Plan(3000, 16)) > 0.6
    assert padding(Plan(3000, 16, lengths=lengths)) < 0.05
    plan = Plan(3000, 16, lengths=lengths)
    assert not {frozenset(rows) for rows in plan.steps(0)} & {
        frozenset(rows) for rows in plan.steps(1)
    }
    means = [np.mean([lengths[row] for row in rows]) for rows in plan.steps(0)]
    assert abs(np.corrcoef(means, range(len(means)))[0, 1]) < 0.3  # long ones come at any time


def test_a_step_is_cut_into_equal_parts_of_like_length() -> None:
    plan = Plan(64, 32, lengths=list(range(64)))
    parts = plan.cut(plan.steps(0)[0], 12)
    assert [len(part) for part in parts] == [10, 11, 11]
    assert sum(parts, []) == sorted(sum(parts, []))


@pytest.mark.parametrize("size", [3, 4, 8, 32])
def test_a_step_holds_two_rows_of_each_of_its_groups(size: int) -> None:
    generator = np.random.default_rng(size)
    groups = generator.integers(0, 12, 200).tolist() + ["large"] * 70
    plan = Plan(len(groups), size, groups=groups)
    for epoch in range(3):
        steps = plan.steps(epoch)
        assert sorted(sum(steps, [])) == list(range(len(groups)))
        assert max(map(len, steps)) <= max(size, 5)
        counts = [Counter(groups[row] for row in rows) for rows in steps]
        if size >= 4:
            assert all(min(count.values()) >= 2 for count in counts)
        if size >= 8:
            assert all(len(count) >= 2 for count in counts)


def test_parts_and_shares_keep_groups_together() -> None:
    groups = [row // 4 for row in range(64)]
    plan = Plan(64, 32, groups=groups)
    step = plan.steps(0)[0]
    for parts in (plan.cut(step, 8), [plan.share(step, i, 3) for i in range(3)]):
        assert sorted(sum(parts, [])) == sorted(step)
        assert all(min(Counter(groups[row] for row in part).values()) >= 2 for part in parts)
    assert all(len(part) <= 8 for part in plan.cut(step, 8))


def test_a_row_alone_in_its_group_is_not_lost() -> None:
    groups = ["a", "a", "b", "c", "c", "c"]
    assert sorted(sum(Plan(6, 4, groups=groups).steps(0), [])) == list(range(6))


# --- Steps ---------------------------------------------------------------------------------


def test_training_lowers_the_loss_and_tells_what_happened() -> None:
    problem = Problem()
    with torch.no_grad():
        before = problem.validate()
    history = problem.fit(settings(epochs=12, learning_rate=3e-2, early_stopping_epochs=0))
    assert history.epochs[-1].metrics["loss"] < 0.9 * before["loss"]
    assert [epoch.number for epoch in history.epochs] == list(range(1, 13))
    assert (history.batch_size, history.rows_per_step, history.stopped) == (16, 16, "epochs")
    assert all(epoch.rows_per_s > 0 and epoch.seconds > 0 for epoch in history.epochs)
    assert history.seconds >= sum(epoch.seconds for epoch in history.epochs) * 0.99
    assert history.epochs[0].learning_rate > history.epochs[-1].learning_rate > 0
    assert not problem.module.training
    assert all(each.grad is None for each in problem.module.parameters())
    json.dumps(asdict(history), allow_nan=False)


@pytest.mark.parametrize("size", [1, 5, 16, 32])
def test_small_passes_add_up_to_one_large_one(size: int) -> None:
    whole, parts = Problem(), Problem()
    whole.fit(settings(batch_size=32))
    parts.fit(settings(batch_size=size, optimal_batch_size=32))
    assert max(map(len, parts.seen)) <= size
    assert close(whole.weights(), parts.weights(), 1e-6)


def test_the_first_step_is_that_of_plain_torch() -> None:
    problem, plain = Problem(rows=16), Problem(rows=16)
    problem.fit(settings(epochs=1, weight_decay=0.5, warmup=0, max_grad_norm=0.01))
    module = plain.module
    matrices = [each for each in module.parameters() if each.ndim == 2]
    vectors = [each for each in module.parameters() if each.ndim == 1]
    groups = [{"params": matrices, "weight_decay": 0.5}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1e-2)
    torch.autograd.backward(plain.step((plain.inputs, plain.targets)))
    nn.utils.clip_grad_norm_(module.parameters(), 0.01)
    optimizer.step()
    assert close(problem.weights(), plain.weights(), 1e-6)


def test_a_seed_repeats_a_run_bit_for_bit() -> None:
    runs = [Problem(dropout=0.3, norm=True) for _ in range(3)]
    histories = [run.fit(settings(seed=seed)) for run, seed in zip(runs, (5, 5, 6), strict=True)]
    assert same(runs[0].weights(), runs[1].weights())
    assert [e.loss for e in histories[0].epochs] == [e.loss for e in histories[1].epochs]
    assert not same(runs[0].weights(), runs[2].weights())


def test_the_callers_random_numbers_go_on_undisturbed() -> None:
    def draw() -> tuple[float, float, float]:
        return random.random(), float(np.random.rand()), float(torch.rand(()))

    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    expected = draw()
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    Problem(dropout=0.5).fit(settings(epochs=1))
    assert draw() == expected


def test_frozen_weights_stay_and_have_no_gradient() -> None:
    problem = Problem()
    problem.module[0].requires_grad_(False)
    before = problem.weights()
    problem.fit()
    assert torch.equal(before["0.weight"], problem.weights()["0.weight"])
    assert not torch.equal(before["4.weight"], problem.weights()["4.weight"])


def test_the_schedule_rises_falls_and_never_reaches_nought() -> None:
    linear = schedule("linear", 100, 0.1)
    rates = [linear(step) for step in range(100)]
    assert rates[:3] == pytest.approx([0.1, 0.2, 0.3])
    assert (rates[9], rates[10]) == (1, 1)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] > 0
    assert linear(1000) == linear(99)
    cosine = schedule("cosine", 100, 0)
    assert [cosine(0), cosine(50)] == pytest.approx([1, 0.5])
    assert {schedule("constant", 100, 0)(step) for step in range(100)} == {1}


def test_parameter_groups_have_rates_of_their_own() -> None:
    module = nn.Linear(2, 2)
    module.bias.requires_grad_(False)
    made = default(module, settings(), 10, lambda m: [{"params": list(m.parameters()), "lr": 0.5}])
    (group,) = made.optimizer.param_groups
    assert (group["lr"], group["weight_decay"]) == (0.5, 0.01)
    assert group["params"] == [module.weight]


# --- When it stops -------------------------------------------------------------------------


class Scripted(Problem):
    """A problem whose validation gives what it is told to, and notes the weights."""

    def __init__(self, *losses: float) -> None:
        super().__init__()
        self.losses = list(losses)
        self.after: list[dict[str, Tensor]] = []

    def validate(self) -> Mapping[str, float]:
        assert not self.module.training
        assert not torch.is_grad_enabled()
        self.after.append(self.weights())
        return {"loss": self.losses[len(self.after) - 1]}


@pytest.mark.parametrize(
    ("losses", "patience", "best", "stopped"),
    [
        ([3, 2, 2.5, 1], 1, 2, "early"),
        ([3, 2, 2.5, 1], 2, 4, "epochs"),
        ([3, 2, 2.5, 2.7], 0, 2, "epochs"),
        ([3, 3, 3, 3], 1, 1, "early"),
        ([math.nan, 2, math.nan, 3], 0, 2, "epochs"),
    ],
)
def test_the_best_weights_come_back(
    losses: list[float], patience: int, best: int, stopped: str
) -> None:
    problem = Scripted(*losses)
    history = problem.fit(settings(epochs=4, early_stopping_epochs=patience))
    assert (history.best_epoch, history.stopped) == (best, stopped)
    assert same(problem.weights(), problem.after[best - 1])


def test_more_can_be_better() -> None:
    problem = Scripted(1, 2, 1)
    assert problem.fit(settings(maximise=True)).best_epoch == 2


def test_without_validation_the_training_loss_decides() -> None:
    history = Problem().fit(settings(maximise=True), validate=None)
    assert history.best_epoch == 3
    assert history.epochs[0].metrics == {}


@pytest.fixture
def control_c() -> Iterator[Callable[[], None]]:
    """Give what presses Ctrl-C, also where a shell has told its jobs to ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield lambda: signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    signal.signal(signal.SIGINT, before)


def pressing(problem: Problem, press: Callable[[], None], at: int) -> Callable[[Any], Tensor]:
    """Return the problem's step, with Ctrl-C in the middle of step ``at``."""
    calls = 0

    def step(batch: Any) -> Tensor:
        nonlocal calls
        calls += 1
        if calls == at:
            press()
        return problem.step(batch)

    return step


def test_control_c_keeps_the_best_weights(control_c: Callable[[], None]) -> None:
    problem = Scripted(1, 2, 3)
    chosen = settings(early_stopping_epochs=0)
    history = problem.fit(chosen, step=pressing(problem, control_c, 7 * 2 + 3))
    assert (history.stopped, history.best_epoch, len(history.epochs)) == ("interrupted", 1, 2)
    assert same(problem.weights(), problem.after[0])
    assert not problem.module.training


def test_control_c_in_the_first_epoch_keeps_the_weights_of_the_last_step(
    control_c: Callable[[], None],
) -> None:
    problem, two_steps = Problem(), Problem()
    history = problem.fit(step=pressing(problem, control_c, 3))
    assert (history.stopped, history.best_epoch, history.epochs) == ("interrupted", 0, [])
    rates = iter([0, 1])
    with pytest.raises(StopIteration):
        two_steps.fit(step=lambda batch: (next(rates), two_steps.step(batch))[1])
    assert same(problem.weights(), two_steps.weights())


def test_a_second_control_c_raises(control_c: Callable[[], None]) -> None:
    class Twice(torch.optim.SGD):
        def step(self, closure: Any = None) -> None:  # type: ignore[override]  # no overloads
            control_c()  # held back: weights are being changed
            super().step(closure)
            control_c()

    problem = Problem()
    with pytest.raises(KeyboardInterrupt):
        problem.fit(configure_optimizers=lambda weights: Twice(weights, lr=0.1))


def test_control_c_waits_for_a_change_of_weights_to_end(control_c: Callable[[], None]) -> None:
    done = []

    class Pressed(torch.optim.SGD):
        def step(self, closure: Any = None) -> None:  # type: ignore[override]  # no overloads
            control_c()
            super().step(closure)
            done.append(1)

    history = Problem().fit(configure_optimizers=lambda weights: Pressed(weights, lr=0.1))
    assert (done, history.stopped) == ([1], "interrupted")


@pytest.mark.parametrize("epoch", [1, 2])
def test_a_loss_that_is_no_number_ends_the_run_with_the_best_weights(epoch: int) -> None:
    problem = Scripted(1, 1, 1)
    before = problem.weights()
    calls = 0

    def step(batch: Any) -> Tensor:
        nonlocal calls
        calls += 1
        return problem.step(batch) * (math.nan if calls == 7 * (epoch - 1) + 3 else 1)

    with pytest.raises(BackpropError, match=f"epoch {epoch}, step 3.*lower learning_rate"):
        problem.fit(step=step)
    assert same(problem.weights(), problem.after[0] if epoch == 2 else before)


def test_a_gradient_that_is_no_number_ends_the_run() -> None:
    problem = Problem()

    def step(batch: Any) -> Tensor:
        weight = next(problem.module.parameters())
        return problem.step(batch) + (weight - weight.detach()).square().sum().sqrt()

    with pytest.raises(BackpropError, match="learning_rate"):
        problem.fit(step=step)


# --- Memory --------------------------------------------------------------------------------


def tight(problem: Problem, most: int, error: Exception) -> Callable[[Any], Tensor]:
    """Return the problem's step on a machine with room for ``most`` rows."""

    def step(batch: tuple[Tensor, Tensor]) -> Tensor:
        loss = problem.step(batch)
        if len(batch[1]) > most:
            raise error
        return loss

    return step


FULL = RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")


@pytest.mark.parametrize("error", [FULL, torch.OutOfMemoryError("CUDA"), MemoryError()])
def test_when_memory_runs_out_the_step_is_done_again_in_halves(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    roomy, problem = Problem(), Problem()
    roomy.fit(settings(batch_size=32))
    history = problem.fit(settings(batch_size=32), step=tight(problem, 8, error))
    assert (history.batch_size, history.rows_per_step) == (8, 32)
    assert close(roomy.weights(), problem.weights(), 1e-6)
    assert [record.message for record in caplog.records] == [
        "Memory ran out; a forward pass has at most 16 rows from here on.",
        "Memory ran out; a forward pass has at most 8 rows from here on.",
    ]


@pytest.mark.parametrize("batch_size", [None, 32])
def test_buffers_count_a_repeated_step_once(batch_size: int | None) -> None:
    problem = Problem(norm=True)
    problem.fit(settings(epochs=1, batch_size=batch_size), step=tight(problem, 16, FULL))
    # 97 rows are steps of 32, 32, 17 and 16, in passes of at most 16.
    assert int(problem.weights()["1.num_batches_tracked"]) == 7


@pytest.mark.parametrize("batch_size", [None, 4])
def test_a_row_that_does_not_fit_is_an_error(batch_size: int | None) -> None:
    problem = Problem()
    with pytest.raises(InputError, match="One row alone does not fit in memory"):
        problem.fit(settings(batch_size=batch_size), step=tight(problem, 0, FULL))


def test_another_error_comes_out_as_it_is() -> None:
    problem = Problem()
    with pytest.raises(RuntimeError, match="shapes"):
        problem.fit(step=tight(problem, 0, RuntimeError("shapes do not match")))
    assert not is_out_of_memory(ValueError("out of memory"))


def test_the_batch_size_is_found_without_leaving_a_trace() -> None:
    chosen, found = Problem(dropout=0.2, norm=True), Problem(dropout=0.2, norm=True)
    lengths = [row % 9 for row in range(ROWS)]
    chosen.fit(settings(batch_size=32), lengths=lengths)
    history = found.fit(settings(batch_size=None), lengths=lengths)
    assert (history.batch_size, history.rows_per_step) == (32, 32)
    assert [lengths[row] for row in found.seen[0]] == [8] * 4  # an eighth of the longest rows
    assert same(chosen.weights(), found.weights())


@pytest.mark.parametrize(
    ("batch_size", "optimal", "rows"),
    [(None, None, 32), (None, 64, 64), (8, None, 8), (8, 64, 64), (64, 8, 64)],
)
def test_rows_of_a_step(batch_size: int | None, optimal: int | None, rows: int) -> None:
    assert settings(batch_size=batch_size, optimal_batch_size=optimal).rows_per_step == rows


def test_what_a_few_rows_take_tells_how_many_fit() -> None:
    # In a process of its own, where no other thread frees anything meanwhile.
    process = run_python("""
        import gc
        import time
        import torch
        from backprop.trainer import memory

        ROW_BYTES = 40 << 20
        memory.free_bytes = lambda: 20 * ROW_BYTES

        def attempt(rows):
            held = torch.ones(rows * ROW_BYTES // 4)
            time.sleep(0.05)  # as long as a pass, so that it is seen
            print("tried", rows, int(held[-1]))

        class Garbage:
            def __init__(self):
                self.held, self.own = torch.ones(16 * ROW_BYTES // 4), self

        Garbage()  # freed within the attempt it would hide what that takes
        gc.disable()
        attempted, attempt = attempt, lambda rows: (gc.collect(), attempted(rows))
        for most in 8, 32:
            print("fits", memory.fitting_rows(attempt, most, torch.device("cpu")))
    """)
    assert process.stdout.splitlines() == ["tried 2 1", "fits 8", "tried 4 1", "fits 8"]


def test_there_is_memory_left() -> None:
    assert 0 < memory.free_bytes() < 1 << 60


# --- The caller's own optimisers and loaders -----------------------------------------------


def sgd(problem: Problem) -> torch.optim.Optimizer:
    return torch.optim.SGD(problem.module.parameters(), lr=0.5)


def halving(optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
    return torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)


@pytest.mark.parametrize("form", ["optimizer", "list", "one list", "with parameters"])
def test_the_callers_optimizer_keeps_its_rate(form: str) -> None:
    problem = Problem()
    forms: dict[str, Callable[..., Any]] = {
        "optimizer": lambda: sgd(problem),
        "list": lambda: ([sgd(problem)], []),
        "one list": lambda: [sgd(problem)],
        "with parameters": lambda weights: torch.optim.SGD(weights, lr=0.5),
    }
    history = problem.fit(configure_optimizers=forms[form])
    assert [epoch.learning_rate for epoch in history.epochs] == [0.5] * 3


@pytest.mark.parametrize("form", ["pair", "lists", "dict", "step", "every second"])
def test_the_callers_scheduler_goes_by_epochs_or_steps(form: str) -> None:
    problem = Problem()
    optimizer = sgd(problem)
    scheduler = halving(optimizer)
    forms: dict[str, Any] = {
        "pair": (optimizer, scheduler),
        "lists": ([optimizer], [{"scheduler": scheduler}]),
        "dict": {"optimizer": optimizer, "lr_scheduler": scheduler},
        "step": ([optimizer], [{"scheduler": scheduler, "interval": "step"}]),
        "every second": (optimizer, {"scheduler": scheduler, "frequency": 2}),
    }
    history = problem.fit(configure_optimizers=lambda: forms[form])
    rates = [epoch.learning_rate for epoch in history.epochs]
    expected = {"step": [0.5**8, 0.5**15, 0.5**22], "every second": [0.5, 0.5, 0.25]}
    assert rates == expected.get(form, [0.5, 0.25, 0.125])


def test_a_scheduler_for_plateaus_watches_the_monitored_figure() -> None:
    problem = Scripted(1, 2, 3)
    optimizer = sgd(problem)
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, factor=0.1)
    history = problem.fit(
        settings(early_stopping_epochs=0), configure_optimizers=lambda: (optimizer, plateau)
    )
    assert [epoch.learning_rate for epoch in history.epochs] == pytest.approx([0.5, 0.5, 0.05])


@pytest.mark.parametrize("made", [None, 3, (), {"lr_scheduler": 1}, "two", "twice", "odd"])
def test_a_hook_that_returns_no_optimizer_is_told_what_to_return(made: Any) -> None:
    problem = Problem()
    one = sgd(problem)
    odd = {"optimizer": one, "lr_scheduler": {"scheduler": halving(one), "interval": "day"}}
    given = {"two": ([one, one], []), "twice": (one, one), "odd": odd}
    returned = given[made] if isinstance(made, str) else made
    with pytest.raises(InputError, match="optimizer|interval"):
        problem.fit(configure_optimizers=lambda: returned)


def test_a_dataloader_takes_the_place_of_rows() -> None:
    problem, gathered = Problem(), Problem()
    whole = torch.utils.data.TensorDataset(problem.inputs, problem.targets)
    loader = torch.utils.data.DataLoader(whole, batch_size=16, shuffle=True)
    twice = [Problem(), Problem()]
    for each in twice:
        history = each.fit(train_dataloader=loader)
        assert len(history.epochs) == 3
    assert same(twice[0].weights(), twice[1].weights())
    assert twice[0].seen == []
    halves = [
        (problem.inputs[:8], problem.targets[:8]),
        (problem.inputs[8:16], problem.targets[8:16]),
    ]
    problem.fit(train_dataloader=[(problem.inputs[:16], problem.targets[:16])])
    gathered.fit(settings(optimal_batch_size=16), train_dataloader=lambda: iter(halves))
    # Without a known length the rate has no schedule; one step an epoch has none to speak of.
    assert close(problem.weights(), gathered.weights(), 0.02)


def test_a_loader_that_runs_dry_is_an_error() -> None:
    problem = Problem()
    with pytest.raises(InputError, match="no batch in epoch 2.*function that returns a new"):
        problem.fit(train_dataloader=iter([(problem.inputs, problem.targets)]))


def test_a_loaders_batch_that_does_not_fit_is_an_error() -> None:
    problem = Problem()
    with pytest.raises(InputError, match="train_dataloader does not fit"):
        problem.fit(
            train_dataloader=[(problem.inputs, problem.targets)], step=tight(problem, 9, FULL)
        )


# --- What is refused -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"rows": 0}, "at least one training row; received 0"),
        ({"lengths": [1]}, "lengths has 1 entries for 97 rows"),
        ({"groups": [1, 2]}, "groups has 2 entries for 97 rows"),
        ({"step": lambda batch: 1.0}, "received float"),
        ({"step": lambda batch: torch.ones(())}, "depends on the trained weights"),
        ({"validate": lambda: {"f1": 1.0}}, "no 'loss' to pick the best epoch by; it gives f1"),
    ],
)
def test_what_cannot_be_trained_is_refused(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        Problem().fit(**changed)


def test_a_frozen_module_is_refused() -> None:
    problem = Problem()
    problem.module.requires_grad_(False)
    with pytest.raises(InputError, match="no parameter of the model has requires_grad"):
        problem.fit()


@pytest.mark.parametrize(
    "changed",
    [
        {"epochs": 0},
        {"batch_size": 0},
        {"learning_rate": math.nan},
        {"warmup": 1.5},
        {"schedule": "square"},
        {"seed": -1},
        {"seed": 2**32},
        {"early_stopping_epochs": -1},
    ],
)
def test_settings_out_of_range_are_refused(changed: dict[str, Any]) -> None:
    (name,) = changed
    with pytest.raises(InputError, match=f"{name}.*received"):
        settings(**changed)


# --- What is shown -------------------------------------------------------------------------


def test_an_epoch_is_a_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    Problem().fit(title="Finetuning tiny", show=True)
    first, *lines = [record.message for record in caplog.records]
    assert first == "Finetuning tiny"
    assert [line.split("  ")[0] for line in lines] == ["epoch 1/3", "epoch 2/3", "epoch 3/3"]
    assert " · val loss 0." in lines[0] and lines[0].endswith(" s  (best)")


@pytest.mark.parametrize("quiet", ["show", "logger"])
def test_it_can_be_quiet(
    quiet: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.INFO)
    if quiet == "logger":
        caplog.set_level(logging.WARNING, "backprop.trainer")
    Problem().fit(show=quiet == "logger")
    assert caplog.records == []
    assert capfd.readouterr() == ("", "")


@pytest.mark.skipif(sys.platform == "win32", reason="no terminals of that kind")
def test_a_terminal_shows_a_bar_and_keeps_a_line_an_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    import pty  # not there on Windows

    here, there = pty.openpty()
    monkeypatch.setenv("TERM", "xterm")
    with os.fdopen(there, "w") as terminal, ThreadPoolExecutor(1) as pool:
        shown = pool.submit(read_all, here)
        monkeypatch.setattr(sys, "stderr", terminal)
        Problem().fit(show=True, title="Finetuning [tiny]")
        terminal.close()
        text = shown.result().decode()
    os.close(here)
    assert "Finetuning [tiny]" in text
    for epoch in (1, 2, 3):
        assert f"epoch {epoch}/3  loss " in text
    assert "(best)" in text
    assert "━" in text


def read_all(file: int) -> bytes:
    """Return all that is written to the other end of a terminal until that is closed."""
    shown = b""
    with suppress(OSError):  # how Linux says that the other end has closed
        while piece := os.read(file, 65536):
            shown += piece
    return shown


def test_the_bar_tells_loss_validation_speed_and_time_left() -> None:
    run = display.Outline("", epochs=3, rows=100, monitor="f1")
    first = Epoch(1, 0.9, {"f1": 0.5}, seconds=12, rows_per_s=10, learning_rate=1)
    assert display.figures(Position(), run) == ""
    begun = Position(rows=50, loss=20.0, training_s=5)
    assert display.figures(begun, run) == "loss 0.4 · 10 rows/s · 25.0 s left"
    later = Position(rows=50, loss=20.0, training_s=5, epochs=[first], best_epoch=1)
    expected = "loss 0.4 · val f1 0.5 (best) · 10 rows/s · 19.0 s left"
    assert display.figures(later, run) == expected
    assert (
        display.epoch_line(first, run, best=True)
        == "epoch 1/3  loss 0.9 · val f1 0.5 · 12.0 s  (best)"
    )
    assert [display.clock(each) for each in (4.24, 65, 7384)] == ["4.2 s", "1:05", "2:03:04"]


# --- Several processes ---------------------------------------------------------------------


@pytest.mark.skipif(not torch.distributed.is_available(), reason="torch without distributed")
def test_two_processes_end_with_the_weights_of_one(tmp_path: Path) -> None:
    launch(tmp_path, 2)
    for name, (rows, size) in STEPS.items():
        problem = trained(rows, size)
        theirs = load_file(tmp_path / f"{name}.safetensors")
        assert close(theirs, problem.weights(), 1e-5)
        assert torch.equal(theirs["unused"], torch.ones(3, 3))
        told = json.loads((tmp_path / f"{name}.json").read_text())
        assert told["losses"] == pytest.approx(problem.losses, abs=1e-5)


def launch(out: Path, count: int) -> None:
    """Run the training script in ``count`` processes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["--multi_gpu", "--num_machines=1", "--mixed_precision=no", "--dynamo_backend=no"]
    counted = [f"--num_processes={count}", f"--main_process_port={port}"]
    launcher = [sys.executable, "-m", "accelerate.commands.launch", *options, *counted]
    process = subprocess.run(
        [*launcher, "-m", "tests.training_script", str(out)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert process.returncode == 0, process.stderr
