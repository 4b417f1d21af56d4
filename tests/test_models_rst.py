"""The model contract's own code blocks and tables, run against small stand-ins for hub names.

The code is copied from the contract letter by letter; do not mend it here.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from huggingface_hub import constants
from PIL import Image

import backprop
from backprop import catalogue
from backprop.errors import InputError
from backprop.models.auto import AutoModel
from backprop.models.base import BaseModel, PathModel
from backprop.models.generation import HFCausalLMTGModel
from backprop.sources import HubSource
from backprop.specs import SPECS
from tests import tiny

torch.set_num_threads(1)

AUTO_MODEL = """\
from backprop.models import AutoModel

AutoModel.list_models(display=True, limit=10)

model = AutoModel.from_pretrained("distilgpt2")
"""

GENERIC_MODEL = """\
from backprop.models import PathModel

from transformers import AutoModelForPreTraining, AutoTokenizer

model = PathModel("t5-base", init_model=AutoModelForPreTraining, init_tokenizer=AutoTokenizer)

# Use model
model([0, 1, 2])
"""

OWN_MODEL = """\
from backprop.models import BaseModel

class MyModel(BaseModel):
    def __call__(self, task_input, task="emotion"):
        if task == "emotion":
            text = task_input.get("text")
            # Do some AI magic with text, assume result is "admiration"
            return "admiration"
        else:
            raise ValueError("Unsupported task!")


model = MyModel()

# Use model
model({"text": "This is pretty cool!"}, task="emotion")
"admiration"
"""


def run(code: str) -> dict[str, Any]:
    """Return the names a code block leaves behind."""
    names: dict[str, Any] = {"__name__": "models_rst"}
    exec(compile(code, "models.rst", "exec"), names)
    return names


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty cache of the hub's own library, used instead of this machine's."""
    monkeypatch.setenv("BACKPROP_CACHE", str(tmp_path / "backprop"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def put_in_hub(hub: Path, name: str, kind: str) -> None:
    """Put a tiny model where the hub's library keeps the repository of a catalogue model."""
    [source] = catalogue.get(name).sources
    assert isinstance(source, HubSource) and source.revision
    repository = hub / f"models--{source.repo.replace('/', '--')}"
    tiny.build(kind, repository / "snapshots" / source.revision)


class TestAutoModelBlock:
    def test_it_lists_ten_models_and_loads_one(
        self, hub: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        put_in_hub(hub, "distilgpt2", "gpt2")
        model = run(AUTO_MODEL)["model"]
        shown = capsys.readouterr().out
        assert shown.startswith("10 models")
        assert all(entry.name in shown for entry in catalogue.entries()[:10])
        assert isinstance(model, HFCausalLMTGModel)
        assert (model.name, model.tasks) == ("distilgpt2", ["text-generation"])
        written = model({"text": "the river", "max_length": 4}, task="text-generation")
        assert isinstance(written, str) and written


class TestGenericModelBlock:
    def test_it_runs_where_a_folder_has_the_hub_name(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        tiny.build("t5", tmp_path / "t5-base")
        monkeypatch.chdir(tmp_path)
        model = run(GENERIC_MODEL)["model"]
        output = model([0, 1, 2])
        assert output.logits.shape == (1, 1, model.model.config.vocab_size)
        assert model.tokenizer("the river").input_ids
        assert model.tasks == []

    def test_an_encoder_decoder_starts_from_its_start_token(self) -> None:
        model = PathModel(tiny.folder("bart"), init_model=transformers.AutoModelForSeq2SeqLM)
        with torch.no_grad():
            ours = model([0, 5, 6, 2]).logits
            theirs = model.model(
                input_ids=torch.tensor([[0, 5, 6, 2]]), decoder_input_ids=torch.tensor([[2]])
            ).logits
        assert torch.equal(ours, theirs)

    def test_the_callers_own_decoder_input_is_kept(self) -> None:
        model = PathModel(tiny.folder("t5"), init_model=transformers.AutoModelForSeq2SeqLM)
        start = torch.tensor([[0, 7, 8]])
        assert model([0, 1, 2], decoder_input_ids=start).logits.shape[:2] == (1, 3)

    @pytest.mark.parametrize(
        ("kind", "init", "output"),
        [("gpt2", "AutoModelForCausalLM", "logits"), ("bert_encoder", "AutoModel", 0)],
    )
    def test_a_list_of_token_ids_is_a_batch_of_one(
        self, kind: str, init: str, output: str | int
    ) -> None:
        model = PathModel(tiny.folder(kind), init_model=getattr(transformers, init))
        with torch.no_grad():
            ours = model([0, 1, 2])[output]
            theirs = model.model(torch.tensor([[0, 1, 2]]))[output]
            both = model([[0, 1, 2], [3, 4, 5]])[output]
        assert torch.equal(ours, theirs)
        assert both.shape == (2, *ours.shape[1:])

    def test_init_may_be_a_callable_on_the_path(self) -> None:
        seen: list[str] = []

        def read(path: str) -> Any:
            seen.append(path)
            return len

        model = PathModel("some/where", "else/where", init_model=read, init_tokenizer=read)
        assert seen == ["some/where", "else/where"]
        assert model.tokenizer is len and model.model is len

    def test_init_model_is_asked_for(self) -> None:
        with pytest.raises(InputError, match="needs init_model"):
            PathModel("t5-base")


class TestOwnModelBlock:
    @pytest.fixture
    def names(self) -> dict[str, Any]:
        return run(OWN_MODEL)

    def test_it_answers_and_does_its_one_task(self, names: dict[str, Any]) -> None:
        model = names["model"]
        assert model({"text": "This is pretty cool!"}, task="emotion") == "admiration"
        assert model.tasks == ["emotion"]
        assert isinstance(model, torch.nn.Module) and model.eval() is model

    def test_it_refuses_another_task_itself(self, names: dict[str, Any]) -> None:
        with pytest.raises(ValueError, match="Unsupported task!"):
            names["model"]({"text": "a"}, task="qa")

    def test_the_task_class_uses_it(self, names: dict[str, Any]) -> None:
        emotion = backprop.Emotion(names["MyModel"]())
        assert emotion("This is pretty cool!") == "admiration"

    def test_a_list_is_asked_one_by_one_as_the_model_knows_no_lists(
        self, names: dict[str, Any]
    ) -> None:
        emotion = backprop.Emotion(names["MyModel"]())
        assert emotion(["This is pretty cool!", "Well done."]) == ["admiration", "admiration"]

    def test_another_task_class_refuses_it(self, names: dict[str, Any]) -> None:
        with pytest.raises(InputError, match="does not do 'qa'; it does: emotion"):
            backprop.QA(names["MyModel"]())


# --- Inference dictionaries ----------------------------------------------------------------------


class Recorder(BaseModel):
    """Does every task by keeping what it was given."""

    tasks = list(SPECS)

    def __call__(self, task_input: Mapping[str, Any], task: str = "") -> Any:
        self.seen = (dict(task_input), task)
        primary = task_input[SPECS[task].primary.name]
        return [None] * len(primary) if isinstance(primary, list) else None


def data(picture: Image.Image) -> str:
    """Return the picture as base64."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


PHOTO = tiny.photo()
GENERATION = {
    "min_length": 1,
    "max_length": 5,
    "temperature": 0.7,
    "top_k": 3.0,
    "top_p": 0.9,
    "repetition_penalty": 1.2,
    "length_penalty": 0.8,
    "num_beams": 2,
    "num_generations": 2,
    "do_sample": True,
}
"""Every option of the contract's table; it calls ``top_k`` a float."""

HISTORY = {"prev_q": ["Who is she?"], "prev_a": ["Sally"]}
NO_HISTORY: dict[str, list[str]] = {"prev_q": [], "prev_a": []}
DICTIONARIES: list[tuple[str, dict[str, Any]]] = [
    ("qa", {"question": "Who?", "context": "Sally."}),
    ("qa", {"question": "Who?", "context": "Sally.", **HISTORY}),
    ("qa", {"question": "Who?", "context": "Sally.", **NO_HISTORY}),
    (
        "qa",
        {
            "question": ["Who?", "Where?"],
            "context": ["Sally.", "London."],
            "prev_q": [["Who is she?"], []],
            "prev_a": [["Sally"], []],
        },
    ),
    ("text-classification", {"text": "a dog"}),
    ("text-classification", {"text": "a dog", "labels": ["dog", "cat"], "top_k": 1}),
    ("text-classification", {"text": ["a", "b"], "labels": ["dog", "cat"], "top_k": 1}),
    ("text-classification", {"text": ["a", "b"], "labels": [["dog"], ["cat", "bird"]]}),
    ("emotion", {"text": "nice"}),
    ("emotion", {"text": ["nice", "bad"]}),
    ("summarisation", {"text": "long"}),
    ("summarisation", {"text": ["long", "longer"]}),
    ("image-classification", {"image": PHOTO}),
    ("image-classification", {"image": data(PHOTO), "labels": ["dog", "cat"], "top_k": 1}),
    ("image-classification", {"image": [PHOTO, data(PHOTO)], "labels": ["dog", "cat"]}),
    ("image-classification", {"image": [PHOTO, PHOTO], "labels": [["dog"], ["cat", "bird"]]}),
    ("image-vectorisation", {"image": PHOTO}),
    ("image-vectorisation", {"image": data(PHOTO)}),
    ("image-vectorisation", {"image": [PHOTO, data(PHOTO)]}),
    ("image-text-vectorisation", {"image": PHOTO, "text": "a photo"}),
    ("image-text-vectorisation", {"image": [PHOTO, data(PHOTO)], "text": ["a", "b"]}),
    ("text-generation", {"text": "go"}),
    ("text-generation", {"text": "go", **GENERATION}),
    ("text-generation", {"text": ["go", "on"], **GENERATION}),
    ("text-vectorisation", {"text": "go"}),
    ("text-vectorisation", {"text": ["go", "on"]}),
]


@pytest.mark.parametrize(("task", "task_input"), DICTIONARIES)
def test_a_dictionary_of_the_contract_reaches_the_model_as_it_is(
    task: str, task_input: dict[str, Any]
) -> None:
    model = Recorder()
    before = {key: list(v) if isinstance(v, list) else v for key, v in task_input.items()}
    answer = getattr(backprop, SPECS[task].task_class)(model).run(task_input)
    assert model.seen == (before, task)
    assert task_input == before
    assert isinstance(answer, list) == isinstance(task_input[SPECS[task].primary.name], list)


KINDS_OF_TASKS = {
    "qa": "bert_qa",
    "text-classification": "bert_nli3",
    "emotion": "sentence_transformer",
    "summarisation": "sentence_transformer",
    "image-classification": "clip",
    "image-vectorisation": "clip",
    "image-text-vectorisation": "clip",
    "text-generation": "gpt2",
    "text-vectorisation": "sentence_transformer",
}


@pytest.mark.parametrize(
    ("task", "task_input"),
    [(task, given) for task, given in DICTIONARIES if "labels" in given or "classi" not in task],
)
def test_our_models_answer_every_dictionary_with_json(
    task: str, task_input: dict[str, Any]
) -> None:
    model = loaded(KINDS_OF_TASKS[task])
    answer = model(task_input, task=task)
    primary = task_input[SPECS[task].primary.name]
    answers = answer if isinstance(primary, list) else [answer]
    assert len(answers) == (len(primary) if isinstance(primary, list) else 1)
    assert json.loads(json.dumps(answer)) == answer
    check = ANSWERS[SPECS[task].answer]
    several = task_input.get("num_generations", 1) > 1
    assert all(check(own) for row in answers for own in (row if several else [row]))


ANSWERS: dict[str, Callable[[Any], bool]] = {
    "text": lambda answer: isinstance(answer, str),
    "probabilities": lambda answer: all(0 <= value <= 1 for value in answer.values()),
    "vector": lambda answer: all(isinstance(value, float) for value in answer),
}
_LOADED: dict[str, BaseModel] = {}


def loaded(kind: str) -> BaseModel:
    """Return the tiny model of ``kind``, loaded once."""
    if kind not in _LOADED:
        _LOADED[kind] = AutoModel.from_pretrained(tiny.folder(kind))
    return _LOADED[kind]
