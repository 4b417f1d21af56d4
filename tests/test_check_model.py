"""``check_model`` passes every class there is, and says what is wrong with a wrong one."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

import backprop
from backprop.errors import InputError, UnsupportedTaskError
from backprop.models import (
    T5,
    AutoModel,
    EfficientNet,
    HFImageModel,
    HFSeqTCModel,
    PairEncoder,
    STModel,
    T5QASummaryEmotion,
)
from backprop.models.base import BaseModel
from backprop.specs import SPECS
from backprop.testing import Check, Report, check_model, check_models
from backprop.testing.fresh import declared
from backprop.testing.probes import options, rows
from backprop.testing.report import REQUIREMENTS
from tests import tiny
from tests.guard import run_python

STARTERS = ("all-minilm-l6-v2", "efficientnet-lite0", "minilm-efficientnet-lite0")
OTHERS: Mapping[str, Callable[[], BaseModel]] = {
    "t5-class": lambda: T5(tiny.folder("t5")),
    "t5-qa-summary-emotion": lambda: T5QASummaryEmotion(tiny.folder("t5")),
    "emotion-classifier": lambda: HFSeqTCModel(
        tiny.folder("bert_classifier"), tasks=["text-classification", "emotion"]
    ),
    "efficientnet-class": lambda: EfficientNet(tiny.folder("efficientnet")),
    "pair-encoder": lambda: PairEncoder(
        HFImageModel(tiny.folder("vit")), STModel(tiny.folder("sentence_transformer"))
    ),
}
HUB_KINDS = [kind for kind in tiny.KINDS if kind != "bert_encoder"]  # that one does no task
NAMES = [*HUB_KINDS, *OTHERS]
WRITER = "smollm2-135m-instruct"


# The first test of a module-wide fixture waits for all models, the real starters among them.
pytestmark = [pytest.mark.timeout(900), pytest.mark.usefixtures("one_thread")]


@pytest.fixture(scope="module")
def reports() -> dict[str, Report]:
    """All models but one at once, so that few new processes open them.

    The starters have the engines that users get, which a process that opens them may not have.
    """
    found = dict(zip(NAMES, check_models(map(_model, NAMES)), strict=True))
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("BACKPROP_ENGINE")
        found |= zip(STARTERS, check_models(map(_model, STARTERS)), strict=True)
        found[WRITER] = check_model(_model(WRITER), ["text-generation"])
    return found


def _model(name: str) -> BaseModel:
    model = (
        OTHERS[name]()
        if name in OTHERS
        else AutoModel.from_pretrained(tiny.folder(name) if name in tiny.KINDS else name)
    )
    model.name = name if len(name) > 2 else f"tiny-{name}"
    return model


@pytest.mark.parametrize("name", [*NAMES, *STARTERS, WRITER])
def test_every_class_passes(reports: dict[str, Report], name: str) -> None:
    assert reports[name].passed, str(reports[name])


def test_a_report_has_one_line_a_requirement_and_names_what_was_tried(
    reports: dict[str, Report], capsys: pytest.CaptureFixture[str]
) -> None:
    report = reports["all-minilm-l6-v2"]
    first, *lines = str(report).splitlines()
    assert first == "all-minilm-l6-v2 meets 6 of 6 requirements of a model"
    assert len(lines) == len(REQUIREMENTS) == 6
    assert all(line.startswith("pass  ") for line in lines)
    for task in ("text-vectorisation", "text-classification", "emotion", "summarisation"):
        assert task in report["schema"].tried
    report.display()
    shown = capsys.readouterr().out
    assert first in shown and shown.count("✓") == 6


def test_a_model_that_needs_labels_and_one_that_has_its_own(reports: dict[str, Report]) -> None:
    assert "needs labels" in reports["clip"]["schema"].tried
    assert "needs labels" not in reports["vit"]["schema"].tried


def my_model() -> BaseModel:
    # As models.rst has it.
    class MyModel(BaseModel):
        def __call__(self, task_input: Any, task: str = "emotion") -> Any:
            if task == "emotion":
                task_input.get("text")
                return "admiration"
            else:
                raise ValueError("Unsupported task!")

    model = MyModel()
    model.name = "my-model"
    return model


def one_at_a_time() -> BaseModel:
    class OneAtATime(BaseModel):
        def __call__(self, task_input: Any, task: str = "emotion") -> Any:
            if task != "emotion":
                raise NotImplementedError(task)
            return "joy" if "lovely" in task_input["text"].lower() else "neutral"

    return OneAtATime(name="one-at-a-time")


def wrapped() -> BaseModel:
    def length(task_input: Any, task: str) -> Any:
        if task != "text-vectorisation":
            raise ValueError(task)
        text = task_input["text"]
        return [float(len(text))] if isinstance(text, str) else [[float(len(own))] for own in text]

    return BaseModel(length, name="wrapped", tasks=["text-vectorisation"])


def trained() -> BaseModel:
    class Trained(BaseModel):
        def __init__(self) -> None:
            super().__init__(name="trained", tasks=["text-vectorisation"])
            self.layer = torch.nn.Linear(2, 3)

        def __call__(self, task_input: Any, task: str = "") -> Any:
            if task not in self.tasks:
                raise ValueError(task)
            texts = task_input["text"]
            if isinstance(texts, str):
                return self.vector(texts)
            return [self.vector(text) for text in texts]

        def vector(self, text: str) -> list[float]:
            size = torch.tensor([len(text) / 100, text.count(" ") / 10])
            found: list[float] = self.layer(size).tolist()
            return found

    return Trained()


# Wrong models. Those of CHEAP are found out in this process, those of LATE in a new one.

Call = Callable[[BaseModel, dict[str, Any], str], Any]
TEXT_VECTORS, CLASSES = "text-vectorisation", "text-classification"


def wrong(call: Call, *tasks: str, **fields: Any) -> BaseModel:
    """Return a model whose answers ``call`` makes, and that refuses tasks it does not list."""

    class Wrong(BaseModel):
        def __call__(self, task_input: Any, task: str = "") -> Any:
            if task not in self.tasks:
                raise ValueError(f"Unsupported task: {task}")
            return call(self, task_input, task)

    model = Wrong(name="wrong-model", tasks=list(tasks or ["emotion"]))
    for field, value in fields.items():
        setattr(model, field, value)
    return model


def each(answer: Callable[[str], Any]) -> Call:
    """Return a call that gives ``answer`` of every text, single or in a list."""

    def call(model: BaseModel, given: dict[str, Any], task: str) -> Any:
        text = given["text"]
        return answer(text) if isinstance(text, str) else [answer(own) for own in text]

    return call


def right(model: BaseModel, given: dict[str, Any], task: str) -> Any:
    return each(lambda text: "joy")(model, given, task)


def pops(model: BaseModel, given: dict[str, Any], task: str) -> Any:
    return each(lambda text: "joy")(model, {"text": given.pop("text")}, task)


def sorts(model: BaseModel, given: dict[str, Any], task: str) -> Any:
    if isinstance(given["text"], list):
        given["text"].sort()
    return right(model, given, task)


def shouts_in_lists(model: BaseModel, given: dict[str, Any], task: str) -> Any:
    return "joy" if isinstance(given["text"], str) else ["JOY" for _ in given["text"]]


def forgets_the_last(model: BaseModel, given: dict[str, Any], task: str) -> Any:
    return "joy" if isinstance(given["text"], str) else ["joy" for _ in given["text"][1:]]


def needs_one(model: BaseModel, given: dict[str, Any], task: str) -> Any:
    return "joy" if isinstance(given["text"], str) else ["joy"] * len(given["text"]) or ["joy"]


def centres(model: BaseModel, given: dict[str, Any], task: str) -> Any:
    texts = given["text"]
    if isinstance(texts, str):
        return [float(len(texts)), 0.0]
    mean = sum(map(len, texts)) / max(len(texts), 1)
    return [[float(len(text)), len(text) - mean] for text in texts]


def learns(model: BaseModel, given: dict[str, Any], task: str) -> Any:
    with torch.no_grad():
        next(model.parameters()).add_(1)
    return right(model, given, task)


def switches_mode(model: BaseModel, given: dict[str, Any], task: str) -> Any:
    model.eval()
    return right(model, given, task)


def draws(model: BaseModel, given: dict[str, Any], task: str) -> Any:
    torch.rand(1)
    return right(model, given, task)


def counts(model: BaseModel, given: dict[str, Any], task: str) -> Any:
    calls = vars(model)["calls"] = vars(model).get("calls", 0) + 1
    return each(lambda text: [float(calls)])(model, given, task)


def drops_out(model: BaseModel, given: dict[str, Any], task: str) -> Any:
    noise = torch.rand(1).item() if model.training else 0.0
    return each(lambda text: [noise])(model, given, task)


def ignores_labels(model: BaseModel, given: dict[str, Any], task: str) -> Any:
    return each(lambda text: {"good": 0.7, "bad": 0.3})(model, given, task)


def ignores_top_k(model: BaseModel, given: dict[str, Any], task: str) -> Any:
    if "labels" in given:
        raise ValueError("labels are fixed")
    return each(lambda text: {"good": 0.5, "fair": 0.3, "bad": 0.2})(model, given, task)


class Handled(BaseModel):
    """Says by its handlers that it takes lists, and does not."""

    HANDLERS: ClassVar[Mapping[str, str]] = {"emotion": "emotions"}

    def emotions(self) -> Handled:
        return self

    def answer(self, task_input: Any, task: Any) -> Any:
        if isinstance(task, dict):
            [row] = task_input
            return ["joy" if row else ""]
        return super().answer(task_input, task)


CHEAP: Mapping[str, tuple[Callable[[], BaseModel], str, str]] = {
    "no name": (lambda: wrong(right, name=None), "name", "None is not valid"),
    "a name with capitals": (lambda: wrong(right, name="My Model"), "name", "'My Model'"),
    "a short name": (lambda: wrong(right, name="ab"), "name", "3 to 100"),
    "an unknown task": (lambda: wrong(right, "sentiment"), "tasks", "'sentiment' is no task"),
    "tasks in a tuple": (lambda: wrong(right, tasks=("emotion",)), "tasks", "of type tuple"),
    "tasks as text": (lambda: wrong(right, tasks="emotion"), "tasks", "of type str"),
    "no tasks": (lambda: wrong(right, tasks=[]), "tasks", "empty"),
    "a task twice": (lambda: wrong(right, "emotion", "emotion"), "tasks", "listed twice"),
    "pops from the dictionary": (lambda: wrong(pops), "schema", "changed the caller's dictionary"),
    "sorts a list it was given": (lambda: wrong(sorts), "schema", "changed the caller's"),
    "an array": (
        lambda: wrong(each(lambda text: np.ones(3)), TEXT_VECTORS),
        *("schema", "of type ndarray, not a list"),
    ),
    "a tensor": (
        lambda: wrong(each(lambda text: torch.ones(3)), TEXT_VECTORS),
        *("json", "Tensor is not JSON serializable"),
    ),
    "scalars of NumPy": (
        lambda: wrong(each(lambda text: [np.float64(1)]), TEXT_VECTORS),
        *("json", "[0] is of type numpy.float64"),
    ),
    "NaN": (
        lambda: wrong(each(lambda text: [float("nan")]), TEXT_VECTORS),
        *("json", "not JSON compliant"),
    ),
    "keys that are tuples": (
        lambda: wrong(each(lambda text: {("good", 1): 0.5}), CLASSES),
        *("json", "keys must be str"),
    ),
    "keys that are numbers": (
        lambda: wrong(each(lambda text: {1: 0.5}), CLASSES),
        *("json", "the key 1 of type int"),
    ),
    "a set": (lambda: wrong(each(lambda text: {"joy"})), "json", "set is not JSON serializable"),
    "another answer in lists": (lambda: wrong(shouts_in_lists), "schema", "'JOY' instead of 'joy'"),
    "too few answers": (lambda: wrong(forgets_the_last), "schema", "a list of 3 gave 2 answers"),
    "an answer to nothing": (lambda: wrong(needs_one), "schema", "an empty list gave ['joy']"),
    "looks at neighbours": (
        lambda: wrong(centres, TEXT_VECTORS),
        "schema",
        "differs beside others",
    ),
    "gives None": (lambda: wrong(each(lambda text: None)), "schema", "of type NoneType, not str"),
    "crashes": (lambda: wrong(each(lambda text: os.environ[text])), "schema", "it raised KeyError"),
    "one vector longer": (
        lambda: wrong(each(lambda text: [1.0] * len(text)), TEXT_VECTORS),
        *("schema", "vectors differ in length"),
    ),
    "lowest first": (
        lambda: wrong(each(lambda text: {"a": 0.1, "b": 0.9}), CLASSES),
        *("schema", "not sorted, highest first"),
    ),
    "above 1": (
        lambda: wrong(each(lambda text: {"a": 1.5}), CLASSES),
        *("schema", "'a' has 1.5, which is no probability"),
    ),
    "other labels than asked for": (
        lambda: wrong(ignores_labels, CLASSES),
        *("schema", "are not those asked for"),
    ),
    "ignores top_k": (
        lambda: wrong(ignores_top_k, CLASSES),
        *("schema", "top_k=2 gave 3 labels"),
    ),
    "learns while it answers": (
        lambda: wrong(learns, weight=torch.nn.Parameter(torch.ones(2))),
        *("schema", "predicting changed weights"),
    ),
    "changes its mode": (lambda: wrong(switches_mode), "schema", "changed training mode"),
    "uses up chance": (lambda: wrong(draws), "schema", "changed torch's random state"),
    "counts calls": (lambda: wrong(counts, TEXT_VECTORS), "schema", "asked the same twice"),
    "left in training mode": (
        lambda: wrong(drops_out, TEXT_VECTORS),
        *("schema", "call model.eval()"),
    ),
    "does what it does not list": (
        lambda: BaseModel(lambda given, task: "joy", name="answers-all", tasks=["emotion"]),
        *("schema", "not listed in tasks, yet asked to do 'qa'"),
    ),
    "no lists in spite of a handler": (
        lambda: Handled(name="handled"),
        *("schema", "it raised ValueError: too many values"),
    ),
    "a view of memory": (
        lambda: wrong(right, view=memoryview(b"joy")),
        *("pickle", "dill can't pickle it"),
    ),
    "a generator": (
        lambda: wrong(right, stream=(i for i in range(3))),
        *("pickle", "cannot pickle 'generator' object"),
    ),
}


@pytest.mark.parametrize("case", CHEAP)
def test_says_what_is_wrong(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make, requirement, reason = CHEAP[case]
    monkeypatch.setattr("backprop.testing.fresh.subprocess.run", _no_process)
    report = check_model(make())
    assert not report.passed
    assert not report[requirement].passed
    assert reason in report[requirement].reason, str(report)
    assert len(str(report).splitlines()) == 7
    assert report["dependencies"].tried == "not tried"


def _no_process(*_: Any, **__: Any) -> Any:
    raise AssertionError("a new process was started for a model that is wrong already")


def test_lists_are_optional_and_the_report_says_so(late: dict[str, Report]) -> None:
    assert "a list got one answer" in late["my_model"]["schema"].tried
    assert "one at a time" in late["one_at_a_time"]["schema"].tried
    assert "AttributeError" in late["one_at_a_time"]["schema"].tried


# Found out in a new process only.


def imports_another() -> BaseModel:
    class ImportsAnother(BaseModel):
        def __call__(self, task_input: Any, task: str = "emotion") -> Any:
            import hypothesis

            if task != "emotion":
                raise ValueError(task)
            return hypothesis.__name__

    return ImportsAnother(name="imports-another")


def hides_the_import() -> BaseModel:
    class HidesTheImport(BaseModel):
        def __call__(self, task_input: Any, task: str = "emotion") -> Any:
            if task != "emotion":
                raise ValueError(task)
            try:
                import hypothesis
            except ImportError as error:
                raise RuntimeError("install everything first") from error
            return hypothesis.__name__

    return HidesTheImport(name="hides-the-import")


def reads_a_file() -> BaseModel:
    class ReadsAFile(BaseModel):
        def __call__(self, task_input: Any, task: str = "emotion") -> Any:
            if task != "emotion":
                raise ValueError(task)
            with open("pyproject.toml") as file:
                return "joy" if file.readable() else ""

    return ReadsAFile(name="reads-a-file")


def forgets() -> BaseModel:
    class Forgets(BaseModel):
        words: Any = ("neutral",)

        def __call__(self, task_input: Any, task: str = "emotion") -> Any:
            if task != "emotion":
                raise ValueError(task)
            return self.words[0]

        def __getstate__(self) -> dict[str, Any]:
            state = dict(self.__dict__)
            state.pop("words", None)
            return state

    model = Forgets(name="forgets")
    model.words = ("joy",)
    return model


def differs_when_loaded() -> BaseModel:
    class DiffersWhenLoaded(BaseModel):
        def __call__(self, task_input: Any, task: str = "emotion") -> Any:
            if task != "emotion":
                raise ValueError(task)
            return "joy" if self.training else "neutral"

    return DiffersWhenLoaded(name="differs-when-loaded")


def dies() -> BaseModel:
    class Dies(BaseModel):
        def __call__(self, task_input: Any, task: str = "emotion") -> Any:
            if task != "emotion":
                raise ValueError(task)
            return "joy"

        def __setstate__(self, state: dict[str, Any]) -> None:
            import os

            os._exit(7)

    return Dies(name="dies")


def of_a_module(folder: Path) -> BaseModel:
    source = (
        "from backprop.models import BaseModel\n"
        "class Mine(BaseModel):\n"
        "    def __call__(self, task_input, task='emotion'):\n"
        "        if task != 'emotion':\n"
        "            raise ValueError(task)\n"
        "        return 'joy'\n"
    )
    (folder / "module_of_mine.py").write_text(source)
    model: BaseModel = importlib.import_module("module_of_mine").Mine(name="of-a-module")
    return model


RIGHT = (my_model, one_at_a_time, wrapped, trained)
LATE = (
    *(dies, imports_another, hides_the_import, reads_a_file, forgets, differs_when_loaded),
    *RIGHT,
)


@pytest.fixture(scope="module")
def late(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Report]]:
    """All models of LATE and one of an importable module, opened in one new process."""
    folder = tmp_path_factory.mktemp("modules")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        models = [*(make() for make in LATE), of_a_module(folder)]
        names = [*(make.__name__ for make in LATE), "of_a_module"]
        yield dict(zip(names, check_models(models), strict=True))


@pytest.mark.parametrize("make", RIGHT, ids=lambda make: make.__name__)
def test_a_model_of_ones_own_passes(late: dict[str, Report], make: Callable[[], Any]) -> None:
    assert late[make.__name__].passed, str(late[make.__name__])


@pytest.mark.parametrize(
    ("name", "requirement", "reason"),
    [
        ("imports_another", "dependencies", "it imports 'hypothesis', neither part of Python"),
        ("hides_the_import", "dependencies", "it imports 'hypothesis'"),
        ("of_a_module", "dependencies", "its class is defined in the module 'module_of_mine'"),
        ("of_a_module", "dependencies", "define the class in the script or notebook"),
        ("reads_a_file", "pickle", "FileNotFoundError"),
        ("forgets", "pickle", "unpickled, asked to do emotion, it gave 'neutral' instead of 'joy'"),
        ("differs_when_loaded", "pickle", "saved and loaded, asked to do emotion"),
        ("dies", "pickle", "the new process ended with code 7"),
    ],
)
def test_says_what_is_wrong_elsewhere(
    late: dict[str, Report], name: str, requirement: str, reason: str
) -> None:
    check = late[name][requirement]
    assert not check.passed
    assert reason in check.reason, str(late[name])


def test_differs_when_loaded_is_fine_when_unpickled(late: dict[str, Report]) -> None:
    assert "unpickled" not in late["differs_when_loaded"]["pickle"].reason
    assert late["differs_when_loaded"]["dependencies"].passed


def test_a_class_of_a_script_takes_the_code_it_uses_along() -> None:
    process = run_python(
        """
        import re
        from backprop.models import BaseModel
        from backprop.testing import check_model

        WORDS = {"lovely": "joy", "late": "anger"}

        def emotion_of(text):
            found = re.search("|".join(WORDS), text)
            return WORDS[found[0]] if found else "neutral"

        class Base(BaseModel):
            name = "of-a-script"

        class Mine(Base):
            def __call__(self, task_input, task="emotion"):
                if task != "emotion":
                    raise ValueError(f"Unsupported task {task}")
                return emotion_of(task_input["text"])

        print(check_model(Mine()))
        """
    )
    assert process.stdout.startswith("of-a-script meets 6 of 6"), process.stdout + process.stderr


# What is asked, and how.


def test_the_model_and_the_random_state_stay_as_they_are() -> None:
    model = AutoModel.from_pretrained(tiny.folder("gpt2"))
    weights = {name: weight.clone() for name, weight in model.named_parameters()}
    model.train()
    chance = torch.get_rng_state()
    report = check_model(model)
    assert model.name is None and not report["name"].passed
    assert report["schema"].passed, str(report)
    assert all(module.training for module in model.modules())
    assert torch.equal(torch.get_rng_state(), chance)
    assert all(torch.equal(weights[name], weight) for name, weight in model.named_parameters())


def test_only_the_tasks_named_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backprop.testing.fresh.subprocess.run", _no_process)
    model = STModel(tiny.folder("sentence_transformer"))
    tried = check_model(model, ["emotion"])["schema"].tried
    assert "emotion" in tried and "text-vectorisation" not in tried


def test_a_task_that_is_not_listed_is_refused() -> None:
    with pytest.raises(UnsupportedTaskError, match="does not list 'qa'"):
        check_model(my_model(), ["qa"])


@pytest.mark.parametrize("thing", ["all-minilm-l6-v2", object(), torch.nn.Linear(1, 1)])
def test_what_is_no_model_is_refused(thing: Any) -> None:
    with pytest.raises(InputError, match="must be a backprop.models.BaseModel; received"):
        check_model(thing)


def test_probes_cover_every_key_of_the_schemas() -> None:
    for spec in SPECS.values():
        optional = [field.name for field in spec.fields if not field.required]
        asked = {*rows(spec, optional)[0], *(name for option in options(spec) for name in option)}
        assert asked == set(spec.keys)


def test_declared_packages_are_those_of_pyproject_and_what_they_require() -> None:
    assert {"backprop", "torch", "transformers", "PIL", "yaml", "dill", "numpy"} <= declared()
    assert not {"hypothesis", "pytest", "mypy", "tests"} & declared()


def test_a_check_reads_as_one_line() -> None:
    check = Check("name", False, "name is None", "it has none")
    assert str(check) == "FAIL  has a valid name: name is None; it has none"
    assert not Report("x", (check,)).passed


def test_check_model_is_public() -> None:
    assert backprop.testing.check_model is check_model
