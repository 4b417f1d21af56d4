"""Charts as SVG, made by the server; colours and fonts come from classes, never from styles."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

__all__ = ["Series", "bars", "lines"]

WIDTH, HEIGHT = 320, 190
LEFT, RIGHT, TOP, BOTTOM = 38, 6, 10, 30
"""Room around the plot for the axes' words."""

ROW = 34
"""Height of a bar with its name above it."""


@dataclass(frozen=True)
class Series:
    """One line of a chart.

    Args:
        name: for people.
        kind: CSS class of its colour: ``one`` or ``two``.
        points: (x, y), by x.
    """

    name: str
    kind: str
    points: Sequence[tuple[float, float]]


def lines(
    title: str, series: Sequence[Series], *, mark: float | None = None, axis: str = "epoch"
) -> Markup:
    """Return a line chart.

    Args:
        title: what it shows, also for those who can't see it.
        series: the lines; empty ones are left out.
        mark: place on the x axis that gets a dotted line, such as the best epoch.
        axis: name of the x axis.
    """
    shown = [each for each in series if each.points]
    if not shown:
        return Markup("")
    scale = _Scale.of([point for each in shown for point in each.points])
    parts = [_head(title, _words(shown)), *_grid(scale, axis)]
    if mark is not None:
        x = scale.x(mark)
        parts.append(f'<path class="mark" d="M{x:.1f} {TOP}V{HEIGHT - BOTTOM}"/>')
    for each in shown:
        places = [(scale.x(x), scale.y(y)) for x, y in each.points]
        path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
        parts.append(f'<path class="line {each.kind}" d="{path}"/>')
        if len(places) <= 40:
            parts += [
                f'<circle class="dot {each.kind}" cx="{x:.1f}" cy="{y:.1f}" r="3"/>'
                for x, y in places
            ]
    return Markup("".join([*parts, "</svg>"]))  # noqa: S704 -- what is not ours was escaped


def bars(title: str, rows: Mapping[str, float], *, high: float = 1.0) -> Markup:
    """Return horizontal bars with their names and figures.

    Args:
        title: what they show.
        rows: name to figure; a bar ends at ``high``, a figure below 0 has none.
        high: figure of a full bar.
    """
    if not rows:
        return Markup("")
    said = ", ".join(f"{name} {value:.3g}" for name, value in rows.items())
    parts = [_head(title, said, height=ROW * len(rows) + 4)]
    for i, (name, value) in enumerate(rows.items()):
        y, share = i * ROW, min(max(value / high, 0), 1)
        parts.append(
            f'<text class="name" x="0" y="{y + 14}">{escape(_short(name, 34))}</text>'
            f'<text class="value" x="{WIDTH}" y="{y + 14}">{value:.3f}</text>'
            f'<rect class="track" x="0" y="{y + 20}" width="{WIDTH}" height="6" rx="3"/>'
            f'<rect class="bar" x="0" y="{y + 20}" width="{WIDTH * share:.1f}" height="6" rx="3"/>'
        )
    return Markup("".join([*parts, "</svg>"]))  # noqa: S704 -- what is not ours was escaped


@dataclass(frozen=True)
class _Scale:
    """Places in the picture of figures within bounds."""

    low_x: float
    high_x: float
    low_y: float
    high_y: float

    @classmethod
    def of(cls, points: Sequence[tuple[float, float]]) -> _Scale:
        xs, ys = zip(*points, strict=True)
        low, high = min(ys), max(ys)
        pad = (high - low) * 0.08 or abs(high) * 0.1 or 1.0
        floor = max(low - pad, 0) if low >= 0 else low - pad
        return cls(min(xs), max(xs), floor, high + pad)

    def x(self, value: float) -> float:
        room, span = WIDTH - LEFT - RIGHT - 16, self.high_x - self.low_x
        share = (value - self.low_x) / span if span else 0.5
        return LEFT + 8 + room * min(max(share, 0), 1)

    def y(self, value: float) -> float:
        span = self.high_y - self.low_y
        return TOP + (HEIGHT - TOP - BOTTOM) * (1 - (value - self.low_y) / span)


def _head(title: str, said: str, height: int = HEIGHT) -> str:
    label = escape(f"{title}: {_short(said, 400)}")
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{label}">'
        f"<title>{escape(title)}</title>"
    )


def _words(series: Sequence[Series]) -> str:
    """Return the lines in words: where each begins and ends."""
    return "; ".join(
        f"{each.name} from {each.points[0][1]:.3g} to {each.points[-1][1]:.3g}" for each in series
    )


def _grid(scale: _Scale, axis: str) -> list[str]:
    found = []
    for value in _ticks(scale.low_y, scale.high_y, 4):
        y = scale.y(value)
        found.append(
            f'<path class="grid" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>'
            f'<text class="tick end" x="{LEFT - 8}" y="{y + 4:.1f}">{value:.4g}</text>'
        )
    for value in _whole(scale.low_x, scale.high_x):
        x = scale.x(value)
        found.append(
            f'<text class="tick middle" x="{x:.1f}" y="{HEIGHT - BOTTOM + 16}">{value:g}</text>'
        )
    name = f'<text class="tick end" x="{WIDTH - RIGHT}" y="{HEIGHT - 1}">{escape(axis)}</text>'
    return [*found, name]


def _ticks(low: float, high: float, count: int) -> list[float]:
    """Return about ``count`` round numbers from ``low`` to ``high``."""
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    first = math.ceil(low / step)
    return [number * step for number in range(first, math.floor(high / step) + 1)][:12]


def _whole(low: float, high: float) -> list[float]:
    step = max(1, math.ceil((high - low) / 7))
    return [float(number) for number in range(math.ceil(low), math.floor(high) + 1, step)][:12]


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
