"""``Report``: history, figures and settings of a finetuning, for people and for programs."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console, RenderableType

from backprop.errors import InputError
from backprop.report.card import card
from backprop.report.contents import Contents
from backprop.report.plots import draw, save
from backprop.report.summary import headline, summary

__all__ = ["Report"]

WIDTH = 100
"""Columns of the report as plain text."""


@dataclass(frozen=True, kw_only=True, repr=False)
class Report(Contents):
    """How a finetuning went and how good the model is; ``print(report)`` shows it.

    What it holds is documented by ``Contents``.
    """

    def __repr__(self) -> str:
        """Return one line: the task and the figure to judge by."""
        return f"<Report {headline(self)}>"

    def __str__(self) -> str:
        """Return the report as plain text."""
        console = Console(file=io.StringIO(), width=WIDTH, no_color=True, highlight=False)
        with console.capture() as capture:
            console.print(summary(self))
        return "\n".join(line.rstrip() for line in capture.get().rstrip().split("\n"))

    def __rich__(self) -> RenderableType:
        """Return the report for ``rich.print``."""
        return summary(self)

    def display(self) -> None:
        """Print the report, in colour on a terminal."""
        Console().print(summary(self), highlight=False)

    def to_json(self, path: str | Path | None = None) -> str:
        """Return everything as a JSON object, and write it to ``path`` where one is given.

        A figure that is no number becomes null, since JSON has no NaN.

        Raises:
            InputError: ``path`` can't be written.
        """
        text = json.dumps(_plain(asdict(self)), indent=2, ensure_ascii=False, allow_nan=False)
        if path is not None:
            try:
                Path(path).write_text(f"{text}\n", "utf-8")
            except OSError as error:
                raise InputError(f"{path} can't be written ({error.strerror}).") from error
        return text

    def plot(self, path: str | Path | None = None) -> Any:
        """Draw loss, validation figure and confusion matrix, as far as there are any.

        Args:
            path: where to write the picture; its ending says the format, such as ``.png``.

        Returns:
            ``path`` as a ``pathlib.Path``; without one, a matplotlib ``Figure``.

        Raises:
            MissingPackageError: matplotlib is not installed.
            InputError: there is nothing to draw, matplotlib does not know the format, or ``path``
                can't be written.
        """
        figure = draw(self)
        return figure if path is None else save(figure, Path(path))

    def card(self) -> str:
        """Return the section of the model card about this finetuning, in Markdown."""
        return card(self)


def _plain(value: Any) -> Any:
    """Return ``value`` as JSON knows it: NumPy's numbers as Python's, paths as strings."""
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)
