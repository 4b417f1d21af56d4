"""What goes wrong in a finetuning: arguments, rows, hooks, Ctrl-C; and what is left afterwards."""

from __future__ import annotations

import json
import os
import random
import signal
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import backprop
from backprop.data import read, split
from backprop.errors import InputError
from backprop.finetuning.few import prototypes, with_names
from backprop.finetuning.heads import Cached
from backprop.models import BaseModel, HFCausalLMTGModel, HFSeqTCModel, SpanQA, STModel
from tests import tiny
from tests.test_finetuning import (
    FEELINGS,
    ROWS,
    SALLY,
    SEVERAL,
    TEXTS,
    TOPICS,
    Own,
    all_written,
)

pytestmark = pytest.mark.usefixtures("one_thread")

TOPIC_ROWS = {"texts": TEXTS, "labels": TOPICS}
PAIRED = list(zip(TEXTS, TOPICS, strict=True))


def encoder() -> STModel:
    return STModel(tiny.folder("sentence_transformer"), name="tiny")


def classifier() -> backprop.TextClassification:
    return backprop.TextClassification(encoder())


# --- Arguments -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "head", "step": lambda batch: batch}, "no use for step"),
        ({"method": "head", "train_dataloader": []}, "no use for train_dataloader"),
        ({"train_dataloader": iter([])}, "ends with the first epoch"),
        ({"val_dataloader": iter([])}, "ends with the first epoch"),
        ({"val_dataloader": [], "method": "full"}, "gave no batch"),
        ({"class_weights": "balanced", "step": lambda batch: batch}, "no effect on a step"),
        ({"seed": -1}, "seed must be a whole number"),
        ({"seed": 1.5}, "seed must be a whole number"),
        ({"epochs": "3"}, "epochs must be a whole number"),
        ({"batch_size": 16.5}, "batch_size must be a whole number"),
        ({"learning_rate": 0.0}, "learning_rate must be a number above 0"),
    ],
)
def test_arguments_without_use_or_sense_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        classifier().finetune(TOPIC_ROWS, show=False, **options)


def test_class_weights_are_refused_by_a_model_that_writes() -> None:
    task = backprop.Emotion(all_written(tiny.folder("t5")))
    with pytest.raises(InputError, match="writes the words of emotion"):
        task.finetune(FEELINGS, class_weights="balanced", show=False)


def test_epochs_of_the_callers_are_the_plan_and_patience_may_end_it() -> None:
    task = classifier()
    report = task.finetune(
        TOPIC_ROWS, method="full", epochs=9, early_stopping_epochs=0, batch_size=15, show=False
    )
    assert len(report.history) == 9
    assert report.settings["epochs"] == 9
    report = task.finetune(TOPIC_ROWS, method="full", epochs=60, batch_size=15, show=False)
    assert report.stopped == "early"
    assert 6 <= len(report.history) < 60


def test_a_step_may_have_further_arguments_with_defaults() -> None:
    seen: list[Any] = []

    def step(batch: Any, model: Any = "mine") -> torch.Tensor:
        seen.append(model)
        return own.training_step(batch)

    own = Own()
    backprop.Emotion(own).finetune(ROWS, epochs=1, step=step, batch_size=6, show=False)
    assert set(seen) == {"mine"}


def test_settings_of_a_report_say_what_the_run_had() -> None:
    report = classifier().finetune(
        TOPIC_ROWS, method="full", epochs=1, batch_size=8, class_weights="balanced", show=False
    )
    own = {"epochs": 1, "batch_size": 8, "class_weights": "balanced", "max_length": 128}
    assert own.items() <= report.settings.items()
    assert report.settings["validation_split"] == 0.15
    assert "learning_rate" in report.settings


# --- Rows ----------------------------------------------------------------------------------


def test_answers_outside_their_contexts_are_told_all_at_once(tmp_path: Path) -> None:
    path = tmp_path / "questions.csv"
    answers = ["London", "Paris", "two", "Rome", ""]
    path.write_text(
        "question,answer,context\n" + "".join(f"Which?,{each},{SALLY}\n" for each in answers)
    )
    task = backprop.QA(SpanQA(tiny.folder("bert_qa")))
    with pytest.raises(InputError) as caught:
        task.finetune(path, show=False, validation_split=0)
    message = str(caught.value)
    assert "can't learn from 2 rows of qa" in message
    assert "row 1 (line 3)" in message and "'Paris'" in message
    assert "row 3 (line 5)" in message and "'Rome'" in message


def test_rows_that_all_have_all_labels_are_refused() -> None:
    one_hot = {"texts": TEXTS[:4], "labels": [[1, 0], [0, 1], [1, 0], [0, 1]]}
    with pytest.raises(InputError, match="every row has all 2 labels"):
        read("text-classification", one_hot)


def test_an_emotion_in_a_list_has_no_comma() -> None:
    rows = {"input_text": TEXTS[:3], "output_text": [["joy"], ["mixed, unclear"], ["fear", "joy"]]}
    with pytest.raises(InputError, match="with a comma in an emotion"):
        read("emotion", rows)


def test_rows_on_both_sides_are_told() -> None:
    rows = {"texts": [*TEXTS, *TEXTS], "labels": [*TOPICS, *TOPICS]}
    sides = (list(range(15)), list(range(15, 30)))
    report = classifier().finetune(rows, method="head", validation_split=sides, show=False)
    assert any("15 of 15 validation rows" in each for each in report.warnings)


@pytest.mark.parametrize("singles", [20, 40])
def test_groups_of_one_row_take_nothing_from_the_others(singles: int) -> None:
    groups = [f"group {i % 10}" for i in range(100)] + [f"single {i}" for i in range(singles)]
    data = read(
        "text-vectorisation", {"texts": list(map(str, range(len(groups)))), "groups": groups}
    )
    train, aside = split(data)
    assert abs(len(aside) - 0.15 * len(groups)) <= 2
    assert all(count >= 2 for count in Counter(groups[row] for row in aside).values())
    assert len(train) + len(aside) == len(groups)


# --- Few rows ------------------------------------------------------------------------------


def test_a_class_without_a_training_row_gets_finite_weights() -> None:
    cached = Cached(torch.randn(6, 4), torch.tensor([0, 0, 1, 1, 1, 0]))
    head = prototypes(cached, 3)
    assert head.weight.isfinite().all()
    assert not head.weight[2].any()


@pytest.mark.parametrize(
    ("labels", "added"),
    [(["cats", "dogs"], 2), (["label_0", "label_1"], 0), (["0", "1"], 0), (["a1", "b2"], 0)],
)
def test_names_of_labels_are_rows_where_they_say_something(labels: list[str], added: int) -> None:
    data = read("text-classification", {"texts": TEXTS[:4], "labels": labels * 2})
    more, rows = with_names(data, [0, 1, 2])
    assert len(rows) == 3 + added
    assert len(more) == 4 + added


# --- What is left after an error -------------------------------------------------------------


def test_a_model_answers_as_before_after_a_refused_finetuning() -> None:
    task = classifier()
    question = {"text": "the dog barks", "labels": ["animals", "food"]}
    before = task.run(question)
    with pytest.raises(InputError, match="no room for text"):
        task.finetune(TOPIC_ROWS, max_length=2, show=False)
    assert task.run(question) == before
    assert task.model.classes == {}


def test_a_classifier_keeps_its_labels_after_a_refused_finetuning() -> None:
    model = HFSeqTCModel(tiny.folder("bert_classifier"))
    task = backprop.TextClassification(model)
    before = task("the dog barks")
    with pytest.raises(InputError, match="no room for text"):
        task.finetune(TOPIC_ROWS, max_length=1, show=False)
    assert task("the dog barks") == before


def numpy_state() -> list[int]:
    state: Any = np.random.get_state()
    numbers: list[int] = state[1].tolist()
    return numbers


def test_finetuning_leaves_random_numbers_as_they_were() -> None:
    states = random.getstate(), numpy_state(), torch.get_rng_state()
    classifier().finetune(TOPIC_ROWS, method="full", epochs=1, batch_size=8, show=False)
    assert random.getstate() == states[0]
    assert numpy_state() == states[1]
    assert torch.equal(torch.get_rng_state(), states[2])


def test_a_refused_summarisation_leaves_the_default_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "backprop.tasks.base.AutoModel.from_pretrained",
        lambda name, device=None: HFCausalLMTGModel(tiny.folder("llama_chat"), name="writer"),
    )
    task = backprop.Summarisation()
    name = task.name
    with pytest.raises(InputError):
        task.finetune({"input_text": ["a", ""], "output_text": ["b", "c"]}, show=False)
    assert task.name == name
    assert task._model is None


def test_weights_of_a_models_own_for_its_classes_are_left() -> None:
    model = Own()
    model.class_weights = torch.tensor([1.0, 2.0])
    backprop.Emotion(model).finetune(ROWS, epochs=1, show=False)
    assert model.class_weights is not None
    assert model.class_weights.tolist() == [1, 2]


# --- LoRA ------------------------------------------------------------------------------------


def test_lora_twice_warns_of_nothing_and_frozen_layers_stay() -> None:
    task = classifier()
    frozen = next(p for n, p in task.model.named_parameters() if n.endswith("query.weight"))
    frozen.requires_grad_(False)
    before = frozen.clone()
    options: dict[str, Any] = {
        "method": "lora",
        "epochs": 1,
        "batch_size": 8,
        "learning_rate": 1e-2,
    }
    for _ in range(2):
        task.finetune(TOPIC_ROWS, show=False, **options)
    assert torch.equal(frozen, before)
    assert not frozen.requires_grad
    others = [p for p in task.model.parameters() if p is not frozen]
    assert all(weight.requires_grad for weight in others)


def test_factors_that_were_merged_are_not_merged_again(tmp_path: Path) -> None:
    task = classifier()
    options: dict[str, Any] = {
        "method": "lora",
        "epochs": 1,
        "batch_size": 8,
        "checkpoint": tmp_path / "run",
    }
    options |= {"validation_split": 0}
    task.finetune(TOPIC_ROWS, show=False, **options)
    with pytest.raises(InputError, match="frozen weights: no longer the same"):
        task.finetune(TOPIC_ROWS, show=False, **options)
    again = classifier()
    again.finetune(TOPIC_ROWS, show=False, **options)
    ours, theirs = task.model.state_dict(), again.model.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


# --- Several labels, emotions ------------------------------------------------------------------


def test_a_model_that_writes_learns_several_emotions_a_row() -> None:
    rows = {"input_text": TEXTS, "output_text": [", ".join(own) for own in SEVERAL]}
    task = backprop.Emotion(all_written(tiny.folder("t5")))
    report = task.finetune(rows, method="full", epochs=1, batch_size=15, show=False)
    assert report.main == "macro_f1"
    assert task.evaluate(rows).main == "macro_f1"


class OwnPictures(BaseModel):
    """An image model as models.rst has it: ``pre_finetuning`` takes labels and num_classes."""

    def __init__(self) -> None:
        super().__init__(name="own-pictures", tasks=["image-classification"])
        self.layer = torch.nn.Linear(3, 1)
        self.labels: dict[int, str] = {}

    def __call__(self, task_input: Any, task: str = "image-classification") -> Any:
        images = task_input["image"]
        answers = [dict.fromkeys(self.labels.values(), 0.6) for _ in images]
        return answers if isinstance(images, list) else answers[0]

    def pre_finetuning(self, labels: Mapping[int, str], num_classes: int) -> None:
        self.labels, self.layer = dict(labels), torch.nn.Linear(3, num_classes)

    def process_batch(self, params: Any, task: str = "image-classification") -> Any:
        return {"colour": torch.tensor(np.asarray(params["image"]).mean((0, 1)) / 255).float()}

    def training_step(self, batch: Any) -> torch.Tensor:
        logits: torch.Tensor = self.layer(batch["colour"])
        return logits


def test_a_models_own_hook_need_not_know_several_labels() -> None:
    rows = {"images": [tiny.photo(seed) for seed in range(9)], "labels": SEVERAL[:9]}
    report = backprop.ImageClassification(OwnPictures()).finetune(rows, epochs=1, show=False)
    assert report.variant == "multi_label"


# --- Ctrl-C ------------------------------------------------------------------------------------


def interrupting(model: BaseModel, steps: int) -> None:
    """Let the model's own training step send Ctrl-C after some steps, as a terminal would."""
    own, count = model.training_step, 0

    def step(batch: Any) -> torch.Tensor:
        nonlocal count
        count += model.training
        if count == steps:
            os.kill(os.getpid(), signal.SIGINT)
        return own(batch)

    model.training_step = step  # type: ignore[method-assign]


def test_ctrl_c_in_the_first_epoch_keeps_what_was_judged() -> None:
    solved = classifier()
    solved.finetune(TOPIC_ROWS, method="head", validation_split=(list(range(12)), [12, 13, 14]))
    task = classifier()
    interrupting(task.model, 2)
    report = task.finetune(
        TOPIC_ROWS,
        method="full",
        batch_size=3,
        validation_split=(list(range(12)), [12, 13, 14]),
        show=False,
    )
    assert report.stopped == "interrupted"
    assert report.best_epoch == 0
    assert any("No epoch has ended" in each for each in report.warnings)
    body = {n: w for n, w in solved.model.state_dict().items() if "head" not in n.lower()}
    now = task.model.state_dict()
    assert all(torch.equal(now[name], weight) for name, weight in body.items() if name in now)


def test_ctrl_c_while_measuring_keeps_the_finished_training() -> None:
    task = backprop.Emotion(all_written(tiny.folder("t5")))
    asked = task.run

    def run(task_input: Mapping[str, Any]) -> Any:
        os.kill(os.getpid(), signal.SIGINT)
        return asked(task_input)

    task.run = run  # type: ignore[method-assign]
    report = task.finetune(FEELINGS, method="full", epochs=1, batch_size=15, show=False)
    assert report.metrics == {}
    assert len(report.history) == 1
    assert any("Ctrl-C ended the measuring" in each for each in report.warnings)


def test_weights_that_training_made_worse_are_put_back_and_the_report_says_so() -> None:
    task = classifier()
    others = {"animals": "food", "food": "travel", "travel": "animals"}
    rows = {"texts": [*TEXTS, *TEXTS], "labels": [*TOPICS, *(others[topic] for topic in TOPICS)]}
    report = task.finetune(
        rows,
        method="full",
        epochs=2,
        batch_size=15,
        learning_rate=1e-2,
        validation_split=(list(range(15)), list(range(15, 30))),
        show=False,
    )
    assert any("Training made it no better" in each for each in report.warnings)
    assert report.best_epoch == 0
    assert "the weights are those from before" in str(report)


# --- Loaders of the caller's own -----------------------------------------------------------------


def test_a_loader_with_its_own_generator_resumes_exactly(tmp_path: Path) -> None:
    class Killed(BaseException):
        pass

    def finetuned(folder: Path, dies_at: int = 0) -> BaseModel:
        torch.manual_seed(1)
        model = Own()
        samples: Any = [(torch.tensor([i / 10]), torch.tensor(int(i > 12))) for i in range(1, 25)]
        loader: Any = torch.utils.data.DataLoader(
            samples, batch_size=4, shuffle=True, generator=torch.Generator().manual_seed(7)
        )
        count = 0

        def step(batch: Any) -> torch.Tensor:
            nonlocal count
            count += model.training
            if dies_at and count == dies_at:
                raise Killed
            return torch.nn.functional.cross_entropy(model.layer(batch[0]), batch[1])

        backprop.Emotion(model).finetune(
            ROWS, 0.0, 4, train_dataloader=loader, step=step, checkpoint=folder, show=False
        )
        return model

    whole = finetuned(tmp_path / "whole")
    with pytest.raises(Killed):
        finetuned(tmp_path / "killed", dies_at=15)
    again = finetuned(tmp_path / "killed")
    weights = [model.state_dict()["layer.weight"] for model in (whole, again)]
    assert torch.equal(*weights)


def test_a_callers_batches_are_steps_as_they_are() -> None:
    steps = 0

    class Counting(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            nonlocal steps
            steps += 1
            return super().step(closure)

    model = encoder()
    task = backprop.TextClassification(model)
    numbers = {label: i for i, label in enumerate(sorted(set(TOPICS)))}

    def batches() -> list[Any]:  # made once the model knows its labels
        rows = [{"inputs": x, "labels": y, "class_to_idx": numbers} for x, y in PAIRED[:5]]
        return [model.collate([model.process_batch(r, "text-classification") for r in rows])] * 4

    report = task.finetune(
        TOPIC_ROWS,
        epochs=1,
        train_dataloader=batches,
        configure_optimizers=lambda: Counting(model.parameters(), lr=1e-3),
        show=False,
    )
    assert steps == 4
    assert any("must not be among them" in each for each in report.warnings)


# --- What a caller's own things must not lose -----------------------------------------------------


def test_numbers_of_numpy_are_numbers() -> None:
    report = classifier().finetune(
        {"texts": TEXTS * 2, "labels": TOPICS * 2},
        method="full",
        epochs=np.int64(1),  # type: ignore[arg-type]
        batch_size=np.int64(15),  # type: ignore[arg-type]
        seed=np.int64(3),  # type: ignore[arg-type]
        validation_split=np.float32(0.2),  # type: ignore[arg-type]
        class_weights={"food": np.int64(2)},  # type: ignore[dict-item]
        show=False,
    )
    assert json.loads(report.to_json())["settings"]["seed"] == 3
    assert "seed" in report.card()


def batch_of(model: Any, texts: list[str], topics: list[str]) -> Any:
    """Return a batch as ``training_step`` takes it, the model made ready for all topics."""
    labels = dict(enumerate(sorted(set(TOPICS))))
    model.pre_finetuning(labels)
    numbers = {topic: i for i, topic in labels.items()}
    rows = [{"inputs": t, "labels": topic} for t, topic in zip(texts, topics, strict=True)]
    extra = {"class_to_idx": numbers, "max_length": 16}
    task = "text-classification"
    return model.collate([model.process_batch({**row, **extra}, task=task) for row in rows])


def test_a_loaders_training_is_not_replaced_by_rows_that_name_the_labels() -> None:
    task = classifier()
    wrong = {"texts": TEXTS, "labels": TOPICS[1:] + TOPICS[:1]}
    report = task.finetune(
        wrong,
        method="full",
        epochs=12,
        early_stopping_epochs=0,
        learning_rate=5e-3,
        train_dataloader=[batch_of(task.model, TEXTS, TOPICS)],
        show=False,
    )
    assert report.best_epoch > 0
    assert not any(name.startswith("head") for name in report.settings)
    assert not any("put back" in each or "no better" in each for each in report.warnings)


def test_a_loader_to_judge_by_leaves_all_rows_to_learn_from() -> None:
    task = classifier()
    report = task.finetune(
        {"texts": TEXTS, "labels": TOPICS},
        method="full",
        epochs=1,
        batch_size=15,
        val_dataloader=[batch_of(task.model, TEXTS[:2], TOPICS[:2])],
        show=False,
    )
    assert report.rows == {"train": 15, "validation": 0}
    assert "loss" in report.history[0]["metrics"]


def test_a_loader_without_a_batch_is_refused_before_anything_is_trained() -> None:
    task = classifier()
    before = {name: value.clone() for name, value in task.model.state_dict().items()}
    with pytest.raises(InputError, match="val_dataloader gave no batch"):
        task.finetune(
            {"texts": TEXTS, "labels": TOPICS},
            method="full",
            epochs=1,
            batch_size=15,
            val_dataloader=[],
            show=False,
        )
    after = task.model.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_a_refused_option_leaves_the_task_its_model() -> None:
    task = backprop.Summarisation()
    with pytest.raises(InputError, match="method must be one of"):
        task.finetune({"input_text": ["a"], "output_text": ["b"]}, method="fulll")
    assert task.name == "all-minilm-l6-v2"


def test_what_refers_to_the_model_still_does_after_a_refusal() -> None:
    task = classifier()
    model: Any = task.model
    model.hook = model.text_vectors
    with pytest.raises(InputError):
        task.finetune({"texts": ["a", "b"], "labels": ["x", "y"]}, max_length=1, show=False)
    assert model.hook.__self__ is model


def test_names_that_say_nothing_new_are_no_rows() -> None:
    texts = ["lost card", "where is it", "another thing", "one more"]
    labels = ["lost_card", "card_arrival", "other", "card-arrival"]
    data = read("text-classification", {"texts": texts, "labels": labels})
    found, rows = with_names(data, range(4))
    assert found.columns["texts"][4:] == []
    assert list(rows) == [0, 1, 2, 3]
    more = read("text-classification", {"texts": texts[1:3], "labels": [labels[0], labels[1]]})
    found, rows = with_names(more, range(2))
    assert found.columns["texts"][2:] == ["card arrival", "lost card"]
    assert found.columns["labels"][2:] == ["card_arrival", "lost_card"]


def test_several_labels_are_refused_by_a_model_that_knows_one() -> None:
    class Old(Own):
        def pre_finetuning(self, labels: Mapping[int, str]) -> None:
            self.names = labels

    model = Old()
    model.tasks = ["text-classification"]
    rows = {"texts": TEXTS, "labels": SEVERAL}
    with pytest.raises(InputError, match="pre_finetuning has no argument multi_label"):
        backprop.TextClassification(model).finetune(rows, method="full", show=False)
