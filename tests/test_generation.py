"""Models that write: equal to transformers' own generate, whatever the batch."""

from __future__ import annotations

import functools
import threading
from typing import Any

import pytest
import torch
import transformers

import backprop
from backprop.engines.torch_generator import TorchGenerator
from backprop.errors import InputError
from backprop.models import AutoModel, HFCausalLMTGModel, HFSeq2SeqTGModel, T5QASummaryEmotion
from backprop.models.generation import SUMMARY_INSTRUCTION
from tests import tiny

pytestmark = pytest.mark.usefixtures("one_thread")

KINDS = ["t5", "bart", "gpt2", "llama_chat", "llama_chat_inline"]
TASK = "text-generation"
# Of different lengths, two of them the same, so that padding and order both matter.
TEXTS = [" ".join(text.split()[:14]) for text in tiny.texts(6, seed=2)] + ["cats", "Sally lives in"]


@functools.cache
def loaded(kind: str) -> Any:
    return AutoModel.from_pretrained(tiny.folder(kind), device="cpu")


@functools.cache
def peer(kind: str) -> tuple[Any, Any]:
    auto = getattr(transformers, tiny.KINDS[kind].auto)
    model = auto.from_pretrained(tiny.folder(kind)).eval()
    return model, transformers.AutoTokenizer.from_pretrained(tiny.folder(kind))


def write(kind: str, text: Any, **options: Any) -> Any:
    return loaded(kind)({"text": text, **options}, task=TASK)


def theirs(kind: str, text: str, **options: Any) -> list[str]:
    """Return what transformers' generate writes after one prompt, special tokens left out."""
    model, tokenizer = peer(kind)
    if tokenizer.chat_template:
        chat = [{"role": "user", "content": text}]
        prompt = tokenizer.apply_chat_template(
            chat, add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
    else:
        prompt = tokenizer(text, return_tensors="pt")
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    prompt = {name: prompt[name] for name in ("input_ids", "attention_mask")}
    options = {"do_sample": False, "pad_token_id": pad, **options}
    rows = model.generate(**prompt, **options)
    skip = 1 if model.config.is_encoder_decoder else prompt["input_ids"].shape[1]
    return [stripped(kind, tokenizer.decode(row[skip:], skip_special_tokens=True)) for row in rows]


def stripped(kind: str, text: str) -> str:
    """Return what we make of a text: decoders that continue a prompt keep its white space."""
    return text if kind == "gpt2" else text.strip()


# --- equal to transformers ------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_greedy_text_equals_transformers_in_any_batch(kind: str) -> None:
    expected = [theirs(kind, text, max_new_tokens=12)[0] for text in TEXTS]
    assert len(set(expected)) > 3
    assert write(kind, TEXTS, max_length=12) == expected
    assert write(kind, TEXTS[::-1], max_length=12) == expected[::-1]
    assert [write(kind, text, max_length=12) for text in TEXTS] == expected


@pytest.mark.parametrize("kind", ["bart", "gpt2", "llama_chat"])
def test_beams_equal_transformers(kind: str) -> None:
    options = {"num_beams": 3, "length_penalty": 0.4, "repetition_penalty": 1.3}
    expected = [
        theirs(kind, text, max_new_tokens=10, num_return_sequences=2, **options) for text in TEXTS
    ]
    found = write(kind, TEXTS, max_length=10, num_generations=2, **options)
    assert found == expected
    assert write(kind, TEXTS[1], max_length=10, num_generations=2, **options) == expected[1]
    best = write(kind, TEXTS, max_length=10, **options)
    assert best == [pair[0] for pair in expected]


@pytest.mark.parametrize("kind", ["t5", "gpt2"])
def test_the_repetition_penalty_equals_transformers(kind: str) -> None:
    expected = [theirs(kind, t, max_new_tokens=10, repetition_penalty=2.0)[0] for t in TEXTS[:3]]
    found = [write(kind, text, max_length=10, repetition_penalty=2.0) for text in TEXTS[:3]]
    assert found == expected
    assert found != write(kind, TEXTS[:3], max_length=10)


@pytest.mark.parametrize("kind", KINDS)
def test_greedy_is_the_default_and_repeats_itself(kind: str) -> None:
    first = write(kind, TEXTS[:3], max_length=8)
    torch.manual_seed(99)
    assert write(kind, TEXTS[:3], max_length=8) == first
    assert write(kind, TEXTS[:3], max_length=8, do_sample=False) == first
    assert write(kind, TEXTS[:3], max_length=8, temperature=0) == first
    assert write(kind, TEXTS[:3], max_length=8, temperature=0, top_k=5) == first
    assert write(kind, [], max_length=8) == []


# --- sampling -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["t5", "gpt2", "llama_chat"])
def test_a_seed_makes_sampling_repeatable_and_free_of_the_batch(kind: str) -> None:
    options = {"max_length": 8, "temperature": 1.5, "seed": 3}
    first = write(kind, TEXTS, **options)
    assert write(kind, TEXTS, **options) == first
    assert write(kind, TEXTS[::-1], **options) == first[::-1]
    assert [write(kind, text, **options) for text in TEXTS] == first
    assert write(kind, TEXTS, **{**options, "seed": 4}) != first
    assert write(kind, TEXTS, max_length=8) != first


def test_a_row_s_several_samples_differ_and_do_not_depend_on_the_batch() -> None:
    options = {"max_length": 6, "do_sample": True, "num_generations": 3, "seed": 5}
    rows = write("gpt2", TEXTS[:4], **options)
    assert all(len(set(row)) == 3 for row in rows)
    assert [write("gpt2", text, **options) for text in TEXTS[:4]] == rows


def test_without_a_seed_samples_differ_and_torch_s_random_state_is_left_alone() -> None:
    torch.manual_seed(1)
    expected = torch.rand(2)
    torch.manual_seed(1)
    samples = {write("gpt2", "cats", max_length=12, do_sample=True) for _ in range(4)}
    assert len(samples) > 1
    assert torch.equal(torch.rand(2), expected)


def test_beam_sampling_repeats_with_a_seed() -> None:
    options = {"max_length": 6, "do_sample": True, "num_beams": 3, "seed": 5}
    first = write("gpt2", TEXTS[:2], **options)
    state = torch.get_rng_state()
    assert write("gpt2", TEXTS[:2], **options) == first
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("option", [{"temperature": 2.0}, {"top_k": 40}, {"top_p": 0.95}])
def test_an_option_of_sampling_turns_it_on(option: dict[str, float]) -> None:
    greedy = write("gpt2", "cats", max_length=12)
    assert {write("gpt2", "cats", max_length=12, seed=i, **option) for i in range(5)} - {greedy}
    assert write("gpt2", "cats", max_length=12, do_sample=False, **option) == greedy


def test_samples_follow_the_model_s_probabilities_within_top_k_and_top_p() -> None:
    model, tokenizer = peer("gpt2")
    prompt = tokenizer("Sally lives in", return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        logits = model(prompt).logits[0, -1]
    # Tokens that decode to a character each, for the text is all that is seen.
    shown = [i for i in range(len(tokenizer)) if tokenizer.decode([i]).isascii()]
    order = [int(i) for i in logits.argsort(descending=True)]
    wanted = [tokenizer.decode([token]) for token in order]
    top = next(k for k in range(3, 30) if sum(token in shown for token in order[:k]) >= 2)
    shares = logits[order[:top]].softmax(0).tolist()
    drawn: list[str] = []
    for seed in (0, 100, 200, 300):
        options = {"max_length": 1, "top_k": top, "num_generations": 64, "seed": seed}
        drawn += write("gpt2", "Sally lives in", **options)
    assert set(drawn) <= set(wanted[:top])
    for token, text, share in zip(order, wanted, shares, strict=False):
        if token in shown:
            assert drawn.count(text) / len(drawn) == pytest.approx(share, abs=0.1)
    narrow = write("gpt2", "Sally lives in", max_length=1, top_p=1e-6, seed=1)
    assert narrow == wanted[0]
    hot = write("gpt2", "Sally lives in", max_length=1, temperature=1e-4, seed=1)
    assert hot == wanted[0]


# --- lengths --------------------------------------------------------------------------------------


@pytest.fixture
def lengths(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that fills with the number of tokens of each text that is written."""
    found: list[int] = []
    generate = TorchGenerator.generate

    def counted(self: TorchGenerator, *args: Any) -> Any:
        rows = generate(self, *args)
        found.extend(len(one.tokens) for row in rows for one in row)
        return rows

    monkeypatch.setattr(TorchGenerator, "generate", counted)
    return found


# BART is made to end at the limit, so its last token is the end.
ENDS = {"bart": 1}


@pytest.mark.parametrize("kind", KINDS)
def test_lengths_count_new_tokens(kind: str, lengths: list[int]) -> None:
    write(kind, TEXTS, min_length=7, max_length=7)
    assert set(lengths) == {7 - ENDS.get(kind, 0)}
    lengths.clear()
    write(kind, TEXTS, max_length=3)
    assert max(lengths) == 3 - ENDS.get(kind, 0)


@pytest.mark.parametrize("kind", ["t5", "gpt2"])
def test_more_new_tokens_than_the_default_may_be_asked_for(kind: str, lengths: list[int]) -> None:
    write(kind, "cats", min_length=150)
    assert lengths == [150]
    with pytest.raises(InputError, match="room for .* but 300"):
        write("gpt2", "cats", min_length=300)


ADVICE: list[dict[str, Any]] = [
    {"max_length": 9, "min_length": 6},
    {"max_new_tokens": 8, "min_new_tokens": 6},
    {"max_new_tokens": 8, "max_length": None, "num_beams": 2, "do_sample": True, "top_k": 3},
]


@pytest.mark.parametrize("advice", ADVICE, ids=str)
@pytest.mark.parametrize("kind", ["t5", "gpt2"])
def test_a_model_s_own_advice_on_lengths_holds_until_the_caller_says_otherwise(
    kind: str, advice: dict[str, Any], lengths: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    model = AutoModel.from_pretrained(tiny.folder(kind), device="cpu")
    model.model.generation_config.update(**advice)
    most = advice.get("max_new_tokens") or advice["max_length"]
    model({"text": TEXTS[:3]}, task=TASK)
    assert max(lengths) <= most
    assert min(lengths) >= min(6, most) or "num_beams" in advice
    lengths.clear()
    model({"text": TEXTS[:3], "min_length": 12, "max_length": 12, "num_beams": 1}, task=TASK)
    assert set(lengths) == {12}
    lengths.clear()
    model({"text": TEXTS[:3], "min_length": 0, "max_length": 2}, task=TASK)
    assert max(lengths) <= 2
    assert [record.message for record in caplog.records] == []


def test_a_model_s_advice_does_not_make_it_sample() -> None:
    model = AutoModel.from_pretrained(tiny.folder("gpt2"), device="cpu")
    model.model.generation_config.update(do_sample=True, temperature=0.7, top_p=0.9)
    found = model({"text": TEXTS[:3], "max_length": 8}, task=TASK)
    assert found == write("gpt2", TEXTS[:3], max_length=8)


@pytest.mark.parametrize(("kind", "limit"), [("gpt2", 256), ("llama_chat", 1024)])
def test_a_prompt_without_room_is_refused_with_the_numbers(kind: str, limit: int) -> None:
    with pytest.raises(
        InputError, match=rf"text 1 has \d+ tokens and leaves room for 0 .* {limit}"
    ):
        write(kind, ["cats", "cats " * limit])
    with pytest.raises(
        InputError, match=rf"leaves room for \d+ of the model's {limit}, but {limit} "
    ):
        write(kind, "Where does Sally live, and who is her brother?", max_length=limit)


@pytest.mark.parametrize("kind", ["t5", "bart"])
def test_a_prompt_an_encoder_can_not_hold_is_refused(kind: str) -> None:
    with pytest.raises(InputError, match=r"text 0 has \d+ tokens .* 128"):
        write(kind, ["cats " * 400])


def test_all_the_room_there_is_can_be_used() -> None:
    [length] = [len(peer("gpt2")[1](TEXTS[0])["input_ids"])]
    assert write("gpt2", TEXTS[0], max_length=256 - length)
    with pytest.raises(InputError, match=f"room for {256 - length}"):
        write("gpt2", TEXTS[0], max_length=257 - length)


# --- stop strings and streams ---------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_text_ends_before_the_first_stop_string(kind: str) -> None:
    for text in TEXTS[:4]:
        whole = write(kind, text, max_length=16)
        stops = [whole[5:8], whole[2:4]]
        cut = stripped(kind, whole[: min(whole.find(stop) for stop in stops)])
        assert write(kind, text, max_length=16, stop=stops) == cut
        assert write(kind, text, max_length=16, stop=stops[0]) == stripped(
            kind, whole[: whole.find(stops[0])]
        )
        assert write(kind, text, max_length=16, stop="not in there") == whole


def test_work_ends_when_a_row_s_stop_string_is_written(lengths: list[int]) -> None:
    whole = write("gpt2", "Sally lives in", max_length=100)
    lengths.clear()
    write("gpt2", "Sally lives in", max_length=100, stop=whole[4:7])
    assert lengths[0] < 20


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("stop", [None, ["a", "the"], [" "]], ids=str)
def test_a_stream_joined_equals_the_call(kind: str, stop: list[str] | None) -> None:
    handler = loaded(kind).handler(TASK)
    for text in TEXTS[:5]:
        options = {"max_length": 14, "stop": stop or ["never written"]}
        pieces = list(handler.stream({"text": text}, options))
        assert "".join(pieces) == write(kind, text, **options)
        assert all(pieces)


def test_a_stream_comes_in_pieces_and_samples_like_the_call() -> None:
    handler = loaded("gpt2").handler(TASK)
    options = {"max_length": 14, "temperature": 1.3, "seed": 8}
    pieces = list(handler.stream({"text": "cats"}, options))
    assert len(pieces) > 4
    assert "".join(pieces) == write("gpt2", "cats", **options)


def test_a_stream_that_is_left_early_ends_its_work() -> None:
    before = threading.active_count()
    stream = loaded("gpt2").handler(TASK).stream({"text": "cats"}, {"max_length": 200})
    assert next(stream)
    stream.close()
    assert threading.active_count() == before


@pytest.mark.parametrize("option", [{"num_beams": 2}, {"num_generations": 2, "do_sample": True}])
def test_beams_and_several_generations_can_not_be_streamed(option: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="one beam and one generation; received num_"):
        list(loaded("gpt2").handler(TASK).stream({"text": "cats"}, option))


def test_an_error_while_streaming_reaches_the_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    model = HFCausalLMTGModel(tiny.folder("gpt2"))
    monkeypatch.setattr(model.model, "forward", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        list(backprop.TextGeneration(model).stream("cats", max_length=4))


# --- conduct --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_train_mode_stays_and_generation_settings_too(kind: str) -> None:
    model = loaded(kind)
    expected = write(kind, TEXTS[:2], max_length=6)
    settings = model.model.generation_config.to_dict()
    try:
        model.train()
        assert write(kind, TEXTS[:2], max_length=6) == expected
        assert all(module.training for module in model.modules())
    finally:
        model.eval()
    assert model.model.generation_config.to_dict() == settings


def test_several_generations_come_as_a_list_a_row() -> None:
    two = write("gpt2", TEXTS[:3], max_length=4, num_generations=2, do_sample=True, seed=0)
    assert [len(row) for row in two] == [2, 2, 2]
    single = write("gpt2", TEXTS[0], max_length=4, num_generations=2, do_sample=True, seed=0)
    assert single == two[0]
    assert isinstance(write("gpt2", TEXTS[0], max_length=4, num_generations=1), str)
    unasked = write("gpt2", TEXTS[0], max_length=4, num_generations=3)
    assert len(unasked) == 3


# --- other tasks of models that write -------------------------------------------------------------


def test_an_encoder_decoder_is_prompted_as_it_was_trained() -> None:
    model = T5QASummaryEmotion(tiny.folder("t5"))
    assert model.tasks == ["summarisation", "emotion", "qa"]
    context = "Sally lives in London."
    turns = {"prev_q": ["Who?"], "prev_a": ["Tom"]}
    asked = {"question": ["Where?", "Why?"], "context": [context] * 2}
    history = {name: [value, []] for name, value in turns.items()}
    found = model({**asked, **history}, task="qa")
    assert found[0] == theirs("t5", f"q: Who? a: Tom q: Where? c: {context}", max_new_tokens=64)[0]
    assert found[1] == theirs("t5", f"q: Why? c: {context}", max_new_tokens=64)[0]
    emotions = model({"text": TEXTS[:2]}, task="emotion")
    assert emotions == [theirs("t5", f"emotion: {t}", max_new_tokens=16)[0] for t in TEXTS[:2]]
    summary = model({"text": TEXTS[0]}, task="summarisation")
    whole = theirs("t5", f"summarise: {TEXTS[0]}", max_new_tokens=160)[0]
    assert summary
    assert whole.startswith(summary)


def test_braces_in_a_text_are_left_alone() -> None:
    model = HFSeq2SeqTGModel(tiny.folder("t5"), prompts={TASK: "say {text} {now}"})
    text = "a {text} {question} {}"
    expected = theirs("t5", f"say {text} {{now}}", max_new_tokens=6)[0]
    assert model({"text": text, "max_length": 6}, task=TASK) == expected


def test_details_of_a_written_answer_say_where_its_words_are() -> None:
    model = T5QASummaryEmotion(tiny.folder("t5"))
    written = model({"question": "Where?", "context": "cats"}, task="qa")
    context = f"It is {written.upper()}!"
    given = {"question": "Where?", "context": context, "details": True}
    answer = model(given, task="qa")
    assert answer.keys() == {"answer", "score", "start", "end"}
    assert 0 < answer["score"] <= 1
    if answer["start"] >= 0:
        piece = context[answer["start"] : answer["end"]]
        assert piece.lower() == answer["answer"].lower()
    else:
        assert (answer["start"], answer["end"]) == (-1, -1)
        assert answer["answer"].lower() not in context.lower()


CONTEXT = "Sally lives in London with Tom's 2 cats. She moved there in 2009, after “ten” years."


@pytest.mark.parametrize("kind", ["llama_chat", "llama_chat_inline"])
def test_an_instruct_model_answers_in_the_context_s_own_words(kind: str) -> None:
    questions = ["Where does Sally live?", "When?", "Who has cats?", "Why?", "How long?"]
    given = {"question": questions, "context": [CONTEXT] * 4 + ["Ｗｉｄｅ 日本 Zürich — café!"]}
    answers = loaded(kind)({**given, "details": True}, task="qa")
    for context, answer in zip(given["context"], answers, strict=True):
        assert answer["answer"]
        assert context[answer["start"] : answer["end"]] == answer["answer"]
        # From the start of a word to the end of one.
        assert not context[max(answer["start"] - 1, 0)].isalnum() or answer["start"] == 0
        assert answer["end"] == len(context) or not context[answer["end"]].isalnum()
        assert 0 < answer["score"] <= 1
    assert loaded(kind)(given, task="qa") == [answer["answer"] for answer in answers]
    for i, question in enumerate(questions):
        alone = loaded(kind)({"question": question, "context": given["context"][i]}, task="qa")
        assert alone == answers[i]["answer"]


def test_a_context_without_words_has_no_answer() -> None:
    given = {"question": "Where?", "context": "… !!"}
    assert loaded("llama_chat")(given, task="qa") == ""
    assert loaded("llama_chat")({**given, "details": True}, task="qa")["start"] == 0


def test_history_changes_what_an_instruct_model_is_asked() -> None:
    given = {"question": "Where?", "context": CONTEXT, "details": True}
    turns = {"prev_q": ["Who lives in London?"], "prev_a": ["Sally"]}
    plain = loaded("llama_chat")(given, task="qa")
    assert loaded("llama_chat")({**given, **turns}, task="qa")["score"] != plain["score"]


def test_a_summary_is_the_start_of_what_the_model_writes_when_told_to_summarise() -> None:
    text = " ".join(tiny.texts(2, seed=3))
    summary = loaded("llama_chat")({"text": text}, task="summarisation")
    assert summary == loaded("llama_chat")({"text": [text, "cats"]}, task="summarisation")[0]
    written = theirs("llama_chat", SUMMARY_INSTRUCTION.replace("{text}", text), max_new_tokens=160)
    assert written[0].startswith(summary)
    assert summary


def test_a_model_without_a_chat_template_only_continues_text() -> None:
    assert loaded("gpt2").tasks == [TASK]
    assert loaded("llama_chat").tasks == [TASK, "qa", "summarisation"]
