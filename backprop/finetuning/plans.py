"""The numbers of a training run, from the caller's options and what was measured to work."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from backprop.data import fingerprint
from backprop.finetuning.choice import Choice
from backprop.finetuning.loaders import Validation
from backprop.finetuning.objectives import Objective
from backprop.finetuning.options import Options
from backprop.finetuning.recipes import Recipe, is_measured, planned_epochs
from backprop.trainer import Settings

__all__ = ["identity", "settings"]


def settings(
    objective: Objective, options: Options, recipe: Recipe, validation: Validation, identity: str
) -> Settings:
    """Return the settings of the trainer.

    Args:
        objective: what is learnt.
        options: the caller's.
        recipe: fills in what the caller leaves open.
        validation: says by which figure the best epoch is chosen.
        identity: what a checkpoint must be of.
    """
    planned = options.learning_rate is None and is_measured(objective.model)
    epochs = planned_epochs(objective.model, options, recipe)
    least = min(options.epochs, recipe.passes) if planned else 0
    rows_per_step = options.optimal_batch_size
    if rows_per_step is None and options.batch_size is None and options.train_dataloader is None:
        rows_per_step = recipe.rows_per_step
    return Settings(
        epochs=epochs,
        batch_size=options.batch_size,
        optimal_batch_size=rows_per_step,
        # Without rows to judge by nothing says when to stop.
        early_stopping_epochs=options.early_stopping_epochs if validation.is_possible else 0,
        least_epochs=least,
        learning_rate=recipe.learning_rate
        if options.learning_rate is None
        else options.learning_rate,
        weight_decay=recipe.weight_decay,
        warmup=recipe.warmup,
        seed=options.seed,
        monitor=validation.monitor,
        maximise=validation.maximise,
        checkpoint=Path(options.checkpoint) if options.checkpoint is not None else None,
        fingerprint=identity,
    )


def identity(
    objective: Objective,
    options: Options,
    choice: Choice,
    rows: Sequence[Sequence[int]],
    lengths: dict[str, Any],
    recipe: Recipe,
) -> str:
    """Return what makes a run itself, as JSON: a checkpoint of another is refused.

    Args:
        objective: what is learnt.
        options: the caller's.
        choice: the method.
        rows: those to learn from, and those kept aside.
        lengths: the task's own arguments.
        recipe: of the form of training and the method.
    """
    if options.checkpoint is None:
        return ""
    split = json.dumps([list(map(int, side)) for side in rows])
    hooks = ("step", "configure_optimizers", "train_dataloader", "val_dataloader")
    given = {name: _name(getattr(options, name)) for name in hooks}
    return json.dumps(
        {
            "data": fingerprint(objective.data),
            "rows": hashlib.sha256(split.encode()).hexdigest()[:16],
            "model": [objective.model.name, type(objective.model).__name__],
            "method": choice.method,
            "lengths": lengths,
            "recipe": asdict(recipe),
            "class_weights": str(options.class_weights),
            **{name: value for name, value in given.items() if value is not None},
        }
    )


def _name(hook: Any) -> str | None:
    """Return what a hook of the caller's is called, as far as that tells it from another."""
    return None if hook is None else getattr(hook, "__qualname__", type(hook).__qualname__)
