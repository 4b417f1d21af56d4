"""Use, finetune, check and ship machine-learning models for nine tasks, each in one line.

Nothing heavy is imported until it is used: ``import backprop`` takes milliseconds.
"""

from backprop import errors
from backprop.optional import lazy as _lazy
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
__getattr__, __dir__ = _lazy(__name__, _NAMES)
