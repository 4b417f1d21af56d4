"""The starter models, with their real weights: from the cache, or fetched."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

import backprop
from backprop import catalogue
from backprop.errors import InputError
from backprop.models.auto import AutoModel
from backprop.models.base import BaseModel
from backprop.models.places import fetch
from backprop.specs import SPECS
from tests import tiny
from tests.guard import no_network, run_python

torch.set_num_threads(1)

EXAMPLES = Path(backprop.__file__).parent / "examples"
CAT, COFFEE = EXAMPLES / "cat.jpg", EXAMPLES / "coffee.jpg"
COUNCIL = (EXAMPLES / "council.txt").read_text("utf-8")


@pytest.fixture(scope="module")
def writer() -> BaseModel:
    """Return the starter that writes."""
    return AutoModel.from_pretrained(SPECS["text-generation"].default)


@pytest.fixture(scope="module")
def encoder() -> BaseModel:
    """Return the starter that encodes text."""
    return AutoModel.from_pretrained(SPECS["text-vectorisation"].default)


@pytest.fixture(scope="module")
def viewer() -> BaseModel:
    """Return the starter that looks at images."""
    return AutoModel.from_pretrained(SPECS["image-classification"].default)


def norm(vector: list[float]) -> float:
    return float(np.linalg.norm(vector))


# --- The nine tasks ------------------------------------------------------------------------------


def test_qa_answers_with_words_of_the_context(writer: BaseModel) -> None:
    context = "Sally lives in London."
    found = backprop.QA(writer)("Where does Sally live?", context, details=True)
    assert found["answer"] == "London"
    assert context[found["start"] : found["end"]] == "London"
    assert 0 < found["score"] <= 1


def test_text_generation_follows_the_instruction_within_its_length(writer: BaseModel) -> None:
    generate = backprop.TextGeneration(writer)
    answer = generate("What is the capital of France?", max_length=12)
    assert "Paris" in answer
    assert "".join(generate.stream("What is the capital of France?", max_length=12)) == answer


@pytest.mark.parametrize("style", ["extractive", "abstractive"])
def test_summaries_are_shorter_in_either_style(writer: BaseModel, style: str) -> None:
    text = COUNCIL[: COUNCIL.index(" Cyclists")]
    summary = backprop.Summarisation(writer)(text, style=style)
    assert 20 < len(summary) < len(text)
    assert "bridge" in summary
    if style == "extractive":
        assert summary in text


def test_the_default_summary_invents_nothing(encoder: BaseModel) -> None:
    summarise = backprop.Summarisation(encoder)
    assert summarise(COUNCIL) == summarise(COUNCIL, style="extractive")
    assert summarise([COUNCIL, "One sentence."]) == [summarise(COUNCIL), "One sentence."]


def test_a_model_of_ones_own_does_its_own_style_only(tmp_path: Path) -> None:
    summarise = backprop.Summarisation(str(tiny.folder("sentence_transformer")))
    with pytest.raises(InputError, match="style='extractive'"):
        summarise("The river. The bridge.", style="abstractive")


def test_zero_shot_text_finds_the_label_and_judges_each_by_itself(encoder: BaseModel) -> None:
    classify = backprop.TextClassification(encoder)
    labels = ["weather", "sport", "cooking"]
    text = "The striker scored twice in the second half."
    found = classify(text, labels)
    assert next(iter(found)) == "sport"
    assert list(found.values()) == sorted(found.values(), reverse=True)
    assert classify(text, labels[1:], top_k=1) == {"sport": found["sport"]}
    assert sum(classify(text, labels, multi_label=False).values()) == pytest.approx(1)


def test_emotion_is_one_of_the_28(encoder: BaseModel) -> None:
    feel = backprop.Emotion(encoder)
    assert feel("I really like what you did there") == "admiration"
    assert feel(["I am so angry at you", "Thank you so much"]) == ["anger", "gratitude"]
    assert len(feel("Fine.", top_k=28)) == 28


def test_a_photo_of_a_cat_is_a_cat(viewer: BaseModel) -> None:
    found = backprop.ImageClassification(viewer)(CAT, top_k=3)
    assert "cat" in next(iter(found))
    everything = backprop.ImageClassification(viewer)(CAT)
    assert len(everything) == 1000
    assert sum(everything.values()) == pytest.approx(1, abs=1e-4)


def test_labels_may_be_the_callers_one_list_or_one_for_each_image(viewer: BaseModel) -> None:
    classify = backprop.ImageClassification(viewer)
    alone = classify(CAT, ["dog", "cat", "bicycle"])
    assert next(iter(alone)) == "cat"
    assert sum(alone.values()) == pytest.approx(1)
    nested = classify([CAT, COFFEE], [["bicycle", "cat", "dog"], ["coffee", "bird"]])
    assert [next(iter(found)) for found in nested] == ["cat", "coffee"]
    assert nested[0] == pytest.approx(alone, abs=1e-5)
    shared = classify([CAT, COFFEE], ["cat", "coffee"], top_k=1)
    assert [list(found) for found in shared] == [["cat"], ["coffee"]]


def test_vectors_have_their_lengths_and_norm_1(encoder: BaseModel, viewer: BaseModel) -> None:
    text = backprop.TextVectorisation(encoder)("a cat")
    image = backprop.ImageVectorisation(viewer)(CAT)
    both = backprop.ImageTextVectorisation()(CAT, "a cat")
    assert [len(text), len(image), len(both)] == [384, 1280, 1664]
    assert [norm(vector) for vector in (text, image, both)] == pytest.approx([1] * 3, abs=1e-5)
    half = np.array([*image, *text]) / 2**0.5
    assert np.abs(half - both).max() < 1e-5


def test_vectors_are_near_for_what_is_alike(encoder: BaseModel) -> None:
    near, far = backprop.TextVectorisation(encoder)(["a cat", "a kitten", "tax law"])[1:]
    cat = backprop.TextVectorisation(encoder)("a cat", return_tensor=True)
    likeness = backprop.cosine_similarity(cat, [near, far])
    assert isinstance(likeness, list) and likeness[0] > 0.6 > 0.3 > likeness[1]


# --- Equality with sentence-transformers ---------------------------------------------------------


@pytest.fixture(scope="module")
def peer() -> SentenceTransformer:
    """Return the same weights in sentence-transformers itself."""
    return SentenceTransformer(
        str(fetch(catalogue.get("all-minilm-l6-v2"))), device="cpu", local_files_only=True
    )


def test_vectors_equal_sentence_transformers_in_any_batch_and_order(
    encoder: BaseModel, peer: SentenceTransformer
) -> None:
    texts = tiny.texts(60, seed=5)
    vectorise = backprop.TextVectorisation(encoder)
    ours = np.array(vectorise(texts))
    theirs = peer.encode(texts, show_progress_bar=False)
    assert np.abs(ours - theirs).max() < 1e-5
    backwards = np.array(vectorise(texts[16::-1]))[::-1]
    assert np.abs(ours[:17] - backwards).max() < 1e-5
    alone = np.array([vectorise(text) for text in texts[:8]])
    assert np.abs(ours[:8] - alone).max() < 1e-5


def test_an_images_vector_ignores_its_neighbours(viewer: BaseModel) -> None:
    vectorise = backprop.ImageVectorisation(viewer)
    pictures = [CAT, tiny.photo(1, (300, 200)), tiny.photo(2, (40, 90), "L"), COFFEE]
    together = np.array(vectorise(pictures))
    alone = np.array([vectorise(picture) for picture in pictures])
    assert np.abs(together - alone).max() < 1e-5


# --- Starting again ------------------------------------------------------------------------------


def test_a_second_start_does_not_touch_the_network(
    writer: BaseModel, encoder: BaseModel, viewer: BaseModel
) -> None:
    names = [entry.name for entry in catalogue.entries(size="starter")]
    assert len(names) == 6
    with no_network() as tried:
        done = run_python(
            f"""
            import backprop
            for name in {names!r}:
                print(backprop.models.AutoModel.from_pretrained(name).name)
            print(backprop.Emotion()("Thank you so much!"))
            """
        )
        assert done.stdout.split() == [*names, "gratitude"], done.stderr
        assert tried() == []


def test_a_saved_starter_gives_the_same_answers_and_stays_itself(
    encoder: BaseModel, tmp_path: Path
) -> None:
    texts = tiny.texts(8, seed=1)
    vectorise = backprop.TextVectorisation(encoder)
    before = vectorise(texts)
    folder = vectorise.save("my-encoder", "Mine.", {"team": "search"}, path=tmp_path / "mine")
    assert encoder.name == "all-minilm-l6-v2"
    again = backprop.load(folder)
    assert (again.name, again.description, again.details) == (
        "my-encoder",
        "Mine.",
        {"team": "search"},
    )
    assert backprop.TextVectorisation(again)(texts) == before
    assert backprop.Emotion(str(folder))("Thank you so much") == "gratitude"


def test_the_callers_lists_are_left_alone(encoder: BaseModel) -> None:
    given: dict[str, Any] = {"text": ["a", "b"], "labels": [["cat", "dog"], ["bird"]]}
    kept = {"text": ["a", "b"], "labels": [["cat", "dog"], ["bird"]]}
    backprop.TextClassification(encoder)(given["text"], given["labels"], top_k=1)
    assert given == kept
