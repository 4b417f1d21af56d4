"""One check a handler: its answers on fake engines against results worked out another way.

``CHECKS`` maps each handler class to its check; test_handlers runs them without torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from backprop.handlers.answers import GroundedAnswers, WrittenAnswers
from backprop.handlers.classifier import EmotionClasses, TextClasses
from backprop.handlers.extract import Extracts
from backprop.handlers.generate import TextGenerations
from backprop.handlers.hypernyms import HypernymLabels
from backprop.handlers.images import ImageClasses, ImageLabels, ImageVectors
from backprop.handlers.label_vectors import Calibration, LabelVectors, PhraseEmotions
from backprop.handlers.nli import Entailment
from backprop.handlers.pairs import PairVectors
from backprop.handlers.spans import SpanAnswers
from backprop.handlers.summaries import Summaries, WrittenEmotions
from backprop.handlers.text_vectors import TextVectors
from tests import fakes, written_checks
from tests.by_hand import (
    CATS,
    DOGS,
    MANY,
    cosines,
    logits,
    mean,
    refused,
    same,
    same_ranking,
    sigmoid,
    softmax,
    text_vectors,
    texts,
    unit,
)
from tests.fakes import PIXELS, WIDTH, plain_picture, seen, word_tokens

CALIBRATION = Calibration(slope=7.0, middle=0.2, temperature=0.1)
RED, GREEN, BLUE = (250, 10, 20), (30, 200, 60), (0, 90, 255)


def check_text_vectors() -> None:
    rows = texts(CATS, DOGS)
    plain = text_vectors(CATS, DOGS)
    same(plain.answer(rows, {}), [mean(CATS), mean(DOGS)])
    same(plain.answer(rows, {"normalise": True}), [unit(mean(CATS)), unit(mean(DOGS))])
    same(plain.answer(rows[1:], {"dimensions": 3}), [unit(mean(DOGS)[:3])])
    same(plain.answer(rows[1:], {"dimensions": 3, "normalise": False}), [mean(DOGS)[:3]])
    refused(lambda: plain.answer(rows, {"dimensions": WIDTH + 1}), "dimensions", str(WIDTH))
    scaled = text_vectors(CATS, DOGS, normalise=True)
    same(scaled.answer(rows, {}), [unit(mean(CATS)), unit(mean(DOGS))])
    asked = text_vectors(CATS, "query", prompt="query ")
    same(asked.answer(rows[:1], {}), [mean("query " + CATS)])
    short = text_vectors(f"{MANY} {DOGS}", max_length=10)
    long = texts(f"{MANY} {DOGS}")  # twelve words, with room for eight
    same(short.answer(long, {}), [mean("one two three four five six seven eight")])
    parts = mean("one two three four five six seven eight") * 8 + mean("nine ten dogs run") * 4
    same(short.answer(long, {"long": "chunk"}), [parts / 12])
    refused(lambda: short.answer(long, {"long": "error"}), "12 tokens", "8")
    assert short.answer([], {}) == []


def check_label_vectors() -> None:
    handler = LabelVectors(
        text_vectors(CATS, DOGS, "about animals weather a talk"),
        templates=["about {}", "a talk about {}"],
        calibration=CALIBRATION,
    )
    labels = ["weather", "animals"]
    [found] = handler.answer(texts(CATS, labels=labels), {})
    likeness = cosines(CATS, *[[f"about {label}", f"a talk about {label}"] for label in labels])
    each = [sigmoid((cosine - 0.2) * 7) for cosine in likeness]
    same_ranking(found, dict(zip(labels, each, strict=True)))
    [found] = handler.answer(
        texts(DOGS, labels=labels), {"multi_label": False, "template": "{} run"}
    )
    likeness = cosines(DOGS, ["weather run"], ["animals run"])
    shared = softmax([cosine / 0.1 for cosine in likeness])
    same_ranking(found, dict(zip(labels, shared, strict=True)))
    [found] = handler.answer(texts(DOGS, labels=labels), {"top_k": 1})
    assert len(found) == 1
    refused(lambda: handler.answer(texts(CATS), {}), "labels")
    assert handler.answer([], {}) == []


def check_phrase_emotions() -> None:
    phrases = {"joy": ["so happy", "what fun"], "anger": ["so angry"], "neutral": ["a fact"]}
    handler = PhraseEmotions(
        text_vectors(CATS, "so happy what fun so angry a fact"),
        phrases=phrases,
        offsets={"neutral": 0.1},
        calibration=CALIBRATION,
    )
    for text in (CATS, "so angry", "what fun"):
        likeness = cosines(text, *phrases.values())
        scores = [likeness[0], likeness[1], likeness[2] + 0.1]
        chances = dict(zip(phrases, softmax([s / 0.1 for s in scores]), strict=True))
        assert handler.answer(texts(text), {}) == [max(chances, key=lambda name: chances[name])]
        [found] = handler.answer(texts(text), {"top_k": 3})
        same_ranking(found, chances)
    assert handler.answer(texts("so angry"), {}) == ["anger"]


def check_entailment() -> None:
    labels = ["animals", "weather", "food"]
    tokens = word_tokens(CATS, DOGS, "it is animals weather food this example .")
    handler = Entailment(fakes.TextEngine(tokens), tokens, entailment=2, contradiction=0)
    [found] = handler.answer(texts(CATS, labels=labels), {"template": "it is {}"})
    pairs = [logits(CATS, f"it is {label}") for label in labels]
    each = [sigmoid(pair[2] - pair[0]) for pair in pairs]
    same_ranking(found, dict(zip(labels, each, strict=True)))
    options = {"template": "it is {}", "multi_label": False}
    [found] = handler.answer(texts(CATS, labels=labels), options)
    shared = softmax([float(pair[2]) for pair in pairs])
    same_ranking(found, dict(zip(labels, shared, strict=True)))
    [default] = handler.answer(texts(DOGS, labels=["food"]), {})
    [unknown] = handler.answer(texts(DOGS, labels=["food"]), {"template": "Zzz example is {} ."})
    same(default["food"], unknown["food"])  # the tokenizer knows neither "This" nor "Zzz"
    refused(lambda: handler.answer(texts(CATS), {}), "labels")
    assert handler.answer([], {}) == []


def check_text_classes() -> None:
    tokens = word_tokens(CATS, DOGS, MANY, max_length=10)
    labels = [f"class {i}" for i in range(WIDTH)]
    handler = TextClasses(fakes.TextEngine(tokens), tokens, labels=labels)
    [found] = handler.answer(texts(CATS), {})
    expected = dict(zip(labels, softmax([float(v) for v in logits(CATS)]), strict=True))
    same_ranking(found, expected)
    [found] = handler.answer(texts(CATS), {"multi_label": True, "top_k": 2})
    each = dict(zip(labels, [sigmoid(float(v)) for v in logits(CATS)], strict=True))
    best = sorted(each, key=lambda label: -each[label])[:2]
    same_ranking(found, {label: each[label] for label in best})
    [found] = handler.answer(texts(CATS, labels=["class 3", "class 1"]), {})
    same_ranking(found, {label: expected[label] for label in ("class 3", "class 1")})
    parts = [logits("one two three four five six seven eight"), logits("nine ten")]
    first, last = [np.array(softmax([float(v) for v in part])) for part in parts]
    [found] = handler.answer(texts(MANY), {})
    same_ranking(found, dict(zip(labels, (first * 8 + last * 2) / 10, strict=True)))
    refused(lambda: handler.answer(texts(CATS, labels=["class 9"]), {}), "class 9", "class 0")
    refused(lambda: handler.answer(texts(CATS), {"template": "{}"}), "template")
    assert handler.answer([], {}) == []


def check_emotion_classes() -> None:
    tokens = word_tokens(CATS, DOGS)
    labels = [f"emotion {i}" for i in range(WIDTH)]
    handler = EmotionClasses(fakes.TextEngine(tokens), tokens, labels=labels)
    expected = [labels[int(np.argmax(logits(text)))] for text in (CATS, DOGS)]
    assert handler.answer(texts(CATS, DOGS), {}) == expected
    [found] = handler.answer(texts(DOGS), {"top_k": WIDTH})
    chances = softmax([float(value) for value in logits(DOGS)])
    same_ranking(found, dict(zip(labels, chances, strict=True)))
    assert handler.answer([], {}) == []


SALLY = "Sally lives in  New York with Tom ."
SPANS = {"New": (6.0, 1.0), "York": (0.0, 5.0), "Sally": (4.0, 4.0), "[CLS]": (1.5, 1.0)}


def check_span_answers() -> None:
    filler = " ".join(["so"] * 40)
    tokens = word_tokens(SALLY, "Where does Sally live and so who is Tom", max_length=32)
    handler = SpanAnswers(fakes.TextEngine(tokens, spans=SPANS), tokens, stride=4)
    row = {"question": "Where does Sally live", "context": SALLY}
    assert handler.answer([row], {}) == ["New York"]
    [found] = handler.answer([row], {"details": True})
    place = SALLY.index("New York")
    assert (found["answer"], found["start"], found["end"]) == ("New York", place, place + 8)
    same(found["score"], sigmoid(6 + 5 - (1.5 + 1)))
    context = f"{filler} {SALLY} {filler}"  # 88 words, seen through windows of 25
    long = {"question": "Where does Sally live", "context": context}
    [found] = handler.answer([long], {"details": True})
    place = context.index("New York")
    assert (found["answer"], found["start"], found["end"]) == ("New York", place, place + 8)
    refused(lambda: handler.answer([long], {"long": "error"}), "88 tokens")
    none = {"question": "who", "context": "so it is", "prev_q": ["who is Tom"], "prev_a": ["so"]}
    assert handler.answer([none], {"allow_no_answer": True}) == [""]
    [found] = handler.answer([none], {"allow_no_answer": True, "details": True})
    same(found["score"], 1 - sigmoid(0 - 2.5))  # the null span's (1.5, 1) against nothing
    assert handler.answer([none], {}) != [""]
    biased = SpanAnswers(handler.engine, tokens, no_answer_bias=20)
    assert biased.answer([row], {"allow_no_answer": True}) == [""]
    assert handler.answer([], {}) == []


def check_extracts() -> None:
    sentences = ["Cats sleep on the warm roof .", "Dogs run .", "Many one two three four ."]
    handler = Extracts(text_vectors(*sentences, MANY, "cats run", max_length=256))
    whole = " ".join(sentences)
    likeness = [cosines(whole, [sentence])[0] for sentence in sentences]
    best = sentences[int(np.argmax(likeness))]
    assert handler.answer(texts(whole, "Dogs run ."), {}) == [best, "Dogs run ."]
    many = [f"Many {word} {other} ." for word in MANY.split() for other in ("cats", "run")]
    many += [*sentences, "Dogs sleep ."]  # 24 sentences: two are kept, in their own order
    likeness = [cosines(" ".join(many), [sentence])[0] for sentence in many]
    two = sorted(np.argsort(-np.array(likeness), kind="stable")[:2])
    assert handler.answer(texts(" ".join(many)), {}) == [" ".join(many[i] for i in two)]
    refused(lambda: handler.answer(texts(whole), {"style": "abstractive"}), "style")
    assert handler.answer([], {}) == []


MATRIX = np.random.default_rng(5).normal(size=(3, WIDTH))


def images(*colours: tuple[int, int, int], **shared: Any) -> list[dict[str, Any]]:
    return [{"image": plain_picture(*colour), **shared} for colour in colours]


def image_vectors() -> ImageVectors:
    return ImageVectors(fakes.ColourEngine(MATRIX), PIXELS, dimensions=WIDTH)


def check_image_vectors() -> None:
    handler, rows = image_vectors(), images(RED, BLUE)
    by_hand = [seen(*colour) @ MATRIX for colour in (RED, BLUE)]
    same(handler.answer(rows, {}), [unit(vector) for vector in by_hand])
    same(handler.answer(rows, {"normalise": False}), by_hand)
    same(handler.answer(rows, {"dimensions": 2}), [unit(vector[:2]) for vector in by_hand])
    refused(lambda: handler.answer(rows, {"dimensions": 9}), "9", "8")
    assert handler.answer([], {}) == []


def check_image_classes() -> None:
    labels, engine = ["red", "green", "blue"], fakes.ColourEngine(np.eye(3))
    handler = ImageClasses(engine, PIXELS, labels=labels)
    [found] = handler.answer(images(GREEN), {})
    chances = dict(zip(labels, softmax([float(v) for v in seen(*GREEN)]), strict=True))
    same_ranking(found, chances)
    [found] = handler.answer(images(GREEN, labels=["red", "blue"]), {})
    both = chances["red"] + chances["blue"]
    same_ranking(found, {label: chances[label] / both for label in ("red", "blue")})
    each = {label: sigmoid(float(v)) for label, v in zip(labels, seen(*GREEN), strict=True)}
    several = ImageClasses(engine, PIXELS, labels=labels, multi_label=True)
    same_ranking(several.answer(images(GREEN), {})[0], each)
    [found] = several.answer(images(GREEN, labels=["red"]), {})
    same_ranking(found, {"red": each["red"]})
    refused(lambda: handler.answer(images(RED, labels=["pink"]), {}), "pink", "green")
    refused(lambda: handler.answer(images(RED), {"template": "{}"}), "template")
    assert handler.answer([], {}) == []
    check_hypernym_labels()


def check_hypernym_labels() -> None:
    """Scores of labels from ImageNet's classes, of which one is likelier than the rest."""
    bias = np.zeros(1000)
    bias[281] = 5.0  # tabby cat
    engine = fakes.ColourEngine(np.zeros((3, 1000)), bias)
    names = [f"class {i}" for i in range(1000)]
    handler = ImageClasses(engine, PIXELS, labels=names, scorer=HypernymLabels())
    [found] = handler.answer(images(RED, labels=["dog", "cat"]), {})
    # In units of one of the 999 others: 118 dogs, 12 more cats, lions among them; the
    # 19 other classes compared are neither and are shared evenly.
    cat, dog = math.exp(5) + 12 + 19 / 2, 118 + 19 / 2
    same_ranking(found, {"cat": cat / (cat + dog), "dog": dog / (cat + dog)})
    mixed = images(RED) + images(RED, labels=["dog", "cat"], top_k=0)
    own, carried = handler.answer(mixed, {"top_k": 1})
    same_ranking(own, {"class 281": math.exp(5) / (math.exp(5) + 999)})
    assert list(carried) == ["cat"]
    refused(lambda: handler.answer(images(RED, labels=["zzgl"]), {}), "zzgl")


def check_image_labels() -> None:
    labels = ["cats", "dogs", "roof"]
    sides = text_vectors(CATS, DOGS, "a photo of .")
    handler = ImageLabels(image_vectors(), sides, scale=4.0)
    view = unit(seen(*BLUE) @ MATRIX)
    likeness = [float(unit(mean(f"a photo of {label} .")) @ view) for label in labels]
    [found] = handler.answer(images(BLUE, labels=labels), {})
    shared = softmax([4 * cosine for cosine in likeness])
    same_ranking(found, dict(zip(labels, shared, strict=True)))
    one_by_one = ImageLabels(image_vectors(), sides, scale=4.0, bias=-1.5, independent=True)
    each = [sigmoid(4 * cosine - 1.5) for cosine in likeness]
    [found] = one_by_one.answer(images(BLUE, labels=labels), {})
    same_ranking(found, {n: p / sum(each) for n, p in zip(labels, each, strict=True)})
    [found] = handler.answer(images(BLUE, labels=labels), {"template": "the {}", "top_k": 1})
    likeness = [float(unit(mean(f"the {label}")) @ view) for label in labels]
    best = int(np.argmax(likeness))
    same_ranking(found, {labels[best]: softmax([4 * cosine for cosine in likeness])[best]})
    refused(lambda: handler.answer(images(RED), {}), "labels")


def check_pair_vectors() -> None:
    handler = PairVectors(image_vectors(), text_vectors(CATS, DOGS))
    rows = images(RED, text=CATS) + images(BLUE, text=DOGS)
    sides = [
        np.concatenate([unit(seen(*colour) @ MATRIX), unit(mean(text))])
        for colour, text in ((RED, CATS), (BLUE, DOGS))
    ]
    same(handler.answer(rows, {}), [side / math.sqrt(2) for side in sides])
    same(handler.answer(rows, {"normalise": False}), sides)
    width = len(sides[0]) - len(mean(CATS))
    halves = [np.concatenate([unit(s[:width][:5]), unit(s[width:][:5])]) for s in sides]
    same(handler.answer(rows, {"dimensions": 10}), [half / math.sqrt(2) for half in halves])
    assert handler.answer([], {}) == []


CHECKS: dict[type, Callable[[], None]] = {
    TextVectors: check_text_vectors,
    LabelVectors: check_label_vectors,
    PhraseEmotions: check_phrase_emotions,
    Entailment: check_entailment,
    TextClasses: check_text_classes,
    EmotionClasses: check_emotion_classes,
    SpanAnswers: check_span_answers,
    TextGenerations: written_checks.check_text_generations,
    Summaries: written_checks.check_summaries,
    WrittenEmotions: written_checks.check_written_emotions,
    WrittenAnswers: written_checks.check_written_answers,
    GroundedAnswers: written_checks.check_grounded_answers,
    Extracts: check_extracts,
    ImageVectors: check_image_vectors,
    ImageClasses: check_image_classes,
    ImageLabels: check_image_labels,
    PairVectors: check_pair_vectors,
}
