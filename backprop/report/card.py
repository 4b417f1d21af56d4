"""A report as the section of a model card that says how the model was finetuned."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from backprop.report import wording
from backprop.report.contents import Contents

__all__ = ["card"]


def card(report: Contents) -> str:
    """Return Markdown: data, method, figures, figures of each class, settings, labels."""
    sections = [
        ["## Finetuning", *_facts(report)],
        _figures(report),
        _classes(report),
        _settings(report),
        _labels(report),
        _warnings(report),
    ]
    return "\n\n".join("\n".join(section) for section in sections if section) + "\n"


def _facts(report: Contents) -> list[str]:
    facts = {
        "task": wording.title(report),
        "began with": report.model,
        "method": wording.method(report),
        "rows": wording.rows(report),
        "epochs": wording.epochs(report) if report.history else "",
        "time": wording.time(report.seconds),
    }
    return ["", *(f"- {name}: {fact}" for name, fact in facts.items() if fact)]


def _figures(report: Contents) -> list[str]:
    if not report.metrics:
        return []
    names = sorted(report.metrics, key=lambda name: name != report.main)  # the main one first
    rows = [(wording.named(name), wording.figure(report.metrics[name])) for name in names]
    title = f"### Figures on {wording.measured_on(report)}"
    return [title, "", *_table(("figure", "value"), rows)]


def _classes(report: Contents) -> list[str]:
    if not report.per_class:
        return []
    rows = [
        (
            label,
            *(wording.figure(row[key]) for key in ("precision", "recall", "f1")),
            f"{row['support']:,.0f}",
        )
        for label, row in report.per_class.items()
    ]
    header = ("label", "precision", "recall", "F1", "rows")
    return ["### Figures of each class", "", *_table(header, rows)]


def _settings(report: Contents) -> list[str]:
    if not report.settings:
        return []
    rows = [(name, f"`{json.dumps(value)}`") for name, value in report.settings.items()]
    return ["### Settings", "", *_table(("setting", "value"), rows)]


def _labels(report: Contents) -> list[str]:
    if not report.labels:
        return []
    if not report.thresholds:
        return ["### Labels", "", ", ".join(f"`{label}`" for label in report.labels)]
    rows = [
        (label, wording.figure(report.thresholds[label]))
        for label in report.labels
        if label in report.thresholds
    ]
    return ["### Labels and their thresholds", "", *_table(("label", "present from"), rows)]


def _warnings(report: Contents) -> list[str]:
    if not report.warnings:
        return []
    return ["### Warnings", "", *(f"- {each}" for each in report.warnings)]


def _table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[str]:
    line = "|" + "|".join([" --- ", *[" ---: "] * (len(header) - 1)]) + "|"
    return [_row(header), line, *map(_row, rows)]


def _row(cells: Sequence[Any]) -> str:
    escaped = (" ".join(str(cell).split()).replace("|", "\\|") for cell in cells)
    return f"| {' | '.join(escaped)} |"
