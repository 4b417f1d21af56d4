"""The scripts that trained the shipped adapters, on made-up data in the forms of the real one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest
import torch
from safetensors.torch import load_file

from backprop.models import starter_adapters
from tests.guard import ROOT
from training import minilm_emotion, minilm_qa
from training.qa_data import QAMR, SHIFTS

pytestmark = pytest.mark.timeout(300)

TOWNS = ("Oslo", "Rome", "Lima", "Cairo", "Leeds", "Paris")
LABELS = ("joy", "anger", "neutral")
SENTENCES = {"joy": "what a lovely day", "anger": "this makes me furious", "neutral": "it is noon"}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a few questions and emotions."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "squadshifts").mkdir()
    for name in SHIFTS:
        paragraphs = [paragraph(name, number) for number in range(12)]
        text = json.dumps({"data": [{"title": name, "paragraphs": paragraphs}]})
        (folder / "squadshifts" / f"{name}.json").write_text(text, "utf-8")
    (folder / "qamr").mkdir()
    for name in QAMR:
        blocks = [
            f"#{number}\nAnn lives in {town} with {number} cats .\n"
            f"Where does Ann live?\t{town}\nWho has cats?\tAnn\n"
            for number, town in enumerate(TOWNS)
        ]
        (folder / "qamr" / f"{name}.tsv").write_text("\n".join(blocks), "utf-8")
    (folder / "goemotions").mkdir()
    (folder / "goemotions" / "labels.txt").write_text("\n".join(LABELS), "utf-8")
    rows = [
        f"{SENTENCES[label]} {number}\t{place}{',2' if number % 5 == 0 and place != 2 else ''}\tid"
        for number in range(40)
        for place, label in enumerate(LABELS)
    ]
    (folder / "goemotions" / "train.tsv").write_text("\n".join(rows), "utf-8")
    return folder


def paragraph(name: str, number: int) -> dict[str, object]:
    """Return a paragraph with a question, in SQuAD's form."""
    town = TOWNS[number % len(TOWNS)]
    context = f"In {name} the person {number} moved. " * 3 + f"Then she settled in {town}."
    start = context.index(town)
    answer = {"text": town, "answer_start": start}
    return {
        "context": context,
        "qas": [{"id": str(number), "question": "Where did she settle?", "answers": [answer] * 2}],
    }


def command(module: str, data: Path, folder: Path, part: float) -> list[str]:
    return [
        *(sys.executable, "-m", module, "--data", str(data)),
        *("--work", str(folder / "work"), "--out", str(folder / "out.safetensors")),
        *("--part", str(part)),
    ]


def run(arguments: list[str]) -> None:
    done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize(
    ("module", "part", "task"),
    [(minilm_qa, 0.002, "qa"), (minilm_emotion, 1.0, "emotion")],
    ids=["qa", "emotion"],
)
def test_a_killed_training_ends_in_the_same_adapter(
    module: ModuleType,
    part: float,
    task: str,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name = module.__name__
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for folder in (whole, killed):
        folder.mkdir()
    run(command(name, data, whole, part))
    kill_once_there_is_a_checkpoint(command(name, data, killed, part), killed)
    run(command(name, data, killed, part))
    first, second = (load_file(folder / "out.safetensors") for folder in (whole, killed))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)
    monkeypatch.setattr(starter_adapters, "FOLDER", whole)
    adapter = starter_adapters.read("out")
    assert adapter.details["task"] == task
    assert any(change.any() for change in adapter.changes.values())
    assert all(value.any() for value in adapter.head.values())


def kill_once_there_is_a_checkpoint(arguments: list[str], folder: Path) -> None:
    process = subprocess.Popen(
        arguments, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    while process.poll() is None and not any((folder / "work").glob("*/*")):
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (folder / "out.safetensors").exists()


def test_questions_are_read_with_their_answers(data: Path) -> None:
    contexts, questions = minilm_qa.read(data)
    assert {question.source for question in questions} == {*SHIFTS, *(f"qamr-{x}" for x in QAMR)}
    for question in questions:
        assert all(contexts[question.context][slice(*place)] for place in question.answers)


def test_emotions_of_a_row_are_all_read(data: Path) -> None:
    rows = minilm_emotion.read(data / "goemotions" / "train.tsv")
    assert len(rows["input_text"]) == 120
    assert rows["output_text"][:3] == ["joy, neutral", "anger, neutral", "neutral"]
