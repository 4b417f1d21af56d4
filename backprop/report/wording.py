"""How reports say figures and times."""

from __future__ import annotations

from backprop.report.contents import Contents

__all__ = ["epochs", "figure", "measured_on", "method", "named", "rows", "time", "title"]

ENDINGS = {
    "epochs": "all run",
    "early": "stopped early, since it got no better",
    "interrupted": "interrupted",
}
"""Why training ended, in words."""

NAMES = {
    "exact_match": "exact match",
    "f1": "F1",
    "macro_f1": "macro F1",
    "micro_f1": "micro F1",
    "pearson": "Pearson correlation",
    "rouge_l": "ROUGE-L",
    "spearman": "Spearman correlation",
    "subset_accuracy": "rows all right",
    "weighted_f1": "weighted F1",
}
"""Figures whose name in code is not the one for people."""


def named(figure: str) -> str:
    """Return the name of a figure for people."""
    return NAMES.get(figure, figure.replace("_", " "))


def figure(value: float) -> str:
    """Return a figure with three decimals."""
    return f"{value:.3f}"


def time(seconds: float) -> str:
    """Return a time in the unit that fits."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def title(report: Contents) -> str:
    """Return the task, with its variant where it has several."""
    return f"{report.task} ({report.variant})" if report.variant else report.task


def rows(report: Contents) -> str:
    """Return how many rows were learnt from and measured on."""
    train, aside = (report.rows.get(side, 0) for side in ("train", "validation"))
    return f"{train:,} for training, {aside:,} for validation" if train else f"{aside:,}"


def measured_on(report: Contents) -> str:
    """Return the rows that the figures are of; an evaluation has no other rows."""
    count, kind = report.rows.get("validation", 0), "validation " * bool(report.rows.get("train"))
    return f"{count:,} {kind}row{'s' * (count != 1)}"


def method(report: Contents) -> str:
    """Return the method and, where it was picked, why."""
    return f"{report.method} ({report.why})" if report.why else report.method


def epochs(report: Contents) -> str:
    """Return how many epochs there were, the best, and why they ended."""
    count = len(report.history)
    if not count:
        return "interrupted before the first had ended"
    ending = ENDINGS.get(report.stopped, report.stopped)
    own = f"of epoch {report.best_epoch}" if report.best_epoch else "from before them"
    return f"{count}, {ending}; the weights are those {own}"
