"""One input of each task to begin with, for the forms and the snippets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

__all__ = ["Example", "example"]

FILES = Path(__file__).parents[2] / "examples"


@dataclass(frozen=True)
class Example:
    """What a form is filled with.

    Args:
        rows: fields by name, one dictionary a row; a picture is the name of one in ``/static``.
        options: option to value.
        labels: to choose from.
    """

    rows: Sequence[Mapping[str, str]]
    options: Mapping[str, Any] = field(default_factory=dict)
    labels: Sequence[str] = ()


@cache
def example(task: str) -> Example:
    """Return the example of a task."""
    if task == "summarisation":
        return Example([{"text": (FILES / "council.txt").read_text("utf-8").strip()}])
    return EXAMPLES[task]


HARBOUR = (
    "The lighthouse at Skarvik was lit for the first time in 1874. Its keeper, Ingrid Dahl, lived "
    "there with her two sons and a goat for thirty-one years. In 1953 the lamp was changed to "
    "electric light, and since 1987 nobody has lived on the island. Boats leave the harbour at "
    "nine every morning in summer."
)

EXAMPLES: Mapping[str, Example] = {
    "qa": Example([{"question": "Who kept the lighthouse?", "context": HARBOUR}]),
    "text-classification": Example(
        [{"text": "The parcel arrived two weeks late and the box was soaked through."}],
        labels=("delivery", "payment", "product quality", "returns"),
    ),
    "emotion": Example([{"text": "I can't believe you remembered. Thank you, this means a lot!"}]),
    "text-generation": Example(
        [{"text": "Write three short sentences about the sea in winter."}],
        options={"max_length": 80},
    ),
    "text-vectorisation": Example(
        [
            {"text": "A cat sleeps on the sofa."},
            {"text": "A kitten naps on the couch."},
            {"text": "The stock market fell today."},
            {"text": "Shares lost value on Tuesday."},
        ]
    ),
    "image-classification": Example([{"image": "cat.jpg"}], options={"top_k": 5}),
    "image-vectorisation": Example(
        [{"image": "cat.jpg"}, {"image": "cat-close.jpg"}, {"image": "coffee.jpg"}]
    ),
    "image-text-vectorisation": Example(
        [
            {"image": "cat.jpg", "text": "a cat"},
            {"image": "cat-close.jpg", "text": "a cat's face"},
            {"image": "coffee.jpg", "text": "a cup of coffee"},
        ]
    ),
}
