"""Use, finetune, check and ship machine-learning models for nine tasks, each in one line.

Nothing heavy is imported until it is used: ``import backprop`` takes milliseconds.
"""

from typing import Any

from backprop import errors
from backprop.optional import load as _load
from backprop.tasks import NAMES as _TASKS

__version__ = "1.0.0.dev0"

_NAMES = {
    **{name: place for name, place in _TASKS.items() if name != "Task"},
    "cosine_similarity": "backprop.similarity:cosine_similarity",
    "load": "backprop.models.saving:load",
    "models": "backprop.models",
    "save": "backprop.models.saving:save",
    "tasks": "backprop.tasks",
    "testing": "backprop.testing",
}

__all__ = ["__version__", "errors", *sorted(_NAMES)]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name in _NAMES:
        return _load(_NAMES[name])
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """List the public names."""
    return [*globals(), *__all__]
