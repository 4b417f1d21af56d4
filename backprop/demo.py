"""All nine tasks on real inputs, then a model finetuned, saved, and used by another process."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.box import HORIZONTALS
from rich.console import Console
from rich.table import Table
from rich.text import Text

from backprop.models.auto import AutoModel
from backprop.optional import load
from backprop.report.summary import headline
from backprop.similarity import cosine_similarity
from backprop.specs import SPECS

__all__ = ["EXAMPLES", "Example", "demo"]

FILES = Path(__file__).with_name("examples")
SALLY = "Sally lives in London. On Sundays she rows on the Thames with her brother Tom."
LONGEST = 108
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
            "prev_qa": [("Where does Sally live?", "London")],
            "question": "Who does she row with?",
            "context": SALLY,
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

LEARNER, MAIL = "text-classification", FILES / "mail.csv"
"""The task that is finetuned at the end, and the rows it learns from."""

LETTER = "They took the money from my card two times."
"""What is asked then; it is not in the file."""


def demo() -> bool:
    """Print a table of every example, then finetune a model and compare it with its saved copy.

    Returns:
        Whether everything worked and the two gave the same answer.
    """
    console = Console(highlight=False)
    tasks = Tasks(console)
    table = Table(box=HORIZONTALS, show_lines=True)
    table.add_column("task", style="cyan", no_wrap=True)
    table.add_column("input", ratio=1)
    table.add_column("answer", ratio=1)
    table.add_column("seconds", justify="right", no_wrap=True)
    passed = True
    for example in EXAMPLES:
        try:
            answer, seconds = _timed(example, tasks)
            shown = Text(ANSWERS[SPECS[example.task].answer](answer, example))
        except Exception as error:  # any failure belongs in the table, and the rest still runs
            passed, seconds, shown = False, 0.0, Text(f"{type(error).__name__}: {error}", "red")
        table.add_row(example.task, Text(_input(example)), shown, f"{seconds:.1f}")
    console.print(table)
    try:
        return _finetunes(tasks) and passed
    except Exception as error:  # as above
        console.print(Text(f"{type(error).__name__}: {error}", "red"))
        return False


class Tasks:
    """The tasks on their starter models, each model loaded once.

    Args:
        console: where loading is announced.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self._models: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        """Return the task called ``name``."""
        spec = SPECS[name]
        if spec.default not in self._models:
            started = time.perf_counter()
            self._models[spec.default] = AutoModel.from_pretrained(spec.default)
            seconds = time.perf_counter() - started
            self.console.print(f"Loaded {spec.default} ({seconds:.1f} s)", style="dim")
        return load(f"backprop.tasks:{spec.task_class}")(self._models[spec.default])


def _timed(example: Example, tasks: Tasks) -> tuple[Any, float]:
    """Return the example's answer and the seconds it took, loading left out."""
    task = tasks[example.task]
    arguments = {name: _loaded(name, value) for name, value in example.arguments.items()}
    started = time.perf_counter()
    with tasks.console.status(f"{example.task} …"):
        answer = task(**arguments)
    return answer, time.perf_counter() - started


def _loaded(name: str, value: Any) -> Any:
    """Return a text file's content, and anything else as it is."""
    return value.read_text("utf-8") if name == "text" and isinstance(value, Path) else value


# --- For people --------------------------------------------------------------------------


def _input(example: Example) -> str:
    """Return the input, one line a value, options left out."""
    lines: list[str] = []
    for name, value in example.arguments.items():
        items = value if isinstance(value, list) and name != "labels" else [value]
        lines += [_short(_value(name, item)) for item in items if not isinstance(item, int)]
    return "\n".join(lines)


def _value(name: str, value: Any) -> str:
    if isinstance(value, Path):
        text = _loaded(name, value)
        return value.name if text is value else f"{value.name}: {text}"
    if isinstance(value, tuple):
        return f"after: {' '.join(value)}."
    return f"{name}: {', '.join(value)}" if isinstance(value, list) else str(value)


def _short(text: str) -> str:
    return textwrap.shorten(text, LONGEST, placeholder=" …")


def _text(answer: str, example: Example) -> str:
    if example.task != "summarisation":
        return _short(answer)
    given = _loaded("text", example.arguments["text"])
    return f"{_short(answer)} ({len(answer.split())} of {len(given.split())} words)"


def _probabilities(answer: Mapping[str, float], _example: Example) -> str:
    return "\n".join(f"{share:4.0%} {label}" for label, share in answer.items())


def _vectors(answer: list[list[float]], example: Example) -> str:
    """Return the first vector's first numbers, and how alike it and the others are."""
    numbers = ", ".join(f"{number:.3f}" for number in answer[0][:3])
    lines = [f"{numbers}, … ({len(answer[0])} numbers)"]
    names = next(iter(example.arguments.values()))
    for name, vector in zip(names[1:], answer[1:], strict=True):
        likeness = cosine_similarity(answer[0], vector)
        lines.append(f"{likeness:.2f} like {_short(_value('', name))}")
    return "\n".join(lines)


ANSWERS: Mapping[str, Callable[[Any, Example], str]] = {
    "text": _text,
    "probabilities": _probabilities,
    "vector": _vectors,
}
"""What a task answers to how people see it."""


# --- Finetuning --------------------------------------------------------------------------


def _finetunes(tasks: Tasks) -> bool:
    """Finetune and save a model, ask it here and in another process; whether both say the same."""
    task, console = tasks[LEARNER], tasks.console
    console.print(f"\nFinetuning {task.name} on {MAIL.name}:")
    report = task.finetune(MAIL)
    how = f"kept aside; method {report.method}, {report.seconds:.1f} s"
    console.print(Text(f"{headline(report)} ({how})", "bold"))
    here = task(LETTER)
    with tempfile.TemporaryDirectory(prefix="backprop-demo-") as folder:
        path = task.save("demo-mail-desk", path=Path(folder, "demo-mail-desk"))
        console.print(f"Saved for as long as the demo runs. Another process asks it: {LETTER!r}")
        with console.status("loading …"):
            process = _in_another_process(path)
    if process.returncode:
        console.print(Text(f"it failed: {process.stderr.strip()}", "red"))
        return False
    there = json.loads(process.stdout)
    for where, answer in (("here", here), ("there", there)):
        shown = ", ".join(f"{label} {share:.4f}" for label, share in answer.items())
        console.print(Text(f"  {where:5}  {shown}"))
    is_same: bool = here == there
    console.print("Equal output." if is_same else Text("The outputs differ.", "red"))
    console.print(Text(f"\nTo do it yourself:\n{_commands()}"), soft_wrap=True)
    return is_same


def _in_another_process(path: Path) -> subprocess.CompletedProcess[str]:
    """Return what ``backprop run`` prints with the saved model."""
    command = [sys.executable, "-m", "backprop", "run", LEARNER, f"--model={path}", "--json"]
    command.append(f"--text={LETTER}")
    return subprocess.run(command, capture_output=True, text=True, check=False)


def _commands() -> str:
    """Return what to type for the same on a terminal."""
    place = MAIL.relative_to(Path.cwd()) if MAIL.is_relative_to(Path.cwd()) else MAIL
    return (
        f"  backprop finetune {LEARNER} {shlex.quote(str(place))} --output mail-desk\n"
        f'  backprop run {LEARNER} --model mail-desk --text "{LETTER}"'
    )
