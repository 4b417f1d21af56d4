"""Use, finetune, check and ship machine-learning models for nine tasks, each in one line.

Nothing heavy is imported until it is used: ``import backprop`` takes milliseconds.
"""

from typing import TYPE_CHECKING

from backprop import errors
from backprop.optional import lazy as _lazy
from backprop.tasks import NAMES as _TASKS

if TYPE_CHECKING:  # so that type checkers and editors know what _NAMES says
    from backprop.tasks import QA as QA
    from backprop.tasks import Emotion as Emotion
    from backprop.tasks import ImageClassification as ImageClassification
    from backprop.tasks import ImageTextVectorisation as ImageTextVectorisation
    from backprop.tasks import ImageVectorisation as ImageVectorisation
    from backprop.tasks import Summarisation as Summarisation
    from backprop.tasks import TextClassification as TextClassification
    from backprop.tasks import TextGeneration as TextGeneration
    from backprop.tasks import TextVectorisation as TextVectorisation

__version__ = "1.0.0.dev0"

_NAMES = {
    **{name: place for name, place in _TASKS.items() if name != "Task"},
    "cosine_similarity": "backprop.similarity:cosine_similarity",
    "load": "backprop.models.saving:load",
    "models": "backprop.models",
    "push_to_hub": "backprop.models.sharing:push_to_hub",
    "save": "backprop.models.saving:save",
    "tasks": "backprop.tasks",
    "testing": "backprop.testing",
    "upload": "backprop.models.sharing:upload",
}

__all__ = ["__version__", "errors", *sorted(_NAMES)]
__getattr__, __dir__ = _lazy(__name__, _NAMES)
