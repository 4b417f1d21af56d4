"""A report as a compact table for the terminal."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from backprop.report import wording
from backprop.report.contents import Contents

__all__ = ["headline", "summary"]

WORST = 5
"""Classes shown: those with the lowest F1."""


def headline(report: Contents) -> str:
    """Return one line: the task and the figure to judge by."""
    if report.main not in report.metrics:
        why = "it was interrupted" if report.rows.get("validation") else "no validation rows"
        return f"{wording.title(report)}: not measured ({why})"
    score = wording.figure(report.metrics[report.main])
    name = wording.named(report.main)
    return f"{wording.title(report)}: {name} {score} on {wording.measured_on(report)}"


def summary(report: Contents) -> RenderableType:
    """Return the report for rich to print: facts, worst classes, warnings."""
    parts: list[RenderableType] = [Text(headline(report), "bold"), _facts(report)]
    if report.per_class:
        parts.append(_worst_classes(report))
    parts += [Text(f"Warning: {each}", "yellow") for each in report.warnings]
    return Group(*parts)


def _facts(report: Contents) -> Table:
    facts = {
        "model": report.model,
        "method": wording.method(report),
        "rows": wording.rows(report),
        "labels": f"{len(report.labels):,}" if report.labels else "",
        "other figures": ", ".join(
            f"{wording.named(name)} {wording.figure(value)}"
            for name, value in report.metrics.items()
            if name != report.main
        ),
        "epochs": wording.epochs(report)
        if report.history or report.stopped == "interrupted"
        else "",
        "time": wording.time(report.seconds),
    }
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, fact in facts.items():
        if fact:
            table.add_row(f"  {name}", Text(fact))
    return table


def _worst_classes(report: Contents) -> Table:
    """Return the classes with the lowest F1 of those that validation rows have."""
    classes = {name: row for name, row in (report.per_class or {}).items() if row["support"]}
    worst = sorted(classes, key=lambda name: classes[name]["f1"])[:WORST]
    shown = "all classes" if len(worst) == len(classes) else f"{len(worst)} worst classes"
    table = Table(box=None, header_style="dim", padding=(0, 2, 0, 0))
    table.add_column(f"  {shown}", overflow="fold")
    for name in ("F1", "precision", "recall", "rows"):
        table.add_column(name, justify="right")
    for name in worst:
        row = classes[name]
        figures = [wording.figure(row[key]) for key in ("f1", "precision", "recall")]
        table.add_row(Text(f"  {name}"), *figures, f"{row['support']:,.0f}")
    return table
