"""The front door of the trainer: checks what it is given, and puts a run together."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from backprop.errors import InputError
from backprop.trainer import optimisers
from backprop.trainer.batches import Plan
from backprop.trainer.display import display
from backprop.trainer.feeds import Feed, LoaderFeed, PlanFeed
from backprop.trainer.history import History
from backprop.trainer.loop import Run
from backprop.trainer.passes import Passes
from backprop.trainer.processes import Processes
from backprop.trainer.randomness import kept
from backprop.trainer.settings import Settings

__all__ = ["fit"]


def fit(
    module: nn.Module,
    *,
    rows: int,
    lengths: Sequence[int] | None,
    batch: Callable[[Sequence[int]], Any],
    step: Callable[[Any], Tensor],
    validate: Callable[[], Mapping[str, float]] | None,
    settings: Settings,
    groups: Sequence[Hashable] | None = None,
    together: bool = False,
    configure_optimizers: Callable[..., Any] | None = None,
    parameter_groups: Callable[[nn.Module], list[dict[str, Any]]] | None = None,
    before_first_step: Callable[[], None] | None = None,
    train_dataloader: Iterable[Any] | Callable[[], Iterable[Any]] | None = None,
    show: bool = True,
    title: str = "",
) -> History:
    """Train ``module`` in place and return what happened; it ends with its best weights.

    A run follows from its arguments: the same ones give the same weights, bit for bit, on the same
    machine with as many threads. Where ``batch_size`` is None the size of a pass may differ from
    run to run, and rounding with it; History says which it was.

    Ctrl-C stops the run and keeps the best weights, or those there are if no epoch has ended; a
    second one raises KeyboardInterrupt.

    Args:
        module: parameters with ``requires_grad`` are trained. It is left in eval mode, on the
            device it was on (with several processes: the device of its process).
        rows: how many training rows there are.
        lengths: of each row, so that rows of like length share a batch; None: all are alike.
        batch: returns the collated batch of some row numbers, on the CPU.
        step: returns the mean loss over a batch's rows. It uses ``module`` itself: gradients of
            several processes are added up here, so nothing need be wrapped.
        validate: called after each epoch, in eval mode and without gradients, by one process
            only; None lets the training loss pick the best epoch.
        settings: all the numbers.
        groups: of each row; batches then hold at least two rows of a group.
        together: whether the loss compares the rows of a batch with each other; a step then has as
            few passes as memory allows, even if smaller ones were faster.
        configure_optimizers: see ``optimisers.custom``; replaces AdamW and the schedule.
        parameter_groups: see ``optimisers.default``.
        before_first_step: called before any weight is changed.
        train_dataloader: yields batches, and replaces ``rows`` and ``batch``; iterated once an
            epoch. With ``optimal_batch_size``, batches make one step once they have so many rows.
        show: whether to show progress.
        title: printed above it.

    Returns:
        The epochs, which was best, and why the run ended.

    Raises:
        InputError: nothing to train, a hook that returns something else, one row alone that does
            not fit in memory, or a checkpoint of another run.
        ArtefactError: a damaged checkpoint.
        BackpropError: the loss is no finite number; the module has its best weights again.
    """
    _check(module, rows if train_dataloader is None else None, lengths, groups)
    processes = Processes(module)
    place = {"index": processes.index, "count": processes.count}
    plan: Plan | None = None
    feed: Feed
    if train_dataloader is not None:
        per_step = settings.optimal_batch_size
        feed = LoaderFeed(train_dataloader, rows_per_step=per_step, seed=settings.seed, **place)
    else:
        plan = Plan(rows, settings.rows_per_step, settings.seed, lengths, groups)
        feed = PlanFeed(plan, batch, **place)
    passes = Passes(module, feed, step, processes, together=together or groups is not None)
    shown = display(
        settings,
        rows=rows if plan else 0,
        title=title,
        show=show and processes.is_main,
    )
    with kept(processes.device), _left_in_eval_mode(module):
        run = Run(module, passes, feed, validate, settings, processes, shown)
        run.before_first_step = before_first_step
        run.optimisation = (
            optimisers.custom(configure_optimizers, module)
            if configure_optimizers
            else optimisers.default(module, settings, run.steps, parameter_groups)
        )
        facts = {} if settings.checkpoint is None else _facts(module, processes, plan)
        run.begin(facts, plan)
        return run.train()


@contextmanager
def _left_in_eval_mode(module: nn.Module) -> Iterator[None]:
    try:
        yield
    finally:
        module.eval()


def _check(
    module: nn.Module,
    rows: int | None,
    lengths: Sequence[int] | None,
    groups: Sequence[Hashable] | None,
) -> None:
    """Raise InputError where there is nothing to train on, or a list of another length."""
    if not any(parameter.requires_grad for parameter in module.parameters()):
        raise InputError("There is nothing to train: no parameter of the model has requires_grad.")
    if rows is None:
        return
    if rows < 1:
        raise InputError(f"There must be at least one training row; received {rows}.")
    for name, given in (("lengths", lengths), ("groups", groups)):
        if given is not None and len(given) != rows:
            raise InputError(f"{name} has {len(given)} entries for {rows} rows; pass one each.")


def _facts(module: nn.Module, processes: Processes, plan: Plan | None) -> dict[str, Any]:
    """Return what a checkpoint must agree with beside the settings, as JSON."""
    shapes = [
        (name, tuple(each.shape), str(each.dtype), each.requires_grad)
        for name, each in module.named_parameters()
    ]
    facts: dict[str, Any] = {
        "weights": _hash(shapes),
        "frozen weights": _hash_of_frozen(module),
        "processes": processes.count,
    }
    if plan is not None:
        order = [None if each is None else list(each) for each in (plan.lengths, plan.groups)]
        facts |= {"rows": plan.rows, "lengths and groups": _hash(order)}
    return facts


def _hash_of_frozen(module: nn.Module) -> str:
    """Return a hash of the weights that a checkpoint does not hold, since they stay as they are.

    Those under LoRA do not: once its factors are merged, they would be merged again.
    """
    digest = hashlib.sha256()
    for parameter in module.parameters():
        if not parameter.requires_grad:
            flat = parameter.detach().cpu().contiguous().flatten()
            digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]


def _hash(value: object) -> str:
    return hashlib.sha256(repr(value).encode()).hexdigest()[:16]
