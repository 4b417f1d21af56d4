"""The nine tasks: what users touch."""

from typing import TYPE_CHECKING

from backprop.optional import lazy

if TYPE_CHECKING:  # so that type checkers and editors know what NAMES says
    from backprop.tasks.base import Task as Task
    from backprop.tasks.emotion import Emotion as Emotion
    from backprop.tasks.image_classification import ImageClassification as ImageClassification
    from backprop.tasks.qa import QA as QA
    from backprop.tasks.summarisation import Summarisation as Summarisation
    from backprop.tasks.text_classification import TextClassification as TextClassification
    from backprop.tasks.text_generation import TextGeneration as TextGeneration
    from backprop.tasks.vectorisation import ImageTextVectorisation as ImageTextVectorisation
    from backprop.tasks.vectorisation import ImageVectorisation as ImageVectorisation
    from backprop.tasks.vectorisation import TextVectorisation as TextVectorisation

NAMES = {
    "QA": "backprop.tasks.qa:QA",
    "TextClassification": "backprop.tasks.text_classification:TextClassification",
    "Emotion": "backprop.tasks.emotion:Emotion",
    "Summarisation": "backprop.tasks.summarisation:Summarisation",
    "TextGeneration": "backprop.tasks.text_generation:TextGeneration",
    "TextVectorisation": "backprop.tasks.vectorisation:TextVectorisation",
    "ImageClassification": "backprop.tasks.image_classification:ImageClassification",
    "ImageVectorisation": "backprop.tasks.vectorisation:ImageVectorisation",
    "ImageTextVectorisation": "backprop.tasks.vectorisation:ImageTextVectorisation",
    "Task": "backprop.tasks.base:Task",
}
"""Public name to where it is, imported when first used."""

__all__ = sorted(NAMES)
__getattr__, __dir__ = lazy(__name__, NAMES)
