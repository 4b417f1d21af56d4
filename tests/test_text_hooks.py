"""Training hooks of the text models: every class on every task it learns."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor, nn
from torch.nn import functional

from backprop.errors import ArtefactError, InputError, UnsupportedTaskError
from backprop.handlers.spans import null_place
from backprop.models import (
    HFCausalLMTGModel,
    HFNLIModel,
    HFSeq2SeqTGModel,
    HFSeqTCModel,
    SpanQA,
    STModel,
    T5QASummaryEmotion,
)
from backprop.models.base import BaseModel
from backprop.models.saving import load, save
from tests import tiny

pytestmark = pytest.mark.usefixtures("one_thread")

LABELS = {0: "travel", 1: "food", 2: "animals"}
EMOTIONS = {0: "joy", 1: "anger", 2: "fear"}
NUMBERS = {label: i for i, label in LABELS.items()}
CONTEXT = "Sally lives in London with her brother Tom and two cats."

# Rows with the keys of models.rst and no others.
TEXTS: list[dict[str, Any]] = [
    {"inputs": "The train to London leaves at nine.", "labels": "travel"},
    {"inputs": "Cheese!", "labels": "food"},
    {"inputs": "A small brown dog runs over the grass; birds sing in a tree.", "labels": "animals"},
]
CLASSES: list[dict[str, Any]] = [
    {**row, "class_to_idx": NUMBERS, "max_length": 96} for row in TEXTS
]
SEVERAL: list[dict[str, Any]] = [
    {**row, "labels": labels}
    for row, labels in zip(CLASSES, (["travel"], ["animals", "food"], []), strict=True)
]
LENGTHS = {"max_input_length": 48, "max_output_length": 12}
FEELINGS: list[dict[str, Any]] = [
    {"input": "I really like what you did there!", "output": "joy", **LENGTHS},
    {"input": "Angry.", "output": "anger", **LENGTHS},
    {"input": "He is afraid of spiders and snakes", "output": "fear", **LENGTHS},
]
SUMMARIES: list[dict[str, Any]] = [
    {"input": "The museum opens at nine in the morning.", "output": "It opens.", **LENGTHS},
    {"input": "Rain.", "output": "It will rain the whole week.", **LENGTHS},
]
QUESTIONS: list[dict[str, Any]] = [
    {"question": "Where does Sally live?", "context": CONTEXT, "output": "London"},
    {"question": "Who?", "context": CONTEXT, "output": "brother Tom"},
    {"question": "Which dog?", "context": CONTEXT[:25], "output": ""},
    {
        "question": "With whom?",
        "context": CONTEXT,
        "prev_qa": [("Where does Sally live?", "London")],
        "output": "two cats",
    },
]
QUESTIONS = [{"prev_qa": [], **row, "max_input_length": 96, **row} for row in QUESTIONS]
QUESTIONS = [{**row, "max_output_length": 16} for row in QUESTIONS]
VECTORS: list[dict[str, Any]] = [
    {"text": "two cats"},
    {"text": "The cats sleep on the roof all day long"},
]


class Case(NamedTuple):
    """A model and what it learns."""

    make: Callable[..., Any]
    kind: str
    task: str
    rows: list[dict[str, Any]]
    labels: Mapping[int, str] | None = None
    several: bool = False

    def model(self) -> Any:
        torch.manual_seed(0)
        model = self.make(tiny.folder(self.kind))
        if self.labels is not None:
            model.pre_finetuning(self.labels, self.several, task=self.task)
        return model.eval()

    def features(self, model: Any) -> list[Any]:
        return [model.process_batch(row, task=self.task) for row in self.rows]


def all_tasks(folder: Path) -> HFSeq2SeqTGModel:
    prompts = {**T5QASummaryEmotion.prompts, "text-generation": "{text}"}
    return HFSeq2SeqTGModel(folder, prompts=prompts)


# XLNet pads on the left and has its token for no answer at the end.
SPAN_KINDS = ("bert_qa", "roberta_qa", "bert_encoder", "xlnet_classifier")

CASES = [
    *(
        Case(HFSeqTCModel, kind, "text-classification", CLASSES, LABELS)
        for kind in ("bert_classifier", "deberta_nli2", "xlnet_classifier", "bert_encoder")
    ),
    Case(HFSeqTCModel, "bert_classifier", "text-classification", SEVERAL, LABELS, True),
    Case(HFSeqTCModel, "bert_classifier", "emotion", FEELINGS, EMOTIONS),
    *(
        Case(STModel, kind, "text-classification", CLASSES, LABELS)
        for kind in ("sentence_transformer", "sentence_transformer_dense")
    ),
    Case(STModel, "sentence_transformer", "text-classification", SEVERAL, LABELS, True),
    Case(STModel, "sentence_transformer", "emotion", FEELINGS, EMOTIONS),
    Case(STModel, "sentence_transformer_cls", "text-vectorisation", VECTORS),
    *(Case(SpanQA, kind, "qa", QUESTIONS) for kind in SPAN_KINDS),
    Case(all_tasks, "t5", "qa", QUESTIONS),
    Case(all_tasks, "t5", "emotion", FEELINGS),
    Case(all_tasks, "t5", "summarisation", SUMMARIES),
    Case(all_tasks, "t5", "text-generation", SUMMARIES),
    Case(HFSeq2SeqTGModel, "bart", "text-generation", SUMMARIES),
    Case(HFCausalLMTGModel, "gpt2", "text-generation", SUMMARIES),
    Case(HFCausalLMTGModel, "llama_chat", "text-generation", SUMMARIES),
    Case(HFCausalLMTGModel, "llama_chat", "qa", QUESTIONS),
    Case(HFCausalLMTGModel, "llama_chat", "summarisation", SUMMARIES),
]


def name_of(case: Case) -> str:
    return f"{case.kind}-{case.task}{'-several' if case.several else ''}"


every_case = pytest.mark.parametrize("case", CASES, ids=name_of)


def loss_of(output: Tensor) -> Tensor:
    """Return the loss; of two vectors their distance."""
    return (
        output
        if output.ndim == 0
        else 1 - functional.cosine_similarity(output[0], output[1], dim=0)
    )


def number(value: Tensor) -> float:
    return float(value.detach())


@every_case
def test_a_few_steps_lower_the_loss_with_finite_gradients(case: Case) -> None:
    model = case.model()
    assert model.learns(case.task)
    batch = model.collate(case.features(model))
    before = number(loss_of(model.training_step(batch)))
    model.train()
    weights = list(model.parameters())
    optimiser = torch.optim.AdamW(weights, lr=4e-3)
    for _ in range(20):
        optimiser.zero_grad()
        torch.autograd.backward(loss_of(model.training_step(batch)))
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        assert all(bool(gradient.isfinite().all()) for gradient in gradients)
        assert any(bool(gradient.any()) for gradient in gradients)
        optimiser.step()
    assert number(loss_of(model.eval().training_step(batch))) < 0.9 * before


@every_case
def test_padding_and_neighbours_have_no_influence(case: Case) -> None:
    model = case.model()
    features = case.features(model)
    together = model.training_step(model.collate(features))
    alone = [model.training_step(model.collate([row])) for row in features]
    if together.ndim:
        torch.testing.assert_close(together, torch.cat(alone), rtol=1e-4, atol=1e-5)
        return
    mean = sum(map(number, alone)) / len(alone)
    assert number(together) == pytest.approx(mean, rel=1e-4)


@every_case
def test_rows_stay_as_they_are_and_come_out_alike(case: Case) -> None:
    model = case.model()
    given = copy.deepcopy(case.rows)
    assert case.features(model) == case.features(model)
    assert case.rows == given


@every_case
def test_the_model_still_answers_after_a_step_and_saves(case: Case, tmp_path: Path) -> None:
    model = case.model()
    model.train()
    model.training_step(model.collate(case.features(model)))
    model.eval()
    asked = {
        "qa": {"question": "Where does Sally live?", "context": CONTEXT},
        "text-generation": {"text": "The cats", "max_length": 3},
    }.get(case.task, {"text": "The cats sleep."})
    answer = model(asked, task=case.task)
    again = load(save(model, name="again", path=tmp_path / "again"))
    found = again(asked, task=case.task)
    assert found == (answer if isinstance(answer, str) else pytest.approx(answer, abs=1e-5))
    if case.labels is not None and case.task == "text-classification":
        assert set(answer) == set(case.labels.values())
    if case.task == "emotion" and case.labels is not None:
        assert answer in case.labels.values()


@every_case
def test_limits_hold_and_what_is_cut_is_counted(case: Case) -> None:
    model = case.model()
    long = " ".join(["the cats sleep on the roof,"] * 12)
    for row in case.rows[:2]:
        assert model.cut({**row, **dict.fromkeys(LIMITS & set(row), 10_000)}, case.task) == 0
        grown = {key: f"{value} {long}" if key in GROWS else value for key, value in row.items()}
        short = {**grown, **dict.fromkeys(LIMITS & set(row), 40)}
        if case.task == "text-vectorisation":
            short["max_length"] = 40
        features = model.process_batch(short, task=case.task)
        labels = features.get("labels")
        if isinstance(labels, list) and not isinstance(labels[0], float):
            prompt = len(features["input_ids"]) - labels.count(-100)
            assert prompt <= 40 or case.make is HFCausalLMTGModel
        elif case.make is not HFCausalLMTGModel:
            assert len(features["input_ids"]) == 40
        assert model.cut(short, case.task) > 0


LIMITS = {"max_length", "max_input_length", "max_output_length"}
GROWS = {"inputs", "input", "context", "text"}


# --- Classes -----------------------------------------------------------------------------

HEADED = [case for case in CASES if case.labels is not None]


@pytest.mark.parametrize("case", HEADED, ids=name_of)
def test_the_head_is_what_makes_the_logits(case: Case) -> None:
    model = case.model()
    head = model.head(case.task)
    assert isinstance(head, nn.Linear) and head.out_features == 3
    seen: list[Tensor] = []
    hook = head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    loss = model.training_step(model.collate(case.features(model)))
    hook.remove()
    [inputs] = seen
    assert inputs.shape[0] == len(case.rows) and inputs.ndim == 2
    logits = head(inputs).detach()
    labels = [row["labels"] for row in case.features(model)]
    if case.several:
        by_hand = functional.binary_cross_entropy_with_logits(logits, torch.tensor(labels))
    else:
        by_hand = functional.cross_entropy(logits, torch.tensor(labels))
    torch.testing.assert_close(loss, by_hand)
    names = list(case.labels.values()) if case.labels else []
    key = "inputs" if "inputs" in case.rows[0] else "input"
    text = [row[key] for row in case.rows]
    if case.task == "text-classification":
        probabilities = logits.sigmoid() if case.several else logits.softmax(-1)
        for answer, row in zip(model({"text": text}, task=case.task), probabilities, strict=True):
            assert answer == pytest.approx(dict(zip(names, row.tolist(), strict=True)), abs=1e-5)
    else:
        assert model({"text": text}, task="emotion") == [names[i] for i in logits.argmax(-1)]


@pytest.mark.parametrize("case", HEADED, ids=name_of)
def test_known_labels_keep_their_head_and_others_get_a_new_one(case: Case) -> None:
    model = case.model()
    weight = model.head(case.task).weight.detach().clone()
    model.pre_finetuning(case.labels, case.several, task=case.task)
    assert torch.equal(model.head(case.task).weight, weight)
    model.pre_finetuning({0: "one", 1: "two"}, task=case.task)
    assert model.head(case.task).out_features == 2
    first = model.head(case.task).weight.detach().clone()
    torch.manual_seed(5)
    model.pre_finetuning(labels={0: "a", 1: "b"}, task=case.task)
    second = model.head(case.task).weight.detach().clone()
    torch.manual_seed(5)
    model.pre_finetuning({0: "b", 1: "a"}, task=case.task)
    assert torch.equal(model.head(case.task).weight, second)
    assert not torch.equal(first, second)


@pytest.mark.parametrize(
    ("make", "kind"), [(HFSeqTCModel, "bert_classifier"), (STModel, "sentence_transformer")]
)
def test_class_weights_scale_a_row_even_alone(make: Any, kind: str) -> None:
    case = Case(make, kind, "text-classification", CLASSES, LABELS)
    model = case.model()
    rows = case.features(model)
    plain = [number(model.training_step(model.collate([row]))) for row in rows]
    model.class_weights = torch.tensor([2.0, 0.5, 0.0])
    weighted = number(model.training_step(model.collate(rows)))
    assert weighted == pytest.approx((2 * plain[0] + 0.5 * plain[1]) / 3, rel=1e-4)
    assert number(model.training_step(model.collate(rows[:1]))) == pytest.approx(2 * plain[0])


def test_several_emotions_are_separated_by_commas() -> None:
    labels = {0: "joy", 1: "love, deep", 2: "fear"}
    model = Case(STModel, "sentence_transformer", "emotion", [], labels, True).model()
    outputs = ("fear, joy", "love, deep", "", "fear,")
    found = [
        model.process_batch({**FEELINGS[0], "output": output}, task="emotion")["labels"]
        for output in outputs
    ]
    assert found == [[1, 0, 1], [0, 1, 0], [0, 0, 0], [0, 0, 1]]


@pytest.mark.parametrize(
    ("make", "kind"), [(HFSeqTCModel, "bert_classifier"), (STModel, "sentence_transformer")]
)
def test_wrong_labels_are_refused(make: Any, kind: str) -> None:
    model = Case(make, kind, "text-classification", [], LABELS).model()
    wrong: list[Any] = [{1: "a", 2: "b"}, {0: "a", 1: "a"}, {0: "a"}, {}, ["a", "b"]]
    for labels in wrong:
        with pytest.raises(InputError, match="label"):
            model.pre_finetuning(labels)
    unknown = {**CLASSES[0], "labels": "sport"}
    for row, words in [
        (unknown, "'sport' is none of the model's 3 labels"),
        ({**unknown, "class_to_idx": {"sport": 3}}, "'sport'"),
        ({**CLASSES[0], "labels": ["food", "travel"]}, "one name"),
        ({**CLASSES[0], "labels": None}, "one name"),
        ({**CLASSES[0], "inputs": 3}, "'inputs'"),
        ({**CLASSES[0], "max_length": 0}, "max_length"),
        ({**CLASSES[0], "max_length": 2}, "no room"),
    ]:
        with pytest.raises(InputError, match=words):
            model.process_batch(row, task="text-classification")
    with pytest.raises(UnsupportedTaskError):
        model.process_batch(CLASSES[0], task="qa")


def test_zero_shot_models_are_not_finetuned() -> None:
    model = HFNLIModel(tiny.folder("bert_nli3"))
    assert not model.learns("text-classification")


def test_a_decoder_classifies_in_padded_batches(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    folder = tiny.folder("gpt2")
    config = transformers.AutoConfig.from_pretrained(folder)
    transformers.GPT2ForSequenceClassification(config).save_pretrained(tmp_path)
    transformers.AutoTokenizer.from_pretrained(folder).save_pretrained(tmp_path)
    model = HFSeqTCModel(tmp_path)
    model.pre_finetuning(LABELS)
    rows = [model.process_batch(row, task="text-classification") for row in CLASSES]
    together = number(model.training_step(model.collate(rows)))
    alone = [number(model.training_step(model.collate([row]))) for row in rows]
    assert together == pytest.approx(sum(alone) / 3, rel=1e-4)
    assert model.head("text-classification") is None  # it reads every token


def test_a_head_for_one_task_leaves_the_other_as_it_was(tmp_path: Path) -> None:
    model = STModel(tiny.folder("sentence_transformer"))
    text = {"text": "I am so happy!"}
    feeling = model({**text, "top_k": 28}, task="emotion")
    vector = model(text, task="text-vectorisation")
    model.pre_finetuning(LABELS)
    assert model({**text, "top_k": 28}, task="emotion") == feeling
    classes = model(text, task="text-classification")
    model.pre_finetuning(EMOTIONS, True, task="emotion")
    assert model(text, task="text-classification") == classes
    assert set(model({**text, "top_k": 3}, task="emotion")) == set(EMOTIONS.values())
    narrow = model({**text, "labels": ["food", "travel"]}, task="text-classification")
    assert narrow == {label: classes[label] for label in narrow} and len(narrow) == 2
    path = save(model, name="both", path=tmp_path / "both")
    again = load(path)
    assert again(text, task="text-classification") == classes
    assert again({**text, "top_k": 3}, task="emotion") == model({**text, "top_k": 3}, "emotion")
    opened = SentenceTransformer(str(path), device="cpu").encode(text["text"])
    assert opened.tolist() == pytest.approx(vector, abs=1e-5)


def test_missing_heads_are_said(tmp_path: Path) -> None:
    classes = {"emotion": {"labels": ["a", "b"], "multi_label": False}}
    with pytest.raises(ArtefactError, match=r"emotion.*classifier.safetensors"):
        STModel(tiny.folder("sentence_transformer"), classes=classes)


def test_learns_with_the_prompt_it_answers_with() -> None:
    folder = tiny.folder("sentence_transformer")
    prompted, plain = STModel(folder, prompt="query: "), STModel(folder)
    rows = [
        prompted.process_batch({"text": "two cats"}, task="text-vectorisation"),
        plain.process_batch({"text": "query: two cats"}, task="text-vectorisation"),
    ]
    assert rows[0] == rows[1]
    vectors = prompted.eval().training_step(prompted.collate(rows[:1]))
    answer = prompted({"text": "two cats"}, task="text-vectorisation")
    assert vectors[0].tolist() == pytest.approx(answer, abs=1e-5)


# --- Spans -------------------------------------------------------------------------------


def pointed(model: Any, row: Mapping[str, Any]) -> str:
    """Return the text of the tokens that ``process_batch`` points at."""
    features = model.process_batch(row, task="qa")
    assert features["inside"][features["start"]] == features["inside"][features["end"]] == 1
    ids = features["input_ids"][features["start"] : features["end"] + 1]
    return str(model.tokenizer.decode(ids)).strip()


FILLER = " ".join(["so it was"] * 60)


@pytest.mark.parametrize(
    ("context", "answer", "words"),
    [
        (CONTEXT, "London", "london"),
        (CONTEXT, "brother  tom", "brother tom"),
        ("The cart and the art.", "art", "art"),
        ("The cart and the Art.", "art", "art"),
        (f"{FILLER} {CONTEXT} {FILLER}", "brother Tom", "brother tom"),
        (f"{CONTEXT} {FILLER}", "Sally", "sally"),
        (f"{FILLER} {CONTEXT}", "two cats", "two cats"),
    ],
)
@pytest.mark.parametrize("kind", ["bert_qa", "roberta_qa"])
@pytest.mark.parametrize("train", [False, True])
def test_the_target_is_the_answer(
    context: str, answer: str, words: str, kind: str, train: bool
) -> None:
    model = SpanQA(tiny.folder(kind)).train(train)
    row = {**QUESTIONS[0], "context": context, "output": answer}
    assert pointed(model, row).lower() == words
    features = model.process_batch(row, task="qa")
    if answer == "art":  # the word, not a part of one
        before = model.tokenizer.decode(features["input_ids"][: features["start"]])
        assert before.strip().lower().endswith("and the")


def test_no_answer_points_at_the_first_token() -> None:
    model = SpanQA(tiny.folder("bert_qa")).eval()
    features = model.process_batch({**QUESTIONS[0], "output": " "}, task="qa")
    assert features["start"] == features["end"] == 0
    assert features["inside"][0] == 1


def test_windows_are_centred_and_in_train_mode_drawn() -> None:
    model = SpanQA(tiny.folder("bert_qa")).eval()
    row = {**QUESTIONS[0], "context": f"{FILLER} London {FILLER}", "max_input_length": 64}
    centred = [model.process_batch(row, task="qa")["start"] for _ in range(3)]
    inside = model.process_batch(row, task="qa")["inside"]
    middle = (inside.index(1, 1) + len(inside) - 1) / 2
    assert len(set(centred)) == 1 and abs(centred[0] - middle) <= 4
    model.train()
    torch.manual_seed(3)
    drawn = [model.process_batch(row, task="qa")["start"] for _ in range(20)]
    torch.manual_seed(3)
    assert drawn == [model.process_batch(row, task="qa")["start"] for _ in range(20)]
    assert len(set(drawn)) > 5


def test_a_long_question_keeps_its_end_and_long_answers_are_cut() -> None:
    model = SpanQA(tiny.folder("bert_qa")).eval()
    row = {
        **QUESTIONS[0],
        "prev_qa": [(FILLER, "yes")],
        "context": f"{CONTEXT} {FILLER}",
        "max_input_length": 64,
    }
    features = model.process_batch(row, task="qa")
    assert len(features["input_ids"]) == 64 and pointed(model, row) == "london"
    text = model.tokenizer.decode(features["input_ids"])
    assert "where does sally live? [SEP]" in text
    features = model.process_batch(
        {**row, "output": FILLER[:200], "max_output_length": 5}, task="qa"
    )
    assert features["end"] - features["start"] == 4


def test_only_the_context_and_the_null_token_are_scored() -> None:
    model = SpanQA(tiny.folder("bert_qa")).eval()
    batch = model.collate([model.process_batch(row, task="qa") for row in QUESTIONS])
    logits = model._spans(
        **{k: batch[k] for k in ("input_ids", "attention_mask", "token_type_ids")}
    )
    losses = []
    for i, row in enumerate(logits):
        places = batch["inside"][i].nonzero().flatten().tolist()
        for side, name in enumerate(("start", "end")):
            target = torch.tensor(places.index(int(batch[name][i])))
            losses.append(functional.cross_entropy(row[places, side], target))
    torch.testing.assert_close(model.training_step(batch), torch.stack(losses).mean())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"output": "Paris"}, "'Paris' is not in its context"),
        ({"output": None}, "'output'"),
        ({"prev_qa": [("Where?",)]}, "prev_qa"),
        ({"max_input_length": 12}, "max_input_length is 12"),
        ({"max_output_length": 0}, "max_output_length"),
    ],
)
def test_wrong_questions_are_refused(changes: dict[str, Any], words: str) -> None:
    model = SpanQA(tiny.folder("bert_qa"))
    with pytest.raises(InputError, match=words):
        model.process_batch({**QUESTIONS[0], **changes}, task="qa")


def test_left_padding_moves_the_targets_and_no_answer_is_where_the_model_has_it() -> None:
    model = SpanQA(tiny.folder("xlnet_classifier")).eval()
    rows = [model.process_batch(row, task="qa") for row in QUESTIONS]
    none = rows[2]
    assert none["start"] == none["end"] == len(none["input_ids"]) - 1
    assert none["input_ids"][-1] == model.tokenizer.cls_token_id
    batch = model.collate(rows)
    for i, row in enumerate(rows):
        for name in ("start", "end"):
            place = int(batch[name][i])
            assert batch["input_ids"][i, place] == row["input_ids"][row[name]]
            assert batch["inside"][i, place] == 1
    assert model.handler("qa").null_token == model.tokenizer.cls_token_id  # type: ignore[attr-defined]


@pytest.mark.parametrize(("token", "place"), [(None, 0), (7, 2), (9, 0)])
def test_the_null_span_is_at_its_token_or_else_the_first(token: int | None, place: int) -> None:
    assert null_place([5, 6, 7], token) == place


def test_an_encoder_gets_a_quiet_new_head_and_untrained_answers_warn(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    model = SpanQA(tiny.folder("bert_encoder"))
    assert not caplog.records and capfd.readouterr().err == ""
    asked = {"question": "Where does Sally live?", "context": CONTEXT}
    with caplog.at_level(logging.WARNING):
        model(asked, task="qa")
    assert "no trained head" in caplog.text and "qa_outputs" in caplog.text
    caplog.clear()
    model.training_step(model.collate([model.process_batch(QUESTIONS[0], task="qa")]))
    model.forget_handlers()
    model(asked, task="qa")
    assert not caplog.records


# --- Text written ------------------------------------------------------------------------


def texts_of(model: Any, row: Mapping[str, Any], task: str) -> tuple[str, str]:
    """Return prompt and reply that the model learns, special tokens included."""
    features = model.process_batch(row, task=task)
    labels = [label for label in features["labels"] if label >= 0]
    prompt = features["input_ids"]
    if isinstance(model, HFCausalLMTGModel):
        prompt = prompt[: len(prompt) - len(labels)]
    return model.tokenizer.decode(prompt), model.tokenizer.decode(labels)


@pytest.mark.parametrize("task", ["qa", "emotion", "summarisation", "text-generation"])
def test_encoder_decoders_learn_with_the_prompts_they_answer_with(task: str) -> None:
    model = all_tasks(tiny.folder("t5"))
    rows = {"qa": QUESTIONS[3], "emotion": FEELINGS[0]}
    prompt, reply = texts_of(model, rows.get(task, SUMMARIES[0]), task)
    expected = {
        "qa": (f"q: {QUESTIONS[0]['question']} a: London q: With whom? c: {CONTEXT}", "two cats"),
        "emotion": (f"emotion: {FEELINGS[0]['input']}", "joy"),
        "summarisation": (f"summarise: {SUMMARIES[0]['input']}", "It opens."),
        "text-generation": (SUMMARIES[0]["input"], "It opens."),
    }[task]
    unknown = expected[0].replace(":", "<unk>")  # the tiny tokenizer has no colon
    assert (prompt, reply) == (f"{unknown}</s>", f"{expected[1]}</s>")


def test_replies_end_as_the_tokenizer_ends_a_text() -> None:
    model = HFSeq2SeqTGModel(tiny.folder("bart"))
    assert texts_of(model, SUMMARIES[0], "text-generation")[1] == "<s>It opens.</s>"
    cut = model.process_batch({**SUMMARIES[1], "max_output_length": 4}, task="text-generation")
    assert len(cut["labels"]) == 4 and cut["labels"][-1] == model.tokenizer.eos_token_id
    with pytest.raises(InputError, match="max_output_length is 2"):
        model.process_batch({**SUMMARIES[1], "max_output_length": 2}, task="text-generation")


def test_decoders_learn_the_reply_and_its_end() -> None:
    model = HFCausalLMTGModel(tiny.folder("gpt2"))
    row = {**SUMMARIES[0], "output": " It opens."}
    prompt, reply = texts_of(model, row, "text-generation")
    assert (prompt, reply) == (row["input"], " It opens.<|endoftext|>")


def test_a_decoders_loss_is_that_of_the_reply_alone() -> None:
    model = HFCausalLMTGModel(tiny.folder("gpt2")).eval()
    rows = [model.process_batch(row, task="text-generation") for row in SUMMARIES]
    for row in rows:
        ids = torch.tensor([row["input_ids"]])
        logits = model.model(input_ids=ids).logits[0]
        places = [i for i, label in enumerate(row["labels"]) if label >= 0]
        by_hand = functional.cross_entropy(logits[[i - 1 for i in places]], ids[0, places])
        torch.testing.assert_close(model.training_step(model.collate([row])), by_hand)


def test_chat_models_are_asked_as_when_they_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    model = HFCausalLMTGModel(tiny.folder("llama_chat"))
    rows: dict[str, dict[str, Any]] = {
        "qa": QUESTIONS[3],
        "summarisation": {**SUMMARIES[0], "max_input_length": 500},
        "text-generation": SUMMARIES[0],
    }
    asked = {
        "qa": {
            "question": QUESTIONS[3]["question"],
            "context": CONTEXT,
            "prev_q": ["Where does Sally live?"],
            "prev_a": ["London"],
        },
        "summarisation": {"text": SUMMARIES[0]["input"]},
        "text-generation": {"text": SUMMARIES[0]["input"], "max_length": 2},
    }
    for task, row in rows.items():
        writer = model.handler(task).writer  # type: ignore[attr-defined]
        seen: list[list[int]] = []
        generate = writer.generator.generate

        def spy(prompts: Any, *rest: Any, run: Any = generate, to: Any = seen) -> Any:
            to.extend(prompts)
            return run(prompts, *rest)

        monkeypatch.setattr(writer.generator, "generate", spy)
        model(asked[task], task=task)
        features = model.process_batch(row, task=task)
        [prompt] = seen
        assert features["input_ids"][: len(prompt)] == prompt
        assert features["labels"][: len(prompt)] == [-100] * len(prompt)
        assert features["labels"][len(prompt)] >= 0
    _, reply = texts_of(model, QUESTIONS[3], "qa")
    assert reply == " two cats<|im_end|>"
    prompt_text, reply = texts_of(model, QUESTIONS[2], "qa")
    assert reply == " unanswerable<|im_end|>" and "say unanswerable" in prompt_text


@pytest.mark.parametrize(("make", "kind"), [(all_tasks, "t5"), (HFCausalLMTGModel, "llama_chat")])
def test_a_long_context_is_cut_around_its_answer(make: Any, kind: str) -> None:
    model = make(tiny.folder(kind))
    row = {**QUESTIONS[0], "context": f"{FILLER} lives in London with {FILLER}"}
    prompt, _ = texts_of(model, row, "qa")
    assert "London" in prompt and len(prompt) < len(FILLER) + 1200
    history = {**row, "prev_qa": [(FILLER, "old"), ("Who is Tom?", "her brother")]}
    prompt, _ = texts_of(model, history, "qa")
    assert "old" not in prompt and "Who is Tom?" in prompt and "London" in prompt
    with pytest.raises(InputError, match="room for"):
        model.process_batch({**row, "question": FILLER * 5, "max_input_length": 2000}, task="qa")


def test_what_is_continued_keeps_its_end_and_the_reply_is_whole() -> None:
    model = HFCausalLMTGModel(tiny.folder("gpt2"))
    row = {"input": f"start {FILLER} end.", "output": " stop", **LENGTHS, "max_input_length": 20}
    prompt, reply = texts_of(model, row, "text-generation")
    assert prompt.endswith("was end.") and "start" not in prompt
    assert reply == " stop<|endoftext|>"
    long = {**row, "output": FILLER, "max_output_length": 250, "max_input_length": 250}
    features = model.process_batch(long, task="text-generation")
    labels = [label for label in features["labels"] if label >= 0]
    assert len(features["input_ids"]) == 256
    assert model.tokenizer.decode(labels) == f"{FILLER}<|endoftext|>"[: len(labels) * 99]


def test_models_learn_only_what_they_have_a_prompt_for() -> None:
    for model in (HFCausalLMTGModel(tiny.folder("gpt2")), HFSeq2SeqTGModel(tiny.folder("t5"))):
        assert model.learns("text-generation") and not model.learns("qa")
        with pytest.raises(UnsupportedTaskError):
            model.process_batch(QUESTIONS[0], task="qa")


def test_what_asks_for_labels_says_so() -> None:
    classifier: BaseModel = HFSeqTCModel(tiny.folder("bert_classifier"))
    assert classifier.classifies("emotion") and not classifier.classifies("qa")
    encoder = STModel(tiny.folder("sentence_transformer"))
    assert encoder.classifies("text-classification")
    assert not encoder.classifies("text-vectorisation")
    encoder.pre_finetuning()  # vectors need none
    assert encoder.head("text-vectorisation") is None
