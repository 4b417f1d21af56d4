"""What a caller may choose about a finetuning."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from backprop.errors import InputError
from backprop.specs import Training
from backprop.trainer import Settings

__all__ = ["DEFAULT_EPOCHS", "METHODS", "Options", "lengths_of"]

METHODS = ("auto", "full", "lora", "head")

DEFAULT_EPOCHS = 20
"""At most; recipes plan fewer, where the caller does not say another number."""


@dataclass(frozen=True)
class Options:
    """The arguments of ``Task.finetune``, where they are described.

    Raises:
        InputError: no such method, class weights of another form, or arguments that have no use
            for each other.
    """

    validation_split: float | tuple[Sequence[int], Sequence[int]] = 0.15
    epochs: int = DEFAULT_EPOCHS
    batch_size: int | None = None
    optimal_batch_size: int | None = None
    early_stopping_epochs: int = 1
    train_dataloader: Iterable[Any] | Callable[[], Iterable[Any]] | None = None
    val_dataloader: Iterable[Any] | Callable[[], Iterable[Any]] | None = None
    step: Callable[..., Any] | None = None
    configure_optimizers: Callable[..., Any] | None = None
    variant: str | None = None
    columns: Mapping[str, str] | None = None
    method: str = "auto"
    learning_rate: float | None = None
    class_weights: str | Mapping[str, float] | None = None
    seed: int = 0
    checkpoint: str | Path | None = None
    show: bool = True
    lengths: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse what no finetuning could use."""
        self._make_plain()
        if self.method == "head":
            self._check_head()
        if self.method not in METHODS:
            raise InputError(
                f"method must be one of {', '.join(METHODS)}; received {self.method!r}."
            )
        weights = self.class_weights
        if not (weights is None or weights == "balanced" or isinstance(weights, Mapping)):
            raise InputError(
                'class_weights must be "balanced" or a dictionary of label to weight; received '
                f"{weights!r}."
            )

        if weights is not None and self.step is not None:
            raise InputError(
                "class_weights has no effect on a step of your own, which returns the loss itself; "
                "leave one of the two out."
            )
        for name in ("train_dataloader", "val_dataloader"):
            loader = getattr(self, name)
            if self.epochs != 1 and isinstance(loader, Iterator):
                raise InputError(
                    f"{name} is an iterator ({type(loader).__name__}), which ends with the first "
                    "epoch; pass a DataLoader, a list, or a function that returns a new iterator."
                )

    def _make_plain(self) -> None:
        """Turn NumPy's numbers into Python's, which reports and checkpoints are written with."""
        for name in WHOLE + REAL:
            object.__setattr__(self, name, _plain(getattr(self, name)))
        if isinstance(self.class_weights, Mapping):
            weights = {label: _plain(weight) for label, weight in self.class_weights.items()}
            object.__setattr__(self, "class_weights", weights)

    @property
    def share(self) -> float | tuple[Sequence[int], Sequence[int]]:
        """Which rows are kept aside: none by themselves where there is a ``val_dataloader``."""
        split = self.validation_split
        named = isinstance(split, (tuple, list))
        return split if named or self.val_dataloader is None else 0.0

    def _check_head(self) -> None:
        """Refuse what the last layer, which is solved for, has no use for."""
        names = ("step", "configure_optimizers", "train_dataloader", "val_dataloader")
        unused = [name for name in names if getattr(self, name) is not None]
        if unused:
            raise InputError(
                f"method='head' solves for the last layer and has no use for {' and '.join(unused)}"
                "; leave that out, or use method='full' or method='lora'."
            )

    def check(self) -> None:
        """Refuse numbers that no training run could use, before the model is touched.

        Raises:
            InputError: a number out of its range.
        """
        Settings(
            epochs=self.epochs,
            batch_size=self.batch_size,
            optimal_batch_size=self.optimal_batch_size,
            early_stopping_epochs=self.early_stopping_epochs,
            learning_rate=1.0 if self.learning_rate is None else _positive(self.learning_rate),
            seed=self.seed,
        )


WHOLE = ("epochs", "batch_size", "optimal_batch_size", "early_stopping_epochs", "seed")
REAL = ("validation_split", "learning_rate")


def _plain(value: Any) -> Any:
    """Return a number as Python's own; anything else as it is."""
    if isinstance(value, (bool, int, float)) or not isinstance(value, Real):
        return value
    return int(value) if isinstance(value, Integral) else float(value)


def _positive(rate: float) -> float:
    if not isinstance(rate, Real) or not rate > 0:
        raise InputError(f"learning_rate must be a number above 0; received {rate!r}.")
    return float(rate)


def lengths_of(training: Training, given: Mapping[str, Any], task: str) -> dict[str, int]:
    """Return the arguments that a way to finetune has of its own, all of them lengths in tokens.

    Raises:
        InputError: an unknown argument, or not a whole number above 0.
    """
    known = dict(training.arguments)
    for name, value in given.items():
        if name not in known:
            others = set(Options.__dataclass_fields__) - {"lengths"}
            near = difflib.get_close_matches(name, [*known, *sorted(others)], n=1)
            hint = (
                f"did you mean {near[0]!r}?" if near else f"it has: {', '.join(known) or 'none'}."
            )
            raise InputError(f"finetune for {task} has no argument {name!r}; {hint}")
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise InputError(
                f"{name} must be a whole number of tokens above 0; received {value!r}."
            )
    return {**known, **given}
