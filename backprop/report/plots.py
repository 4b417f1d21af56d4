"""A report as a picture: curves and confusion matrix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from backprop.errors import InputError
from backprop.optional import require
from backprop.report import wording
from backprop.report.contents import Contents

__all__ = ["draw", "save"]

BLUE, VERMILION, GREY = "#0072B2", "#D55E00", "#555555"
"""Of the palette of Okabe and Ito 2008, which the colour-blind can tell apart."""

COLOURS = {"training": BLUE, "validation": VERMILION}
STYLES = {"training": "o-", "validation": "s--"}

MOST_CLASSES = 20
"""Classes a confusion matrix shows; more can't be read."""

LONGEST_LABEL = 26
"""Characters of a label that are shown."""


def draw(report: Contents) -> Any:
    """Return a matplotlib ``Figure``: curves on the left, confusion matrix on the right.

    Raises:
        MissingPackageError: matplotlib is not installed.
        InputError: there is nothing to draw.
    """
    curves = [_draw_loss] if report.history else []
    if any(report.main in epoch.get("metrics", {}) for epoch in report.history):
        curves.append(_draw_figure)
    if not curves and not report.confusion:
        raise InputError(
            "There is nothing to draw: the report has no epochs and no confusion matrix. "
            "print(report) shows its figures."
        )
    matplotlib = require("matplotlib.figure", extra="plot")
    widths = [4.8] * bool(curves) + [7.2] * bool(report.confusion)
    height = 6.4 if report.confusion else 2.9 * len(curves)
    figure = matplotlib.Figure(figsize=(sum(widths), height), layout="constrained")
    facts = (report.model, wording.title(report), report.method)
    figure.suptitle(", ".join(fact for fact in facts if fact), fontsize=10)
    sides = figure.subfigures(1, len(widths), width_ratios=widths, squeeze=False)[0]
    for i, curve in enumerate(curves):
        curve(sides[0].add_subplot(len(curves), 1, i + 1), report)
    if report.confusion:
        _draw_confusion(sides[-1].add_subplot(), report)
    return figure


def save(figure: Any, path: Path) -> Path:
    """Write the figure and return ``path``.

    Raises:
        InputError: the path can't be written, or matplotlib does not know the format that its
            ending names.
    """
    require("matplotlib.backends.backend_agg", extra="plot").FigureCanvasAgg(figure)
    try:
        figure.savefig(path, dpi=150)
    except ValueError as error:
        raise InputError(f"{path} can't be written ({error}); end it in .png.") from error
    except OSError as error:
        raise InputError(f"{path} can't be written ({error.strerror}).") from error
    return path


def _draw_loss(axes: Any, report: Contents) -> None:
    curves = {
        "training": [epoch.get("loss") for epoch in report.history],
        "validation": [epoch.get("metrics", {}).get("loss") for epoch in report.history],
    }
    _draw_curves(axes, report, curves)
    axes.set_ylim(0, 1.08 * axes.dataLim.y1 or 1)
    axes.set_ylabel("loss")


def _draw_figure(axes: Any, report: Contents) -> None:
    values = [epoch.get("metrics", {}).get(report.main) for epoch in report.history]
    _draw_curves(axes, report, {"validation": values})
    axes.set_ylabel(wording.named(report.main))


def _draw_curves(axes: Any, report: Contents, curves: Mapping[str, Sequence[Any]]) -> None:
    """Draw what there is of ``curves`` over the epochs, and mark the best epoch."""
    numbers = [epoch["number"] for epoch in report.history]
    for name, values in curves.items():
        heights = [np.nan if value is None else value for value in values]
        if not np.isnan(heights).all():
            axes.plot(numbers, heights, STYLES[name], color=COLOURS[name], label=name, markersize=4)
    if report.best_epoch:
        mark = {"color": GREY, "linewidth": 1, "linestyle": ":", "zorder": 0}
        axes.axvline(report.best_epoch, label=f"best epoch ({report.best_epoch})", **mark)
    axes.set_xlabel("epoch")
    axes.set_xlim(numbers[0] - 0.5, numbers[-1] + 0.5)
    axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)


def _draw_confusion(axes: Any, report: Contents) -> None:
    """Draw shares of each true class, so that rare classes show as well as common ones."""
    everything = np.array(report.confusion)
    labels = list(report.per_class or range(len(everything)))
    shown = _most_confused(everything)
    counts = everything[np.ix_(shown, shown)]
    shares = counts / np.maximum(everything[shown].sum(axis=1, keepdims=True), 1)
    # By the square root, for most mistakes are a small share of their class.
    scale = require("matplotlib.colors", extra="plot").PowerNorm(0.5, vmin=0, vmax=1)
    image = axes.imshow(shares, cmap="Blues", norm=scale)
    names = [_short(str(labels[i])) for i in shown]
    size = 9 if len(names) <= 10 else 7
    axes.set_xticks(range(len(names)), names, rotation=90, fontsize=size)
    axes.set_yticks(range(len(names)), names, fontsize=size)
    axes.set_xlabel("answer")
    axes.set_ylabel("truth")
    axes.set_title(_confusion_title(report, len(names)), fontsize=9)
    _write_numbers(axes, counts, shares, size - 1)
    axes.figure.colorbar(image, ax=axes, label="share of the true class", shrink=0.7)


def _confusion_title(report: Contents, shown: int) -> str:
    there = len(report.confusion or ())
    what = "all classes" if shown == there else f"the {shown} most confused of {there} classes"
    return f"{wording.measured_on(report)}, {what}"


def _most_confused(counts: Any) -> Any:
    """Return the numbers of the classes with the most wrong rows, in their own order."""
    wrong = counts.sum(axis=0) + counts.sum(axis=1) - 2 * counts.diagonal()
    return np.sort(np.argsort(-wrong, kind="stable")[:MOST_CLASSES])


def _write_numbers(axes: Any, counts: Any, shares: Any, size: int) -> None:
    for (i, j), count in np.ndenumerate(counts):
        if count:
            colour = "white" if shares[i, j] > 0.35 else "black"
            axes.text(j, i, f"{count}", ha="center", va="center", color=colour, fontsize=size)


def _short(label: str) -> str:
    """Return a label that fits; the middle goes, since related labels begin alike."""
    if len(label) <= LONGEST_LABEL:
        return label
    half = LONGEST_LABEL // 2
    return f"{label[:half]}…{label[-half:]}"
