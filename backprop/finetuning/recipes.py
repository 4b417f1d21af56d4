"""Learning rates and the like that were measured to work, by form of training and method."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from backprop.finetuning.options import DEFAULT_EPOCHS, Options
from backprop.models.base import BaseModel, PathModel
from backprop.models.pair_encoder import PairEncoder

__all__ = ["RECIPES", "Recipe", "is_measured", "planned_epochs", "recipe_for"]


@dataclass(frozen=True)
class Recipe:
    """How a form of training goes by default.

    Args:
        learning_rate: peak.
        rows_per_step: rows of an optimiser step.
        passes: epochs over which the learning rate falls; training may end earlier or later.
        weight_decay: of AdamW.
        warmup: share of the steps over which the learning rate rises.
        head_rate: learning rate of the last layer, as a multiple of that of the others, where its
            inputs have norm 1; less where they are longer, since its weights are smaller then.
    """

    learning_rate: float
    rows_per_step: int = 32
    passes: int = 8
    weight_decay: float = 0.01
    warmup: float = 0.06
    head_rate: float = 1.0


RECIPES: Mapping[tuple[str, str], Recipe] = MappingProxyType(
    {
        ("classes", "full"): Recipe(1e-4, passes=6),
        ("classes", "lora"): Recipe(1e-3, passes=8),
        ("few", "full"): Recipe(1e-4, passes=6, warmup=0.1, head_rate=200),
        ("images", "full"): Recipe(1e-4, rows_per_step=16, passes=5),
        ("images", "lora"): Recipe(1e-3, passes=8),
        ("spans", "full"): Recipe(2e-4, passes=3),
        ("spans", "lora"): Recipe(1e-3, passes=3),
        ("written", "full"): Recipe(5e-5, rows_per_step=16, passes=3),
        ("written", "lora"): Recipe(5e-4, rows_per_step=16, passes=3),
        ("vectors", "full"): Recipe(5e-5, passes=4),
        ("vectors", "lora"): Recipe(5e-4, passes=4),
    }
)
"""Form of training and method to its recipe; ``bench/finetune`` has the measurements."""


def recipe_for(form: str, method: str) -> Recipe:
    """Return the recipe of a form of training; a model of the user's own gets that of classes."""
    return RECIPES.get((form, method), RECIPES["classes", "full"])


MEASURED = (PathModel, PairEncoder)


def is_measured(model: BaseModel) -> bool:
    """Return whether recipes were measured for the model: the library's own, pretrained classes.

    A user's may have layers that are new, and need many epochs.
    """
    return isinstance(model, MEASURED) and type(model).__module__.startswith("backprop.models.")


def planned_epochs(model: BaseModel, options: Options, recipe: Recipe) -> int:
    """Return over how many epochs the learning rate falls."""
    planned = options.learning_rate is None and is_measured(model)
    own = options.epochs != DEFAULT_EPOCHS
    return options.epochs if own or not planned else min(options.epochs, recipe.passes)
