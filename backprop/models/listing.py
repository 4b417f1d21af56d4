"""The catalogue as a table people like to read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table

from backprop.catalogue import Entry

__all__ = ["table"]


def table(entries: Sequence[Entry], aliases: Mapping[str, str]) -> None:
    """Print one row a model.

    Args:
        entries: the models.
        aliases: further names, each to the name it stands for.
    """
    also: dict[str, list[str]] = {}
    for alias, name in aliases.items():
        also.setdefault(name, []).append(alias)
    shown = Table(title=f"{len(entries)} models", title_justify="left", header_style="bold")
    shown.add_column("name", style="cyan", no_wrap=True)
    shown.add_column("tasks", ratio=2)
    shown.add_column("size", justify="right", no_wrap=True)
    shown.add_column("dims", justify="right")
    shown.add_column("max", justify="right")
    shown.add_column("languages")
    shown.add_column("licence")
    for entry in entries:
        names = [entry.name, *also.get(entry.name, [])]
        shown.add_row(
            "\n".join(names),
            ", ".join(entry.tasks),
            _parameters(entry.parameters),
            str(entry.dimensions or ""),
            str(entry.max_length or ""),
            _languages(entry.languages),
            entry.licence,
        )
    Console().print(shown)


def _parameters(count: int) -> str:
    """Return a number of parameters as people say it: 22 M, 1.5 B."""
    return f"{count / 1e9:.1f} B" if count >= 1e9 else f"{count / 1e6:.0f} M"


def _languages(codes: Sequence[str]) -> str:
    """Return the languages, or how many where there are many."""
    return ", ".join(codes) if len(codes) <= 3 else f"{len(codes)} languages"
