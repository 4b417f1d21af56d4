"""Answers as people read them on a terminal, as programs read them from a pipe, and as JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

__all__ = ["as_json", "as_text", "write"]

MOST_ROWS = 10
MOST_NUMBERS = 4
BAR_WIDTH = 20


def write(text: str) -> None:
    """Write ``text`` to standard output at once."""
    sys.stdout.write(text)
    sys.stdout.flush()


def as_json(answers: Sequence[Any]) -> None:
    """Print each answer as one line of JSON."""
    for answer in answers:
        write(json.dumps(answer, ensure_ascii=False) + "\n")


def as_text(answers: Sequence[Any], *, shorten: bool) -> None:
    """Print answers for people, or for programs where the output is no terminal.

    Those of several lines have an empty line between them.

    Args:
        answers: a str, list of str, list of float or dictionary each.
        shorten: whether a terminal may get the first of many labels only.
    """
    show = _on_terminal if sys.stdout.isatty() else _in_pipe
    blocks = [show(answer, shorten) for answer in answers]
    gap = "\n\n" if any("\n" in block for block in blocks) else "\n"
    if blocks:
        write(gap.join(blocks) + "\n")


def _in_pipe(answer: Any, shorten: bool) -> str:
    if isinstance(answer, Mapping):
        return "\n".join(f"{key}\t{_value(value, 6)}" for key, value in answer.items())
    if _is_vector(answer):
        return "\t".join(f"{number:.8g}" for number in answer)
    return _prose(answer)


def _on_terminal(answer: Any, shorten: bool) -> str:
    if isinstance(answer, Mapping):
        return _table(answer, MOST_ROWS if shorten else len(answer))
    if _is_vector(answer) and len(answer) > MOST_NUMBERS:
        first = "  ".join(f"{number:.4f}" for number in answer[:MOST_NUMBERS])
        return f"{first}  …  ({len(answer)} numbers; --json prints all)"
    return _in_pipe(answer, shorten)


def _table(answer: Mapping[str, Any], most_rows: int) -> str:
    """Return aligned lines, probabilities with a bar."""
    # Here, since output to a pipe needs none of it.
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    shown = Table.grid(padding=(0, 2))
    for key, value in islice(answer.items(), most_rows):
        is_share = isinstance(value, float) and 0 <= value <= 1
        bar = "█" * round(value * BAR_WIDTH) if is_share else ""
        shown.add_row(Text(key, "cyan"), Text(_value(value, 4)), Text(bar, "green"))
    console = Console()
    with console.capture() as captured:
        console.print(shown)
        if len(answer) > most_rows:
            rest = f"… and {len(answer) - most_rows} more; --top-k 0 prints all"
            console.print(Text(rest, "dim"))
    return captured.get().rstrip("\n")


def _prose(answer: Any) -> str:
    if isinstance(answer, list):
        return "\n\n".join(map(str, answer))
    return str(answer)


def _is_vector(answer: Any) -> bool:
    return isinstance(answer, list) and all(isinstance(number, float) for number in answer)


def _value(value: Any, digits: int) -> str:
    return f"{value:.{digits}f}" if isinstance(value, float) else str(value)
