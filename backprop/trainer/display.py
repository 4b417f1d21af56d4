"""What a training run shows: a bar on a terminal, and a line an epoch anywhere."""

from __future__ import annotations

import logging
import sys
import time
from dataclasses import dataclass
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from backprop.trainer.history import Epoch, Position
from backprop.trainer.settings import Settings

__all__ = ["Display", "display"]

logger = logging.getLogger(__package__)

REFRESH_S = 0.25


@dataclass(frozen=True)
class Outline:
    """What does not change during a run: its title, epochs, and rows an epoch (0: unknown)."""

    title: str
    epochs: int
    rows: int
    monitor: str


class Display(Protocol):
    """Shows how far a run is."""

    def start(self, position: Position) -> None:
        """Begin, perhaps in the middle of a run."""

    def due(self) -> bool:
        """Return whether to call ``step``: what it shows takes time to find out."""

    def step(self, position: Position) -> None:
        """Show the epoch under way."""

    def epoch(self, ended: Epoch, *, best: bool) -> None:
        """Leave a line for an epoch."""

    def stop(self) -> None:
        """Leave the screen as it is."""


def display(settings: Settings, *, rows: int, title: str, show: bool) -> Display:
    """Return what fits the place: a bar on a terminal, else log lines, else nothing.

    The level of the logger ``backprop.trainer``, or of ``backprop``, above INFO quiets both.
    """
    own = logger.level or logging.getLogger("backprop").level
    run = Outline(title, settings.epochs, rows, settings.monitor)
    if not show or own > logging.INFO:
        return Silent()
    if sys.stderr is not None and sys.stderr.isatty():
        return Terminal(run, Console(stderr=True))
    return Lines(run)


class Silent:
    """Shows nothing."""

    def start(self, position: Position) -> None:
        """Show nothing."""

    def due(self) -> bool:
        """Return False."""
        return False

    def step(self, position: Position) -> None:
        """Show nothing."""

    def epoch(self, ended: Epoch, *, best: bool) -> None:
        """Show nothing."""

    def stop(self) -> None:
        """Show nothing."""


class Lines(Silent):
    """Logs one line an epoch."""

    def __init__(self, run: Outline) -> None:
        self._run = run

    def start(self, position: Position) -> None:
        """Log the title."""
        if self._run.title:
            logger.info("%s", self._run.title)

    def epoch(self, ended: Epoch, *, best: bool) -> None:
        """Log the epoch."""
        logger.info("%s", epoch_line(ended, self._run, best=best))


class Terminal:
    """Shows a bar for the epoch under way, and a line for each that ended."""

    def __init__(self, run: Outline, console: Console) -> None:
        self._run = run
        self._console = console
        columns = (
            TextColumn("epoch {task.description}"),
            BarColumn(16),
            TextColumn("{task.fields[figures]}"),
        )
        self._bar = Progress(
            *columns, console=console, transient=True, refresh_per_second=round(1 / REFRESH_S)
        )
        self._task = self._bar.add_task("", total=run.rows or None, figures="")
        self._due_at = 0.0

    def start(self, position: Position) -> None:
        """Print the title and begin the bar."""
        if self._run.title:
            self._console.print(self._run.title, style="bold", highlight=False, markup=False)
        self.step(position)
        self._bar.start()

    def due(self) -> bool:
        """Return whether a quarter of a second has passed."""
        return time.monotonic() >= self._due_at

    def step(self, position: Position) -> None:
        """Move the bar."""
        self._due_at = time.monotonic() + REFRESH_S
        number = min(len(position.epochs) + 1, self._run.epochs)
        self._bar.update(
            self._task,
            description=f"{number}/{self._run.epochs}",
            completed=position.rows,
            figures=figures(position, self._run),
        )

    def epoch(self, ended: Epoch, *, best: bool) -> None:
        """Print the epoch above the bar."""
        line = epoch_line(ended, self._run, best=best)
        self._console.print(line, highlight=False, markup=False)

    def stop(self) -> None:
        """Take the bar away."""
        self._bar.stop()


def figures(position: Position, run: Outline) -> str:
    """Return what stands behind the bar: loss, last validation, speed, time left at most."""
    parts = []
    if position.rows:
        rate = position.rows / max(position.training_s, 1e-9)
        parts.append(f"loss {position.loss / position.rows:.3g}")
        parts += [f"{rate:,.0f} rows/s", *time_left(position, run, rate)]
    if position.epochs and run.monitor in position.epochs[-1].metrics:
        last = position.epochs[-1]
        mark = " (best)" if position.best_epoch == last.number else ""
        parts.insert(1, f"val {run.monitor} {last.metrics[run.monitor]:.3g}{mark}")
    return " · ".join(parts)


def time_left(position: Position, run: Outline, rate: float) -> list[str]:
    """Return how long it takes if no epoch is saved by stopping early; nothing if unknown."""
    if not run.rows:
        return []
    validation = [each.seconds - run.rows / max(each.rows_per_s, 1e-9) for each in position.epochs]
    seconds_each = max(0.0, validation[-1]) if validation else 0.0
    epochs = run.epochs - len(position.epochs)
    seconds = (run.rows * epochs - position.rows) / rate + seconds_each * epochs
    return [f"{clock(seconds)} left"]


def epoch_line(ended: Epoch, run: Outline, *, best: bool) -> str:
    """Return one line of what an epoch came to: the loss, and what picks the best of them."""
    shown = [name for name in dict.fromkeys(("loss", run.monitor)) if name in ended.metrics]
    validation = ", ".join(f"{name} {ended.metrics[name]:.4g}" for name in shown)
    parts = [f"loss {ended.loss:.4g}", f"val {validation}" if shown else "", clock(ended.seconds)]
    number = f"{ended.number:>{len(str(run.epochs))}}/{run.epochs}"
    said = " · ".join(part for part in parts if part)
    return f"epoch {number}  {said}{'  (best)' if best else ''}"


def clock(seconds: float) -> str:
    """Return a time as people write it: 4.2 s, 1:05 or 2:03:04."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
