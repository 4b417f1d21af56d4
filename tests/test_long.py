"""Texts over a model's limit: all of it, the first of it with one warning, or refused."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import backprop
from backprop.errors import InputError
from backprop.handlers.summaries import MOST_NEW_TOKENS
from backprop.models.auto import AutoModel
from backprop.models.base import BaseModel
from backprop.models.classification import HFSeqTCModel
from backprop.models.generation import T5QASummaryEmotion
from tests import tiny

torch.set_num_threads(1)

LIMIT = 128
"""Tokens the tiny BERT models take."""

CUT = "texts were over the model's limit of"
_LOADED: dict[str, BaseModel] = {}


def loaded(kind: str) -> BaseModel:
    """Return the tiny model of ``kind``, loaded once."""
    if kind not in _LOADED:
        _LOADED[kind] = MADE[kind]() if kind in MADE else AutoModel.from_pretrained(path(kind))
    return _LOADED[kind]


def path(kind: str) -> str:
    return str(tiny.folder(kind))


def short_t5() -> BaseModel:
    """Return an encoder-decoder for three tasks that takes 64 tokens."""
    model: Any = T5QASummaryEmotion(path("t5"), name="short-t5")
    model.tokenizer.model_max_length = 64
    made: BaseModel = model
    return made


def short_chat() -> BaseModel:
    """Return an instruct model with room for a summary of 64 tokens at once."""
    model: Any = AutoModel.from_pretrained(path("llama_chat"))
    handler: Any = model.handler("summarisation")
    model.forget_handlers()
    model.tokenizer.model_max_length = len(handler.ask("")) + MOST_NEW_TOKENS + 64
    made: BaseModel = model
    return made


MADE: dict[str, Any] = {
    "short_t5": short_t5,
    "short_chat": short_chat,
    "emotions": lambda: HFSeqTCModel(
        path("bert_classifier"), tasks=["text-classification", "emotion"]
    ),
}

LONG = tiny.texts(4, seed=3)[3]
TWICE = f"{LONG} {LONG[::-1]}"

TASKS: dict[str, tuple[type | Any, str, dict[str, Any]]] = {
    "qa, spans": (backprop.QA, "bert_qa", {"question": "Where?", "context": LONG}),
    "qa, written": (backprop.QA, "short_t5", {"question": "Where?", "context": LONG}),
    "classes": (backprop.TextClassification, "bert_classifier", {"text": LONG}),
    "entailment": (backprop.TextClassification, "bert_nli3", {"text": LONG, "labels": ["a", "b"]}),
    "label vectors": (
        backprop.TextClassification,
        "sentence_transformer",
        {"text": LONG, "labels": ["a", "b"]},
    ),
    "emotion, vectors": (backprop.Emotion, "sentence_transformer", {"text": LONG}),
    "emotion, classes": (backprop.Emotion, "emotions", {"text": LONG}),
    "emotion, written": (backprop.Emotion, "short_t5", {"text": LONG}),
    "summary, written": (backprop.Summarisation, "short_t5", {"text": LONG}),
    "summary, instruct": (backprop.Summarisation, "short_chat", {"text": LONG}),
    "summary, picked": (backprop.Summarisation, "sentence_transformer", {"text": LONG}),
    "vectors": (backprop.TextVectorisation, "sentence_transformer", {"text": LONG}),
    "pairs": (backprop.ImageTextVectorisation, "clip", {"image": tiny.photo(), "text": LONG}),
}
"""What does a text task: its class, a tiny model, and a call with a text over the model's limit."""

EVERY = pytest.mark.parametrize("way", TASKS)


def call(way: str, **options: Any) -> Any:
    """Return the answer of one way to do a task."""
    task, kind, arguments = TASKS[way]
    return task(loaded(kind))(**arguments, **options)


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if CUT in record.message]


@EVERY
def test_truncate_warns_once_with_the_numbers(way: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "backprop"):
        call(way, long="truncate")
    [said] = warnings(caplog)
    limit = int(said.split("limit of ")[1].split()[0])
    cut = int(said.split("tokens; ")[1].split()[0])
    assert said.startswith("1 of 1 ")
    assert 0 < limit <= 1024 and cut > 0
    assert "long='chunk'" in said and "long='error'" in said


@EVERY
def test_a_batch_is_warned_of_once(way: str, caplog: pytest.LogCaptureFixture) -> None:
    task, kind, arguments = TASKS[way]
    batch = {key: [value] * 2 for key, value in arguments.items()}
    with caplog.at_level(logging.WARNING, "backprop"):
        task(loaded(kind))(**batch, long="truncate")
    [said] = warnings(caplog)
    assert said.startswith("2 of 2 ")


@EVERY
def test_error_refuses_with_the_numbers_before_any_engine_call(
    way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, kind, arguments = TASKS[way]
    model = loaded(kind)
    model.forget_handlers()
    monkeypatch.setattr(torch.nn.Module, "_call_impl", _unreachable)
    monkeypatch.setattr(torch.nn.Module, "__call__", _unreachable)
    with pytest.raises(InputError, match=r"has \d+ tokens and the model has room for \d+") as said:
        task(model)(**arguments, long="error")
    assert "long='chunk'" in str(said.value)


def _unreachable(*_: Any, **__: Any) -> Any:
    raise AssertionError("an engine was called")


@EVERY
def test_the_default_loses_nothing_but_in_vectors_which_say_so(
    way: str, caplog: pytest.LogCaptureFixture
) -> None:
    default = "truncate" if way in ("vectors", "pairs") else "chunk"
    with caplog.at_level(logging.WARNING, "backprop"):
        plain = call(way)
    assert len(warnings(caplog)) == (default == "truncate")
    assert plain == call(way, long=default)


@EVERY
def test_a_short_text_is_the_same_by_every_policy(
    way: str, caplog: pytest.LogCaptureFixture
) -> None:
    task, kind, arguments = TASKS[way]
    field = "context" if "context" in arguments else "text"
    short = {**arguments, field: "the old town by the river"}
    with caplog.at_level(logging.WARNING, "backprop"):
        answers = [
            task(loaded(kind))(**short, long=long) for long in ("chunk", "truncate", "error")
        ]
    assert answers[0] == answers[1] == answers[2]
    assert warnings(caplog) == []


# --- Everything counts ---------------------------------------------------------------------------


def pieces(model: Any, text: str, room: int) -> list[list[int]]:
    """Return the token ids of ``text`` cut every ``room`` tokens."""
    ids = model.tokenizer(text, add_special_tokens=False, verbose=False).input_ids
    return [ids[start : start + room] for start in range(0, len(ids), room)]


def framed(model: Any, ids: Sequence[int]) -> torch.Tensor:
    tokenizer = model.tokenizer
    return torch.tensor([[tokenizer.cls_token_id, *ids, tokenizer.sep_token_id]])


def weighted_mean(values: Sequence[np.ndarray[Any, Any]], parts: Sequence[Sequence[int]]) -> Any:
    return np.average(np.stack(values), axis=0, weights=[len(part) for part in parts])


def test_class_probabilities_are_the_mean_over_the_pieces_by_their_length() -> None:
    model: Any = loaded("bert_classifier")
    parts = pieces(model, LONG, LIMIT - 2)
    assert len(parts) > 2
    with torch.no_grad():
        scores = [
            model.model(framed(model, part)).logits.softmax(-1)[0].double().numpy()
            for part in parts
        ]
    found = call("classes", long="chunk")
    wanted = dict(
        zip(["negative", "neutral", "positive"], weighted_mean(scores, parts), strict=True)
    )
    assert found == pytest.approx(wanted, abs=1e-5)
    assert call("emotion, classes", long="chunk") == max(wanted, key=lambda name: wanted[name])
    first = dict(zip(wanted, scores[0], strict=True))
    assert call("classes", long="truncate") == pytest.approx(first, abs=1e-5)


def test_vectors_are_the_mean_over_the_pieces_by_their_length() -> None:
    model: Any = loaded("sentence_transformer")
    limit = model.model.max_seq_length
    parts = pieces(model, LONG, limit - 2)
    assert len(parts) > 2
    with torch.no_grad():
        vectors = []
        for part in parts:
            ids = framed(model, part)
            given = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
            vectors.append(model.model(given)["sentence_embedding"][0].double().numpy())
    mean = weighted_mean(vectors, parts)
    wanted = mean / np.linalg.norm(mean)
    found = np.array(call("vectors", long="chunk", normalise=True))
    assert np.abs(found - wanted).max() < 1e-5
    first = vectors[0] / np.linalg.norm(vectors[0])
    cut = np.array(call("vectors", long="truncate", normalise=True))
    assert np.abs(cut - first).max() < 1e-5


@pytest.mark.parametrize(
    "way", ["classes", "entailment", "label vectors", "vectors", "pairs", "qa, spans"]
)
def test_the_end_of_a_long_text_changes_a_chunked_answer_only(way: str) -> None:
    task, kind, arguments = TASKS[way]
    field = "context" if "context" in arguments else "text"
    other = {**arguments, field: LONG + " the very last words, by far the most telling ones"}
    extra = {"details": True} if way.startswith("qa") else {}
    run = task(loaded(kind))
    assert run(**other, **extra, long="truncate") == run(**arguments, **extra, long="truncate")
    if not way.startswith("qa"):
        assert run(**other, long="chunk") != run(**arguments, long="chunk")


class OneToken(torch.nn.Module):
    """Points at one token wherever it is, as an answer's start and end."""

    def __init__(self, token: int) -> None:
        super().__init__()
        self.token = torch.nn.Parameter(torch.tensor(float(token)))

    def forward(self, input_ids: torch.Tensor, **_: Any) -> Any:
        logits = torch.where(input_ids == self.token, 9.0, 0.0)
        return SimpleNamespace(start_logits=logits, end_logits=logits)


def test_an_answer_is_found_wherever_it_is_in_a_long_context() -> None:
    model: Any = AutoModel.from_pretrained(path("bert_qa"))
    token = model.tokenizer.convert_tokens_to_ids("paris")
    assert token != model.tokenizer.unk_token_id
    ask = backprop.QA(model)
    model.handler("qa")  # it reads the real model's limits
    model.model = OneToken(token)
    words = ("the old town by the river " * 80).split()
    for place in (0, 125, 250, len(words) - 1):
        context = " ".join([*words[:place], "paris", *words[place:]])
        found = ask("Where?", context, details=True)
        start = context.index("paris")
        assert (found["answer"], found["start"], found["end"]) == ("paris", start, start + 5)
        assert (ask("Where?", context, long="truncate") == "paris") == (place == 0)


def test_a_batch_of_long_and_short_equals_each_by_itself() -> None:
    classify = backprop.TextClassification(loaded("bert_classifier"))
    texts = tiny.texts(8, seed=9)
    for text, found in zip(texts, classify(texts), strict=True):
        assert found == pytest.approx(classify(text), abs=1e-5)


def test_one_warning_counts_a_whole_batch(caplog: pytest.LogCaptureFixture) -> None:
    texts = [LONG, "short", TWICE]
    model: Any = loaded("sentence_transformer")
    room = model.model.max_seq_length - 2
    cut = sum(max(len(part) - room, 0) for text in texts for part in pieces(model, text, 10**6))
    with caplog.at_level(logging.WARNING, "backprop"):
        backprop.TextVectorisation(model)(texts)
    [said] = warnings(caplog)
    assert said.startswith(f"2 of 3 {CUT} {room + 2} tokens; {cut} tokens were cut.")


# --- What writes ---------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["summary, written", "summary, instruct"])
def test_summaries_of_summaries_end(way: str) -> None:
    task, kind, _ = TASKS[way]
    summary = task(loaded(kind))(" ".join([TWICE] * 2))
    assert isinstance(summary, str)
    assert len(summary) < 4 * len(TWICE)


@pytest.mark.parametrize("kind", ["gpt2", "llama_chat"])
def test_generation_refuses_a_prompt_with_no_room_with_the_numbers(kind: str) -> None:
    model: Any = loaded(kind)
    generate = backprop.TextGeneration(model)
    limit = model.model.config.max_position_embeddings
    text = " ".join([LONG] * 8)
    with pytest.raises(InputError) as refused:
        generate(["short", text])
    prompt = len(model.handler("text-generation").writer.prompt(text))
    assert f"text 1 has {prompt} tokens" in str(refused.value)
    assert str(limit) in str(refused.value) and "room for 0" in str(refused.value)


def test_generation_refuses_more_than_fits_and_fills_what_is_left_by_default() -> None:
    model: Any = loaded("gpt2")
    generate = backprop.TextGeneration(model)
    limit = model.model.config.n_positions
    writer = model.handler("text-generation").writer
    text = "the"
    while len(writer.prompt(text)) < limit - 5:
        text += " the"
    room = limit - len(writer.prompt(text))
    with pytest.raises(
        InputError, match=rf"room for {room} of the model's {limit}, but {room + 1}"
    ):
        generate(text, max_length=room + 1)
    assert isinstance(generate(text, max_length=room), str)
    assert generate(text) == generate(text, max_length=room)


@pytest.mark.parametrize("kind", ["t5", "bart"])
def test_an_encoder_decoder_refuses_a_prompt_over_its_limit(kind: str) -> None:
    with pytest.raises(InputError, match=r"text 0 has \d+ tokens and leaves room for 0 of"):
        backprop.TextGeneration(loaded(kind))(" ".join([LONG] * 3))


def test_a_question_that_leaves_no_room_is_refused() -> None:
    with pytest.raises(InputError, match="make it shorter"):
        backprop.QA(loaded("bert_qa"))(LONG, "The river.")
    with pytest.raises(InputError, match="room for 0"):
        backprop.QA(loaded("short_t5"))(LONG, "The river.")
