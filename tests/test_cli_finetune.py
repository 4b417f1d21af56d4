"""``backprop finetune`` and ``backprop evaluate``: files in, a saved model and a report out."""

from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import backprop
from backprop import artefact
from backprop.cli import main
from backprop.cli.finetune import METHODS, column_flag
from backprop.finetuning.options import METHODS as KNOWN_METHODS
from backprop.models.auto import AutoModel
from backprop.models.saving import save
from backprop.specs import SPECS
from tests import tiny

pytestmark = pytest.mark.usefixtures("one_thread")

LETTERS = "".join(f"the cat sleeps {i},animals\nthe train is late {i},travel\n" for i in range(8))
QUICK = ["--epochs", "1", "--batch-size", "8"]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return a function that saves a tiny model of a kind, once, and returns its folder."""
    place = tmp_path_factory.mktemp("saved")

    @functools.cache
    def make(kind: str) -> Path:
        model = AutoModel.from_pretrained(tiny.folder(kind))
        return save(model, name=f"tiny-{kind.replace('_', '-')}", path=place / kind)

    return make


@pytest.fixture
def letters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a file to learn from; the cache is an empty folder."""
    monkeypatch.setenv("BACKPROP_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "letters.csv"
    path.write_text(f"body,folder\n{LETTERS}")
    return path


NAMED = ["--text", "body", "--label", "folder"]


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Return a function that gives a command line's exit code, output and standard error."""

    def run(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        code = ended.value.code
        assert isinstance(code, int)
        return code, *capsys.readouterr()

    return run


Cli = Callable[..., tuple[int, str, str]]
Saved = Callable[[str], Path]


def test_a_table_is_learnt_from_and_the_model_used_by_its_name(
    cli: Cli, letters: Path, saved: Saved
) -> None:
    model = saved("sentence_transformer")
    command = ["finetune", "text-classification", letters, *NAMED, "--model", model, *QUICK]
    code, out, err = cli(*command, "--method", "full", "--output", "my-desk")
    assert code == 0, err
    assert out.startswith("text-classification (single_label): accuracy ")
    assert not any(line.endswith(" ") for line in out.splitlines())
    assert "epoch 1/1" in err
    assert "backprop run text-classification --model my-desk" in err.splitlines()[-1]
    code, out, err = cli("run", "text-classification", "--model", "my-desk", "--text", "x")
    assert (code, err) == (0, "")
    assert {line.split("\t")[0] for line in out.splitlines()} == {"animals", "travel"}


def test_reports_as_json_and_drawn(cli: Cli, letters: Path, saved: Saved, tmp_path: Path) -> None:
    files = {name: tmp_path / name for name in ("report.json", "curves.png")}
    flags = ["--report", files["report.json"], "--plot", files["curves.png"], "--json"]
    model = ["--model", saved("sentence_transformer"), "--output", f"{tmp_path}/desk"]
    command = ["finetune", "text-classification", letters, *NAMED, "--method", "head"]
    code, out, err = cli(*command, *model, *flags, "--class-weights", "balanced")
    assert code == 0, err
    report = json.loads(out)
    assert report == json.loads(files["report.json"].read_text())
    assert (report["labels"], report["method"]) == (["animals", "travel"], "head")
    assert files["curves.png"].read_bytes().startswith(b"\x89PNG")
    assert artefact.is_artefact(tmp_path / "desk")
    command = ["evaluate", "text-classification", letters, *NAMED, "--json"]
    code, out, err = cli(*command, "--model", tmp_path / "desk")
    assert code == 0, err
    assert json.loads(out)["rows"] == {"validation": 16}


def test_a_zero_shot_model_is_measured_by_labels(cli: Cli, letters: Path, saved: Saved) -> None:
    command = ["evaluate", "text-classification", letters, *NAMED]
    command += ["--model", saved("sentence_transformer")]
    code, out, err = cli(*command, "--labels", "animals,travel", "--template", "about {}")
    assert code == 0, err
    assert "on 16 rows" in out
    code, out, err = cli(*command)
    assert (code, out) == (2, "")
    assert "--labels" in err


def test_questions_from_json_lines(cli: Cli, saved: Saved, tmp_path: Path, letters: Path) -> None:
    rows = [
        {"q": "Where?", "answer": "London", "context": f"Sally {i} lives in London."}
        for i in range(8)
    ]
    path = tmp_path / "questions.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    flags = ["--question", "q", "--model", saved("bert_qa"), "--output", "my-qa", *QUICK]
    code, out, err = cli("finetune", "qa", path, *flags, "--max-input-length", "64")
    assert code == 0, err
    assert out.startswith("qa: ")
    assert backprop.QA("my-qa").model.name == "my-qa"


def test_a_folder_of_images(cli: Cli, saved: Saved, tmp_path: Path, letters: Path) -> None:
    for number in range(8):
        path = tmp_path / "photos" / ("cat", "dog")[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        tiny.photo(number).save(path)
    flags = ["--model", saved("vit"), "--output", "my-photos", "--method", "head"]
    code, _, err = cli("finetune", "image-classification", tmp_path / "photos", *flags)
    assert code == 0, err
    answer = backprop.ImageClassification("my-photos")(tiny.photo())
    assert set(answer) == {"cat", "dog"}


def test_a_run_goes_on_from_its_checkpoint(
    cli: Cli, letters: Path, saved: Saved, tmp_path: Path
) -> None:
    command = ["finetune", "text-classification", letters, *NAMED, *QUICK, "--method", "full"]
    command += ["--model", saved("sentence_transformer"), "--checkpoint", tmp_path / "run"]
    first = cli(*command, "--output", "desk-one", "--json")
    again = cli(*command, "--output", "desk-two", "--json")
    assert first[0] == again[0] == 0, first[2] + again[2]
    histories = [json.loads(out)["history"] for _, out, _ in (first, again)]
    # Times are those of the first run, so nothing was trained anew.
    assert histories[0] == histories[1]
    code, _, err = cli(*command, "--output", "desk-three", "--learning-rate", "0.5")
    assert code == 2
    assert "learning_rate" in err


# --- Refusals ----------------------------------------------------------------------------


@pytest.fixture
def no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make loading a model a failure of the test."""

    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("there was work before the error")

    monkeypatch.setattr(AutoModel, "from_pretrained", refuse)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "pass --output NAME"),
        (["--output", "My Desk"], "'My Desk' is not valid"),
        (["--output", "xy"], "'xy' is not valid"),
        (["--output", ".."], "'..' is not valid"),
        (["--output", "all-minilm-l6-v2"], "the name of a catalogue model"),
        (["--output", "english"], "the name of a catalogue model"),
        (["--output", "PLACE/full"], "is not a saved model"),
        (["--output", "PLACE/full/file/desk"], "no folder that can be written to"),
        (["--output", "desk", "--report", "PLACE/none/report.json"], "--report"),
        (["--output", "desk", "--plot", "PLACE/full"], "--plot"),
        (["--output", "desk", "--epochs", "many"], "--epochs"),
        (["--output", "desk", "--model", "no-such-model"], "no-such-model"),
    ],
)
@pytest.mark.usefixtures("no_work")
def test_what_can_t_be_saved_is_refused_before_any_work(
    flags: list[str], message: str, cli: Cli, letters: Path, tmp_path: Path
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    typed = [flag.replace("PLACE", str(tmp_path)) for flag in flags]
    code, out, err = cli("finetune", "text-classification", letters, *typed)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.usefixtures("no_work")
@pytest.mark.parametrize("command", ["finetune", "evaluate"])
def test_data_that_is_not_there(command: str, cli: Cli) -> None:
    code, _, err = cli(command, "qa", "/no/such.csv")
    assert code == 2
    assert "/no/such.csv" in err


def test_all_faults_of_the_data_are_told_by_flags(cli: Cli, letters: Path, saved: Saved) -> None:
    command = ["finetune", "qa", letters, "--question", "bdy", "--model", saved("bert_qa")]
    code, out, err = cli(*command, "--output", "desk")
    assert (code, out) == (2, "")
    assert "--question says that it is 'bdy', but there are only: 'body', 'folder'" in err
    assert "--answer …" in err
    assert "--context …" in err
    assert "columns=" not in err
    assert err.count("\n- ") == 3


def test_faults_have_row_numbers(cli: Cli, letters: Path, saved: Saved) -> None:
    letters.write_text(f"text,label\n{LETTERS} ,animals\na dog,\n")
    command = ["finetune", "text-classification", letters, "--output", "desk"]
    code, _, err = cli(*command, "--model", saved("sentence_transformer"))
    assert code == 2
    assert "row 16" in err
    assert "row 17" in err


# --- Flags -------------------------------------------------------------------------------


def test_flags_of_columns() -> None:
    names = {
        column.name: column_flag(column)
        for spec in SPECS.values()
        for way in spec.training
        for column in way.columns
    }
    assert names["texts"] == "--text"
    assert names["texts1"] == "--text1"
    assert names["prev_qas"] == "--prev-qa"
    assert names["similarity_scores"] == "--score"
    assert len(set(names.values())) == len(names)


def test_methods_are_those_there_are() -> None:
    assert tuple(METHODS.split("|")) == KNOWN_METHODS


# --- Ctrl-C ------------------------------------------------------------------------------


def test_control_c_keeps_and_saves_the_best_weights(
    letters: Path, saved: Saved, tmp_path: Path
) -> None:
    flags = [*NAMED, "--method", "full", "--epochs", "100000", "--early-stopping-epochs", "0"]
    flags += ["--model", str(saved("sentence_transformer")), "--output", f"{tmp_path}/desk"]
    process = subprocess.Popen(
        [sys.executable, "-m", "backprop", "finetune", "text-classification", letters, *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        # A shell's background job ignores Ctrl-C, and so would what it starts.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stderr is not None
    while not process.stderr.readline().startswith("epoch"):
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    assert "interrupted" in out
    assert artefact.is_artefact(tmp_path / "desk")
