"""All nine tasks on real inputs, then a model saved and loaded again in another process."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from backprop.models.auto import AutoModel
from backprop.models.saving import save
from backprop.optional import load
from backprop.similarity import cosine_similarity
from backprop.specs import SPECS

__all__ = ["EXAMPLES", "Example", "demo"]

FILES = Path(__file__).with_name("examples")
SALLY = "Sally lives in London. On Sundays she rows on the Thames with her brother Tom."
LONGEST = 88
"""Characters of one input or answer that are shown."""


@dataclass(frozen=True)
class Example:
    """One call of a task.

    Args:
        task: task string.
        arguments: those of the task's call; texts and images may be files. Where vectors come
            back, the first item is compared with each of the others.
    """

    task: str
    arguments: Mapping[str, Any]


EXAMPLES = (
    Example("qa", {"question": "Where does Sally live?", "context": SALLY}),
    Example(
        "qa",
        {
            "question": "Who does she row with?",
            "context": SALLY,
            "prev_qa": [("Where does Sally live?", "London")],
        },
    ),
    Example(
        "text-classification",
        {
            "text": "The parcel arrived two weeks late.",
            "labels": ["payment", "delivery", "product quality"],
        },
    ),
    Example("emotion", {"text": "I really like what you did there"}),
    Example("summarisation", {"text": FILES / "council.txt"}),
    Example("text-generation", {"text": "What is the capital of France?"}),
    Example(
        "text-vectorisation",
        {
            "text": [
                "A cat sleeps on the sofa.",
                "A kitten naps on the couch.",
                "The stock market fell today.",
            ]
        },
    ),
    Example("image-classification", {"image": FILES / "cat.jpg", "top_k": 3}),
    Example(
        "image-classification",
        {"image": FILES / "coffee.jpg", "labels": ["cat", "dog", "cup of coffee"]},
    ),
    Example(
        "image-vectorisation",
        {"image": [FILES / "cat.jpg", FILES / "cat-close.jpg", FILES / "coffee.jpg"]},
    ),
    Example(
        "image-text-vectorisation",
        {
            "image": [FILES / "cat.jpg", FILES / "cat-close.jpg", FILES / "coffee.jpg"],
            "text": ["a cat", "a cat's face", "a cup of coffee"],
        },
    ),
)

SAVED = Example(
    "text-classification",
    {"text": "The parcel arrived two weeks late.", "labels": ["payment", "delivery"]},
)
"""What the saved model is asked, here and in another process."""


def demo() -> bool:
    """Print a table of every example, then compare a model with its saved copy.

    Returns:
        Whether everything worked and the two gave the same answer.
    """
    console = Console(highlight=False)
    table = Table(title="Nine tasks", title_justify="left", show_lines=True)
    table.add_column("task", style="cyan", no_wrap=True)
    table.add_column("input", ratio=1)
    table.add_column("answer", ratio=1)
    table.add_column("seconds", justify="right", no_wrap=True)
    passed = True
    for example in EXAMPLES:
        seconds, answer, succeeded = _tried(example, console)
        passed &= succeeded
        table.add_row(example.task, Text(_shown_input(example)), answer, f"{seconds:.1f}")
    console.print(table)
    return _compare(console) and passed


def _tried(example: Example, console: Console) -> tuple[float, Text, bool]:
    """Return the seconds an example took, its answer for people, and whether there is one."""
    try:
        task = _task(example.task, console)
        started = time.perf_counter()
        with console.status(f"{example.task} …"):
            answer = task(**_loaded(example))
        seconds = time.perf_counter() - started
        show = ANSWERS[SPECS[example.task].answer]
        return seconds, Text(show(answer, example)), True
    except Exception as error:  # whatever it is belongs in the table, and the rest still runs
        return 0.0, Text(f"{type(error).__name__}: {error}", "red"), False
