"""The finetuning report of a model, read from what was saved with it; none of it is trusted."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from markupsafe import Markup

from backprop.report.wording import NAMES
from backprop.serve.web.charts import Series, bars, lines

__all__ = ["Confusion", "Report", "figure", "read"]

MOST_EPOCHS = 500
MOST_CLASSES = 60
MOST_CONFUSED = 16
LONGEST = 80
LONGEST_CARD = 100_000
"""Bounds of what is drawn; a report may hold anything."""


@dataclass(frozen=True)
class Confusion:
    """How often each class was taken for which.

    Args:
        labels: the classes.
        rows: for each true class, (count, share of the row in tenths) by answer.
    """

    labels: Sequence[str]
    rows: Sequence[Sequence[tuple[int, int]]]


@dataclass(frozen=True)
class Report:
    """What a page shows of a finetuning.

    Args:
        task: that was learnt; empty where that is not known.
        facts: name to words, such as rows and method.
        metrics: figure to value, the main one first.
        main: name of the figure to judge by.
        per_class: label to F1.
        charts: drawn, with their titles.
        confusion: matrix, or None.
        labels: those the model knows.
    """

    task: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    main: str = ""
    per_class: Mapping[str, float] = field(default_factory=dict)
    charts: Sequence[tuple[str, Markup]] = ()
    confusion: Confusion | None = None
    labels: Sequence[str] = ()

    def __bool__(self) -> bool:
        """Whether there is anything to show."""
        return bool(self.metrics or self.charts or self.per_class or self.facts)


def read(meta: Mapping[str, Any], card: str) -> Report:
    """Return the report that was saved with a model; an empty one where there is none.

    Args:
        meta: the content of ``backprop.json``: ``report``, or ``details["finetuning"]``.
        card: read for its tables of figures where the other has nothing.
    """
    details = meta.get("details")
    inner = details.get("finetuning") if isinstance(details, Mapping) else None
    for place in (meta.get("report"), inner):
        if isinstance(place, Mapping):
            return _of_report(place)
    return _of_card(card)


def figure(name: str) -> str:
    """Return the name of a figure for people."""
    return NAMES.get(name, name.replace("_", " "))


def _of_report(raw: Mapping[str, Any]) -> Report:
    main = _text(raw.get("main"))
    metrics = _numbers(raw.get("metrics"))
    ordered = dict(sorted(metrics.items(), key=lambda item: item[0] != main))
    per_class = {
        _text(label): own["f1"]
        for label, row in _items(raw.get("per_class"))
        if "f1" in (own := _numbers(row))
    }
    labels = [_text(label) for label in _list(raw.get("labels"))[:MOST_CLASSES]]
    return Report(
        task=_text(raw.get("task")),
        facts=_facts(raw),
        metrics={name: value for name, value in ordered.items() if name != "loss"},
        main=main,
        per_class=per_class,
        charts=[chart for chart in _charts(raw, main, metrics, per_class) if chart[1]],
        confusion=_confusion(raw.get("confusion"), list(per_class)),
        labels=labels,
    )


def _facts(raw: Mapping[str, Any]) -> dict[str, str]:
    rows = _numbers(raw.get("rows"))
    seconds = _number(raw.get("seconds"))
    facts = {
        "began with": _text(raw.get("model")),
        "method": _text(raw.get("method")),
        "rows": " + ".join(f"{rows[side]:,.0f} {side}" for side in rows),
        "best epoch": _text(raw.get("best_epoch") or ""),
        "time": f"{seconds:.1f} s" if seconds else "",
    }
    return {name: fact for name, fact in facts.items() if fact}


def _charts(
    raw: Mapping[str, Any], main: str, metrics: Mapping[str, float], per_class: Mapping[str, float]
) -> Iterator[tuple[str, Markup]]:
    epochs = [
        epoch for epoch in _list(raw.get("history"))[:MOST_EPOCHS] if isinstance(epoch, Mapping)
    ]
    best = _number(raw.get("best_epoch")) or None
    training = _points(epochs, lambda epoch: epoch.get("loss"))
    validation = _points(epochs, lambda epoch: _numbers(epoch.get("metrics")).get("loss"))
    losses = [Series("training", "one", training), Series("validation", "two", validation)]
    yield "Loss", lines("Loss", losses, mark=best)
    by_epoch = _points(epochs, lambda epoch: _numbers(epoch.get("metrics")).get(main))
    name = figure(main).capitalize() if main else ""
    yield name, lines(name, [Series("validation", "two", by_epoch)], mark=best)
    shares = {figure(key): value for key, value in metrics.items() if 0 <= value <= 1}
    shares.pop("loss", None)
    yield "Validation figures", bars("Validation figures", shares)
    yield "F1 of each class", bars("F1 of each class", dict(list(per_class.items())[:24]))


def _points(epochs: Sequence[Mapping[str, Any]], value: Any) -> list[tuple[float, float]]:
    found = [(_number(epoch.get("number")), _number(value(epoch))) for epoch in epochs]
    return sorted((x, y) for x, y in found if x is not None and y is not None)


def _confusion(raw: object, labels: Sequence[str]) -> Confusion | None:
    """Return the matrix if it is square, has a label a row, and is small enough to be read."""
    rows = [[_number(cell) for cell in _list(row)] for row in _list(raw)[: MOST_CONFUSED + 1]]
    size = len(labels)
    if not 2 <= size <= MOST_CONFUSED or len(rows) != size:
        return None
    counts = [[int(cell) for cell in row if cell is not None and cell >= 0] for row in rows]
    if any(len(row) != size for row in counts):
        return None
    return Confusion(
        labels,
        [[(cell, round(10 * cell / max(sum(row), 1))) for cell in row] for row in counts],
    )


# --- The card's tables -------------------------------------------------------------------

SECTION = re.compile(
    r"^### Figures (?P<what>on|of each class)[^\n]*\n+(?P<rows>(?:\|[^\n]*\n?)+)", re.M
)
TASK = re.compile(r"^## Finetuning\n+- task: (?P<task>[a-z-]{1,40})", re.MULTILINE)
CELLS = re.compile(r"(?<!\\)\|")


def _of_card(card: str) -> Report:
    metrics: dict[str, float] = {}
    per_class: dict[str, float] = {}
    for section in SECTION.finditer(card[:LONGEST_CARD]):
        for line in section["rows"].strip().split("\n")[2 : MOST_CLASSES + 2]:
            cells = [cell.strip().replace("\\|", "|") for cell in CELLS.split(line)[1:-1]]
            if section["what"] == "on" and len(cells) == 2:
                metrics |= _pair(cells[0], cells[1])
            elif section["what"] != "on" and len(cells) == 5:
                per_class |= _pair(cells[0], cells[3])
    metrics.pop("loss", None)
    shares = {name: value for name, value in metrics.items() if 0 <= value <= 1}
    charts = [
        ("Validation figures", bars("Validation figures", shares)),
        ("F1 of each class", bars("F1 of each class", dict(list(per_class.items())[:24]))),
    ]
    learnt = TASK.search(card[:LONGEST_CARD])
    return Report(
        task=learnt["task"] if learnt else "",
        metrics=metrics,
        main=next(iter(metrics), ""),
        per_class=per_class,
        charts=[chart for chart in charts if chart[1]],
        labels=list(per_class),
    )


def _pair(name: str, value: str) -> dict[str, float]:
    try:
        number = float(value)
    except ValueError:
        return {}
    return {name[:LONGEST]: number} if math.isfinite(number) else {}


# --- Reading what nobody vouches for -----------------------------------------------------


def _items(value: object) -> list[tuple[Any, Any]]:
    return list(value.items())[:MOST_CLASSES] if isinstance(value, Mapping) else []


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _text(value: object) -> str:
    return str(value)[:LONGEST] if isinstance(value, str | int | float) else ""


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) <= 1e12 else None  # neither NaN nor infinity is


def _numbers(value: object) -> dict[str, float]:
    found = ((_text(name), _number(each)) for name, each in _items(value))
    return {name: each for name, each in found if each is not None}
