"""``finetune`` and ``evaluate``: every cell of the table of tasks and variants, every method."""

import json
import logging
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

import backprop
from backprop import tasks
from backprop.data import read
from backprop.errors import InputError, UnsupportedTaskError
from backprop.finetuning.answers import Answers
from backprop.finetuning.loaders import Validation
from backprop.finetuning.objectives import objective_for
from backprop.finetuning.options import Options
from backprop.models import (
    CLIP,
    BaseModel,
    EfficientNet,
    HFCausalLMTGModel,
    HFImageModel,
    HFSeq2SeqTGModel,
    HFSeqTCModel,
    PairEncoder,
    SpanQA,
    STModel,
    T5QASummaryEmotion,
)
from backprop.specs import SPECS
from tests import tiny

pytestmark = pytest.mark.usefixtures("one_thread")

ANIMALS = ["a cat sleeps", "the dog barks", "two cats play", "a dog and a cat", "dogs run fast"]
TRAVEL = ["the train is late", "a bus to London", "we fly to Rome", "trains and buses", "by boat"]
FOOD = ["fresh bread", "the soup is hot", "apples and cheese", "rice with beans", "warm bread"]
TEXTS = [*ANIMALS, *TRAVEL, *FOOD]
TOPICS = ["animals"] * 5 + ["travel"] * 5 + ["food"] * 5
SEVERAL = [["animals"], ["animals", "food"], ["travel"], ["food", "travel"], ["animals"]] * 3
PHOTOS = [tiny.photo(seed) for seed in range(9)]
KINDS_OF_PHOTO = ["red", "green", "blue"] * 3
SALLY = "Sally lives in London with her brother Tom and two cats."
QUESTIONS = {
    "questions": ["Where does Sally live?", "Who is with her?", "How many cats?", "Which dog?"] * 2,
    "answers": ["London", "her brother Tom", "two", ""] * 2,
    "contexts": [SALLY] * 8,
}
WITH_HISTORY = {**QUESTIONS, "prev_qas": [[], [("Where does Sally live?", "London")]] * 4}
WRITTEN = {
    "input_text": ["one two", "three four", "five", "six seven eight"] * 2,
    "output_text": ["two one", "four three", "five", "eight seven six"] * 2,
}
FEELINGS = {"input_text": TEXTS, "output_text": ["joy"] * 5 + ["fear"] * 5 + ["love"] * 5}
TEXT_PAIRS = {
    "texts1": TEXTS,
    "texts2": TEXTS[1:] + TEXTS[:1],
    "similarity_scores": [i % 5 / 4 for i in range(15)],
}
IMAGE_PAIRS = {
    "imgs1": PHOTOS,
    "imgs2": PHOTOS[1:] + PHOTOS[:1],
    "similarity_scores": [i % 3 / 2 for i in range(9)],
}


def all_written(folder: Path) -> HFSeq2SeqTGModel:
    prompts = {**T5QASummaryEmotion.prompts, "text-generation": "{text}"}
    return HFSeq2SeqTGModel(folder, prompts=prompts)


def pair(_: Path) -> PairEncoder:
    return PairEncoder(
        image=HFImageModel(tiny.folder("vit")), text=STModel(tiny.folder("sentence_transformer"))
    )


class Cell(NamedTuple):
    """A way to finetune a task, and a model that learns it."""

    task: str
    variant: str
    make: Callable[[Path], BaseModel]
    kind: str
    params: Mapping[str, Any]

    def run(self, **options: Any) -> tuple[Any, Any]:
        task = getattr(tasks, SPECS[self.task].task_class)(self.make(tiny.folder(self.kind)))
        return task, task.finetune(self.params, show=False, **options)


ST = "sentence_transformer"
PICTURE_MODELS: tuple[tuple[Callable[[Path], BaseModel], str], ...] = (
    (HFImageModel, "vit"),
    (EfficientNet, "efficientnet"),
)
CELLS = [
    Cell("qa", "", SpanQA, "bert_qa", QUESTIONS),
    Cell("qa", "", SpanQA, "bert_qa", WITH_HISTORY),
    Cell("qa", "", all_written, "t5", WITH_HISTORY),
    Cell("text-classification", "single_label", STModel, ST, {"texts": TEXTS, "labels": TOPICS}),
    Cell("text-classification", "multi_label", STModel, ST, {"texts": TEXTS, "labels": SEVERAL}),
    Cell(
        *("text-classification", "single_label", HFSeqTCModel, "bert_classifier"),
        {"texts": TEXTS, "labels": TOPICS},
    ),
    Cell("emotion", "", STModel, ST, FEELINGS),
    Cell("emotion", "", all_written, "t5", FEELINGS),
    Cell("summarisation", "", all_written, "t5", WRITTEN),
    Cell("summarisation", "", HFCausalLMTGModel, "llama_chat", WRITTEN),
    Cell("text-generation", "", HFCausalLMTGModel, "gpt2", WRITTEN),
    Cell("text-vectorisation", "cosine_similarity", STModel, ST, TEXT_PAIRS),
    Cell("text-vectorisation", "triplet", STModel, ST, {"texts": TEXTS, "groups": TOPICS}),
    *(
        Cell("image-classification", variant, make, kind, {"images": PHOTOS, "labels": labels})
        for labels, variant in ((KINDS_OF_PHOTO, "single_label"), (SEVERAL[:9], "multi_label"))
        for make, kind in PICTURE_MODELS
    ),
    Cell("image-vectorisation", "cosine_similarity", HFImageModel, "vit", IMAGE_PAIRS),
    Cell(
        *("image-vectorisation", "triplet", HFImageModel, "vit"),
        {"images": PHOTOS, "groups": KINDS_OF_PHOTO},
    ),
    *(
        Cell("image-text-vectorisation", variant, make, "clip", params)
        for make in (CLIP, pair)
        for variant, params in (
            ("triplet", {"images": PHOTOS, "texts": TEXTS[:9], "groups": KINDS_OF_PHOTO}),
            ("cosine_similarity", {**IMAGE_PAIRS, "texts1": TEXTS[:9], "texts2": TEXTS[5:14]}),
        )
    ),
]


def name_of(cell: Cell) -> str:
    return f"{cell.task}-{cell.variant}-{cell.make.__name__}"


def test_every_cell_of_the_table_of_tasks_has_a_case() -> None:
    table = {(name, way.variant) for name, spec in SPECS.items() for way in spec.training}
    assert {(cell.task, cell.variant) for cell in CELLS} == table


BRIEFLY = {"validation_split": 0, "epochs": 6, "learning_rate": 2e-3, "batch_size": 15}


def mean_loss(cell: Cell, model: BaseModel) -> float:
    """Return the mean loss of all rows, with nothing learnt."""
    data = read(cell.task, cell.params)
    lengths = dict(data.training.arguments)
    objective = objective_for(data)(model, data, lengths, Answers(lambda _: []))
    torch.manual_seed(0)
    objective.prepare()
    model.eval()
    return objective.mean_loss(range(len(data)))


def hard_loss(cell: Cell, model: BaseModel) -> float:
    """Return the mean of margin + distance to own group - distance to the others, over all rows.

    The semi-hard loss itself is no measure: the better the vectors, the harder its strangers.
    """
    data = read(cell.task, cell.params)
    objective = objective_for(data)(model, data, {}, Answers(lambda _: []))
    model.eval()
    with torch.inference_mode():
        batch = objective.batch(range(len(data)))
        vectors = torch.nn.functional.normalize(model.training_step(batch["inputs"]))
    alike = batch["targets"][:, None] == batch["targets"][None, :]
    likeness = vectors @ vectors.T
    return float(likeness[~alike].mean() - likeness[alike].mean())


def loss_of(cell: Cell, model: BaseModel) -> float:
    return (hard_loss if cell.variant == "triplet" else mean_loss)(cell, model)


@pytest.mark.parametrize("cell", CELLS, ids=name_of)
def test_finetuning_lowers_the_loss(cell: Cell) -> None:
    before = loss_of(cell, cell.make(tiny.folder(cell.kind)))
    task, report = cell.run(method="full", **BRIEFLY)
    losses = [epoch["loss"] for epoch in report.history]
    assert len(losses) == BRIEFLY["epochs"]
    assert all(map(math.isfinite, losses))
    assert loss_of(cell, task.model) < before
    assert report.variant == cell.variant


@pytest.mark.parametrize("cell", CELLS, ids=name_of)
def test_lora_lowers_the_loss_and_leaves_a_model_of_the_same_layers(cell: Cell) -> None:
    fresh = cell.make(tiny.folder(cell.kind))
    before, names = loss_of(cell, fresh), [name for name, _ in fresh.named_parameters()]
    task, report = cell.run(method="lora", **BRIEFLY)
    assert report.method == "lora"
    assert loss_of(cell, task.model) < before
    assert [name for name, _ in task.model.named_parameters()] == names
    assert all(weight.requires_grad for weight in task.model.parameters())


HEADED = [
    each for each in CELLS if each.make in (STModel, HFSeqTCModel, HFImageModel, EfficientNet)
]
HEADED = [each for each in HEADED if "vectorisation" not in each.task]


@pytest.mark.parametrize("cell", HEADED, ids=name_of)
def test_head_changes_the_last_layer_only(cell: Cell) -> None:
    task, report = cell.run(method="head", validation_split=0)
    fresh = cell.make(tiny.folder(cell.kind)).state_dict()
    head = task.model.head(cell.task)
    own = {id(weight) for weight in head.parameters()}
    for name, weight in task.model.named_parameters():
        if id(weight) not in own and name in fresh:
            assert torch.equal(weight, fresh[name]), name
    found = task.evaluate(cell.params).metrics
    assert found.get("accuracy", found.get("micro_f1", 0)) > 0.5
    assert report.history == []


def test_a_finetuned_model_is_saved_with_its_card_and_answers_alike(tmp_path: Path) -> None:
    task, report = CELLS[3].run(method="head")
    folder = task.save("topics", path=tmp_path / "topics")
    again = backprop.TextClassification(backprop.load(folder))
    assert again("the dog barks") == task("the dog barks")
    assert sorted(again("the dog barks")) == ["animals", "food", "travel"]
    card = (folder / "README.md").read_text("utf-8")
    assert "animals" in card
    assert str(report.rows["train"]) in card


def test_the_same_seed_gives_the_same_weights_and_another_does_not() -> None:
    options = {"method": "full", "epochs": 2, "batch_size": 4, "validation_split": 0.2}
    states = [CELLS[3].run(seed=seed, **options)[0].model.state_dict() for seed in (3, 3, 4)]
    same = [all(torch.equal(states[0][k], other[k]) for k in states[0]) for other in states[1:]]
    assert same == [True, False]


def test_auto_says_what_it_picked_and_why() -> None:
    _, report = CELLS[3].run(epochs=1, batch_size=8)
    assert report.method == "full"
    assert "15" not in report.why  # rows kept aside are not trained on
    assert report.why


def test_balanced_classes_count_alike() -> None:
    rows = {"texts": TEXTS[:12], "labels": ["a"] * 9 + ["b"] * 3}
    task = backprop.TextClassification(STModel(tiny.folder(ST)))
    task.finetune(rows, method="head", class_weights="balanced", show=False, validation_split=0)
    assert task.model.class_weights is None
    weighted = task("zzz")["b"]
    task = backprop.TextClassification(STModel(tiny.folder(ST)))
    task.finetune(rows, method="head", show=False, validation_split=0)
    assert weighted > task("zzz")["b"]


def test_several_labels_are_present_from_a_half_on() -> None:
    params = {"texts": TEXTS * 3, "labels": SEVERAL * 3}
    task = backprop.TextClassification(STModel(tiny.folder(ST)))
    report = task.finetune(params, method="head", show=False, validation_split=0.3)
    assert set(report.thresholds or ()) == {"animals", "food", "travel"}
    found = task.evaluate(params)
    assert found.main == "macro_f1"
    assert found.metrics["macro_f1"] > 0.4


class Own(BaseModel):
    """A model of a user's own, with one weight."""

    def __init__(self) -> None:
        super().__init__(name="own", tasks=["emotion"])
        self.layer = torch.nn.Linear(1, 2)

    def __call__(self, task_input: Any, task: str = "emotion") -> Any:
        texts = task_input["text"]
        many = [texts] if isinstance(texts, str) else texts
        answers = ["short" if self._score(text) < 0 else "long" for text in many]
        return answers[0] if isinstance(texts, str) else answers

    def _score(self, text: str) -> float:
        scores = self.layer(torch.tensor([len(text) / 10]))
        return float((scores[1] - scores[0]).detach())

    def process_batch(self, params: Any, task: str = "emotion") -> Any:
        assert set(params) == {"input", "output", "max_input_length", "max_output_length"}
        return {"length": [len(params["input"]) / 10], "target": int(params["output"] == "long")}

    def training_step(self, batch: Any) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(self.layer(batch["length"]), batch["target"])


ROWS = {
    "input_text": ["a", "abc", "ab", "abcdefghijklm" * 2, "abcdefghijklmno" * 2, "x" * 30] * 3,
    "output_text": ["short", "short", "short", "long", "long", "long"] * 3,
}


def test_a_model_of_the_users_own_learns_by_its_three_methods() -> None:
    task = backprop.Emotion(Own())
    report = task.finetune(ROWS, epochs=40, learning_rate=0.1, show=False)
    assert task.evaluate(ROWS).metrics["accuracy"] == 1
    assert report.metrics["accuracy"] == 1


def test_dataloaders_step_and_optimiser_of_the_users_own_are_used() -> None:
    seen: list[str] = []
    model = Own()
    batches = [{"length": torch.tensor([[0.1], [3.0]]), "target": torch.tensor([0, 1])}] * 4

    def step(batch: Any, number: int) -> torch.Tensor:
        seen.append(f"step {number}")
        return model.training_step(batch)

    def configure() -> torch.optim.Optimizer:
        seen.append("optimiser")
        return torch.optim.SGD(model.parameters(), lr=0.5)

    report = backprop.Emotion(model).finetune(
        ROWS,
        epochs=2,
        train_dataloader=lambda: batches,
        val_dataloader=batches,
        step=step,
        configure_optimizers=configure,
        show=False,
    )
    assert "optimiser" in seen
    assert sum(each.startswith("step") for each in seen) == 4 + 2 * (
        4 + 4
    )  # the first: it has batches
    assert report.history[-1]["metrics"]["loss"] < math.log(2)


def test_rows_named_by_the_caller_are_split_as_named() -> None:
    _, report = CELLS[3].run(method="head", validation_split=(list(range(12)), [12, 13, 14]))
    assert report.rows == {"train": 12, "validation": 3}


def test_evaluation_of_a_zero_shot_model_takes_labels() -> None:
    task = backprop.TextClassification(STModel(tiny.folder(ST)))
    labels = ["animals", "travel", "food"]
    report = task.evaluate({"texts": TEXTS, "labels": TOPICS}, labels=labels, multi_label=False)
    assert 0 <= report.metrics["accuracy"] <= 1
    assert report.rows == {"validation": 15}


def test_a_report_is_json() -> None:
    _, report = CELLS[3].run(method="full", epochs=1, batch_size=8)
    assert json.loads(report.to_json())["history"][0]["rows_per_s"] > 0


def test_text_over_the_limit_is_counted_and_told(caplog: pytest.LogCaptureFixture) -> None:
    task = backprop.TextClassification(STModel(tiny.folder(ST)))
    rows = {"texts": [*TEXTS[:-1], "long " * 400], "labels": TOPICS}
    with caplog.at_level(logging.WARNING, logger="backprop"):
        report = task.finetune(rows, method="head", max_length=16, show=False)
    assert "1 of 15" in caplog.text
    assert any("1 of 15" in each for each in report.warnings)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "magic"}, "method must be one of"),
        ({"max_lenght": 3}, "did you mean 'max_length'"),
        ({"max_length": 0}, "above 0"),
        ({"class_weights": 3}, "class_weights must be"),
        ({"class_weights": {"cats": 1.0}}, "'cats'"),
        ({"epochs": 0}, "epochs must be"),
        ({"validation_split": 1.5}, "validation_split"),
        ({"variant": "triplet"}, "no variant 'triplet'"),
    ],
)
def test_a_wrong_argument_is_refused_before_work(options: dict[str, Any], message: str) -> None:
    task = backprop.TextClassification(STModel(tiny.folder(ST)))
    with pytest.raises(InputError, match=message):
        task.finetune({"texts": TEXTS, "labels": TOPICS}, show=False, **options)
    assert task.model.classes == {}


def test_a_model_without_training_hooks_is_refused() -> None:
    class Plain(BaseModel):
        def __call__(self, task_input: Any, task: str = "emotion") -> Any:
            return "joy"

    with pytest.raises(UnsupportedTaskError, match="can't be finetuned"):
        backprop.Emotion(Plain()).finetune(ROWS)


def test_head_needs_a_head() -> None:
    with pytest.raises(InputError, match="method='head'"):
        CELLS[11].run(method="head")


def test_weights_are_put_back_only_where_loss_and_answers_are_worse() -> None:
    task = backprop.TextClassification(STModel(tiny.folder(ST)))
    data = read("text-classification", {"texts": TEXTS, "labels": TOPICS})
    objective = objective_for(data)(task.model, data, {}, Answers(task.run, {}, written=False))
    validation = Validation(objective, range(15), Options())
    before = {"loss": 1.0, "accuracy": 0.8}
    for loss, accuracy, worse in (
        (1.1, 0.7, True),
        (1.1, 0.8, True),
        (1.1, 0.9, False),
        (0.9, 0.7, False),
    ):
        assert validation.is_worse({"loss": loss, "accuracy": accuracy}, before) == worse


def test_rows_of_several_labels_are_trained_in_full() -> None:
    task = backprop.TextClassification(STModel(tiny.folder(ST)))
    rows = {"texts": TEXTS * 3, "labels": SEVERAL * 3}
    report = task.finetune(rows, method="full", epochs=1, batch_size=15, show=False)
    assert report.main == "macro_f1"
    assert set(report.thresholds or ()) == {"animals", "food", "travel"}
