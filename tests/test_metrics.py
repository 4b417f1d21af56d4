"""Figures of every task: worked by hand, and compared with scikit-learn and SciPy."""

from __future__ import annotations

import random
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats  # type: ignore[import-untyped]
from sklearn import metrics as sk

from backprop.errors import InputError, UnsupportedTaskError
from backprop.metrics import MAIN, main_figure, measure, thresholds
from backprop.metrics.texts import exact_match, rouge_l, word_f1
from backprop.metrics.vectors import pearson, spearman
from backprop.specs import SPECS

TRUTH = ["cat", "cat", "cat", "dog", "dog", "owl"]
GUESSES = ["cat", "cat", "dog", "dog", "cat", "cat"]


def single(answers: list[Any], truth: list[str], **options: Any) -> Any:
    return measure("text-classification", "single_label", answers, truth, **options)


def multi(answers: list[Any], truth: list[Any], **options: Any) -> Any:
    return measure("image-classification", "multi_label", answers, truth, **options)


# --- One label a row ---------------------------------------------------------------------


def test_single_label_by_hand() -> None:
    found = single(GUESSES, TRUTH)
    assert found.labels == ["cat", "dog", "owl"]
    assert found.confusion == [[2, 1, 0], [1, 1, 0], [1, 0, 0]]
    # cat: precision 2/4, recall 2/3; dog: 1/2, 1/2; owl: never said
    assert found.values == pytest.approx(
        {"accuracy": 3 / 6, "macro_f1": (4 / 7 + 1 / 2 + 0) / 3, "weighted_f1": (12 / 7 + 1) / 6}
    )
    assert found.per_class["cat"] == pytest.approx(
        {"precision": 0.5, "recall": 2 / 3, "f1": 4 / 7, "support": 3}
    )
    assert found.per_class["owl"] == {"precision": 0, "recall": 0, "f1": 0, "support": 1}
    assert (found.main, found.values["accuracy"]) == ("accuracy", 0.5)


def test_the_likeliest_label_is_the_answer() -> None:
    answers = [{"cat": 0.2, "dog": 0.8}, {"dog": 0.4, "cat": 0.6}, {}]
    assert single(answers, ["dog", "cat", "dog"]).values["accuracy"] == pytest.approx(2 / 3)


def test_a_label_the_model_does_not_know_counts_as_wrong() -> None:
    found = single([{"a": 0.9, "b": 0.1}] * 2, ["a", "new"], labels=["b", "a"])
    assert found.labels == ["b", "a", "new"]
    assert found.confusion == [[0, 0, 0], [0, 1, 0], [0, 1, 0]]
    # "b" occurs nowhere, so the mean is over "a" (precision 1/2, recall 1) and "new" (0)
    assert (found.values["accuracy"], found.values["macro_f1"]) == (0.5, pytest.approx(1 / 3))


@settings(max_examples=25)
@given(st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from("abcde")), min_size=1))
def test_single_label_is_as_in_scikit_learn(pairs: list[tuple[str, str]]) -> None:
    pairs = [*pairs, ("a", "b")]  # scikit-learn warns of one label alone
    truth, guesses = [a for a, _ in pairs], [b for _, b in pairs]
    found = single(guesses, truth)
    assert found.values == pytest.approx(
        {
            "accuracy": sk.accuracy_score(truth, guesses),
            "macro_f1": sk.f1_score(truth, guesses, average="macro", zero_division=0),
            "weighted_f1": sk.f1_score(truth, guesses, average="weighted", zero_division=0),
        }
    )
    labels = found.labels
    assert found.confusion == sk.confusion_matrix(truth, guesses, labels=labels).tolist()
    columns = sk.precision_recall_fscore_support(truth, guesses, labels=labels, zero_division=0)
    ours = [list(found.per_class[label].values()) for label in labels]
    np.testing.assert_allclose(ours, np.stack(columns, axis=1))


# --- Any number of labels a row ----------------------------------------------------------


def test_multi_label_by_hand() -> None:
    answers = [
        {"a": 0.5, "b": 0.49, "c": 0.1},
        {"a": 0.9, "b": 0.9, "c": 0},
        {"a": 0, "b": 0, "c": 0},
    ]
    found = multi(answers, [["a"], ["b"], []], labels=["a", "b", "c"])
    # a: said twice, right once; b: said once, right; c: occurs nowhere
    assert found.values == pytest.approx(
        {"micro_f1": 4 / 5, "macro_f1": (2 / 3 + 1) / 2, "subset_accuracy": 2 / 3}
    )
    assert (found.main, found.confusion, found.labels) == ("macro_f1", None, ["a", "b", "c"])
    assert found.per_class["a"] == pytest.approx(
        {"precision": 0.5, "recall": 1, "f1": 2 / 3, "support": 1}
    )


def test_labels_may_have_their_own_thresholds() -> None:
    answers = [{"a": 0.3, "b": 0.6}]
    found = multi(answers, [["a"]], thresholds={"a": 0.3, "b": 0.61})
    assert found.values[found.main] == 1


@settings(max_examples=25)
@given(
    st.lists(
        st.tuples(st.sets(st.sampled_from("abc")), st.sets(st.sampled_from("abc"))), min_size=1
    )
)
def test_multi_label_is_as_in_scikit_learn(pairs: list[tuple[set[str], set[str]]]) -> None:
    pairs = [*pairs, (set("abc"), set("abc"))]  # each class occurs
    truth, guesses = ([[int(x in side) for x in "abc"] for side in sides] for sides in zip(*pairs))  # noqa: B905
    answers = [sorted(guess) for _, guess in pairs]
    found = multi(answers, [sorted(true) for true, _ in pairs])
    assert found.values == pytest.approx(
        {
            "micro_f1": sk.f1_score(truth, guesses, average="micro"),
            "macro_f1": sk.f1_score(truth, guesses, average="macro", zero_division=0),
            "subset_accuracy": sk.accuracy_score(truth, guesses),
        }
    )


def test_emotions_come_as_text_list_or_probabilities() -> None:
    truth = ["joy", "joy, love", "anger"]
    for answers in (["joy", "love, joy", "joy"], [["joy"], ["joy", "love"], ["joy"]]):
        found = measure("emotion", "", answers, truth, multi_label=True)
        assert found.values["subset_accuracy"] == pytest.approx(2 / 3)
    found = measure(
        "emotion", "", ["joy", {"love": 0.7, "joy": 0.3}, ["anger", "joy"]], ["joy"] * 3
    )
    assert found.values["accuracy"] == pytest.approx(1 / 3)


# --- Thresholds --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("chances", "flags", "expected"),
    [
        ([0.9, 0.6, 0.4, 0.1], [1, 1, 0, 0], 0.5),  # between 0.6 and 0.4
        ([0.1, 0.9, 0.4, 0.6], [1, 1, 1, 1], 0.05),  # between 0.1 and nothing
        ([0.9, 0.6, 0.4, 0.1], [0, 0, 0, 0], 0.5),  # nothing to find
        ([0.7, 0.7, 0.7, 0.1], [1, 0, 0, 0], 0.4),  # equal ones can't be parted
        # {0.9} has F1 2/3 with room of 0.1, {0.9 to 0.5} has it too, with room of 0.4
        ([0.9, 0.8, 0.75, 0.5, 0.1], [1, 0, 0, 1, 0], 0.3),
    ],
)
def test_thresholds_by_hand(chances: list[float], flags: list[int], expected: float) -> None:
    assert thresholds([[c] for c in chances], [[f] for f in flags]) == [pytest.approx(expected)]


@settings(max_examples=40)
@given(
    st.lists(
        st.tuples(st.sampled_from([0, 0.1, 0.5, 0.7, 0.70000001, 1]), st.booleans()), min_size=1
    )
)
def test_no_other_threshold_is_better(pairs: list[tuple[float, bool]]) -> None:
    chances, flags = np.array([p for p, _ in pairs]), np.array([f for _, f in pairs])
    (found,) = thresholds(chances[:, None], flags[:, None])

    def f1(at: float) -> float:
        return float(sk.f1_score(flags, chances >= at, zero_division=0))

    best = max(f1(at) for at in chances) if flags.any() else 0
    assert f1(found) == pytest.approx(best)


def test_thresholds_next_to_each_other_still_part() -> None:
    above = np.nextafter(0.5, 1)
    assert thresholds([[above], [0.5]], [[1], [0]]) == [above]


def test_thresholds_need_matrices_of_one_shape() -> None:
    with pytest.raises(InputError, match=r"received \(1, 2\) and \(1, 1\)"):
        thresholds([[0.1, 0.2]], [[1]])


# --- Texts -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "reference", "exact", "f1"),
    [
        ("The Eiffel Tower.", "eiffel tower", 1, 1),
        ("in the Eiffel Tower", "Eiffel Tower", 0, 0.8),  # 2 of 3 words, 2 of 2
        ("a cat", "dog", 0, 0),
        ("", "", 1, 1),
        ("", "dog", 0, 0),
        ("the", "an", 1, 1),  # articles only: both without words
        ("cat cat", "cat", 0, 2 / 3),
        ("U.S.A", "USA", 1, 1),
    ],
)
def test_squad_figures_by_hand(answer: str, reference: str, exact: float, f1: float) -> None:
    assert exact_match(answer, reference) == exact
    assert word_f1(answer, reference) == pytest.approx(f1)


def test_qa_takes_the_best_of_several_references() -> None:
    found = measure(
        "qa", "", ["London", "3 years", ""], [["Paris", "in London", "london"], "years", []]
    )
    assert found.values == pytest.approx({"exact_match": 2 / 3, "f1": (1 + 2 / 3 + 1) / 3})
    assert found.main == "f1"


@pytest.mark.parametrize(
    ("answer", "reference", "expected"),
    [
        # Lin 2004, section 3: common subsequences of 3 and of 2 words of 4
        ("police kill the gunman", "police killed the gunman", 3 / 4),
        ("the gunman kill police", "police killed the gunman", 2 / 4),
        ("The cat, the dog!", "the_cat saw THE dog", 8 / 9),
        ("ein Mädchen", "Ein mädchen", 1),
        ("", "a", 0),
        ("...", "a", 0),
    ],
)
def test_rouge_l_by_hand(answer: str, reference: str, expected: float) -> None:
    assert rouge_l(answer, reference) == pytest.approx(expected)


@settings(max_examples=100)
@given(st.text("ab c", max_size=90), st.text("ab c", max_size=90))
def test_rouge_l_is_that_of_the_usual_table(first: str, second: str) -> None:
    a, b = first.split(), second.split()
    table = np.zeros((len(a) + 1, len(b) + 1), int)
    for i, word in enumerate(a):
        for j, other in enumerate(b):
            longer = max(table[i, j + 1], table[i + 1, j])
            table[i + 1, j + 1] = table[i, j] + 1 if word == other else longer
    expected = 2 * table[-1, -1] / (len(a) + len(b)) if a and b else 0
    assert rouge_l(first, second) == pytest.approx(expected)


def test_rouge_l_of_long_texts_takes_no_time() -> None:
    words = random.Random(0).choices([f"w{i}" for i in range(500)], k=4000)
    start = time.process_time()
    assert rouge_l(" ".join(words), " ".join(words[::-1])) > 0
    assert time.process_time() - start < 0.5  # the usual table takes seconds


@pytest.mark.parametrize("task", ["summarisation", "text-generation"])
def test_written_texts_are_measured_by_rouge_l(task: str) -> None:
    found = measure(task, "", [" a b ", "c"], ["a b", ["x", "c d"]])
    assert found.values == pytest.approx({"rouge_l": (1 + 2 / 3) / 2, "exact_match": 0.5})
    assert found.main == "rouge_l"


# --- Vectors -----------------------------------------------------------------------------


def test_similarities_are_compared_by_order_and_value() -> None:
    first = [[1, 0]] * 4
    second = [[3, 0], [1, 1], [0, 2], [-1, 0]]
    found = measure(
        "text-vectorisation", "cosine_similarity", (first, second), [1.0, 0.9, 0.2, 0.1]
    )
    expected = stats.pearsonr([1, 0.5**0.5, 0, -1], [1.0, 0.9, 0.2, 0.1]).statistic
    assert found.values == pytest.approx({"spearman": 1, "pearson": expected}, abs=1e-6)
    assert found.main == "spearman"


@settings(max_examples=25)
@given(st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3)), min_size=2, max_size=30))
def test_correlations_are_as_in_scipy(pairs: list[tuple[int, int]]) -> None:
    first, second = np.array(pairs, float).T
    if len(set(first)) == 1 or len(set(second)) == 1:
        assert (pearson(first, second), spearman(first, second)) == (0, 0)
        return
    assert pearson(first, second) == pytest.approx(stats.pearsonr(first, second).statistic)
    assert spearman(first, second) == pytest.approx(stats.spearmanr(first, second).statistic)


def test_neighbours_of_the_group_by_hand() -> None:
    degrees = np.radians([0, 10, 19, 100, 90, 180])
    vectors = np.stack([np.cos(degrees), np.sin(degrees)], axis=1) * 7
    # row 0: 1 is nearer than 2, its own; row 1: 2, 0 and 4 are nearer than 3; row 2: 1 than 0;
    # row 3: 4, 5 and 2 are nearer than 1
    found = measure("image-vectorisation", "triplet", vectors, ["a", "b", "a", "b", "c", "d"])
    assert found.values == {"recall@1": 0, "recall@5": 1, "recall@10": 1}
    found = measure("image-vectorisation", "triplet", vectors, ["a", "a", "a", "b", "b", "d"])
    assert found.values == {"recall@1": 1, "recall@5": 1, "recall@10": 1}
    assert found.main == "recall@1"


def test_vectors_that_are_all_the_same_find_nothing() -> None:
    groups = [i // 2 for i in range(30)]
    found = measure("text-vectorisation", "triplet", np.ones((30, 4)), groups)
    assert set(found.values.values()) == {0.0}


def test_neighbours_are_those_of_a_full_search(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backprop.metrics.vectors.CELLS", 200)  # several chunks
    rng = np.random.default_rng(0)
    vectors, groups = rng.normal(size=(60, 5)), rng.integers(0, 25, 60)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    near = unit @ unit.T - 9 * np.eye(60)
    partners = [i for i in range(60) if (groups == groups[i]).sum() > 1]
    assert len(partners) < 60
    found = measure("text-vectorisation", "triplet", vectors.tolist(), groups.tolist())
    for k in (1, 5, 10):
        hits = [groups[i] in groups[np.argsort(-near[i])[:k]] for i in partners]
        assert found.values[f"recall@{k}"] == pytest.approx(np.mean(hits))


# --- What does not fit -------------------------------------------------------------------


def test_every_way_to_finetune_has_a_figure_to_judge_by() -> None:
    for name, spec in SPECS.items():
        assert all((name, way.variant) in MAIN for way in spec.training)
    assert main_figure("emotion", "", multi_label=True) == "macro_f1"


VECTORS = np.eye(2)


@pytest.mark.parametrize(
    ("task", "variant", "answers", "truth", "part"),
    [
        ("qa", "", [], [], "0 answers for 0 rows"),
        ("qa", "", ["a"], ["a", "b"], "1 answers for 2 rows"),
        ("qa", "triplet", ["a"], ["a"], "no variant 'triplet' to measure; use one of: ''"),
        ("text-vectorisation", "cosine_similarity", [VECTORS], [1, 2], "received 1"),
        ("text-vectorisation", "cosine_similarity", [VECTORS, np.eye(3)], [1, 2], "2 and 3"),
        ("text-vectorisation", "cosine_similarity", [VECTORS, np.ones((2, 3))], [1, 2], "(2, 3)"),
        ("text-vectorisation", "triplet", VECTORS, [1, 2], "None of the 2 groups has two rows"),
        ("text-vectorisation", "triplet", [[np.nan], [1]], [1, 1], "with NaN or infinity"),
        ("text-vectorisation", "triplet", [1, 2], [1, 1], "received shape (2,)"),
    ],
)  # fmt: skip
def test_what_can_t_be_measured_is_refused(
    task: str, variant: str, answers: Any, truth: list[Any], part: str
) -> None:
    with pytest.raises(InputError) as caught:
        measure(task, variant, answers, truth)
    assert part in str(caught.value)


def test_an_unknown_task_is_refused() -> None:
    with pytest.raises(UnsupportedTaskError):
        measure("translation", "", ["a"], ["a"])
