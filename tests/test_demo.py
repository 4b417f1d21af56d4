"""The demo: nine tasks on the starter models, and a model finetuned, saved and used."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from backprop import demo
from backprop.pictures import open_picture
from backprop.report import Report
from backprop.specs import SPECS
from tests.guard import run_python

# On a new machine the starter models are fetched and converted first.
pytestmark = pytest.mark.timeout(600)

WIDE = {"COLUMNS": "200", "NO_COLOR": "1"}


@pytest.fixture(scope="module")
def shown() -> str:
    """Return what the demo prints in a process of its own."""
    process = run_python("from backprop.cli import main\nmain(['demo'])", env=WIDE, timeout_s=580)
    assert process.returncode == 0, process.stdout + process.stderr
    return process.stdout


def row(shown: str, task: str, start: str) -> str:
    """Return the lines of the example of ``task`` whose input starts with ``start``."""
    blocks = re.split(r"^ ─+ *$\n", shown, flags=re.MULTILINE)
    [found] = [block for block in blocks if block.split()[:1] == [task] and start in block]
    return found


def test_every_task_answers(shown: str) -> None:
    assert all(f" {task} " in shown for task in SPECS)


@pytest.mark.parametrize(
    ("task", "start", "answer"),
    [
        ("qa", "Where does Sally live?  ", "London"),
        ("qa", "after: Where does Sally live?", "Tom"),
        ("text-generation", "What is the capital", "Paris"),
        ("image-classification", "coffee.jpg", "% cup of coffee"),
        ("text-vectorisation", "A cat sleeps", "(384 numbers)"),
        ("image-vectorisation", "cat.jpg", "(1280 numbers)"),
        ("image-text-vectorisation", "cat.jpg", "(1664 numbers)"),
    ],
)
def test_answers_make_sense(task: str, start: str, answer: str, shown: str) -> None:
    assert answer in row(shown, task, start)


def test_a_cat_is_a_cat(shown: str) -> None:
    best = row(shown, "image-classification", "cat.jpg").splitlines()[0]
    assert best.split("%")[1].split()[1] == "cat"


def test_what_you_did_is_not_anger(shown: str) -> None:
    answer = row(shown, "emotion", "I really like what you did there").split()[-2]
    assert answer in {"admiration", "approval", "joy", "love", "gratitude"}


def test_a_late_parcel_is_about_delivery(shown: str) -> None:
    first = row(shown, "text-classification", "The parcel").splitlines()[0]
    assert "% delivery" in first


def test_the_summary_is_shorter(shown: str) -> None:
    line = next(line for line in shown.splitlines() if " words)" in line)
    words, given = line.split("(")[1].split(" words)")[0].split(" of ")
    assert 0 < int(words) < int(given) / 2


@pytest.mark.parametrize(
    "task", ["text-vectorisation", "image-vectorisation", "image-text-vectorisation"]
)
def test_what_is_alike_has_vectors_that_are(task: str, shown: str) -> None:
    lines = row(shown, task, "").splitlines()
    near, far = (float(line.split(" like ")[0].split()[-1]) for line in lines if " like " in line)
    assert near > 0.5 > far


def test_the_finetuned_model_is_measured_and_right_about_a_new_letter(shown: str) -> None:
    line = next(line for line in shown.splitlines() if line.startswith("text-classification ("))
    assert float(line.split("accuracy ")[1].split()[0]) >= 0.7
    [here] = [line for line in shown.splitlines() if line.split()[:1] == ["here"]]
    shares = dict(part.rsplit(maxsplit=1) for part in here.split(maxsplit=1)[1].split(", "))
    assert max(shares, key=lambda label: float(shares[label])) == "billing"
    assert demo.LETTER not in demo.MAIL.read_text("utf-8")


def test_the_finetuned_model_gives_the_same_in_another_process(shown: str) -> None:
    here, there = (
        line.split(maxsplit=1)[1]
        for line in shown.splitlines()
        if line.split()[:1] in (["here"], ["there"])
    )
    assert here == there
    assert "Equal output." in shown
    assert "  backprop finetune text-classification backprop/examples/mail.csv" in shown


def test_the_photos_are_small_and_their_licence_is_told() -> None:
    readme = (demo.FILES / "README.md").read_text("utf-8")
    files = [path for path in demo.FILES.iterdir() if path.name != "README.md"]
    assert all(f"`{path.name}`" in readme for path in files)
    for photo in demo.FILES.glob("*.jpg"):
        assert photo.stat().st_size <= 60_000
        assert min(open_picture(photo, photo.name).rgb().size) >= 224


# --- Failures ----------------------------------------------------------------------------


class Fake:
    """A task that needs no model."""

    name = "fake"

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def __call__(self, *_: Any, **__: Any) -> Any:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def finetune(self, rows: Path) -> Report:
        assert rows == demo.MAIL
        facts: dict[str, Any] = {"task": demo.LEARNER, "model": "fake", "method": "head"}
        return Report(**facts, metrics={"accuracy": 0.75}, main="accuracy", rows={"validation": 4})

    def save(self, _name: str, path: Path) -> Path:
        return path


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> dict[str, Fake]:
    """Return the fake tasks a demo of one example and a finetuning runs on."""
    tasks = {"emotion": Fake("joy"), demo.LEARNER: Fake({"billing": 0.5})}
    monkeypatch.setenv("COLUMNS", WIDE["COLUMNS"])
    monkeypatch.setattr(demo, "EXAMPLES", (demo.Example("emotion", {"text": "yes"}),))
    monkeypatch.setattr(demo.Tasks, "__getitem__", lambda _self, name: tasks[name])
    answers_in_another_process(monkeypatch, '{"billing": 0.5}')
    return tasks


def answers_in_another_process(
    monkeypatch: pytest.MonkeyPatch, out: str, *, code: int = 0, err: str = ""
) -> None:
    process = subprocess.CompletedProcess([sys.executable], code, out, err)
    monkeypatch.setattr(demo, "_in_another_process", lambda _path: process)


def test_passes_where_all_is_well(
    fakes: dict[str, Fake], capsys: pytest.CaptureFixture[str]
) -> None:
    assert demo.demo()
    assert "accuracy 0.750 on 4 rows" in capsys.readouterr().out


def test_fails_with_one_task_and_shows_the_others(
    fakes: dict[str, Fake], capsys: pytest.CaptureFixture[str]
) -> None:
    fakes["emotion"].answer = RuntimeError("out of joy")
    assert not demo.demo()
    out = capsys.readouterr().out
    assert "RuntimeError: out of joy" in out
    assert "billing 0.5000" in out


def test_fails_where_finetuning_fails(
    fakes: dict[str, Fake], capsys: pytest.CaptureFixture[str]
) -> None:
    fakes[demo.LEARNER].answer = RuntimeError("no letters")
    assert not demo.demo()
    assert "RuntimeError: no letters" in capsys.readouterr().out


def test_fails_where_the_reloaded_model_answers_otherwise(
    fakes: dict[str, Fake], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answers_in_another_process(monkeypatch, '{"billing": 0.5000001}')
    assert not demo.demo()
    assert "The outputs differ." in capsys.readouterr().out


def test_fails_where_the_other_process_fails(
    fakes: dict[str, Fake], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answers_in_another_process(monkeypatch, "", code=2, err="error: damaged")
    assert not demo.demo()
    assert "error: damaged" in capsys.readouterr().out
