import importlib
import json
import pkgutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from backprop import handlers
from backprop.engines import Decoding
from backprop.handlers.classifier import EmotionClasses, TextClasses
from backprop.handlers.generate import TextGenerations
from backprop.handlers.images import MAX_IMAGES, ImageLabels
from backprop.handlers.label_vectors import LabelVectors, PhraseEmotions
from backprop.handlers.nli import Entailment
from backprop.handlers.pairs import PairVectors
from backprop.handlers.spans import SpanAnswers
from backprop.handlers.summaries import Summaries
from backprop.handlers.text_vectors import TextVectors
from tests import fakes
from tests.by_hand import CATS, DOGS, MANY, text_vectors, texts
from tests.fakes import WIDTH, plain_picture, word_tokens
from tests.guard import run_python
from tests.handler_checks import CALIBRATION, CHECKS, image_vectors
from tests.written_checks import writer

RUN_CHECKS = """
import json, sys, traceback
from tests.handler_checks import CHECKS
faults = {}
for handler, check in CHECKS.items():
    try:
        check()
        faults[handler.__name__] = ""
    except Exception:
        faults[handler.__name__] = traceback.format_exc()
heavy = [name for name in ("torch", "transformers") if name in sys.modules]
print(json.dumps({"faults": faults, "heavy": heavy}))
"""


@pytest.fixture(scope="module")
def report() -> Any:
    """Run all checks in one new process that can't import torch or transformers."""
    done = run_python(RUN_CHECKS, blocked=("torch", "transformers"))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", [handler.__name__ for handler in CHECKS])
def test_answers_without_torch_as_worked_out_by_hand(name: str, report: Any) -> None:
    assert report["faults"][name] == ""
    assert report["heavy"] == []


def test_every_handler_has_a_check() -> None:
    assert set(public_handlers()) == set(CHECKS)


def public_handlers() -> Iterator[type]:
    for module in pkgutil.iter_modules(handlers.__path__, handlers.__name__ + "."):
        for name, found in vars(importlib.import_module(module.name)).items():
            own = isinstance(found, type) and found.__module__ == module.name
            if own and callable(getattr(found, "answer", None)) and not name.startswith("_"):
                yield found


LABELS = ["weather", "animals", "food"]
LENGTHS = (1, 9, 2, 10, 30, 1, 3, 25, 5)
"""Words of texts that differ in length, some over the tokenizers' limit here."""

Made = tuple[Any, list[dict[str, Any]], list[Any]]
"""A handler, rows for it, and its engines."""


def of_lengths(**shared: Any) -> list[dict[str, Any]]:
    words = f"{CATS} {DOGS} {MANY}".split()
    chosen = np.random.default_rng(3).choice(words, (len(LENGTHS), max(LENGTHS)))
    return texts(
        *(" ".join(row[:length]) for row, length in zip(chosen, LENGTHS, strict=True)), **shared
    )


def made_text_vectors() -> Made:
    handler = text_vectors(CATS, DOGS, MANY, max_length=20)
    return handler, of_lengths(), [handler.engine]


def made_label_vectors() -> Made:
    vectors = text_vectors(CATS, DOGS, MANY, *LABELS, max_length=20)
    handler = LabelVectors(vectors, templates=["{}", "a {}"], calibration=CALIBRATION)
    return handler, of_lengths(labels=LABELS), [vectors.engine]


def made_phrase_emotions() -> Made:
    vectors = text_vectors(CATS, DOGS, MANY, max_length=20)
    phrases = {"joy": ["cats", "warm roof"], "fear": ["dogs"], "calm": ["sleep", "the warm"]}
    handler = PhraseEmotions(vectors, phrases=phrases, offsets={}, calibration=CALIBRATION)
    return handler, of_lengths(), [vectors.engine]


def made_entailment() -> Made:
    tokens = word_tokens(CATS, DOGS, MANY, *LABELS, max_length=20)
    engine = fakes.TextEngine(tokens)
    handler = Entailment(engine, tokens, entailment=0, contradiction=2, template="{}")
    return handler, of_lengths(labels=LABELS), [engine]


def made_text_classes() -> Made:
    tokens = word_tokens(CATS, DOGS, MANY, max_length=20, pad_left=True)
    engine = fakes.TextEngine(tokens)
    labels = [f"class {i}" for i in range(WIDTH)]
    return TextClasses(engine, tokens, labels=labels), of_lengths(), [engine]


def made_emotion_classes() -> Made:
    tokens = word_tokens(CATS, DOGS, MANY, max_length=20)
    engine = fakes.TextEngine(tokens)
    labels = [f"emotion {i}" for i in range(WIDTH)]
    return EmotionClasses(engine, tokens, labels=labels), of_lengths(), [engine]


def made_span_answers(*, pad_left: bool = False) -> Made:
    tokens = word_tokens(CATS, DOGS, MANY, max_length=20, pad_left=pad_left)
    scores = {word: (i * 0.7 % 3, i * 1.3 % 3) for i, word in enumerate(MANY.split())}
    engine = fakes.TextEngine(tokens, spans=scores)
    rows = [{"question": "two dogs", "context": row["text"]} for row in of_lengths()]
    return SpanAnswers(engine, tokens), rows, [engine]


def made_image_labels() -> Made:
    texts_side = text_vectors(CATS, *LABELS, "a photo of .")
    images_side = image_vectors()
    handler = ImageLabels(images_side, texts_side, scale=5)
    rows = [{"image": plain_picture(40 * i, 9, 200 - i), "labels": LABELS} for i in range(5)]
    return handler, rows, [images_side.engine, texts_side.engine]


def made_pair_vectors() -> Made:
    texts_side, images_side = text_vectors(CATS, DOGS, MANY, max_length=20), image_vectors()
    rows = [
        {"image": plain_picture(20 * i, 9, 200 - i), "text": row["text"]}
        for i, row in enumerate(of_lengths())
    ]
    return PairVectors(images_side, texts_side), rows, [images_side.engine, texts_side.engine]


MAKERS: list[Callable[[], Made]] = [
    made_text_vectors,
    made_label_vectors,
    made_phrase_emotions,
    made_entailment,
    made_text_classes,
    made_emotion_classes,
    made_span_answers,
    lambda: made_span_answers(pad_left=True),
    made_image_labels,
    made_pair_vectors,
]


@pytest.mark.parametrize("make", MAKERS)
def test_order_is_kept_and_neighbours_do_not_matter(make: Callable[[], Made]) -> None:
    handler, rows, _ = make()
    together = handler.answer(rows, {})
    alone = [answer for row in rows for answer in handler.answer([row], {})]
    backwards = handler.answer(rows[::-1], {})[::-1]
    for one, two, three in zip(together, alone, backwards, strict=True):
        assert_same(one, two)
        assert_same(one, three)


def assert_same(one: Any, two: Any) -> None:
    if isinstance(one, dict):
        assert list(one) == list(two)
        one, two = list(one.values()), list(two.values())
    if isinstance(one, str):
        assert one == two
    else:
        np.testing.assert_allclose(one, two, atol=1e-6)


@pytest.mark.parametrize("make", MAKERS)
def test_a_call_runs_a_few_batches_and_changes_no_row(make: Callable[[], Made]) -> None:
    handler, rows, engines = make()
    before = [dict(row) for row in rows]
    handler.answer(rows, {})
    assert rows == before
    # One batch or two for the rows, one for the labels or phrases if there are any.
    assert 1 <= len([batch for engine in engines for batch in engine.batches]) <= 3


def test_a_text_is_padded_to_its_batch_and_not_to_the_limit() -> None:
    handler = text_vectors(CATS, DOGS)
    handler.answer(texts(CATS, DOGS), {})
    assert engine_of(handler).batches == [(2, 8)]  # six words, [CLS] and [SEP]; the limit is 64


def engine_of(handler: TextVectors) -> fakes.TextEngine:
    assert isinstance(handler.engine, fakes.TextEngine)
    return handler.engine


def test_many_texts_run_in_batches_of_like_length_within_the_budget() -> None:
    handler = text_vectors(CATS, DOGS, max_length=100)
    long, short = " ".join(["cats"] * 98), "dogs run"
    handler.answer(texts(*[short, long] * 100), {})
    batches = engine_of(handler).batches
    assert sum(rows for rows, _ in batches) == 200
    assert all(rows * length <= 4096 or rows == 1 for rows, length in batches)
    assert len(batches) == 4  # 40 + 40 long ones, 20 with 20 short ones, and the rest


def test_each_label_is_encoded_once_a_call() -> None:
    handler, rows, [engine] = made_label_vectors()
    mixed = [{**row, "labels": LABELS[i % 3 :] + ["run"]} for i, row in enumerate(rows)]
    handler.answer(mixed, {"long": "truncate"})
    # Four labels in two templates, and the texts.
    assert engine.rows == 4 * 2 + len(rows)


def test_labels_of_images_are_encoded_once_a_call() -> None:
    handler, rows, [images, labels] = made_image_labels()
    handler.answer(rows, {})
    assert (images.rows if hasattr(images, "rows") else images.batches[0][0]) == len(rows)
    assert labels.rows == len(LABELS)


def test_phrases_of_emotions_are_encoded_once_for_all_calls() -> None:
    handler, rows, [engine] = made_phrase_emotions()
    handler.answer(rows, {"long": "truncate"})
    first = engine.rows
    handler.answer(rows, {"long": "truncate"})
    assert (first, engine.rows) == (5 + len(rows), 5 + 2 * len(rows))


def test_text_label_pairs_of_a_whole_call_share_batches() -> None:
    handler, _, [engine] = made_entailment()
    handler.answer(texts(*[DOGS] * 50, labels=LABELS[:2]), {})
    # 100 pairs of six tokens at most fit one batch of 128.
    assert [batch[0] for batch in engine.batches] == [100]


def test_rows_may_have_labels_of_their_own() -> None:
    handler, rows, _ = made_entailment()
    own = [{**row, "labels": LABELS[: 1 + i % 3]} for i, row in enumerate(rows)]
    together = handler.answer(own, {})
    assert [set(answer) for answer in together] == [set(row["labels"]) for row in own]
    for row, answer in zip(own, together, strict=True):
        assert_same(answer, handler.answer([row], {})[0])


def test_pictures_run_in_batches() -> None:
    handler = image_vectors()
    rows = [{"image": plain_picture(i, i, 2 * i)} for i in range(MAX_IMAGES + 3)]
    handler.answer(rows, {})
    assert isinstance(handler.engine, fakes.ColourEngine)
    assert [batch[0] for batch in handler.engine.batches] == [MAX_IMAGES, 3]


def test_prompts_run_in_batches_by_equal_decoding() -> None:
    handler = TextGenerations(writer(lambda prompt: [(prompt * 2, 0.0)]))
    rows = texts(*(f"row {i}" for i in range(10)))
    assert handler.answer(rows, {}) == [row["text"] * 2 for row in rows]
    assert handler.answer(rows[::-1], {}) == [row["text"] * 2 for row in rows[::-1]]
    assert isinstance(handler.writer.generator, fakes.FakeGenerator)
    assert [rows for rows, _ in handler.writer.generator.batches] == [10, 10]


def test_a_summary_of_many_texts_shares_batches() -> None:
    own = writer(lambda prompt: [(prompt[:3], 0.0)], shared_room=False)
    rows = texts(*(f"text number {i} about something" for i in range(9)))
    assert Summaries(own, prompt="{text}").answer(rows, {}) == ["tex"] * 9
    assert isinstance(own.generator, fakes.FakeGenerator)
    assert [rows for rows, _ in own.generator.batches] == [9]


PIECES = st.text(st.sampled_from("ab \n.é😀"), min_size=0, max_size=12)


@settings(max_examples=300)
@example("aé", ["aé"], False)  # the stop string is there in part, its last letter in part too
@given(PIECES, st.lists(PIECES.filter(bool), max_size=3), st.booleans())
def test_streamed_pieces_join_to_the_answer(reply: str, stop: list[str], strips: bool) -> None:
    own = writer(lambda _: [(reply, 0.0)], shared_room=not strips)
    handler = TextGenerations(own)
    options = {"stop": stop} if stop else {}
    [answer] = handler.answer(texts("go"), options)
    pieces = list(handler.stream(texts("go")[0], options))
    assert "".join(pieces) == answer
    assert all(pieces)
    # The string that is complete first ends the text, at its first letter.
    seen = next((n for n in range(len(reply)) if any(s in reply[: n + 1] for s in stop)), None)
    cut = reply if seen is None else min((reply[: seen + 1].split(s)[0] for s in stop), key=len)
    assert answer == (cut.strip() if strips else cut)


@example("so 😀😀😀😀 and on", "😀😀😀😀")  # sixteen tokens in four characters
@given(st.text("ab😀é", max_size=30), st.text("ab😀é", min_size=1, max_size=6))
def test_generation_ends_soon_after_a_stop_string(reply: str, stop: str) -> None:
    handler = TextGenerations(writer(lambda _: [(reply, 0.0)]))
    _, decoding = handler._prepare(texts("go")[0], {"stop": [stop]}, "text")
    tokens = list(handler.writer.generator.stream(handler.writer.prompt("go"), decoding))
    end = reply.find(stop)
    written = reply if end < 0 else reply[: end + len(stop)]
    assert handler.writer.tokens.decode(tokens) == written
    assert replace(decoding, stop=None) == Decoding(max_new=100)
