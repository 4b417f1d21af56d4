"""The catalogue as a table people like to read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from backprop.catalogue import MULTILINGUAL, Entry

__all__ = ["table"]


def table(entries: Sequence[Entry], aliases: Mapping[str, str], task: str | None = None) -> None:
    """Print one row a model, with as many columns as the terminal has room for.

    Args:
        entries: the models.
        aliases: further names, each to the name it stands for.
        task: the task they were chosen by; then tasks are not shown.
    """
    console = Console()
    title = f"{len(entries)} models" + (f" for {task}" if task else "")
    shown = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    shown.add_column("name", style="cyan", no_wrap=True)
    others = [column for column in COLUMNS if column != "tasks" or not task]
    room = console.width - max((len(entry.name) for entry in entries), default=0)
    for column in others:
        room -= WIDTHS[column] + 3
        if room >= 0:
            shown.add_column(column, justify="right" if column in NUMBERS else "left", no_wrap=True)
    kept = [str(column.header) for column in shown.columns[1:]]
    also = _names(aliases)
    for entry in entries:
        name = "\n ".join([entry.name, *(f"= {alias}" for alias in also.get(entry.name, []))])
        shown.add_row(name, *(COLUMNS[column](entry) for column in kept))
    console.print(shown)
    hidden = [column for column in others if column not in kept]
    if hidden:
        console.print(f"In a wider terminal, also: {', '.join(hidden)}.", style="dim")


def _names(aliases: Mapping[str, str]) -> dict[str, list[str]]:
    """Return each model's aliases."""
    also: dict[str, list[str]] = {}
    for alias, name in aliases.items():
        also.setdefault(name, []).append(alias)
    return also


def _parameters(entry: Entry) -> str:
    """Return the number of parameters as people say it: 22 M, 1.5 B."""
    count = entry.parameters
    return f"{count / 1e9:.1f} B" if count >= 1e9 else f"{count / 1e6:.0f} M"


def _languages(entry: Entry) -> str:
    """Return the languages, or how many where there are many."""
    codes = entry.languages
    return "many" if MULTILINGUAL in codes or len(codes) > 3 else ", ".join(codes)


COLUMNS: Mapping[str, Callable[[Entry], str]] = {
    "size": _parameters,
    "tasks": lambda entry: "\n".join(entry.tasks),
    "licence": lambda entry: entry.licence,
    "languages": _languages,
    "tokens": lambda entry: str(entry.max_length or ""),
    "dimensions": lambda entry: str(entry.dimensions or ""),
}
"""Columns beside the name, the most wanted first."""

WIDTHS = {"size": 6, "tasks": 24, "licence": 12, "languages": 9, "tokens": 6, "dimensions": 10}
NUMBERS = ("size", "tokens", "dimensions")
