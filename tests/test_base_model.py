"""What every model is: a module around any callable; what a subclass may leave out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dill
import pytest
import torch
import transformers
from torch import nn

from backprop.errors import InputError, NotFoundError, UnsupportedTaskError
from backprop.models.auto import AutoModel
from backprop.models.base import BaseModel, PathModel
from backprop.models.hf import HFModel, HFTextGenerationModel
from tests import tiny

pytestmark = pytest.mark.usefixtures("one_thread")

IDS = [5, 6, 7]


class Mine(BaseModel):
    """As in the documentation: only ``__call__``."""

    def __call__(self, task_input: Any, task: str = "emotion") -> Any:
        if task != "emotion":
            raise ValueError("Unsupported task!")
        return "admiration" if isinstance(task_input["text"], str) else ["admiration"]


class OwnInit(BaseModel):
    """Sets submodules and parameters without calling ``super().__init__`` first."""

    def __init__(self) -> None:
        self.layer = nn.Linear(2, 3)
        self.scale = nn.Parameter(torch.ones(1))
        self.note = "mine"

    def __call__(self, task_input: Any, task: str = "text-vectorisation") -> Any:
        return self.layer(torch.ones(2)).tolist()


@pytest.mark.parametrize("wrapped", [max, lambda *values: max(values), nn.Identity()])
def test_any_callable_can_be_wrapped(wrapped: Any) -> None:
    model = BaseModel(wrapped)
    assert model(3) == 3 if isinstance(wrapped, nn.Module) else model(3, 5) == 5
    assert isinstance(model, nn.Module)


def test_a_wrapped_module_is_part_of_the_model() -> None:
    inner = nn.Linear(2, 2)
    model = BaseModel(inner)
    assert {id(p) for p in model.parameters()} == {id(p) for p in inner.parameters()}
    model.eval()
    assert not inner.training
    assert torch.equal(model(torch.ones(1, 2)), inner(torch.ones(1, 2)))


def test_fields_are_those_that_were_passed() -> None:
    model = BaseModel(max, "my-model", "the larger one", ["qa"], {"year": 2021})
    found = (model.name, model.description, model.tasks, model.details)
    assert found == ("my-model", "the larger one", ["qa"], {"year": 2021})
    assert BaseModel().tasks == []
    assert BaseModel().name is None


def test_models_do_not_share_their_list_of_tasks() -> None:
    asked = ["qa"]
    first, second = BaseModel(tasks=asked), BaseModel(tasks=asked)
    first.tasks.append("emotion")
    assert second.tasks == asked == ["qa"]
    one, other = Mine(), Mine()
    one.tasks.append("qa")
    assert (other.tasks, Mine().tasks, BaseModel.tasks) == (["emotion"], ["emotion"], [])


def test_a_model_with_nothing_to_call_says_so() -> None:
    with pytest.raises(UnsupportedTaskError, match="BaseModel has nothing to call.*no task"):
        BaseModel()({"text": "a"}, task="emotion")
    with pytest.raises(UnsupportedTaskError, match="has no task 'emotion'|does not do 'emotion'"):
        BaseModel().handler("emotion")


def test_a_subclass_may_have_nothing_but_its_call() -> None:
    model = Mine()
    assert model({"text": "This is pretty cool!"}, task="emotion") == "admiration"
    assert model({"text": ["a"]}) == ["admiration"]
    assert model.tasks == ["emotion"]
    assert (model.name, list(model.parameters())) == (None, [])
    with pytest.raises(ValueError, match="Unsupported task!"):
        model({"text": "a"}, task="qa")


def test_a_subclass_need_not_call_the_constructor_of_its_base() -> None:
    model = OwnInit()
    assert len(model({"text": "a"}, task="text-vectorisation")) == 3
    assert sorted(name for name, _ in model.named_parameters()) == [
        "layer.bias",
        "layer.weight",
        "scale",
    ]
    assert model.tasks == ["text-vectorisation"]
    assert model.train().layer.training
    assert not model.eval().layer.training
    model.load_state_dict(OwnInit().state_dict())


@pytest.mark.parametrize("make", [Mine, OwnInit])
def test_a_subclass_survives_dill(make: type[BaseModel]) -> None:
    model = make()
    model.name, model.details = "my-model", {"a": 1}
    again = dill.loads(dill.dumps(model, recurse=True))
    assert (again.name, again.details, again.tasks) == ("my-model", {"a": 1}, model.tasks)
    assert again({"text": "a"}) == model({"text": "a"})


def test_dill_leaves_handlers_out_and_the_copy_answers_alike() -> None:
    model = AutoModel.from_pretrained(tiny.folder("bert_classifier"), device="cpu")
    given = {"text": tiny.texts(3)}
    expected = model(given, task="text-classification")
    again = dill.loads(dill.dumps(model, recurse=True))
    assert "_handlers" in model.__dict__
    assert "_handlers" not in again.__dict__
    # Its weights lie elsewhere in memory, by which products of one row are summed in another order.
    for own, wanted in zip(again(given, task="text-classification"), expected, strict=True):
        assert own == pytest.approx(wanted, abs=1e-6)


# --- calls ----------------------------------------------------------------------------------


def test_a_task_may_be_left_out_or_passed_by_place_or_name() -> None:
    model = AutoModel.from_pretrained(tiny.folder("bert_classifier"), device="cpu")
    given = {"text": "cats"}
    expected = model(given, task="text-classification")
    assert model(given) == expected
    assert model(given, "text-classification") == expected
    assert model(task_input=given, task="text-classification") == expected
    with pytest.raises(UnsupportedTaskError, match="'qa'; it does: text-classification"):
        model(given, "qa")


def test_a_model_of_several_tasks_asks_which() -> None:
    model = AutoModel.from_pretrained(tiny.folder("sentence_transformer"), device="cpu")
    with pytest.raises(InputError, match="several tasks; pass task= one of: text-vectorisation, "):
        model({"text": "cats"})


@pytest.mark.parametrize("task_input", ["cats", ["cats"], None, 3], ids=repr)
def test_a_task_takes_a_dictionary(task_input: Any) -> None:
    model = AutoModel.from_pretrained(tiny.folder("bert_classifier"), device="cpu")
    with pytest.raises(InputError, match="takes a dictionary with text, labels"):
        model(task_input, task="text-classification")


def test_input_is_checked_before_the_model_works(monkeypatch: pytest.MonkeyPatch) -> None:
    model = AutoModel.from_pretrained(tiny.folder("bert_classifier"), device="cpu")
    monkeypatch.setattr(model.model, "forward", lambda **_: pytest.fail("the model ran"))
    for given in ({"text": ["a", ""]}, {"text": "a", "top_k": -1}, {"txt": "a"}):
        with pytest.raises(InputError):
            model(given, task="text-classification")


def test_a_call_leaves_the_caller_s_dictionary_as_it_was() -> None:
    model = AutoModel.from_pretrained(tiny.folder("bert_classifier"), device="cpu")
    given = {"text": ["a", "b"], "labels": ["positive", "negative"], "top_k": 1}
    before = {
        key: list(value) if isinstance(value, list) else value for key, value in given.items()
    }
    model(given, task="text-classification")
    assert given == before


# --- models made from a path --------------------------------------------------------------------


def by_auto(kind: str, **options: Any) -> PathModel:
    auto = getattr(transformers, tiny.KINDS[kind].auto)
    options.setdefault("init_tokenizer", transformers.AutoTokenizer)
    return PathModel(tiny.folder(kind), init_model=auto, device="cpu", **options)


@pytest.mark.parametrize("kind", ["gpt2", "bert_encoder", "t5", "bart"])
@pytest.mark.parametrize("ids", [IDS, [IDS, IDS[::-1]], tuple(IDS)], ids=str)
def test_token_ids_become_a_batch(kind: str, ids: Any) -> None:
    model = by_auto(kind)
    batch = torch.tensor([list(ids)] if isinstance(ids[0], int) else ids)
    inner = model.model
    extra = {}
    if inner.config.is_encoder_decoder:
        start = inner.config.decoder_start_token_id
        extra["decoder_input_ids"] = torch.full((len(batch), 1), start)
    with torch.inference_mode():
        assert torch.equal(model(ids)[0], inner(batch, **extra)[0])
        assert torch.equal(model(batch, **extra)[0], inner(batch, **extra)[0])
    assert not inner.training
    assert model.tokenizer("cats")["input_ids"]


@pytest.mark.parametrize("ids", [[[5, 6], [7]], [], ["cats"], [0.5], [[[5]]]], ids=str)
def test_a_list_of_anything_but_token_ids_is_refused(ids: Any) -> None:
    with pytest.raises(InputError, match="token ids, or lists of them of one length; received"):
        by_auto("gpt2")(ids)


def test_a_decoder_s_own_input_is_not_overwritten() -> None:
    model, own = by_auto("t5"), torch.tensor([[0, 3, 4]])
    with torch.inference_mode():
        found = model(IDS, decoder_input_ids=own)[0]
    assert found.shape[:2] == (1, 3)


def test_either_part_may_come_from_a_function_of_the_path() -> None:
    paths: list[str] = []

    def remember(path: str) -> Any:
        paths.append(path)
        return nn.Identity()

    model = PathModel("a/model", "a/tokenizer", init_model=remember, init_tokenizer=remember)
    assert paths == ["a/model", "a/tokenizer"]
    assert isinstance(model.tokenizer, nn.Identity)
    assert PathModel(Path("a/model"), init_model=remember).tokenizer is None
    assert paths[-1] == "a/model"


def test_a_path_model_needs_to_be_told_how_to_make_the_model() -> None:
    with pytest.raises(InputError, match="needs init_model: .*from_pretrained"):
        PathModel("t5-base")


def test_a_hub_model_without_a_class_is_opened_by_its_architecture() -> None:
    model = HFModel(tiny.folder("bert_encoder"), device="cpu")
    assert type(model.model) is transformers.BertModel
    assert model.tasks == []
    with torch.inference_mode():
        assert model(IDS)[0].shape == (1, 3, 32)
    with pytest.raises(UnsupportedTaskError, match="does not do 'emotion'; it does: no task"):
        model({"text": "a"}, task="emotion")


def test_a_generic_writer_is_made_for_a_task_by_a_subclass() -> None:
    class Continues(HFTextGenerationModel):
        HANDLERS = {"text-generation": "text_generations"}

    model = Continues(tiny.folder("gpt2"), device="cpu")
    reference = AutoModel.from_pretrained(tiny.folder("gpt2"), device="cpu")
    given = {"text": tiny.texts(1), "max_length": 5}
    assert model(given, task="text-generation") == reference(given, task="text-generation")


def test_a_name_nobody_knows_is_answered_with_those_near_it() -> None:
    with pytest.raises(NotFoundError, match="all-minilm-l6-v2"):
        AutoModel.from_pretrained("all-minilm-l6")
