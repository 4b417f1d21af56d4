"""Models through the real loading code: tiny folders in hub format, compared with their peers."""

from __future__ import annotations

import functools
import itertools
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from sentence_transformers import SentenceTransformer

from backprop.engines.torch import TorchEngine
from backprop.errors import InputError, UnsupportedTaskError
from backprop.models import (
    CLIP,
    AutoModel,
    BaseModel,
    EfficientNet,
    HFImageModel,
    HFNLIModel,
    HFSeqTCModel,
    PairEncoder,
    SpanQA,
    STModel,
)
from tests import tiny
from tests.tiny_files import read_json, write_json

pytestmark = pytest.mark.usefixtures("one_thread")

CLASSIFIERS = ["bert_classifier", "bert_multilabel", "xlnet_classifier"]
NLI = ["bert_nli3", "bert_nli2", "deberta_nli3", "deberta_nli2"]
SENTENCES = ["sentence_transformer", "sentence_transformer_cls", "sentence_transformer_dense"]
TWO_TOWERS = ["clip", "clip_openai", "siglip", "siglip2"]
IMAGES = ["efficientnet", "vit", "dinov2"]
SPANS = ["bert_qa", "roberta_qa"]

# Short enough for every model, of different lengths, with repeats of each length.
TEXTS = [" ".join(text.split()[:18]) for text in tiny.texts(12, seed=7)]
PHOTOS = [tiny.photo(seed, size) for seed, size in enumerate([(64, 48), (40, 90), (33, 33)])]
CONTEXT = (
    "Sally lives in London with her brother Tom and two cats. She moved there in 2009, after ten "
    "years in Paris. Tickets for the museum cost 12 pounds, “half” of what Zürich’s café charges."
)
QUESTIONS = ["Where does Sally live?", "Who?", "When did she move there after ten years in Paris?"]


@functools.cache
def loaded(kind: str) -> Any:
    return AutoModel.from_pretrained(tiny.folder(kind), device="cpu")


@functools.cache
def peer(kind: str) -> Any:
    """Return the same folder opened by transformers or sentence-transformers."""
    auto = tiny.KINDS[kind].auto
    if auto == "SentenceTransformer":
        return SentenceTransformer(str(tiny.folder(kind)), device="cpu")
    return getattr(transformers, auto).from_pretrained(tiny.folder(kind)).eval()


@functools.cache
def tokenizer(kind: str) -> Any:
    return transformers.AutoTokenizer.from_pretrained(tiny.folder(kind))


def logits(kind: str, *texts: str) -> torch.Tensor:
    """Return the peer's logits of one text or pair, by itself and unpadded."""
    with torch.inference_mode():
        found: torch.Tensor = peer(kind)(**tokenizer(kind)(*texts, return_tensors="pt")).logits[0]
    return found


def close(found: Any, expected: Any, tolerance: float = 1e-5) -> None:
    np.testing.assert_allclose(np.asarray(found), np.asarray(expected), atol=tolerance, rtol=0)


def values(answer: dict[str, float], labels: list[str]) -> list[float]:
    """Return the probabilities in the order of ``labels``, having checked that they are ranked."""
    assert list(answer.values()) == sorted(answer.values(), reverse=True)
    assert answer.keys() == set(labels)
    return [answer[label] for label in labels]


# --- every model and task: batches ---------------------------------------------------------------


def request_for(kind: str, task: str) -> dict[str, list[Any]]:
    if task == "qa":
        return {"question": QUESTIONS, "context": [CONTEXT[i * 20 :] for i in range(3)]}
    given: dict[str, list[Any]] = {}
    if "image" in task:
        given["image"] = PHOTOS
    if "text" in task or task in ("emotion", "summarisation"):
        given["text"] = TEXTS[: len(PHOTOS)] if given else TEXTS
    if kind in (*NLI, *SENTENCES, *TWO_TOWERS) and task.endswith("-classification"):
        given["labels"] = [
            ["sport", "music and art", "rain"][i % 2 :]
            for i in range(len(next(iter(given.values()))))
        ]
    return given


def rows_of(given: dict[str, list[Any]]) -> list[dict[str, Any]]:
    return [dict(zip(given, row, strict=True)) for row in zip(*given.values(), strict=True)]


READERS = [*CLASSIFIERS, *NLI, *SENTENCES, *TWO_TOWERS, *IMAGES, *SPANS]


def every_task() -> list[tuple[str, str]]:
    folders = {
        **dict.fromkeys([*CLASSIFIERS, *NLI], ["text-classification"]),
        **dict.fromkeys(SENTENCES, list(STModel.HANDLERS)),
        **dict.fromkeys(TWO_TOWERS, list(CLIP.HANDLERS)),
        **dict.fromkeys(IMAGES[:2], list(HFImageModel.HANDLERS)),
        "dinov2": ["image-vectorisation"],
        **dict.fromkeys(SPANS, ["qa"]),
    }
    return [(kind, task) for kind, tasks in folders.items() for task in tasks]


@pytest.mark.parametrize(("kind", "task"), every_task())
def test_a_row_ignores_its_neighbours_and_keeps_its_place(kind: str, task: str) -> None:
    model, given = loaded(kind), request_for(kind, task)
    if task == "qa":
        given["details"] = True  # type: ignore[assignment]  # an option, not a field
    batch = model(given, task=task)
    options = {"details": given.pop("details")} if task == "qa" else {}
    rows = rows_of(given)
    assert len(batch) == len(rows)
    for row, answer in zip(rows, batch, strict=True):
        assert_equal(model({**row, **options}, task=task), answer)
    backwards = {name: column[::-1] for name, column in given.items()}
    for first, second in zip(model({**backwards, **options}, task=task), batch[::-1], strict=True):
        assert_equal(first, second)
    assert model({**given, **options}, task=task) == batch
    assert model({name: [] for name in given if name != "labels"}, task=task) == []


def assert_equal(found: Any, expected: Any) -> None:
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            assert found[key] == (pytest.approx(value, abs=1e-5) if _is_float(value) else value)
    elif isinstance(expected, list):
        close(found, expected)
    else:
        assert found == expected


def _is_float(value: object) -> bool:
    return isinstance(value, float)


@pytest.mark.parametrize("kind", READERS)
def test_train_mode_stays_as_it_was_and_does_not_change_answers(kind: str) -> None:
    model = loaded(kind)
    task = model.tasks[0]
    expected = model(request_for(kind, task), task=task)
    frozen = next(module for module in model.model.modules() if not list(module.children()))
    try:
        model.train()
        frozen.eval()
        before = [module.training for module in model.modules()]
        assert model(request_for(kind, task), task=task) == expected
        assert [module.training for module in model.modules()] == before
        assert torch.is_grad_enabled()
    finally:
        model.eval()
    assert all(parameter.requires_grad for parameter in model.model.parameters())


@pytest.mark.parametrize("kind", READERS)
def test_a_task_the_model_does_not_do_is_refused_with_those_it_does(kind: str) -> None:
    with pytest.raises(UnsupportedTaskError) as caught:
        loaded(kind)({"text": "a"}, task="text-generation")
    assert "'text-generation'" in str(caught.value)
    assert all(task in str(caught.value) for task in loaded(kind).tasks)


# --- text classes --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", CLASSIFIERS)
def test_classes_equal_those_of_the_bare_model(kind: str) -> None:
    labels = list(tiny.KINDS[kind].labels)
    answers = loaded(kind)({"text": TEXTS}, task="text-classification")
    for text, answer in zip(TEXTS, answers, strict=True):
        raw = logits(kind, text).double()
        expected = raw.sigmoid() if kind == "bert_multilabel" else raw.softmax(0)
        close(values(answer, labels), expected)


def test_the_caller_may_say_whether_classes_exclude_each_other() -> None:
    labels = list(tiny.KINDS["bert_multilabel"].labels)
    for kind, several in itertools.product(["bert_multilabel", "bert_classifier"], [True, False]):
        labels = list(tiny.KINDS[kind].labels)
        given = {"text": TEXTS[1], "multi_label": several}
        raw = logits(kind, TEXTS[1]).double()
        expected = raw.sigmoid() if several else raw.softmax(0)
        close(values(loaded(kind)(given, task="text-classification"), labels), expected)


def test_top_k_keeps_the_likeliest_labels() -> None:
    model, given = loaded("bert_classifier"), {"text": TEXTS[:2]}
    every = model(given, task="text-classification")
    two = model({**given, "top_k": 2}, task="text-classification")
    assert [list(answer.items()) for answer in two] == [list(own.items())[:2] for own in every]
    assert model({**given, "top_k": 99}, task="text-classification") == every


def test_some_of_a_classifier_s_own_labels_may_be_asked_for_but_no_others() -> None:
    model = loaded("bert_classifier")
    every = model({"text": "a"}, task="text-classification")
    some = model({"text": "a", "labels": ["positive", "negative"]}, task="text-classification")
    assert some == {label: every[label] for label in every if label != "neutral"}
    with pytest.raises(InputError, match="no label 'sport'.*negative, neutral, positive"):
        model({"text": "a", "labels": ["sport"]}, task="text-classification")
    with pytest.raises(InputError, match="template"):
        model({"text": "a", "template": "{}!"}, task="text-classification")


def test_a_classifier_of_emotions_names_the_likeliest() -> None:
    model = HFSeqTCModel(tiny.folder("bert_classifier"), tasks=["emotion"])
    classes = loaded("bert_classifier")({"text": TEXTS}, task="text-classification")
    assert model({"text": TEXTS}, task="emotion") == [next(iter(own)) for own in classes]
    top = model({"text": TEXTS, "top_k": 2}, task="emotion")
    assert top == [dict(list(own.items())[:2]) for own in classes]


# --- entailment ----------------------------------------------------------------------------------

SPELLINGS: list[list[str]] = [
    *map(list, itertools.permutations(["entailment", "neutral", "contradiction"])),
    ["ENTAILMENT", "CONTRADICTION", "NEUTRAL"],
    ["entailment", "not_entailment"],
    ["not_entailment", "entailment"],
    ["NOT_ENTAILMENT", "Entailment"],
]


@pytest.mark.parametrize("labels", SPELLINGS, ids="-".join)
def test_entailment_is_found_in_every_order_of_labels(labels: list[str], tmp_path: Path) -> None:
    kind = f"bert_nli{len(labels)}"
    folder = relabelled(kind, labels, tmp_path / "model")
    model = HFNLIModel(folder)
    names = [label.lower() for label in labels]
    entails = names.index("entailment")
    opposite = names.index("contradiction") if len(labels) == 3 else 1 - entails
    wanted = ["sport", "music and art"]
    given = {"text": TEXTS[:3], "labels": wanted}
    alone = model(given, task="text-classification")
    together = model({**given, "multi_label": False}, task="text-classification")
    for text, independent, competing in zip(TEXTS, alone, together, strict=False):
        pairs = torch.stack(
            [logits(kind, text, f"This example is {label}.") for label in wanted]
        ).double()
        expected = pairs[:, [opposite, entails]].softmax(1)[:, 1]
        close(values(independent, wanted), expected)
        close(values(competing, wanted), pairs[:, entails].softmax(0))


def relabelled(kind: str, labels: list[str], folder: Path) -> Path:
    shutil.copytree(tiny.folder(kind), folder)
    config = read_json(folder / "config.json")
    config["id2label"] = {str(i): label for i, label in enumerate(labels)}
    config["label2id"] = {label: i for i, label in enumerate(labels)}
    write_json(folder / "config.json", config)
    return folder


@pytest.mark.parametrize("kind", NLI)
def test_entailment_equals_the_bare_model_on_texts_of_all_lengths(kind: str) -> None:
    names = [label.lower() for label in tiny.KINDS[kind].labels]
    entails = names.index("entailment")
    opposite = names.index("contradiction") if len(names) == 3 else 1 - entails
    labels = ["rain", "the price of bread"]
    given = {"text": TEXTS, "labels": labels, "template": "It is about {}!"}
    answers = loaded(kind)(given, task="text-classification")
    for text, answer in zip(TEXTS, answers, strict=True):
        pairs = [logits(kind, text, f"It is about {label}!") for label in labels]
        scores = torch.stack(pairs).double()[:, [opposite, entails]].softmax(1)[:, 1]
        close(values(answer, labels), scores)


@pytest.mark.parametrize(
    "labels",
    [
        ["yes", "no", "maybe"],
        ["entailment", "neutral", "other"],
        ["entailment", "entails", "contra"],
    ],
    ids="-".join,
)
def test_a_model_of_other_classes_is_no_entailment_model(labels: list[str], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no natural language inference model"):
        HFNLIModel(relabelled("bert_nli3", labels, tmp_path / "model"))


def test_all_pairs_of_texts_and_labels_share_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[int] = []
    run = TorchEngine.run

    def counted(self: TorchEngine, function: str, **arrays: Any) -> Any:
        rows.append(len(arrays["input_ids"]))
        return run(self, function, **arrays)

    monkeypatch.setattr(TorchEngine, "run", counted)
    given = {"text": ["a cat", "two dogs", "rain"] * 4, "labels": ["x", "y", "z", "sport"]}
    loaded("bert_nli3")(given, task="text-classification")
    assert sum(rows) == 48 and len(rows) <= 2


def test_a_model_without_labels_of_its_own_asks_for_some() -> None:
    for kind in (NLI[0], SENTENCES[0], TWO_TOWERS[0]):
        task = next(task for task in loaded(kind).tasks if task.endswith("classification"))
        name = task.split("-")[0]
        given = {name: "a" if name == "text" else PHOTOS[0]}
        with pytest.raises(InputError, match=r"pass labels=\[…\]"):
            loaded(kind)(given, task=task)


# --- answers in the text -------------------------------------------------------------------------


@pytest.mark.parametrize("kind", SPANS)
def test_answers_are_the_best_span_of_the_bare_model(kind: str) -> None:
    given = {"question": QUESTIONS, "context": [CONTEXT] * 3, "details": True}
    for question, answer in zip(QUESTIONS, loaded(kind)(given, task="qa"), strict=True):
        best = best_span(kind, question, CONTEXT)
        assert answer["answer"] == CONTEXT[answer["start"] : answer["end"]]
        # Words are completed, so the answer holds the model's own span.
        assert answer["start"] <= best.start
        assert answer["end"] >= best.end
        assert len(answer["answer"].split()) <= len(CONTEXT[best.start : best.end].split()) + 1
        assert answer["score"] == pytest.approx(best.probability, abs=1e-5)


class Best:
    """The best span of a context over sliding windows, by brute force."""

    def __init__(self) -> None:
        self.score, self.null = -np.inf, np.inf
        self.start = self.end = 0

    @property
    def probability(self) -> float:
        return 1 / (1 + float(np.exp(self.null - self.score)))

    def look(self, context: str, starts: Any, ends: Any, offsets: Any, inside: list[int]) -> None:
        self.null = min(self.null, float(starts[0] + ends[0]))
        for i in inside:
            for j in (j for j in inside if i <= j < i + 30):
                if starts[i] + ends[j] > self.score:
                    self.score = float(starts[i] + ends[j])
                    first, last = offsets[i][0], offsets[j][1]
                    piece = context[first:last]
                    self.start = first + len(piece) - len(piece.lstrip())
                    self.end = last - len(piece) + len(piece.rstrip())


def best_span(kind: str, question: str, context: str, limit: int = 128, stride: int = 0) -> Best:
    encoded = tokenizer(kind)(
        question,
        context,
        truncation="only_second",
        max_length=limit,
        stride=stride,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
    )
    best = Best()
    for i, ids in enumerate(encoded["input_ids"]):
        window = {"input_ids": torch.tensor([ids])}
        if "token_type_ids" in encoded:
            window["token_type_ids"] = torch.tensor([encoded["token_type_ids"][i]])
        with torch.inference_mode():
            output = peer(kind)(**window)
        inside = [j for j, part in enumerate(encoded.sequence_ids(i)) if part == 1]
        starts, ends = output.start_logits[0].numpy(), output.end_logits[0].numpy()
        best.look(context, starts, ends, encoded["offset_mapping"][i], inside)
    return best


@pytest.mark.parametrize("kind", SPANS)
def test_a_long_context_is_read_in_windows_to_its_end(kind: str) -> None:
    long = " ".join(tiny.texts(8, seed=3))
    model = loaded(kind)
    handler = model.handler("qa")
    question = tokenizer(kind)(QUESTIONS[0], add_special_tokens=False)["input_ids"]
    room = handler.tokens.max_length - len(question) - handler.tokens.special_of_pair
    stride = min(handler.stride, room // 2)
    best = best_span(kind, QUESTIONS[0], long, handler.tokens.max_length, stride)
    answer = model({"question": QUESTIONS[0], "context": long, "details": True}, task="qa")
    assert answer["start"] <= best.start < best.end <= answer["end"]
    assert answer["score"] == pytest.approx(best.probability, abs=1e-5)
    assert answer["answer"] == long[answer["start"] : answer["end"]]


def test_no_answer_is_given_only_where_it_is_allowed() -> None:
    model = loaded("bert_qa")
    handler = model.handler("qa")
    given = {"question": QUESTIONS[0], "context": CONTEXT, "allow_no_answer": True}
    try:
        handler.no_answer_bias = 1e4
        assert model(given, task="qa") == ""
        nothing = model({**given, "details": True}, task="qa")
        assert nothing == {"answer": "", "score": pytest.approx(1.0), "start": 0, "end": 0}
        assert model({**given, "allow_no_answer": False}, task="qa")
        handler.no_answer_bias = -1e4
        assert model(given, task="qa") == model({**given, "allow_no_answer": False}, task="qa")
    finally:
        handler.no_answer_bias = 0.0


def test_earlier_turns_are_part_of_the_question() -> None:
    model = loaded("bert_qa")
    turns = {"prev_q": ["Who lives in London?", "Since?"], "prev_a": ["Sally", "2009"]}
    given = {"question": "Why?", "context": CONTEXT, **turns, "details": True}
    best = best_span("bert_qa", "Who lives in London? Sally Since? 2009 Why?", CONTEXT)
    assert model(given, task="qa")["score"] == pytest.approx(best.probability, abs=1e-5)


# --- vectors -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", SENTENCES)
def test_vectors_equal_sentence_transformers_whatever_the_batch(kind: str) -> None:
    texts = [*tiny.texts(8, seed=5), *TEXTS]
    expected = peer(kind).encode(texts, batch_size=5)
    model = loaded(kind)
    close(model({"text": texts}, task="text-vectorisation"), expected)
    for text, vector in zip(texts, expected, strict=True):
        close(model({"text": text}, task="text-vectorisation"), vector)


def test_a_sentence_model_s_prompt_goes_before_every_text() -> None:
    kind = "sentence_transformer_dense"
    model = STModel(tiny.folder(kind), prompt="query: ")
    expected = peer(kind).encode(TEXTS, prompt_name="query")
    close(model({"text": TEXTS}, task="text-vectorisation"), expected)
    plain = loaded(kind)({"text": TEXTS}, task="text-vectorisation")
    assert np.abs(np.asarray(plain) - expected).max() > 1e-3


def test_the_folder_s_default_prompt_is_used(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny.folder("sentence_transformer_dense"), folder)
    path = folder / "config_sentence_transformers.json"
    write_json(path, {**read_json(path), "default_prompt_name": "document"})
    expected = SentenceTransformer(str(folder), device="cpu").encode(TEXTS)
    close(STModel(folder)({"text": TEXTS}, task="text-vectorisation"), expected)


def test_vectors_are_scaled_and_shortened_as_asked() -> None:
    for kind in (*SENTENCES, "clip", "vit", "dinov2"):
        task = next(task for task in loaded(kind).tasks if task.endswith("vectorisation"))
        given = request_for(kind, task)
        raw = np.asarray(loaded(kind)({**given, "normalise": False}, task=task))
        unit = np.asarray(loaded(kind)({**given, "normalise": True}, task=task))
        close(np.linalg.norm(unit, axis=1), np.ones(len(unit)))
        close(unit, raw / np.linalg.norm(raw, axis=1, keepdims=True))
        short = np.asarray(loaded(kind)({**given, "dimensions": 5}, task=task))
        first = unit[:, :5]
        close(short, first / np.linalg.norm(first, axis=1, keepdims=True))
        with pytest.raises(InputError, match=f"dimensions is 9999 .* have {unit.shape[1]}"):
            loaded(kind)({**given, "dimensions": 9999}, task=task)


# --- images --------------------------------------------------------------------------------------


def seen(kind: str, images: list[Any]) -> dict[str, torch.Tensor]:
    processor = transformers.AutoImageProcessor.from_pretrained(tiny.folder(kind))
    found: dict[str, torch.Tensor] = processor(images=images, return_tensors="pt")
    return found


def read(kind: str, texts: list[str]) -> dict[str, torch.Tensor]:
    padding = {"padding": "max_length", "max_length": 64} if "siglip" in kind else {"padding": True}
    found = tokenizer(kind)(texts, return_tensors="pt", truncation=True, **padding)
    return {name: found[name] for name in found if name != "attention_mask" or "clip" in kind}


@pytest.mark.parametrize("kind", TWO_TOWERS)
def test_label_probabilities_equal_the_bare_model_s(kind: str) -> None:
    labels = ["a", "tabby cat", "the river at nine in the morning"]
    text = read(kind, [f"a photo of {label}." for label in labels])
    with torch.inference_mode():
        scores = peer(kind)(**text, **seen(kind, PHOTOS)).logits_per_image.double()
    likely = scores.sigmoid() if "siglip" in kind else scores.softmax(1)
    expected = likely / likely.sum(1, keepdim=True)
    answers = loaded(kind)({"image": PHOTOS, "labels": labels}, task="image-classification")
    for answer, own in zip(answers, expected, strict=True):
        close(values(answer, labels), own)
        assert sum(answer.values()) == pytest.approx(1)


@pytest.mark.parametrize("kind", TWO_TOWERS)
def test_both_towers_vectors_equal_the_bare_model_s(kind: str) -> None:
    with torch.inference_mode():
        images = peer(kind).get_image_features(**seen(kind, PHOTOS)).pooler_output
        texts = peer(kind).get_text_features(**read(kind, TEXTS[:3])).pooler_output
    unit = torch.nn.functional.normalize
    model, given = loaded(kind), {"image": PHOTOS, "text": TEXTS[:3]}
    close(model({"image": PHOTOS}, task="image-vectorisation"), unit(images))
    close(model({"text": TEXTS[:3]}, task="text-vectorisation"), unit(texts))
    both = torch.cat([unit(images), unit(texts)], 1) / 2**0.5
    close(model(given, task="image-text-vectorisation"), both)


def test_labels_are_read_once_a_call_and_each_image_may_have_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read_texts: list[int] = []
    run = TorchEngine.run

    def counted(self: TorchEngine, function: str, **arrays: Any) -> Any:
        read_texts.append(len(arrays["input_ids"]) if "input_ids" in arrays else 0)
        return run(self, function, **arrays)

    monkeypatch.setattr(TorchEngine, "run", counted)
    labels = [["cat", "dog"], ["dog", "rain", "cat"], ["rain", "dog"]]
    answers = loaded("clip")({"image": PHOTOS, "labels": labels}, task="image-classification")
    assert sum(read_texts) == 3
    assert [set(answer) for answer in answers] == [set(own) for own in labels]


@pytest.mark.parametrize("kind", ["efficientnet", "vit"])
def test_image_classes_equal_the_bare_model_s(kind: str) -> None:
    labels = list(tiny.KINDS[kind].labels)
    with torch.inference_mode():
        expected = peer(kind)(**seen(kind, PHOTOS)).logits.double().softmax(1)
    for answer, own in zip(
        loaded(kind)({"image": PHOTOS}, task="image-classification"), expected, strict=True
    ):
        close(values(answer, labels), own)
    some = loaded(kind)({"image": PHOTOS[0], "labels": labels[:2]}, task="image-classification")
    close(values(some, labels[:2]), expected[0, :2] / expected[0, :2].sum())
    with pytest.raises(InputError, match="no label 'sofa'.*tabby cat"):
        loaded(kind)({"image": PHOTOS[0], "labels": ["sofa"]}, task="image-classification")


FEATURES: dict[str, Callable[[Any], torch.Tensor]] = {
    "efficientnet": lambda output: output.pooler_output.flatten(1),
    "vit": lambda output: output.last_hidden_state[:, 0],
    "dinov2": lambda output: output.pooler_output,
}


@pytest.mark.parametrize("kind", FEATURES)
def test_image_vectors_are_the_features_before_the_head(kind: str) -> None:
    body = getattr(peer(kind), peer(kind).base_model_prefix, peer(kind))
    with torch.inference_mode():
        expected = FEATURES[kind](body(**seen(kind, PHOTOS)))
    found = loaded(kind)({"image": PHOTOS, "normalise": False}, task="image-vectorisation")
    close(found, expected)


def test_efficientnet_of_the_hub_equals_the_bare_model() -> None:
    model = EfficientNet(tiny.folder("efficientnet"))
    other = loaded("efficientnet")
    assert type(other) is not EfficientNet
    for task in ("image-classification", "image-vectorisation"):
        assert model({"image": PHOTOS}, task=task) == other({"image": PHOTOS}, task=task)


# --- pairs of models -----------------------------------------------------------------------------


def test_a_pair_of_models_puts_both_vectors_side_by_side() -> None:
    image, text = loaded("dinov2"), loaded("sentence_transformer_dense")
    pair = PairEncoder(image, text, name="pair")
    sights = np.asarray(image({"image": PHOTOS}, task="image-vectorisation"))
    words = np.asarray(text({"text": TEXTS[:3], "normalise": True}, task="text-vectorisation"))
    both = np.concatenate([sights, words], 1) / 2**0.5
    given = {"image": PHOTOS, "text": TEXTS[:3]}
    close(pair(given, task="image-text-vectorisation"), both)
    close(pair({"image": PHOTOS}, task="image-vectorisation"), sights)
    one = pair({"image": PHOTOS[1], "text": TEXTS[1]}, task="image-text-vectorisation")
    close(one, both[1])
    assert len(list(pair.parameters())) == len([*image.parameters(), *text.parameters()])


def test_a_pair_refuses_a_side_that_does_not_do_its_task() -> None:
    with pytest.raises(UnsupportedTaskError, match="'text-vectorisation'.*qa"):
        PairEncoder(loaded("dinov2"), loaded("bert_qa"))


# --- loading -------------------------------------------------------------------------------------

CLASSES: dict[str, type[BaseModel]] = {
    **dict.fromkeys(CLASSIFIERS, HFSeqTCModel),
    **dict.fromkeys(NLI, HFNLIModel),
    **dict.fromkeys(SENTENCES, STModel),
    **dict.fromkeys(TWO_TOWERS, CLIP),
    **dict.fromkeys(IMAGES, HFImageModel),
    **dict.fromkeys(SPANS, SpanQA),
}


@pytest.mark.parametrize("kind", CLASSES)
def test_a_hub_folder_opens_as_the_class_its_architecture_asks_for(kind: str) -> None:
    model = loaded(kind)
    assert type(model) is CLASSES[kind]
    assert not model.training
    assert model.device == torch.device("cpu")
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
