import json
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from backprop.engines import Array
from backprop.errors import InputError
from backprop.handlers import hypernyms
from backprop.handlers.hypernyms import HypernymLabels, class_names, class_sets

TABLE = json.loads(Path(hypernyms.__file__).with_name("imagenet.json").read_text("utf-8"))

DOGS, CATS = list(range(151, 269)), list(range(281, 286))
SEASHORE = 978

# Ranges that people who know ImageNet's classes would give for a name.
KINDS = {
    "dog": DOGS,
    "bird": [*range(7, 25), *range(80, 101), *range(127, 147)],
    "fish": [*range(0, 7), *range(389, 398)],
    "frog": list(range(30, 33)),
    "turtle": list(range(33, 38)),
    "lizard": list(range(38, 49)),
    "snake": list(range(52, 69)),
    "spider": list(range(72, 78)),
    "monkey": list(range(369, 383)),
    "bear": list(range(294, 298)),
}
EVERYDAY = (
    "airplane plane car truck ship boat train bus bike horse deer cow sheep insect mushroom "
    "fruit vegetable food drink furniture clothes shoe building person beach mountain tool toy "
    "phone computer sofa puppy kitten vehicle animal machine flower"
).split()


def encode(texts: Sequence[str]) -> Array:
    """Return directions that share a part for each word in common, of any length."""
    return np.stack([np.sum([_direction(w) for w in text.split()], axis=0) for text in texts])


def _direction(word: str) -> Array:
    seed = zlib.crc32(word.strip(",()").lower().encode())
    return np.random.default_rng(seed).normal(size=64).astype(np.float32)


def one_hot(*classes: int) -> Array:
    rows = np.full((len(classes), 1000), 1e-5, np.float32)
    rows[range(len(classes)), classes] = 1 - 999e-5
    return rows


def test_a_thousand_distinct_names() -> None:
    names = class_names()
    assert len(names) == len(TABLE["wnids"]) == 1000
    assert len({name.casefold() for name in names}) == 1000
    assert names[281] == "tabby cat"
    assert names[134] != names[517]
    assert names[638] != names[639]


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_holds_exactly_its_classes(kind: str) -> None:
    assert class_sets(kind) == KINDS[kind]


@pytest.mark.parametrize("kind", EVERYDAY)
def test_everyday_words_have_classes(kind: str) -> None:
    assert class_sets(kind)


@pytest.mark.parametrize(
    ("label", "same"),
    [
        ("Dogs", "dog"),
        ("a dog", "dog"),
        ("  The   DOG. ", "dog"),
        ("golden_retriever", "golden retriever"),
        ("golden-retrievers", "golden retriever"),
        ("butterflies", "butterfly"),
        ("wolves", "wolf"),
        ("knives", "knife"),
        ("geese", "goose"),
        ("foxes", "fox"),
        ("horses", "horse"),
        ("musical instruments", "musical instrument"),
        ("binoculars", "field glasses"),
        ("moggies", "nothing of the kind"),
    ],
)
def test_case_articles_and_plurals_make_no_difference(label: str, same: str) -> None:
    assert class_sets(label) == class_sets(same)


def test_every_display_name_finds_its_class() -> None:
    for index, name in enumerate(class_names()):
        assert index in (class_sets(name) or ()), name


@pytest.mark.parametrize(
    ("label", "absent"),
    [("head", 976), ("painter", 286), ("cell", 487), ("plane", 726), ("toy", 151), ("plant", 634)],
)
def test_a_rare_sense_is_not_meant(label: str, absent: int) -> None:
    assert absent not in (class_sets(label) or ())


def test_both_senses_of_an_even_word_are_meant() -> None:
    assert class_sets("crane") == [134, 517]


@pytest.mark.parametrize("label", ["", "a", "happiness", "a person on a beach", "mouse"])
def test_other_labels_have_no_classes(label: str) -> None:
    assert class_sets(label) is None


def test_hand_written_rows_are_in_normal_form_and_have_classes() -> None:
    words = hypernyms.class_words()
    for word in [*TABLE["also"], *TABLE["instead"], *TABLE["plurals"].values()]:
        assert class_sets(word) == list(words[word]) != [], word


def test_the_text_of_a_class_names_its_kind() -> None:
    assert "cat" in hypernyms.class_texts()[281].split(", ")


def test_probabilities_sum_to_one_and_the_right_label_leads() -> None:
    labels = ["dog", "cat", "a person on a beach", "vehicle"]
    scores = HypernymLabels(encode)(one_hot(DOGS[0], CATS[0], SEASHORE, 609), labels)
    assert scores.shape == (4, 4)
    np.testing.assert_allclose(scores.sum(axis=1), 1, atol=1e-6)
    assert (scores >= 0).all()
    assert [labels[best] for best in scores.argmax(axis=1)[[0, 1, 3]]] == ["dog", "cat", "vehicle"]


def test_the_narrower_label_leads() -> None:
    dog, animal = HypernymLabels()(one_hot(DOGS[0]), ["dog", "animal"])[0]
    assert dog > animal > 0.1


def test_a_label_without_classes_takes_what_is_like_it() -> None:
    labels = ["sandy seashore", "dog"]
    assert class_sets(labels[0]) is None
    scores = HypernymLabels(encode)(one_hot(SEASHORE, DOGS[0]), labels)
    assert scores.argmax(axis=1).tolist() == [0, 1]


def test_a_picture_of_none_of_the_labels_is_left_open() -> None:
    scores = HypernymLabels()(one_hot(SEASHORE), ["dog", "cat"])[0]
    assert scores.max() < 0.6


def test_a_row_ignores_its_neighbours() -> None:
    labels, rows = ["dog", "a sandy seashore"], one_hot(DOGS[0], SEASHORE, 609)
    together = HypernymLabels(encode)(rows, labels)
    apart = np.concatenate([HypernymLabels(encode)(row[None], labels) for row in rows])
    np.testing.assert_allclose(together, apart, atol=1e-6)


def test_one_label_has_all_and_no_rows_give_no_rows() -> None:
    np.testing.assert_allclose(HypernymLabels(encode)(one_hot(3), ["a quiet day"]), [[1.0]])
    assert HypernymLabels(encode)(np.zeros((0, 1000), np.float32), ["dog", "cat"]).shape == (0, 2)


def test_a_class_is_encoded_once_and_only_if_likely() -> None:
    seen: list[str] = []

    def spy(texts: list[str]) -> Array:
        seen.extend(texts)
        return encode(texts)

    scorer = HypernymLabels(spy)
    for _ in range(2):
        scorer(one_hot(DOGS[0]), ["dog", "cat"])
    assert len(seen) == hypernyms.COMPARED + 2 * len(["dog", "cat"])


def test_scoring_leaves_probabilities_and_labels_as_they_were() -> None:
    rows, labels = one_hot(1), ["dog", "cat"]
    HypernymLabels(encode)(rows, labels)
    np.testing.assert_array_equal(rows, one_hot(1))
    assert labels == ["dog", "cat"]


def test_errors_name_the_labels_that_cannot_be_scored() -> None:
    with pytest.raises(InputError, match="quiet day"):
        HypernymLabels()(one_hot(1), ["dog", "a quiet day"])
    with pytest.raises(InputError, match="at least one"):
        HypernymLabels()(one_hot(1), [])
