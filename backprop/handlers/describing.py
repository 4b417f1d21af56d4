"""Handlers as JSON and back, so that they can be built again where there is no torch.

A handler keeps each argument of its constructor under the argument's name. So its description is
its class and those arguments; engines, tokenizers and the like are named by whoever describes.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from backprop.errors import ArtefactError
from backprop.optional import load

__all__ = ["KINDS", "build", "describe"]

KINDS: Mapping[str, str] = {
    name: f"backprop.{module}:{name}"
    for module, names in {
        "engines": ("Decoding",),
        "handlers.answers": ("GroundedAnswers", "QAPrompt", "WrittenAnswers"),
        "handlers.classifier": ("EmotionClasses", "TextClasses"),
        "handlers.extract": ("Extracts",),
        "handlers.generate": ("TextGenerations",),
        "handlers.hypernyms": ("HypernymLabels",),
        "handlers.images": ("ImageClasses", "ImageLabels", "ImageVectors"),
        "handlers.label_vectors": ("Calibration", "LabelVectors", "PhraseEmotions"),
        "handlers.nli": ("Entailment",),
        "handlers.pairs": ("PairVectors",),
        "handlers.pixels": ("Pixels",),
        "handlers.prompts": ("ChatTemplate",),
        "handlers.spans": ("SpanAnswers",),
        "handlers.summaries": ("Summaries", "WrittenEmotions"),
        "handlers.text_vectors": ("TextVectors",),
        "handlers.writer": ("Writer",),
    }.items()
    for name in names
}
"""Name of a class to where it is; a description can name no other."""

KIND, NAMED = "kind", "named"

Named = Callable[[Any], Any]


def describe(part: Any, name: Named) -> Any:
    """Return ``part`` as JSON.

    Args:
        part: a handler, or something that it was made of.
        name: returns a JSON name for what the caller keeps apart, such as an engine; else None.

    Raises:
        TypeError: there is something in it that has no description.
    """
    if part is None or isinstance(part, (bool, int, float, str)):
        return part
    if isinstance(part, (list, tuple)):
        return [describe(each, name) for each in part]
    if isinstance(part, Mapping):
        return {str(key): describe(value, name) for key, value in part.items()}
    own = name(part)
    if own is not None:
        return {NAMED: own}
    kind = type(part)
    if KINDS.get(kind.__name__) != f"{kind.__module__}:{kind.__name__}":
        raise TypeError(f"{kind.__name__} can't be described.")
    arguments = inspect.signature(kind).parameters
    values = {each: describe(getattr(part, each), name) for each in arguments}
    return {KIND: kind.__name__, **values}


def build(description: Any, named: Named) -> Any:
    """Return what ``describe`` described.

    Args:
        description: JSON.
        named: returns what a name stands for.

    Raises:
        ArtefactError: it names a class that no handler is of.
    """
    if isinstance(description, list):
        return [build(each, named) for each in description]
    if not isinstance(description, dict):
        return description
    if NAMED in description:
        return named(description[NAMED])
    values = {key: build(value, named) for key, value in description.items() if key != KIND}
    if KIND not in description:
        return values
    if description[KIND] not in KINDS:
        raise ArtefactError(f"There is no handler of the kind {description[KIND]!r}.")
    return load(KINDS[description[KIND]])(**values)
