"""What changes the weights: AdamW on a schedule, or what the caller's own hook returns."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from backprop.errors import InputError
from backprop.signatures import needed
from backprop.trainer.settings import Settings

__all__ = ["Optimisation", "custom", "default"]

FUSED = {"cpu", "cuda"}

WANTED = (
    "configure_optimizers must return an optimizer, (optimizer, scheduler), "
    '([optimizer], [scheduler]) or {"optimizer": …, "lr_scheduler": …}'
)


@dataclass
class Optimisation:
    """An optimiser and what sets its learning rates.

    Args:
        optimizer: of torch, or one that is used alike.
        factor: share of the peak rate at a step, counted from 0; None leaves the rates alone.
        scheduler: the caller's own.
        interval: whether ``scheduler`` goes on each ``"step"`` or each ``"epoch"``.
        frequency: it goes on every so many of them.
        monitor: figure that a scheduler for plateaus watches; None is what the run watches.
    """

    optimizer: Optimizer
    factor: Callable[[int], float] | None = None
    scheduler: Any = None
    interval: str = "epoch"
    frequency: int = 1
    monitor: str | None = None
    peaks: list[float] = field(init=False)

    def __post_init__(self) -> None:
        """Note the rates that ``factor`` is a share of."""
        self.peaks = [group["lr"] for group in self.optimizer.param_groups]

    @property
    def learning_rate(self) -> float:
        """The rate of the first group of weights."""
        return float(self.optimizer.param_groups[0]["lr"])

    def step(self, number: int) -> None:
        """Change the weights by their gradients, and clear those; steps count from 0."""
        if self.factor is not None:
            for group, peak in zip(self.optimizer.param_groups, self.peaks, strict=True):
                group["lr"] = peak * self.factor(number)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.interval == "step":
            self._advance(number + 1, None)

    def end_epoch(self, number: int, metrics: Mapping[str, float], score: float) -> None:
        """Let a scheduler that goes by epochs, counted from 1, go on."""
        if self.interval == "epoch":
            watched = score if self.monitor is None else metrics.get(self.monitor, score)
            self._advance(number, watched)

    def state(self) -> dict[str, Any]:
        """Return all that changes as steps are taken."""
        scheduler = None if self.scheduler is None else self.scheduler.state_dict()
        return {"optimizer": self.optimizer.state_dict(), "scheduler": scheduler}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what ``state`` returned."""
        self.optimizer.load_state_dict(state["optimizer"])
        if self.scheduler is not None:
            self.scheduler.load_state_dict(state["scheduler"])

    def _advance(self, number: int, watched: float | None) -> None:
        if self.scheduler is None or number % self.frequency:
            return
        if isinstance(self.scheduler, ReduceLROnPlateau):
            if watched is None:
                raise InputError(
                    "ReduceLROnPlateau watches a validation figure, which there is once an epoch; "
                    'return it with "interval": "epoch".'
                )
            self.scheduler.step(watched)
        else:
            self.scheduler.step()


def default(
    module: nn.Module,
    settings: Settings,
    steps: int | None,
    parameter_groups: Callable[[nn.Module], list[dict[str, Any]]] | None = None,
) -> Optimisation:
    """Return AdamW, with weight decay on matrices alone, and the schedule of ``settings``.

    Args:
        module: its parameters with ``requires_grad`` are trained.
        settings: rate, decay and schedule.
        steps: of the whole run; None where that isn't known, and then the rate stays at its peak.
        parameter_groups: returns groups as AdamW takes them; without ``weight_decay`` a group is
            divided as above.

    Source: decoupled weight decay, Loshchilov & Hutter 2019, arXiv:1711.05101.
    """
    given = parameter_groups(module) if parameter_groups else [{"params": module.parameters()}]
    groups = [part for group in given for part in _decayed(group, settings.weight_decay)]
    kinds = {each.device.type for group in groups for each in group["params"]}
    optimizer = AdamW(groups, lr=settings.learning_rate, fused=True if kinds <= FUSED else None)
    if steps is None:
        return Optimisation(optimizer)
    return Optimisation(optimizer, schedule(settings.schedule, max(1, steps), settings.warmup))


def schedule(name: str, steps: int, warmup: float) -> Callable[[int], float]:
    """Return the share of the peak rate at a step: 1 after the warm-up, and never 0.

    Args:
        name: ``"linear"``, ``"cosine"`` or ``"constant"`` after the warm-up.
        steps: over which it goes; later ones are as the last.
        warmup: share of them over which the rate rises in a line.

    Source: cosine, Loshchilov & Hutter 2017, arXiv:1608.03983.
    """
    rising = math.ceil(warmup * steps)

    def factor(step: int) -> float:
        step = min(step, steps - 1)
        if step < rising:
            return (step + 1) / rising
        done = (step - rising) / (steps - rising)
        if name == "linear":
            return 1 - done
        return (1 + math.cos(math.pi * done)) / 2 if name == "cosine" else 1.0

    return factor


def custom(configure: Callable[..., Any], module: nn.Module) -> Optimisation:
    """Return what the caller's hook makes.

    Args:
        configure: called without arguments, or with the list of trained parameters if it takes
            one. A scheduler goes on once an epoch, unless it comes in a dictionary with
            ``"interval": "step"``, as in Lightning.
        module: what is trained.

    Raises:
        InputError: it returns anything else, several optimisers say.
    """
    made = configure(_trained(module)) if needed(configure) else configure()
    optimizer, scheduler = _parts(made)
    options: dict[str, Any] = {}
    if isinstance(scheduler, Mapping):
        options = {key: scheduler[key] for key in ("interval", "frequency") if key in scheduler}
        options["monitor"] = scheduler.get("monitor")
        scheduler = scheduler.get("scheduler")
    usable = scheduler is None or hasattr(scheduler, "step")
    if not hasattr(optimizer, "param_groups") or not usable:
        raise InputError(f"{WANTED}; received {type(made).__name__} {made!r}.")
    if options.get("interval", "epoch") not in ("step", "epoch"):
        raise InputError(
            f'A scheduler\'s "interval" is "step" or "epoch"; received {options["interval"]!r}.'
        )
    return Optimisation(optimizer, None, scheduler, **options)


def _parts(made: Any) -> tuple[Any, Any]:
    """Return the optimiser and the scheduler, None without one."""
    if isinstance(made, Mapping):
        return made.get("optimizer"), made.get("lr_scheduler")
    pair = made if isinstance(made, (tuple, list)) else (made,)
    if len(pair) == 1:
        pair = (pair[0], None)
    if len(pair) != 2 or hasattr(pair[1], "param_groups"):
        raise InputError(f"{WANTED}, of one optimizer; received {made!r}.")
    return _only(pair[0], "optimizer"), _only(pair[1], "scheduler")


def _only(value: Any, what: str) -> Any:
    if not isinstance(value, (tuple, list)):
        return value
    if len(value) > 1:
        raise InputError(f"configure_optimizers returned {len(value)} of {what}; return one.")
    return value[0] if value else None


def _trained(module: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in module.parameters() if parameter.requires_grad]


def _decayed(group: Mapping[str, Any], weight_decay: float) -> Sequence[dict[str, Any]]:
    """Return the group's trained weights, as two groups unless it says its own decay."""
    trained = [each for each in group["params"] if each.requires_grad]
    if "weight_decay" in group:
        return [{**group, "params": trained}] if trained else []
    matrices = [each for each in trained if each.ndim >= 2]
    others = [each for each in trained if each.ndim < 2]
    decays = ((matrices, weight_decay), (others, 0.0))
    return [{**group, "params": part, "weight_decay": decay} for part, decay in decays if part]
