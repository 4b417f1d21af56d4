"""Contour lines as on a map: every model has a terrain of its own, drawn from its name."""

from __future__ import annotations

import hashlib
import math
from itertools import pairwise

from markupsafe import Markup

__all__ = ["descent", "terrain"]

Point = tuple[float, float]

HARMONICS = (1, 2, 3, 5)
"""Waves round the outline; higher ones would look torn."""

POINTS = 28
"""Of one contour line, before it is smoothed."""


def terrain(name: str, *, levels: int = 5) -> Markup:
    """Return an SVG of nested contour lines; the same name always gives the same ones.

    Args:
        name: of the model.
        levels: number of lines.
    """
    shape = _Shape(name)
    lines = "".join(
        f'<path class="contour" d="{_smooth(shape.contour(level / levels))}"/>'
        for level in range(1, levels + 1)
    )
    x, y = shape.centre(0)
    dot = f'<circle class="summit" cx="{x:.1f}" cy="{y:.1f}" r="3.4"/>'
    return Markup(  # noqa: S704 -- numbers and our own words only
        f'<svg class="terrain" viewBox="0 0 100 100" aria-hidden="true">{lines}{dot}</svg>'
    )


def descent(name: str, *, levels: int = 13) -> Markup:
    """Return a large terrain with a path that steps down it, for the head of a page."""
    shape = _Shape(name)
    lines = "".join(
        f'<path class="contour" d="{_smooth(shape.contour(level / levels * 1.25))}"/>'
        for level in range(1, levels + 1)
    )
    steps = [shape.point(1.12 * (1 - i / 9) ** 1.5, -0.5 - 0.42 * i) for i in range(9)]
    steps.append(shape.centre(0))
    path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in steps)
    dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="0.9"/>' for x, y in steps[:-1])
    x, y = steps[-1]
    return Markup(  # noqa: S704 -- numbers and our own words only
        f'<svg class="terrain descent" viewBox="0 0 100 100" aria-hidden="true">{lines}'
        f'<path class="route" pathLength="1" d="{path}"/><g class="steps">{dots}</g>'
        f'<circle class="summit" cx="{x:.1f}" cy="{y:.1f}" r="1.8"/></svg>'
    )


class _Shape:
    """A hill whose outline waves and whose top is off its middle."""

    def __init__(self, name: str) -> None:
        digest = hashlib.sha256(name.encode("utf-8", "replace")).digest()
        shares = [byte / 255 for byte in digest]
        self.phases = [share * math.tau for share in shares[: len(HARMONICS)]]
        self.heights = [
            (0.25 + 0.75 * share) * 0.17 / (1 + i / 2)
            for i, share in enumerate(shares[8 : 8 + len(HARMONICS)])
        ]
        angle, far = shares[16] * math.tau, 8 + 8 * shares[17]
        self.top = (50 + far * math.cos(angle), 50 + far * math.sin(angle))

    def centre(self, level: float) -> Point:
        """Return the middle of the line at ``level``: 0 at the top, 1 at the foot."""
        x, y = self.top
        return x + (50 - x) * min(level, 1), y + (50 - y) * min(level, 1)

    def point(self, level: float, angle: float) -> Point:
        """Return the point of that line in the direction of ``angle``."""
        wave = sum(
            height * math.cos(n * angle + phase + n * 0.35 * level)
            for n, phase, height in zip(HARMONICS, self.phases, self.heights, strict=True)
        )
        radius = 36 * level * (1 + wave)
        x, y = self.centre(level)
        return x + radius * math.cos(angle), y + radius * math.sin(angle)

    def contour(self, level: float) -> list[Point]:
        return [self.point(level, i * math.tau / POINTS) for i in range(POINTS)]


def _smooth(points: list[Point]) -> str:
    """Return a closed curve through the points (Catmull-Rom, as cubic Béziers)."""
    ring = [points[-1], *points, points[0], points[1]]
    parts = [f"M{points[0][0]:.1f} {points[0][1]:.1f}"]
    for i, (start, end) in enumerate(pairwise(ring[1:-1])):
        before, after = ring[i], ring[i + 3]
        first = (start[0] + (end[0] - before[0]) / 6, start[1] + (end[1] - before[1]) / 6)
        second = (end[0] - (after[0] - start[0]) / 6, end[1] - (after[1] - start[1]) / 6)
        numbers = (*first, *second, *end)
        parts.append("C" + " ".join(f"{number:.1f}" for number in numbers))
    return "".join(parts) + "Z"
