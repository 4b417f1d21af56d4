"""The nine tasks: what users touch."""

from typing import Any

from backprop.optional import load

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


def __getattr__(name: str) -> Any:
    """Import a task class when it is first used."""
    if name in NAMES:
        return load(NAMES[name])
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """List what can be imported from here."""
    return [*globals(), *__all__]
