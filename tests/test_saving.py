"""A saved model is whole, opens anywhere, and answers as it did; the live one stays as it was."""

from __future__ import annotations

import base64
import io
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from sentence_transformers import SentenceTransformer

import backprop
from backprop.errors import ArtefactError, InputError, NotFoundError
from backprop.models import (
    AutoModel,
    EfficientNet,
    HFImageModel,
    HFNLIModel,
    HFSeqTCModel,
    PairEncoder,
    STModel,
    T5QASummaryEmotion,
)
from backprop.models.base import BaseModel
from backprop.models.saving import load, save
from backprop.specs import SPECS
from backprop.tasks import TextVectorisation
from backprop.testing.answers import difference
from backprop.testing.state import chances, changes, state
from tests import tiny
from tests.guard import no_network, run_python

pytestmark = pytest.mark.usefixtures("one_thread")

MAKERS: Mapping[str, Callable[[], BaseModel]] = {
    **{
        kind: lambda kind=kind: AutoModel.from_pretrained(tiny.folder(kind))  # type: ignore[misc]
        for kind in tiny.KINDS
        if kind != "bert_encoder"
    },
    "t5-qa": lambda: T5QASummaryEmotion(tiny.folder("t5")),
    "emotions": lambda: HFSeqTCModel(
        tiny.folder("bert_classifier"), tasks=["text-classification", "emotion"]
    ),
    "efficientnet-class": lambda: EfficientNet(tiny.folder("efficientnet")),
    "template": lambda: HFNLIModel(tiny.folder("bert_nli3"), template="It is {}."),
    "prompt": lambda: STModel(
        tiny.folder("sentence_transformer"),
        prompt="query: ",
        templates=["About {}."],
        calibration={"slope": 5.0, "middle": 0.1, "temperature": 0.1},
    ),
    "pair": lambda: PairEncoder(
        HFImageModel(tiny.folder("vit")), STModel(tiny.folder("sentence_transformer_dense"))
    ),
}
# test_check_model.py opens the others in a new process.
ELSEWHERE = ("gpt2", "bert_qa", "template", "prompt", "pair", "siglip")


def _base64(number: int) -> str:
    buffer = io.BytesIO()
    tiny.photo(number).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


FIELDS: Mapping[str, list[Any]] = {
    "text": ["The river runs to the sea.", "So glad! It all went well in the end, thank you."],
    "question": ["Where does Sally live?", "What is late?"],
    "context": ["Sally lives in London.", "The train to Leeds is late, as ever."],
    "image": [_base64(1), _base64(2)],
}
LABELS = {"labels": [["animal", "food"], ["vehicle", "food", "weather"]]}


def ask(model: BaseModel) -> list[dict[str, Any]]:
    """Return every task with an input, which is JSON, and the model's answer."""
    asked = []
    for task in model.tasks:
        given: dict[str, Any] = {
            field.name: FIELDS[field.name] for field in SPECS[task].fields if field.required
        }
        if task == "text-generation":
            given["max_length"] = 12
        try:
            answer = model(given, task=task)
        except InputError:  # some classify by labels they are given only
            given |= LABELS
            answer = model(given, task=task)
        asked.append({"task": task, "given": given, "answer": answer})
    return asked


def assert_same(model: BaseModel, asked: list[dict[str, Any]]) -> None:
    assert list(model.tasks) == [own["task"] for own in asked]
    for own in asked:
        assert not difference(model(own["given"], task=own["task"]), own["answer"])


# Whole and equal


@pytest.mark.parametrize("kind", MAKERS)
def test_a_loaded_model_answers_as_before_and_the_live_one_is_left_alone(
    kind: str, tmp_path: Path
) -> None:
    model = MAKERS[kind]()
    asked = ask(model)
    model.train()
    before = {**state(model), **chances()}
    names = set(vars(model))
    with no_network() as attempts:
        path = save(model, "my-model", "what it is", details={"size": [1, 2]}, path=tmp_path / "m")
        assert not changes(before, {**state(model), **chances()})
        loaded = load(path)
        assert attempts() == []
    assert set(vars(model)) == names and model.name is None and model.training
    assert (loaded.name, loaded.description) == ("my-model", "what it is")
    assert loaded.details == {"size": [1, 2]}
    assert type(loaded) is type(model) and not loaded.training
    assert_same(loaded, asked)
    again = save(loaded, path=tmp_path / "again")
    assert _bytes(again) == _bytes(path)  # so nothing is lost on the way


def _bytes(folder: Path) -> dict[str, bytes]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_saved_models_answer_the_same_in_a_new_process(tmp_path: Path) -> None:
    for kind in ELSEWHERE:
        model = MAKERS[kind]()
        save(model, "my-model", path=tmp_path / kind)
        (tmp_path / f"{kind}.json").write_text(json.dumps(ask(model)))
    code = f"""
        import json, pathlib
        import backprop
        from backprop.testing.answers import difference
        for path in sorted(pathlib.Path({str(tmp_path)!r}).glob("*.json")):
            model = backprop.load(path.with_suffix(""))
            for own in json.loads(path.read_text()):
                fault = difference(model(own["given"], task=own["task"]), own["answer"])
                print(path.stem, own["task"], fault or "same")
    """
    process = run_python(code, timeout_s=280)
    lines = process.stdout.splitlines()
    assert process.returncode == 0, process.stderr
    assert {line.split()[0] for line in lines} == set(ELSEWHERE)
    assert [line for line in lines if not line.endswith(" same")] == []


@pytest.mark.parametrize("kind", ["bert_classifier", "gpt2", "vit", "clip", "t5-qa", "pair"])
def test_the_folder_holds_no_pickle(kind: str, tmp_path: Path) -> None:
    path = save(MAKERS[kind](), "my-model", path=tmp_path / "m")
    endings = {file.suffix for file in path.rglob("*") if file.is_file()}
    assert endings <= {".json", ".safetensors", ".md", ".txt", ".jinja", ".model"}


def test_the_folder_opens_with_transformers(tmp_path: Path) -> None:
    path = save(MAKERS["bert_classifier"](), "my-model", path=tmp_path / "m")
    tokenizer = transformers.AutoTokenizer.from_pretrained(path)
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(path).eval()
    with torch.no_grad():
        logits = theirs(**tokenizer(FIELDS["text"][0], return_tensors="pt")).logits[0]
    ours = load(path)({"text": FIELDS["text"][0]}, task="text-classification")
    probabilities = dict(zip(theirs.config.id2label.values(), logits.softmax(0), strict=True))
    assert ours == pytest.approx({label: float(own) for label, own in probabilities.items()})


@pytest.mark.parametrize("kind", ["sentence_transformer_cls", "sentence_transformer_dense"])
def test_the_folder_opens_with_sentence_transformers(kind: str, tmp_path: Path) -> None:
    path = save(MAKERS[kind](), "my-model", path=tmp_path / "m")
    theirs = SentenceTransformer(str(path), device="cpu").encode(FIELDS["text"])
    ours = load(path)({"text": FIELDS["text"]}, task="text-vectorisation")
    assert np.allclose(ours, theirs, atol=1e-6)


def test_the_vectors_of_an_image_model_are_those_of_transformers(tmp_path: Path) -> None:
    path = save(MAKERS["clip"](), "my-model", path=tmp_path / "m")
    theirs = transformers.CLIPModel.from_pretrained(path).eval()
    pixels = transformers.AutoImageProcessor.from_pretrained(path)(
        tiny.photo(3), return_tensors="pt"
    )
    with torch.no_grad():
        features = theirs.get_image_features(**pixels)
    vector = getattr(features, "pooler_output", features)[0]
    ours = load(path)({"image": tiny.photo(3), "normalise": False}, task="image-vectorisation")
    assert np.allclose(ours, vector, atol=1e-3)


# Names and places


def test_saved_and_loaded_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BACKPROP_CACHE", str(tmp_path))
    model = MAKERS["sentence_transformer"]()
    asked = ask(model)
    assert backprop.save(model, "my-encoder") == tmp_path / "my-encoder"
    assert_same(backprop.load("my-encoder"), asked)
    assert_same(AutoModel.from_pretrained("my-encoder"), asked)
    task = TextVectorisation("my-encoder")
    [expected] = [own["answer"] for own in asked if own["task"] == "text-vectorisation"]
    assert not difference(task(FIELDS["text"]), expected)


def test_a_task_saves_its_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BACKPROP_CACHE", str(tmp_path))
    task = TextVectorisation(MAKERS["sentence_transformer"]())
    path = task.save("my-encoder", "mine", {"by": "me"})
    assert path == tmp_path / "my-encoder"
    loaded = backprop.load("my-encoder")
    assert (loaded.name, loaded.description, loaded.details) == ("my-encoder", "mine", {"by": "me"})
    assert not difference(TextVectorisation(loaded)(FIELDS["text"]), task(FIELDS["text"]))
    assert task.save("other", path=tmp_path / "there") == tmp_path / "there"


def test_a_saved_model_is_replaced_by_the_next(tmp_path: Path) -> None:
    path = save(MAKERS["vit"](), "first", path=tmp_path / "m")
    model = MAKERS["sentence_transformer"]()
    assert save(model, "second", path=path) == path
    assert load(path).name == "second"
    assert not (path / "preprocessor_config.json").exists()
    assert [own.name for own in tmp_path.iterdir()] == ["m"]


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_text("meow")
    with pytest.raises(ArtefactError, match="not a saved model"):
        save(MAKERS["vit"](), "my-model", path=tmp_path / "photos")
    assert (tmp_path / "photos" / "cat.jpg").read_text() == "meow"


@pytest.mark.parametrize("name", ["ab", "a" * 101, "My-Model", "my model", "../up", "über", None])
def test_a_bad_name_is_refused(name: str | None, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="3 to 100 characters"):
        save(MAKERS["vit"](), name, path=tmp_path / "m")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"details": {"when": object()}}, "which JSON can't hold"),
        ({"details": {"score": float("nan")}}, "nan"),
    ],
)
def test_what_json_can_not_hold_is_refused(
    fields: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        save(MAKERS["vit"](), "my-model", path=tmp_path / "m", **fields)
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BACKPROP_CACHE", str(tmp_path))
    with pytest.raises(NotFoundError, match="no saved model 'nothing-here'"):
        load("nothing-here")


# Damage


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three saved models: one in hub format, one with folders in it, one with a pickle."""
    folder = tmp_path_factory.mktemp("whole")
    for name in ("sentence_transformer", "pair"):
        save(MAKERS[name](), name, path=folder / name)
    save(_mine(), "mine", path=folder / "mine")
    return folder


def _flip(path: Path, place: float) -> None:
    content = bytearray(path.read_bytes())
    content[round(place * (len(content) - 1))] ^= 1
    path.write_bytes(content)


def _put_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("/etc/hostname")


DAMAGES: Mapping[str, Callable[[Path], object]] = {
    **{
        f"a bit flipped at {place:.0%}": lambda path, place=place: _flip(path, place)  # type: ignore[misc]
        for place in (0, 0.1, 0.37, 0.5, 0.9, 1)
    },
    "cut short": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "one byte more": lambda path: path.write_bytes(path.read_bytes() + b" "),
    "emptied": lambda path: path.write_bytes(b""),
    "removed": lambda path: path.unlink(),
    "a file beside it": lambda path: (path.parent / "extra.py").write_text("import os"),
    "a link in its place": _put_link,
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["sentence_transformer", "pair", "mine"])
def test_damage_to_any_file_is_detected(
    name: str, damage: str, whole: Path, tmp_path: Path
) -> None:
    files = [path.relative_to(whole / name) for path in (whole / name).rglob("*")]
    files = [path for path in files if (whole / name / path).is_file()]
    assert len(files) > 4
    unnoticed = []
    for file in files:
        copy = tmp_path / "copy"
        shutil.copytree(whole / name, copy)
        DAMAGES[damage](copy / file)
        for opener in (_load_trusting, AutoModel.from_pretrained):
            try:
                opener(copy)
            except ArtefactError:
                continue
            unnoticed.append((str(file), opener.__name__))
        shutil.rmtree(copy)
    assert unnoticed == []


def _load_trusting(path: Path) -> BaseModel:
    return load(path, trust_pickle=True)


# A class of the user's own


class Mine(BaseModel):
    """Counts letters, and has weights to count them by."""

    def __init__(self, *, start: float = 0.0) -> None:
        super().__init__(name="mine", tasks=["text-vectorisation"])
        self.weight = torch.nn.Parameter(torch.full((2,), start))
        self.same = self.weight  # shared weights must survive too

    def __call__(self, task_input: Any, task: str = "text-vectorisation") -> Any:
        text = task_input["text"]
        return [self.vector(own) for own in text] if isinstance(text, list) else self.vector(text)

    def vector(self, text: str) -> list[float]:
        found: list[float] = (self.weight * len(text)).tolist()
        return found


def _mine() -> Mine:
    return Mine(start=0.5)


def test_a_class_of_ones_own_is_loaded_by_naming_it(tmp_path: Path) -> None:
    path = save(_mine(), "my-own", "what it is", details={"a": 1}, path=tmp_path / "m")
    loaded = load(path, model_class=Mine)
    assert loaded({"text": "four"}) == [2.0, 2.0]
    assert (loaded.name, loaded.description, loaded.details) == ("my-own", "what it is", {"a": 1})
    assert loaded.tasks == ["text-vectorisation"]


def test_a_class_of_ones_own_is_unpickled_by_trusting_it(tmp_path: Path) -> None:
    loaded = load(save(_mine(), path=tmp_path / "m"), trust_pickle=True)
    assert type(loaded) is Mine and loaded({"text": ["four", ""]}) == [[2.0, 2.0], [0.0, 0.0]]


def test_naming_the_class_unpickles_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(_mine(), path=tmp_path / "m")
    monkeypatch.setattr("dill.load", _no_pickle)
    assert load(path, model_class=Mine, trust_pickle=True)({"text": "four"}) == [2.0, 2.0]


@pytest.mark.parametrize(
    "opener", [load, AutoModel.from_pretrained, TextVectorisation], ids=lambda own: own.__name__
)
def test_neither_said_it_is_refused(
    opener: Callable[[Path], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(_mine(), path=tmp_path / "m")
    monkeypatch.setattr("dill.load", _no_pickle)
    with pytest.raises(ArtefactError, match="model_class=YourClass"):
        opened = opener(path)
        opened("text")


def _no_pickle(*_: Any) -> Any:
    raise AssertionError("something was unpickled")


def test_another_class_than_was_saved_is_refused(tmp_path: Path) -> None:
    class Other(BaseModel):
        def __init__(self) -> None:
            super().__init__(name="other")
            self.bias = torch.nn.Parameter(torch.zeros(3))

    with pytest.raises(ArtefactError, match="do not fit Other"):
        load(save(_mine(), path=tmp_path / "m"), model_class=Other)


def test_a_subclass_of_ours_keeps_its_own_code(tmp_path: Path) -> None:
    class Shouting(STModel):
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            answer = super().__call__(*args, **kwargs)
            return answer.upper() if isinstance(answer, str) else answer

    model = Shouting(tiny.folder("sentence_transformer"), name="shouting")
    given = {"text": FIELDS["text"][0]}
    expected = model(given, task="emotion")
    assert expected.isupper()
    loaded = load(save(model, path=tmp_path / "m"), trust_pickle=True)
    assert loaded(given, task="emotion") == expected


def test_the_documents_model_is_saved_and_loaded(tmp_path: Path) -> None:
    class MyModel(BaseModel):
        def __call__(self, task_input: Any, task: str = "emotion") -> Any:
            if task == "emotion":
                return "admiration"
            else:
                raise ValueError("Unsupported task!")

    path = save(MyModel(), "my-model", path=tmp_path / "m")
    for loaded in (load(path, trust_pickle=True), load(path, model_class=MyModel)):
        assert loaded({"text": "This is pretty cool!"}, task="emotion") == "admiration"
        assert loaded.tasks == ["emotion"] and loaded.name == "my-model"


def test_what_dill_can_not_pickle_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    model = _mine()
    vars(model)["stream"] = (i for i in range(3))
    with pytest.raises(InputError, match="Mine can't be pickled with dill .*generator"):
        save(model, path=tmp_path / "m")
    assert list(tmp_path.iterdir()) == []


def test_a_model_without_tasks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no tasks"):
        save(BaseModel(len, name="no-tasks"), path=tmp_path / "m")
