"""The nine tasks: what users touch."""

from backprop.optional import lazy

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
