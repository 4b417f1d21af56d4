"""What every task shares: choosing a model, laziness, shapes, options, streams, saving."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import backprop
from backprop import catalogue
from backprop.errors import InputError, NotFoundError, UnsupportedTaskError
from backprop.models import SpanQA, STModel
from backprop.models.auto import AutoModel
from backprop.models.base import BaseModel
from backprop.models.generation import T5QASummaryEmotion
from backprop.specs import SPECS
from backprop.tasks.base import Task
from tests import tiny
from tests.guard import run_python

torch.set_num_threads(1)

TASKS: dict[str, Any] = {name: getattr(backprop, spec.task_class) for name, spec in SPECS.items()}
EVERY = pytest.mark.parametrize("task", SPECS)
PHOTO = tiny.photo()

CALLS: dict[str, tuple[str, tuple[Any, ...]]] = {
    "qa": ("bert_qa", ("Where?", "The old town lies by the river.")),
    "text-classification": ("bert_nli3", ("the river", ["water", "fire"])),
    "emotion": ("sentence_transformer", ("the river",)),
    "summarisation": ("sentence_transformer", ("The river. The old town lies there.",)),
    "text-generation": ("gpt2", ("the river",)),
    "text-vectorisation": ("sentence_transformer", ("the river",)),
    "image-classification": ("vit", (PHOTO,)),
    "image-vectorisation": ("vit", (PHOTO,)),
    "image-text-vectorisation": ("clip", (PHOTO, "the river")),
}
"""Task string to a tiny model that does it and the arguments of a call."""

_LOADED: dict[str, BaseModel] = {}


def loaded(kind: str) -> BaseModel:
    """Return the tiny model of ``kind``, loaded once."""
    if kind not in _LOADED:
        _LOADED[kind] = AutoModel.from_pretrained(tiny.folder(kind))
    return _LOADED[kind]


def tiny_task(name: str) -> Any:
    """Return the task with a tiny model."""
    return TASKS[name](loaded(CALLS[name][0]))


# --- Choosing a model ----------------------------------------------------------------------------


@EVERY
def test_the_default_is_the_specs_own_and_does_the_task(task: str) -> None:
    assert TASKS[task]().name == SPECS[task].default
    assert task in catalogue.get(SPECS[task].default).tasks


def test_a_name_in_any_case_an_alias_and_a_name_of_2021_are_known() -> None:
    assert backprop.TextGeneration("DistilGPT2").name == "DistilGPT2"
    assert backprop.ImageClassification("clip").name == "clip"
    assert backprop.TextClassification("english").name == "deberta-base-mnli"
    assert backprop.Emotion("english").name == "t5-base-qa-summary-emotion"


def test_a_name_of_2021_means_a_model_within_its_task_only() -> None:
    with pytest.raises(NotFoundError):
        backprop.ImageVectorisation("english")


def test_a_model_may_be_a_path_or_an_object() -> None:
    folder = tiny.folder("sentence_transformer")
    by_path, by_text, by_object = (
        backprop.TextVectorisation(model)
        for model in (folder, str(folder), loaded("sentence_transformer"))
    )
    assert by_path("the river") == by_text("the river") == by_object("the river")
    assert by_object.model is loaded("sentence_transformer")


def test_a_saved_name_is_found_in_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BACKPROP_CACHE", str(tmp_path))
    vectorise = tiny_task("text-vectorisation")
    folder = vectorise.save("my-encoder", "Mine.", {"team": "search"})
    assert folder == tmp_path / "my-encoder"
    again = backprop.TextVectorisation("my-encoder")
    assert again("the river") == vectorise("the river")
    with pytest.raises(UnsupportedTaskError, match="my-encoder does not do 'qa'; it does: text-v"):
        backprop.QA("my-encoder")


def test_saving_neither_renames_nor_moves_the_live_model(tmp_path: Path) -> None:
    generate = backprop.TextGeneration(AutoModel.from_pretrained(tiny.folder("gpt2")))
    model = generate.model
    model.name, before = "mine", generate("the river", max_length=4)
    generate.save("another", path=tmp_path / "another")
    assert (model.name, model.description, model.details) == ("mine", None, None)
    assert generate.model is model and generate("the river", max_length=4) == before
    assert backprop.TextGeneration(tmp_path / "another")("the river", max_length=4) == before


def test_saving_needs_a_name(tmp_path: Path) -> None:
    model = AutoModel.from_pretrained(tiny.folder("gpt2"))
    model.name = None
    generate = backprop.TextGeneration(model)
    with pytest.raises(InputError, match="name"):
        generate.save(path=tmp_path / "nameless")
    assert not (tmp_path / "nameless").exists()


@EVERY
def test_a_model_without_the_task_is_refused_with_the_tasks_it_does(task: str) -> None:
    other = next(name for name, spec in SPECS.items() if task not in _tasks_of(spec.default))
    name = SPECS[other].default
    with pytest.raises(UnsupportedTaskError) as refused:
        TASKS[task](name)
    said = str(refused.value)
    assert f"{name} does not do {task!r}" in said
    assert all(own in said for own in _tasks_of(name))


def _tasks_of(name: str) -> list[str]:
    return catalogue.get(name).tasks


def test_an_object_or_a_folder_without_the_task_is_refused_too() -> None:
    with pytest.raises(UnsupportedTaskError, match="it does: text-generation"):
        backprop.QA(loaded("gpt2"))
    with pytest.raises(UnsupportedTaskError, match="it does: text-generation"):
        backprop.Emotion(tiny.folder("gpt2"))("nice")


def test_what_is_no_model_is_refused() -> None:
    wrong: Any = 3
    with pytest.raises(InputError, match="name, a path or a model; received int"):
        backprop.QA(wrong)


@EVERY
@pytest.mark.parametrize("name", ["all-minilm-l6-v3", "t5-bsae", "no such model at all"])
def test_an_unknown_name_gives_the_near_ones(task: str, name: str) -> None:
    with pytest.raises(NotFoundError) as refused:
        TASKS[task](name)
    near = {"all-minilm-l6-v3": "all-minilm-l6-v2", "t5-bsae": "t5-base"}.get(name, "")
    assert repr(name) in str(refused.value) and near in str(refused.value)


@EVERY
def test_api_key_without_api_url_is_refused_unless_local(task: str) -> None:
    with pytest.raises(InputError, match="api_key was given without api_url"):
        TASKS[task](api_key="k")
    assert TASKS[task](local=True, api_key="k").is_remote is False
    assert TASKS[task](local=True, api_key="k", api_url="http://x").is_remote is False
    assert TASKS[task](api_url="http://x").is_remote is True


def test_local_true_answers_here() -> None:
    task = backprop.TextVectorisation(
        loaded("sentence_transformer"), local=True, api_key="k", api_url="http://127.0.0.1:9"
    )
    assert len(task("the river")) == 32


def test_a_task_on_a_server_has_no_model_here() -> None:
    with pytest.raises(InputError, match="runs on http://x"):
        _ = backprop.QA(api_url="http://x").model


# --- Laziness ------------------------------------------------------------------------------------


def test_nothing_heavy_is_loaded_before_the_first_call() -> None:
    done = run_python(
        f"""
        import json, sys
        import backprop
        from backprop.errors import BackpropError
        def refusal(make):
            try:
                make()
            except BackpropError as error:
                return type(error).__name__
        names = []
        for task in {[spec.task_class for spec in SPECS.values()]!r}:
            names.append(getattr(backprop, task)().name)
            names.append(len(getattr(backprop, task).list_models()) > 0)
        refused = [
            refusal(lambda: backprop.QA("no-such-model")),
            refusal(lambda: backprop.QA("all-minilm-l6-v2")),
            refusal(lambda: backprop.QA(api_key="k")),
        ]
        heavy = ["torch", "transformers", "sentence_transformers"]
        loaded = [name for name in heavy if name in sys.modules]
        print(json.dumps([names, refused, loaded]))
        """,
        blocked=("torch", "transformers", "sentence_transformers"),
    )
    assert done.returncode == 0, done.stderr
    names, refused, heavy = json.loads(done.stdout)
    assert names[::2] == [spec.default for spec in SPECS.values()] and all(names[1::2])
    assert refused == ["NotFoundError", "UnsupportedTaskError", "InputError"]
    assert heavy == []


def test_the_model_is_loaded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    task = backprop.TextVectorisation(tiny.folder("sentence_transformer"))
    assert task.model is task.model
    monkeypatch.setattr(AutoModel, "from_pretrained", None)
    assert len(task("the river")) == 32


# --- list_models ---------------------------------------------------------------------------------


@EVERY
def test_list_models_holds_the_tasks_models_starter_first(task: str) -> None:
    names = [entry["name"] for entry in TASKS[task].list_models()]
    assert names[0] == SPECS[task].default or catalogue.get(names[0]).size == "starter"
    assert SPECS[task].default in names
    assert set(names) == {entry.name for entry in catalogue.entries(task=task)}
    assert list(TASKS[task].list_models(return_dict=True, limit=1)) == names[:1]


def test_list_models_gives_dictionaries_or_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    found = backprop.TextClassification.list_models(limit=2)
    by_name = backprop.TextClassification.list_models(return_dict=True, limit=2)
    assert by_name == {entry["name"]: entry for entry in found}
    assert json.loads(json.dumps(found)) == found
    found[0]["tasks"].clear()  # the caller's own copy
    assert backprop.TextClassification.list_models(limit=2)[0]["tasks"]
    assert backprop.TextClassification.list_models(display=True) is None
    shown = capsys.readouterr().out
    assert "all-minilm-l6-v2" in shown and "= english" in shown


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_below_one_is_refused(limit: int) -> None:
    with pytest.raises(InputError, match=f"received {limit}"):
        backprop.QA.list_models(limit=limit)


# --- Calls ---------------------------------------------------------------------------------------


@EVERY
def test_a_list_of_one_gives_what_one_gives(task: str) -> None:
    do, (first, *others) = tiny_task(task), CALLS[task][1]
    batch = [[first], *([other] if isinstance(other, str) else other for other in others)]
    alone, [listed] = do(first, *others), do(*batch)
    assert listed == pytest.approx(alone, abs=1e-5) if task not in TEXTS else listed == alone


TEXTS = ("qa", "emotion", "summarisation", "text-generation")


@EVERY
def test_an_empty_list_gives_an_empty_list(task: str) -> None:
    required = [field.name for field in SPECS[task].fields if field.required]
    assert tiny_task(task)(**{name: [] for name in required}) == []


@EVERY
def test_the_callers_arguments_stay_as_they_are(task: str) -> None:
    arguments = [
        [value] * 2 if isinstance(value, str) else value for value in CALLS[task][1] if value
    ]
    arguments[0] = [CALLS[task][1][0]] * 2
    before = copy.copy(arguments), [list(a) for a in arguments]
    tiny_task(task)(*arguments)
    assert (arguments, [list(a) for a in arguments]) == before


@pytest.mark.parametrize("task", [name for name in SPECS if name.endswith("vectorisation")])
def test_return_tensor_gives_the_same_numbers_as_a_tensor(task: str) -> None:
    do, arguments = tiny_task(task), CALLS[task][1]
    alone = do(*arguments, return_tensor=True)
    both = do(*([value] * 2 for value in arguments), return_tensor=True)
    assert isinstance(alone, torch.Tensor) and alone.dtype == torch.float32
    assert alone.tolist() == do(*arguments)
    assert both.shape == (2, len(alone))
    assert torch.allclose(both[0], alone, atol=1e-5)


def test_options_left_at_their_defaults_do_not_reach_the_model() -> None:
    seen: list[dict[str, Any]] = []

    class Own(BaseModel):
        tasks = list(SPECS)

        def __call__(self, task_input: Mapping[str, Any], task: str = "") -> Any:
            seen.append(dict(task_input))
            return ""

    for task, (_, arguments) in CALLS.items():
        TASKS[task](Own())(*arguments)
        assert set(seen[-1]) <= {field.name for field in SPECS[task].fields}
    backprop.TextGeneration(Own())("go", temperature=0, min_length=0, do_sample=False)
    assert seen[-1] == {"text": "go", "temperature": 0, "min_length": 0, "do_sample": False}


def test_a_model_of_ones_own_gets_checked_input_only() -> None:
    class Own(BaseModel):
        tasks = ["emotion"]

        def __call__(self, task_input: Mapping[str, Any], task: str = "emotion") -> str:
            raise AssertionError("must not be reached")

    with pytest.raises(InputError, match="text is blank"):
        backprop.Emotion(Own())(" ")


# --- Conversations -------------------------------------------------------------------------------


class Turns(BaseModel):
    """Answers with the earlier questions and answers it was given."""

    tasks = ["qa"]

    def __call__(self, task_input: Mapping[str, Any], task: str = "qa") -> Any:
        return [task_input.get("prev_q"), task_input.get("prev_a")]


@pytest.mark.parametrize(
    ("prev_qa", "asked", "answered"),
    [
        ([("Who?", "Sally"), ("Why?", "")], ["Who?", "Why?"], ["Sally", ""]),
        ([["Who?", "Sally"]], ["Who?"], ["Sally"]),
        ((("Who?", "Sally"),), ["Who?"], ["Sally"]),
        ([], None, None),
        (None, None, None),
    ],
)
def test_prev_qa_is_a_list_of_pairs(prev_qa: Any, asked: Any, answered: Any) -> None:
    assert backprop.QA(Turns())("Where?", "London.", prev_qa) == [asked, answered]


@pytest.mark.parametrize(
    "prev_qa", [[[("Who?", "Sally")], []], [[], [("Who?", "Sally"), ("Why?", "x")]], [[], []]]
)
def test_a_batch_takes_a_list_of_those(prev_qa: Any) -> None:
    given = copy.deepcopy(prev_qa)
    found = backprop.QA(Turns())(["Where?", "When?"], ["London.", "Today."], prev_qa)
    assert found == [[[q for q, _ in t] for t in given], [[a for _, a in t] for t in given]]
    assert prev_qa == given


@pytest.mark.parametrize(
    "prev_qa",
    [[("Who?",)], [("Who?", "a", "b")], ["Who?"], [("Who?", "Sally"), "x"], [(1, 2)], "x"],
)
def test_what_is_no_pair_is_refused(prev_qa: Any) -> None:
    with pytest.raises(InputError, match="prev_qa|prev_q"):
        backprop.QA(Turns())("Where?", "London.", prev_qa)


def test_a_conversation_reaches_a_written_answers_prompt() -> None:
    ask = backprop.QA(T5QASummaryEmotion(tiny.folder("t5")))
    context = "The old town lies by the river."
    plain, told = ask("Where?", context), ask("Where?", context, [("Which town?", "The old one")])
    assert plain != told
    both = ask(["Where?"] * 2, [context] * 2, [[], [("Which town?", "The old one")]])
    assert both == [plain, told]


# --- Streams -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["gpt2", "llama_chat", "t5", "bart"])
@pytest.mark.parametrize(
    "options", [{}, {"temperature": 1.5, "seed": 3}, {"stop": ["e", "zz"]}, {"min_length": 8}]
)
def test_a_stream_joined_equals_the_call(kind: str, options: dict[str, Any]) -> None:
    generate = backprop.TextGeneration(loaded(kind))
    text = "the old town by the river"
    pieces = list(generate.stream(text, max_length=12, **options))
    assert "".join(pieces) == generate(text, max_length=12, **options)
    assert all(pieces)


def test_a_stream_refuses_at_once_what_it_can_not_do() -> None:
    generate: Any = backprop.TextGeneration(loaded("gpt2"))
    with pytest.raises(InputError, match="one text"):
        generate.stream(["a", "b"])
    with pytest.raises(InputError, match="num_beams"):
        generate.stream("a", num_beams=2)
    with pytest.raises(InputError, match="num_generations"):
        generate.stream("a", num_generations=2)
    with pytest.raises(InputError, match="temperature"):
        generate.stream("a", temperature=-1)


def test_every_task_is_a_task() -> None:
    assert {kind.task for kind in TASKS.values()} == set(SPECS)
    assert all(issubclass(kind, Task) for kind in TASKS.values())


# --- Streams -------------------------------------------------------------------------------------


def test_streams_give_the_answers_of_a_call_and_read_as_they_go() -> None:
    task = backprop.TextVectorisation(STModel(tiny.folder("sentence_transformer")))
    texts = [f"the cat sat {'on ' * (i % 5)}{i}" for i in range(23)]
    read: list[str] = []

    def items() -> Iterator[str]:
        for text in texts:
            read.append(text)
            yield text

    stream = task.stream_map(items(), chunk=5)
    first = next(stream)
    assert len(read) == 5
    found = [first, *stream]
    assert np.allclose(found, task(texts), atol=1e-5)
    assert list(task.stream_map([])) == []
    # An item is named by its own number, not by that within its chunk.
    with pytest.raises(InputError, match=r"^text\[7\] is blank"):
        list(task.stream_map((" " if i == 7 else "a cat" for i in range(20)), chunk=5))
    for one in ("a cat", {"text": "a cat"}, None):
        with pytest.raises(InputError, match="takes many items"):
            task.stream_map(one)  # type: ignore[arg-type]


def test_streams_take_the_fields_of_tasks_with_several() -> None:
    task = backprop.QA(SpanQA(tiny.folder("bert_qa")))
    items = [{"question": "where?", "context": f"in the house {i}"} for i in range(7)]
    wanted = [task(item["question"], item["context"]) for item in items]
    assert list(task.stream_map(items, chunk=3)) == wanted
    odd = [items[0], {"question": "who?"}]
    with pytest.raises(InputError, match="Item 1 must be a dictionary with question, context"):
        list(task.stream_map(odd))
    with pytest.raises(InputError, match="chunk must be at least 1; received 0"):
        task.stream_map(items, chunk=0)


def test_streams_take_labels_once_for_all() -> None:
    task = backprop.TextClassification(STModel(tiny.folder("sentence_transformer")))
    texts = ["a cat", "red wine", "old bread"]
    found = list(task.stream_map(texts, chunk=2, labels=["pet", "food"], top_k=1))
    assert found == task(texts, ["pet", "food"], top_k=1)
