"""The command line: flags from SPECS, every way in and out, and errors of one line."""

from __future__ import annotations

import functools
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import backprop
from backprop import catalogue, testing
from backprop.cli import app, main, printing, reading, run
from backprop.errors import SourceError
from backprop.models import places
from backprop.models.auto import AutoModel
from backprop.models.base import BaseModel
from backprop.models.saving import save
from backprop.specs import SPECS, Field, Option, TaskSpec
from tests import tiny
from tests.guard import ROOT, run_python

CONTEXT = "Sally lives in London with her brother Tom."
QUESTION = ["--question", "Where does Sally live?", "--context", CONTEXT]
KINDS = {
    "qa": "bert_qa",
    "text-classification": "bert_nli3",
    "emotion": "sentence_transformer",
    "text-generation": "llama_chat",
    "text-vectorisation": "sentence_transformer",
    "image-classification": "clip",
}
"""Task to the kind of tiny model that does it here."""
RUN_FLAGS = {
    *("jsonl", "lines", "model", "device", "engine", "precision", "api_url", "api_key", "json")
}
SAMPLES: dict[str, tuple[list[str], Any]] = {
    "int": (["7"], 7),
    "float": (["0.5"], 0.5),
    "str": (["a {} b"], "a {} b"),
    "strings": (["a", "b,c"], ["a", "b,c"]),
    "text": (["a", "b"], ["a", "b"]),
    "image": (["a.png", "b.png"], ["a.png", "b.png"]),
    "history": (["a", "b"], ["a", "b"]),
    "labels": (["a,b", "c"], ["a,b", "c"]),
}
"""Kind of a field or option to what is typed, and what it is read as."""


@dataclass(frozen=True)
class Result:
    """What a command line did: its exit code, standard output and standard error."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()

    @property
    def json(self) -> list[Any]:
        return [json.loads(line) for line in self.lines]


Cli = Callable[..., Result]


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    """Return a function that runs a command line in this process."""

    def run(*arguments: object, stdin: str | bytes = b"") -> Result:
        content = stdin.encode() if isinstance(stdin, str) else stdin
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        code = ended.value.code
        assert isinstance(code, int)
        return Result(code, *capsys.readouterr())

    return run


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return the folder of a saved tiny model for each task."""
    place = tmp_path_factory.mktemp("saved")

    @functools.cache
    def saved(kind: str) -> Path:
        model = AutoModel.from_pretrained(tiny.folder(kind))
        return save(model, name=f"tiny-{kind.replace('_', '-')}", path=place / kind)

    return {task: saved(kind) for task, kind in KINDS.items()}


# --- Flags -------------------------------------------------------------------------------


@pytest.fixture
def received(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Return a list that gets the flags of each ``run``, which then does nothing else."""
    found: list[dict[str, Any]] = []
    monkeypatch.setattr(
        run, "answer", lambda spec, flags: found.append({"task": spec.name} | flags)
    )
    return found


def keys(spec: TaskSpec) -> list[Field | Option]:
    return [*spec.fields, *spec.options]


def flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


@pytest.mark.parametrize("spec", SPECS.values(), ids=list(SPECS))
def test_every_field_and_option_is_a_flag_and_nothing_else_is(
    spec: TaskSpec, cli: Cli, received: list[dict[str, Any]]
) -> None:
    result = cli("run", spec.name, "--json")
    options = {option.name for option in spec.options if not option.caller_only}
    files = {f"{field.name}_file" for field in spec.fields if field.kind == "text"}
    stream = {"stream"} if spec.name == "text-generation" else set()
    fields = {field.name for field in spec.fields}
    assert result.code == 0, result.err
    assert set(received[0]) - {"task"} == fields | files | options | RUN_FLAGS | stream
    assert {value for key, value in received[0].items() if key not in ("task", "json")} == {None}


@pytest.mark.parametrize(
    ("spec", "name", "kind"),
    [
        pytest.param(spec, each.name, each.kind, id=f"{spec.name} {each.name}")
        for spec in SPECS.values()
        for each in keys(spec)
        if each.kind != "bool"
    ],
)
def test_a_flag_reads_its_own_type(
    spec: TaskSpec, name: str, kind: str, cli: Cli, received: list[dict[str, Any]]
) -> None:
    typed, expected = SAMPLES[kind]
    result = cli("run", spec.name, *(part for value in typed for part in (flag(name), value)))
    assert result.code == 0, result.err
    assert received[0][name] == expected


@pytest.mark.parametrize(
    ("spec", "option"),
    [
        pytest.param(spec, option, id=f"{spec.name} {option.name}")
        for spec in SPECS.values()
        for option in spec.options
        if option.kind == "bool" and not option.caller_only
    ],
)
def test_a_switch_can_be_turned_off_where_the_model_decides(
    spec: TaskSpec, option: Option, cli: Cli, received: list[dict[str, Any]]
) -> None:
    off = f"--no-{flag(option.name)[2:]}"
    codes = [cli("run", spec.name, written).code for written in (flag(option.name), off)]
    assert codes == [0, 0 if option.default is None else 2]
    assert [each[option.name] for each in received] == [True, False][: codes.count(0)]


@pytest.mark.parametrize("spec", SPECS.values(), ids=list(SPECS))
def test_help_explains_every_flag(spec: TaskSpec) -> None:
    shown = CliRunner().invoke(app, ["run", spec.name, "--help"], env={"COLUMNS": "200"}).output
    words = " ".join(shown.replace("│", " ").split())
    for option in spec.options:
        if not option.caller_only:
            assert flag(option.name) in words
            assert option.doc[1:] in words
            assert all(choice in words for choice in option.choices)
    assert all(flag(field.name) in words for field in spec.fields)
    assert spec.default in words


# --- Ways in -----------------------------------------------------------------------------


def test_a_single_item_by_flags(cli: Cli, folders: dict[str, Path]) -> None:
    result = cli("run", "qa", "--model", folders["qa"], *QUESTION)
    assert (result.code, result.err) == (0, "")
    assert result.lines == [backprop.QA(folders["qa"])("Where does Sally live?", CONTEXT)]


def test_repeated_flags_are_a_batch(cli: Cli, folders: dict[str, Path]) -> None:
    result = cli("run", "emotion", "--model", folders["emotion"], "--text", "a", "--text", "b c")
    assert result.lines == backprop.Emotion(folders["emotion"])(["a", "b c"])


def test_a_conversation(cli: Cli) -> None:
    calls: list[Any] = []

    class Spy(BaseModel):
        def __call__(self, task_input: Any, task: str = "qa") -> Any:
            calls.append(task_input)
            return "Tom" if isinstance(task_input["question"], str) else ["Tom"]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AutoModel, "from_pretrained", lambda *_, **__: Spy())
        history = [
            "--prev-q",
            "Where?",
            "--prev-a",
            "London",
            "--prev-q",
            "When?",
            "--prev-a",
            "Now",
        ]
        assert cli("run", "qa", *QUESTION, *history).lines == ["Tom"]
        row = {"question": "Who?", "context": CONTEXT, "prev_q": ["Where?"], "prev_a": ["London"]}
        assert cli("run", "qa", "--jsonl", "-", stdin=json.dumps(row)).json == ["Tom"]
    assert [(call["prev_q"], call["prev_a"]) for call in calls] == [
        (["Where?", "When?"], ["London", "Now"]),
        ([["Where?"]], [["London"]]),
    ]


@pytest.mark.parametrize(
    ("flags", "stdin", "expected"),
    [
        (["--text", "-"], "one\ntwo\n", "one\ntwo\n"),
        (["--text", "-"], b"\xef\xbb\xbfone", "one"),
        (["--text", "-", "--lines"], "one\r\ntw\u2028o\n", ["one", "tw\u2028o"]),
        (["--text", "-", "--lines"], "one", ["one"]),
        (["--text", "-", "--lines"], "", []),
        (["--text", "-", "--text", "three"], "one", ["one", "three"]),
        (["--text-file", "-"], "one", "one"),
        (["--text-file", "FILE"], "", "in a file\nof two lines\n"),
        (["--text-file", "FILE", "--lines"], "", ["in a file", "of two lines"]),
        (["--text-file", "FILE", "--text-file", "-"], "x", ["in a file\nof two lines\n", "x"]),
        (
            ["--jsonl", "-"],
            '{"text": "a\u2028"}\n{"text": "b", "labels": null}\n',
            ["a\u2028", "b"],
        ),
        (["--jsonl", "-"], "", []),
    ],
)
def test_texts_from_everywhere(
    flags: list[str],
    stdin: str | bytes,
    expected: Any,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    (tmp_path / "file").write_text("in a file\nof two lines\n")
    content = stdin.encode() if isinstance(stdin, str) else stdin
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    call = read(
        "text-classification", *(str(tmp_path / "file") if f == "FILE" else f for f in flags)
    )
    assert call.arguments == {"text": expected}
    assert call.single == isinstance(expected, str)


def read(task: str, *arguments: str) -> reading.Call:
    """Return the call that a command line makes."""
    found: list[reading.Call] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "answer", lambda spec, flags: found.append(reading.read(spec, flags)))
        with pytest.raises(SystemExit) as ended:
            main(["run", task, *arguments])
    assert ended.value.code == 0
    return found[0]


def test_images_by_path_base64_stdin_and_lines(
    cli: Cli, folders: dict[str, Path], tmp_path: Path
) -> None:
    path = tmp_path / "photo.png"
    tiny.photo().save(path)
    command = ["run", "image-classification", "--model", folders["image-classification"], "--json"]
    labels = ["--labels", "cat,dog"]
    by_path = cli(*command, "--image", path, *labels)
    by_stdin = cli(*command, "--image", "-", *labels, stdin=path.read_bytes())
    by_lines = cli(*command, "--image", "-", "--lines", *labels, stdin=f"{path}\n{path}\n")
    assert by_path.code == 0, by_path.err
    assert set(by_path.json[0]) == {"cat", "dog"}
    assert by_stdin.json == by_path.json
    assert len(by_lines.json) == 2
    assert by_lines.json[0] == pytest.approx(by_path.json[0], abs=1e-5)


def test_labels_repeated_or_with_commas() -> None:
    flags = ["--text", "x", "--labels", "a, b", "--labels", "c d"]
    assert read("text-classification", *flags).arguments["labels"] == ["a", "b", "c d"]


def test_json_lines_go_through_one_call(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []

    class Upper(BaseModel):
        def __call__(self, task_input: Any, task: str = "emotion") -> Any:
            calls.append(task_input)
            return [text.upper() for text in task_input["text"]]

    monkeypatch.setattr(AutoModel, "from_pretrained", lambda *_, **__: Upper())
    rows = [{"text": f"täxt {number}"} for number in range(20)]
    result = cli("run", "emotion", "--jsonl", "-", stdin="\n".join(map(json.dumps, rows)))
    assert result.json == [f"TÄXT {number}" for number in range(20)]
    assert "TÄXT" in result.out
    assert len(calls) == 1


# --- Ways out ----------------------------------------------------------------------------


def test_answers_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    printing.as_text([{"a": 0.75, "b": 0.25}, {"c": 1e-7}], shorten=True)
    printing.as_text([[0.5, -0.25], [1.0, 2.0]], shorten=True)
    printing.as_text(["one", "two"], shorten=True)
    printing.as_text(["one\nmore", "two"], shorten=True)
    printing.as_text([["first", "second"]], shorten=True)
    printing.as_text([{"answer": "London", "score": 0.5, "start": 3, "end": 9}], shorten=True)
    printing.as_text([], shorten=True)
    assert capsys.readouterr().out == (
        "a\t0.750000\nb\t0.250000\n\nc\t0.000000\n"
        "0.5\t-0.25\n1\t2\n"
        "one\ntwo\n"
        "one\nmore\n\ntwo\n"
        "first\n\nsecond\n"
        "answer\tLondon\nscore\t0.500000\nstart\t3\nend\t9\n"
    )


def test_answers_on_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")
    printing.as_text([{"[b]cat": 0.75, "dog": 0.25}], shorten=True)
    printing.as_text([{f"label {number}": 0.1 for number in range(12)}], shorten=True)
    printing.as_text([{f"label {number}": 0.1 for number in range(12)}], shorten=False)
    printing.as_text([[0.5] * 384], shorten=True)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines[:2]] == [
        ["[b]cat", "0.7500", "█" * 15],
        ["dog", "0.2500", "█" * 5],
    ]
    assert lines[2:13][-1] == "… and 2 more; --top-k 0 prints all"
    assert len(lines) == 2 + 11 + 12 + 1
    assert lines[-1] == "0.5000  0.5000  0.5000  0.5000  …  (384 numbers; --json prints all)"


def test_json(cli: Cli, folders: dict[str, Path]) -> None:
    command = ["run", "text-vectorisation", "--json", "--model", folders["text-vectorisation"]]
    single = cli(*command, "--text", "one", "--dimensions", "4", "--no-normalise")
    batch = cli(*command, "--text", "one", "--text", "two")
    task = backprop.TextVectorisation(folders["text-vectorisation"])
    assert single.json == [task("one", dimensions=4, normalise=False)]
    assert len(batch.json) == 2


def test_details(cli: Cli, folders: dict[str, Path]) -> None:
    [answer] = cli("run", "qa", "--model", folders["qa"], *QUESTION, "--details", "--json").json
    assert set(answer) == {"answer", "score", "start", "end"}


def test_a_stream_is_the_answer(cli: Cli, folders: dict[str, Path]) -> None:
    command = ["run", "text-generation", "--model", folders["text-generation"], "--text", "hello"]
    plain = cli(*command, "--max-length", 6)
    assert plain.code == 0, plain.err
    assert cli(*command, "--max-length", 6, "--stream").out == plain.out


# --- Errors ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "stdin", "message"),
    [
        (["run", "nope"], "", "nope"),
        (["nope"], "", "nope"),
        (["run", "qa", "--nope"], "", "--nope"),
        (["run", "emotion", "--text", "x", "--top-k", "y"], "", "--top-k"),
        (["run", "emotion", "--text", "x", "--top-k", "0"], "", "top_k must be at least 1"),
        (["run", "emotion", "--text", "x", "--long", "y"], "", "long must be one of"),
        (["run", "emotion", "--text", " "], "", "text is blank"),
        (["run", "emotion", "--json"], "", "emotion needs --text"),
        (["run", "qa", "--question", "x"], "", "qa needs --context"),
        (["run", "emotion", "--text", "x", "--text-file", "y"], "", "both given"),
        (["run", "emotion", "--text-file", "/no/such"], "", "/no/such can't be read"),
        (["run", "emotion", "--text", "-"], b"\xff", "standard input is not UTF-8"),
        (["run", "emotion", "--text", "x", "--lines"], "", "--lines needs"),
        (["run", "qa", "--question", "-", "--context", "-"], "x", "only one flag"),
        (["run", "emotion", "--text", "x", "--jsonl", "-"], '{"text": "y"}', "line 1: 'text'"),
        (["run", "emotion", "--jsonl", "-"], '{"text": "y"}\nx', "line 2: this is not JSON"),
        (["run", "emotion", "--jsonl", "-"], '{"text": "y"}\n\n', "line 2: this is not JSON"),
        (["run", "emotion", "--jsonl", "-"], "[1]", "line 1: an object with text"),
        (["run", "emotion", "--jsonl", "-"], '{"txt": "y"}', "line 1: emotion has no field 'txt'"),
        (["run", "emotion", "--jsonl", "-"], '{"text": ["y"]}', "line 1: text must be one item"),
        (["run", "emotion", "--jsonl", "-"], '{"text": "y", "top_k": 2}', "pass --top-k"),
        (["run", "qa", "--jsonl", "-"], '{"question": "y"}', "line 1: qa needs 'context'"),
        (
            ["run", "text-classification", "--jsonl", "-"],
            '{"text": "y", "labels": ["a"]}\n{"text": "y"}',
            "line 2: 'labels' is missing",
        ),
        (["run", "text-generation", "--text", "a", "--text", "b", "--stream"], "", "--stream"),
        (["run", "image-classification", "--image", "/no/such.png"], "", "no/such.png"),
        (["run", "emotion", "--text", "x", "--model", "no-such-model"], "", "no-such-model"),
        (["run", "emotion", "--text", "x", "--model", "efficientnet-lite0"], "", "does not do"),
        (["models", "--task", "nope"], "", "There is no task 'nope'"),
        (["pull", "all-minilm-l6-v2", "no-such-model"], "", "no-such-model"),
        (["check", "no-such-model"], "", "no-such-model"),
    ],
)
def test_an_error_is_one_line(
    arguments: list[str],
    stdin: str | bytes,
    message: str,
    cli: Cli,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        AutoModel, "from_pretrained", staticmethod(refuse(AutoModel.from_pretrained))
    )
    result = cli(*arguments, stdin=stdin)
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("error: ")
    assert message in result.err
    assert result.err.count("\n") == 1


def refuse(load: Callable[..., Any]) -> Callable[..., Any]:
    """Return ``load`` for names of no model; others must not be loaded to find the error."""

    def loaded(name: str, *args: Any, **options: Any) -> Any:
        assert "no-such" in str(name), "there was model work before the error"
        return load(name, *args, **options)

    return loaded


def test_a_long_message_is_cut_to_its_first_line(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "fetch", failing(SourceError("no room\nmore\nand more")))
    result = cli("pull", "all-minilm-l6-v2")
    assert (result.code, result.err) == (2, "error: no room\n")


def test_an_unexpected_error_is_one_line_and_says_how_to_see_more(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "fetch", failing(RuntimeError("a bug\nhere")))
    result = cli("pull", "all-minilm-l6-v2")
    assert (result.code, result.err) == (1, "error: RuntimeError: a bug (--debug shows where)\n")


@pytest.mark.parametrize("place", [0, 2, 4])
def test_debug_shows_the_traceback(place: int) -> None:
    arguments = ["run", "emotion", "--text", " "]
    arguments.insert(place, "--debug")
    with pytest.raises(backprop.errors.InputError, match="blank"):
        main(arguments)


def test_control_c_is_quiet(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "fetch", failing(KeyboardInterrupt()))
    assert cli("pull", "all-minilm-l6-v2") == Result(130, "", "")


def failing(error: BaseException) -> Callable[..., Any]:
    def fail(*_: Any, **__: Any) -> Any:
        raise error

    return fail


def test_our_warnings_are_lines_and_others_are_not_shown(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    def noisy(_entry: object) -> str:
        import logging
        import warnings

        warnings.warn("noise", stacklevel=1)
        logging.getLogger("somebody").warning("noise")
        logging.getLogger("backprop.sources").warning("mind\nthis")
        logging.getLogger("backprop.progress").info("Fetching it")
        return "there"

    monkeypatch.setattr(places, "fetch", noisy)
    monkeypatch.delenv("TRANSFORMERS_VERBOSITY", raising=False)
    result = cli("pull", "all-minilm-l6-v2")
    assert result.err == "warning: mind this\nFetching it\n"
    assert "TRANSFORMERS_VERBOSITY" not in os.environ


# --- The other commands ------------------------------------------------------------------


def test_version(cli: Cli) -> None:
    assert cli("--version") == Result(0, f"backprop {backprop.__version__}\n", "")


def test_help_lists_the_commands(cli: Cli) -> None:
    shown = cli("--help")
    assert shown.code == 0
    assert all(word in shown.out for word in ("run", "models", "check", "pull", "demo", "--debug"))
    assert all(task in cli("run", "--help").out for task in SPECS)


@pytest.mark.parametrize(
    ("line", "help_of"),
    [
        ("serve --prt 1", "backprop serve"),
        ("run qa --qestion a", "backprop run qa"),
        ("keys create", "backprop keys create"),
        ("modls", "backprop"),
    ],
)
def test_a_mistyped_command_is_shown_its_own_help(line: str, help_of: str, cli: Cli) -> None:
    result = cli(*line.split())
    assert result.code == 2
    assert result.err.endswith(f" See: {help_of} --help\n")


def test_models_in_a_pipe_are_a_line_each(cli: Cli) -> None:
    names = [line.split("\t")[0] for line in cli("models").lines]
    assert names == list(AutoModel.list_models(return_dict=True))
    assert len(names) >= 30


@pytest.mark.parametrize(
    ("flags", "filters"),
    [
        (["--task", "qa"], {"task": "qa"}),
        (["--language", "de", "--size", "base"], {"language": "de", "size": "base"}),
        (["--licence", "mit"], {"licence": "mit"}),
        (["--finetunable"], {"finetunable": True}),
        (["--no-finetunable"], {"finetunable": False}),
        (["--offline"], {"offline": True}),
    ],
)
def test_models_filters(flags: list[str], filters: dict[str, Any], cli: Cli) -> None:
    found = json.loads(cli("models", "--json", *flags).out)
    assert [entry["name"] for entry in found] == [e.name for e in catalogue.entries(**filters)]


def test_models_on_a_terminal_are_a_table(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    with pytest.raises(SystemExit):
        main(["models", "--size", "starter"])
    out = capsys.readouterr().out
    assert "licence" in out
    assert "smollm2-135m-instruct" in out


def test_pull_fetches_the_parts_of_a_model_once(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "fetch", lambda entry: f"/cache/{entry.name}")
    result = cli("pull", "minilm-efficientnet-lite0", "--starter")
    names = [entry.name for entry in catalogue.entries(size="starter") if not entry.parts]
    assert sorted(result.lines) == sorted(f"{name}\t/cache/{name}" for name in names)
    assert cli("pull", "--no-such").code == 2


def test_pull_takes_hub_repositories(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "fetch_repository", lambda name: f"/cache/{name}")
    assert cli("pull", "owner/model").lines == ["owner/model\t/cache/owner/model"]


def test_check_ends_with_1_where_a_requirement_is_not_met(
    cli: Cli, folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    checks = [
        testing.Check("name", passed, "tried it", "" if passed else "why")
        for passed in (True, False)
    ]
    for check, code in zip(checks, (0, 1), strict=True):
        report = testing.Report("tiny", (check,))
        monkeypatch.setattr(
            testing, "check_model", lambda _model, report=report: report, raising=False
        )
        result = cli("check", folders["emotion"])
        assert result.code == code, result.err
        assert "has a valid name" in result.out


class Echo(BaseModel):
    """A model of a user's own."""

    def __call__(self, task_input: Any, task: str = "emotion") -> Any:
        return task_input["text"]


def test_check_unpickles_only_when_told(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = testing.Report("echo", ())
    monkeypatch.setattr(testing, "check_model", lambda _model: report, raising=False)
    path = save(Echo(), name="echo", path=tmp_path / "echo")
    assert "trust" in cli("check", path).err
    assert cli("check", path, "--trust-pickle").code == 0


# --- Fresh processes ---------------------------------------------------------------------


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "backprop", *map(str, arguments)]


@pytest.mark.parametrize(
    "arguments", [["models"], ["models", "--task", "qa", "--json"], ["--help"]]
)
def test_no_torch_for_what_needs_none(arguments: list[str]) -> None:
    process = run_python(
        f"from backprop.cli import main\nmain({arguments})",
        blocked=("torch", "transformers", "sentence_transformers"),
    )
    assert process.returncode == 0, process.stderr
    assert process.stdout


def test_a_mistake_is_found_without_torch() -> None:
    process = run_python(
        "from backprop.cli import main\nmain(['run', 'emotion', '--text', ' '])",
        blocked=("torch", "transformers"),
    )
    assert (process.returncode, process.stdout) == (2, "")
    assert process.stderr.startswith("error: text is blank")


def test_sally_lives_in_london() -> None:
    process = subprocess.run(
        command("run", "qa", *QUESTION[:-1], "Sally lives in London."),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (process.returncode, process.stdout, process.stderr) == (0, "London\n", "")


def test_control_c_ends_a_process_quietly(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    process = subprocess.Popen(
        command("run", "emotion", "--text-file", pipe),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # A shell's background job ignores Ctrl-C, and so would what it starts.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    # Opening a pipe waits for its reader, so the process is at work from here on.
    with pipe.open("wb"):
        process.send_signal(signal.SIGINT)
        output = process.communicate(timeout=60)
    assert (process.returncode, output) == (130, (b"", b""))


def test_a_reader_that_leaves_is_no_error() -> None:
    process = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m backprop models --json | head -c 1; exit $PIPESTATUS"],
        capture_output=True,
        cwd=ROOT,
        check=False,
    )
    assert (process.stdout, process.stderr) == (b"[", b"")
