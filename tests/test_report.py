"""The report of a finetuning: as text, JSON, model card and picture."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from backprop.errors import InputError, MissingPackageError
from backprop.metrics import measure
from backprop.report import Report
from tests.guard import run_python


def epoch(number: int, loss: float, accuracy: float) -> dict[str, Any]:
    metrics = {"loss": loss + 0.1, "accuracy": accuracy}
    return {
        "number": number,
        "loss": loss,
        "metrics": metrics,
        "seconds": 1.5,
        "rows_per_s": 80.0,
        "learning_rate": 2e-5,
    }


def finetuned(classes: int = 7, **changes: Any) -> Report:
    """Return the report of a model that mistakes one row in each class but the first."""
    labels = [f"class {i}" for i in range(classes)]
    truth = [label for i, label in enumerate(labels) for _ in range(i + 2)]
    answers = ["class 0" if i and truth[i - 1] != truth[i] else truth[i] for i in range(len(truth))]
    found = measure("text-classification", "single_label", answers, truth, labels=labels)
    facts = {
        "task": "text-classification",
        "variant": "single_label",
        "model": "all-minilm-l6-v2",
        "method": "full",
        "why": "1,234 rows on a CPU",
        "labels": labels,
        "rows": {"train": 1234, "validation": len(truth)},
        "settings": {"epochs": 20, "class_weights": None},
        "history": [epoch(1, 1.0, 0.5), epoch(2, 0.5, 0.8), epoch(3, 0.4, 0.7)],
        "best_epoch": 2,
        "stopped": "early",
        "metrics": found.values,
        "main": found.main,
        "per_class": found.per_class,
        "confusion": found.confusion,
        "seconds": 75.2,
        "warnings": ["3 texts were cut to 128 tokens."],
    }
    return Report(**{**facts, **changes})


SCORE = f"{(35 - 6) / 35:.3f}"
VECTORS = Report(
    task="text-vectorisation",
    variant="triplet",
    model="mine",
    method="lora",
    rows={"train": 80, "validation": 1},
    metrics={"recall@1": 0.5},
    main="recall@1",
    seconds=7300,
)
EVALUATION = dataclasses.replace(VECTORS, method="", rows={"validation": 12})
UNMEASURED = dataclasses.replace(VECTORS, rows={"train": 80, "validation": 0}, metrics={}, main="")


# --- Text --------------------------------------------------------------------------------


def test_the_text_begins_with_the_figure_to_judge_by() -> None:
    lines = str(finetuned()).split("\n")
    assert lines[0] == f"text-classification (single_label): accuracy {SCORE} on 35 validation rows"
    assert repr(finetuned()) == f"<Report {lines[0]}>"
    assert str(VECTORS).startswith(
        "text-vectorisation (triplet): recall@1 0.500 on 1 validation row"
    )
    assert str(EVALUATION).startswith("text-vectorisation (triplet): recall@1 0.500 on 12 rows\n")
    assert "not measured (no validation rows)" in repr(UNMEASURED)


def test_the_text_has_facts_worst_classes_and_warnings() -> None:
    text = str(finetuned())
    for part in (
        "full (1,234 rows on a CPU)",
        "1,234 for training, 35 for validation",
        "macro F1 0.8",
        "3, stopped early, since it got no better; the weights are those of epoch 2",
        "1 min 15 s",
        "5 worst classes",
        "Warning: 3 texts were cut to 128 tokens.",
    ):
        assert part in text
    worst = [line.split()[1] for line in text.split("\n") if line.strip().startswith("class ")]
    # "class 0" was said 6 times too often; of the others the smallest class loses the most
    assert worst == ["0", "1", "2", "3", "4"]
    assert "\x1b" not in text and text == "\n".join(map(str.rstrip, text.split("\n")))


def test_brackets_in_labels_are_no_markup() -> None:
    rows = {"[red]angry[/red]": {"f1": 1.0, "precision": 1.0, "recall": 1.0, "support": 3}}
    assert "[red]angry[/red]" in str(finetuned(per_class=rows))


def test_classes_without_rows_are_not_called_the_worst() -> None:
    rows = {
        "seen": {"f1": 0.5, "precision": 0.5, "recall": 0.5, "support": 3},
        "unseen": {"f1": 0.0, "precision": 0.0, "recall": 0.0, "support": 0},
    }
    text = str(finetuned(per_class=rows))
    assert "unseen" not in text and "all classes" in text


def test_a_terminal_shows_it_in_colour(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console(force_terminal=True, width=100, color_system="standard")
    with console.capture() as capture:
        console.print(finetuned())
    assert "\x1b[1m" in capture.get() and SCORE in capture.get()
    finetuned().display()
    assert SCORE in capsys.readouterr().out


# --- JSON --------------------------------------------------------------------------------


def test_json_has_every_field(tmp_path: Path) -> None:
    report = finetuned()
    text = report.to_json(tmp_path / "report.json")
    found = json.loads(text)
    assert found == dataclasses.asdict(report)
    assert set(found) == {field.name for field in dataclasses.fields(Report)}
    assert json.loads((tmp_path / "report.json").read_text("utf-8")) == found


def test_json_holds_what_json_knows() -> None:
    settings = {"rate": np.float32(0.5), "sizes": np.arange(2), "path": Path("a"), "é": math.nan}
    text = finetuned(settings=settings).to_json()
    found = json.loads(text, parse_constant=pytest.fail)
    assert found["settings"] == {"rate": 0.5, "sizes": [0, 1], "path": "a", "é": None}
    assert "é" in text


# --- The model card ----------------------------------------------------------------------


def test_the_card_says_how_it_was_trained_and_how_good_it_is() -> None:
    card = finetuned().card()
    for line in (
        "- task: text-classification (single_label)",
        "- began with: all-minilm-l6-v2",
        "- rows: 1,234 for training, 35 for validation",
        "- time: 1 min 15 s",
        "### Figures on 35 validation rows",
        f"| accuracy | {SCORE} |",
        "| class 1 | 1.000 | 0.667 | 0.800 | 3 |",
        "| class_weights | `null` |",
        ", ".join(f"`class {i}`" for i in range(7)),
        "- 3 texts were cut to 128 tokens.",
    ):
        assert line in card.split("\n")
    assert "began with: mine" in VECTORS.card() and "2 h 1 min" in VECTORS.card()
    assert "method" not in EVALUATION.card() and "### Classes" not in EVALUATION.card()


def test_the_card_has_thresholds_and_escapes_labels() -> None:
    card = finetuned(labels=["a|b", "c"], thresholds={"a|b": 0.25, "c": 0.5}).card()
    assert "| a\\|b | 0.250 |" in card.split("\n")
    assert "### Labels and their thresholds" in card


# --- The picture -------------------------------------------------------------------------


def test_without_matplotlib_the_extra_is_named() -> None:
    process = run_python(
        """
        from backprop.report import Report
        epoch = {"number": 1, "loss": 1.0, "metrics": {}}
        Report(task="qa", model="m", method="full", history=[epoch]).plot()
        """,
        blocked=["matplotlib"],
    )
    assert "pip install 'backprop[plot]'" in process.stderr
    assert MissingPackageError.__name__ in process.stderr


def test_a_report_without_epochs_and_classes_has_no_picture() -> None:
    with pytest.raises(InputError, match="nothing to draw"):
        VECTORS.plot()


def test_the_picture_has_curves_and_confusion(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    report = finetuned()
    assert [axes.get_ylabel() for axes in report.plot().get_axes()] == [
        *("loss", "accuracy"),
        *("truth", "share of the true class"),
    ]
    assert report.plot(tmp_path / "report.png") == tmp_path / "report.png"
    with Image.open(tmp_path / "report.png") as image:
        assert image.format == "PNG" and len(np.unique(np.asarray(image.convert("L")))) > 50
    with pytest.raises(InputError, match="end it in .png"):
        report.plot(tmp_path / "report.nonsense")


def test_curves_and_best_epoch_are_where_they_should_be() -> None:
    pytest.importorskip("matplotlib")
    loss, accuracy = finetuned(confusion=None).plot().get_axes()
    lines = {line.get_label(): line for line in loss.get_lines()}
    assert lines["training"].get_xydata().tolist() == [[1, 1.0], [2, 0.5], [3, 0.4]]
    assert lines["validation"].get_ydata().tolist() == pytest.approx([1.1, 0.6, 0.5])
    assert list(lines["best epoch (2)"].get_xdata()) == [2, 2]
    assert accuracy.get_lines()[0].get_ydata().tolist() == [0.5, 0.8, 0.7]


def test_many_classes_show_the_most_confused() -> None:
    pytest.importorskip("matplotlib")
    axes = finetuned(30, history=[]).plot().get_axes()[0]
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert len(names) == 20 and names[0] == "class 0"
    assert axes.get_title().endswith("the 20 most confused of 30 classes")
