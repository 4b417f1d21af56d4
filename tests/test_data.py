"""Training data in every form; every fault found at once; the split and the fingerprint."""

from __future__ import annotations

import csv
import json
import logging
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backprop.data import Data, fingerprint, read, split
from backprop.errors import InputError, UnsupportedTaskError
from backprop.pictures import Picture
from backprop.specs import SPECS
from tests import tiny
from tests.guard import run_python

TEXTS = ["It rains, again.", 'They said "no".', "Hello.", "Good\nbye."]
LABELS = ["weather", "quote", "greeting", "greeting"]
PARAMS = {"texts": TEXTS, "labels": LABELS}

MULTI_LABEL_TASKS = [
    name for name, spec in SPECS.items() if any(t.variant == "multi_label" for t in spec.training)
]


class Column:
    """A column of a frame: knows ``tolist`` but is no list, as pandas' is."""

    ndim = 1

    def __init__(self, values: list[Any]) -> None:
        self.values = values

    def tolist(self) -> list[Any]:
        return list(self.values)

    def __len__(self) -> int:
        return len(self.values)


class Frame:
    """Looks like pandas' frame: ``columns`` and columns by name."""

    def __init__(self, columns: Mapping[Any, list[Any]]) -> None:
        self._columns = columns
        self.columns = list(columns)

    def __getitem__(self, name: str) -> Column:
        return Column(self._columns[name])


class ClassLabel:
    def __init__(self, names: list[str]) -> None:
        self.names = names


class Dataset:
    """Looks like a Hugging Face dataset; counts how often a column is fetched."""

    def __init__(self, columns: Mapping[str, list[Any]], features: Mapping[str, Any]) -> None:
        self._columns, self.features = columns, features
        self.column_names = list(columns)
        self.fetched: list[str] = []

    def __getitem__(self, name: str) -> Iterator[Any]:
        self.fetched.append(name)
        return iter(self._columns[name])


class NAType:
    """Looks like pandas' NA, whose truth is unknown."""

    def __bool__(self) -> bool:
        raise TypeError("boolean value of NA is ambiguous")


def rows(params: Mapping[str, list[Any]]) -> list[dict[str, Any]]:
    return [dict(zip(params, row, strict=True)) for row in zip(*params.values(), strict=True)]


def written_csv(path: Path, params: Mapping[str, list[Any]], delimiter: str = ",") -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerow(params)
        writer.writerows(zip(*params.values(), strict=True))
    return path


def fault(task: str, params: Any, **options: Any) -> str:
    with pytest.raises(InputError) as caught:
        read(task, params, **options)
    return str(caught.value)


# --- Forms -------------------------------------------------------------------------------


def with_mark(folder: Path) -> Path:
    path = written_csv(folder / "mark.csv", PARAMS)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    return path


def written(path: Path, text: str) -> Path:
    path.write_text(text, "utf-8")
    return path


def json_lines(folder: Path) -> Path:
    return written(folder / "a.jsonl", "\n\n".join(json.dumps(row) for row in rows(PARAMS)))


CLASSES = {"label": ClassLabel(["greeting", "quote", "weather"])}

FORMS: dict[str, Callable[[Path], Any]] = {
    "lists": lambda _: PARAMS,
    "tuples": lambda _: {"texts": tuple(TEXTS), "labels": tuple(LABELS)},
    "arrays": lambda _: {"texts": np.array(TEXTS), "labels": np.array(LABELS)},
    "columns of a frame": lambda _: {"texts": Column(TEXTS), "labels": Column(LABELS)},
    "iterators": lambda _: {"texts": iter(TEXTS), "labels": iter(LABELS)},
    "singular names": lambda _: {"text": TEXTS, "label": LABELS},
    "a column left out": lambda _: {**PARAMS, "other": None},
    "rows": lambda _: rows(PARAMS),
    "rows with more": lambda _: [{"id": i, **row} for i, row in enumerate(rows(PARAMS))],
    "frame": lambda _: Frame({"Text": TEXTS, "Label": LABELS, "other": [None] * 4}),
    "dataset": lambda _: Dataset({"text": TEXTS, "label": [2, 1, 0, 0], "id": [0] * 4}, CLASSES),
    "CSV": lambda folder: written_csv(folder / "a.csv", PARAMS),
    "path as a string": lambda folder: str(written_csv(folder / "a.csv", PARAMS)),
    "CSV with a byte order mark": with_mark,
    "CSV with semicolons": lambda folder: written_csv(folder / "b.csv", PARAMS, ";"),
    "TSV": lambda folder: written_csv(folder / "a.tsv", PARAMS, "\t"),
    "JSON lines": json_lines,
    "JSON of rows": lambda folder: written(folder / "a.json", json.dumps(rows(PARAMS))),
    "JSON of columns": lambda folder: written(folder / "b.json", json.dumps(PARAMS)),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_the_same_data_comes_from_every_form(form: Callable[[Path], Any], tmp_path: Path) -> None:
    data = read("text-classification", form(tmp_path))
    assert data.columns == PARAMS
    assert (data.task, data.variant, data.multi_label) == (
        *("text-classification", "single_label"),
        False,
    )
    assert data.labels == ["greeting", "quote", "weather"]
    assert len(data) == 4


def test_what_was_passed_stays_as_it_was() -> None:
    params = {"texts": [*TEXTS], "labels": [1, 2, 3, 3]}
    read("text-classification", params)
    assert params == {"texts": TEXTS, "labels": [1, 2, 3, 3]}


def test_columns_that_are_not_needed_are_not_fetched() -> None:
    dataset = Dataset({"text": TEXTS, "label": LABELS, "image": []}, {})
    read("text-classification", dataset)
    assert sorted(dataset.fetched) == ["label", "text"]


def test_a_dataset_s_row_without_a_class_is_a_fault() -> None:
    message = fault(
        "text-classification", Dataset({"text": TEXTS, "label": [2, -1, 0, 0]}, CLASSES)
    )
    assert "labels: 1 value is missing" in message


def test_columns_may_be_named() -> None:
    frame = Frame({0: TEXTS, "kind": LABELS, "label": [""] * 4})
    names = {"texts": "0", "labels": "kind"}
    assert read("text-classification", frame, columns=names).columns == PARAMS


def test_long_cells_and_pictures_beside_a_file_are_read(tmp_path: Path) -> None:
    long = "word " * 50_000
    path = written_csv(tmp_path / "a.csv", {"texts": [long, "short"], "labels": ["a", "b"]})
    before = csv.field_size_limit()
    assert read("text-classification", path).columns["texts"][0] == long
    assert csv.field_size_limit() == before
    tiny.photo().save(tmp_path / "a.png")
    path = written_csv(tmp_path / "b.csv", {"image": ["a.png"] * 2, "label": ["a", "b"]})
    assert read("image-classification", path).columns["images"][0].source == tmp_path / "a.png"


def test_a_folder_of_images_has_a_folder_a_class(tmp_path: Path) -> None:
    for name in ("dog/2.png", "dog/10.jpg", "cat/1.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        tiny.photo().save(tmp_path / name)
    (tmp_path / "cat" / ".DS_Store").write_text("hidden")
    data = read("image-classification", tmp_path)
    assert data.columns["labels"] == ["cat", "dog", "dog"]
    sources = [picture.source for picture in data.columns["images"]]
    assert sources == [tmp_path / "cat/1.png", tmp_path / "dog/10.jpg", tmp_path / "dog/2.png"]
    (tmp_path / "dog" / "notes.txt").write_text("no image")
    (tmp_path / "stray.png").write_bytes(b"")
    (tmp_path / "empty").mkdir()
    (tmp_path / "dog" / "puppies").mkdir()
    message = fault("image-classification", tmp_path)
    for part in ("stray.png is in no class's folder", "empty has no images", "puppies is a folder"):
        assert part in message
    assert "notes.txt" in message


@pytest.mark.parametrize(
    ("params", "part"),
    [
        (3, "received 3 of type int"),
        ("no such file.csv", "no file or folder 'no such file.csv'"),
        ("text,label\nhi,a\n" * 999, "no file or folder 'text,label"),
        ([1, 2], "item 0 is 1 of type int"),
        ({"train": Dataset({"text": []}, {}), "test": Dataset({}, {})}, "params['train']"),
        (Frame({1: [], "1": []}), "same name"),
    ],
    ids=["number", "missing", "content", "no rows", "several datasets", "twice"],
)
def test_what_holds_no_table_is_refused(params: Any, part: str) -> None:
    assert part in fault("text-classification", params)


@pytest.mark.parametrize(
    ("name", "content", "part"),
    [
        ("a.csv", b"text,label\n\xff,a\n", "not UTF-8 text (byte 11 is 0xff)"),
        ("a.csv", b'text,label\n"a" b,c\n', "line 2 is no CSV"),
        ("a.csv", b"text,text\na,b\n", "two columns 'text'"),
        ("a.csv", b'text,label\n"a\nb",c\nd\ne,f\n', "line 4 has 1 of 2 cells"),
        ("a.csv", b"hello,weather\nrain,b\n", "the first line must hold the names"),
        ("a.jsonl", b'{"text": "a", "label": "b"}\n\n{oops\n[1]\n', "line 3 is not JSON"),
        ("a.jsonl", b'{"text": "a", "label": "b"}\n\n{oops\n[1]\n', "line 4 is no object"),
        ("a.json", b"{oops", "is not JSON"),
        ("a.json", b'{"texts": "a"}', "a list of objects, or an object of lists"),
        ("a.xlsx", b"", "can be read from .csv, .tsv"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path: Path, name: str, content: bytes, part: str) -> None:
    (tmp_path / name).write_bytes(content)
    assert part in fault("text-classification", tmp_path / name)


# --- Tasks and variants ------------------------------------------------------------------

PHOTOS = [tiny.photo(i) for i in range(4)]
SCORES = [0.0, 0.5, 1.0, -0.25]
GROUPS = [1, 1, "b", "b"]
PAIRS = {"texts1": TEXTS, "texts2": TEXTS}
PHOTO_PAIRS = {"imgs1": PHOTOS, "imgs2": PHOTOS}

TASKS: dict[tuple[str, str], dict[str, list[Any]]] = {
    ("qa", ""): {"questions": TEXTS, "answers": ["", *TEXTS[1:]], "contexts": TEXTS},
    ("text-classification", "single_label"): PARAMS,
    ("emotion", ""): {"input_text": TEXTS, "output_text": LABELS},
    ("summarisation", ""): {"input_text": TEXTS, "output_text": TEXTS},
    ("text-generation", ""): {"input_text": TEXTS, "output_text": TEXTS},
    ("text-vectorisation", "cosine_similarity"): {**PAIRS, "similarity_scores": SCORES},
    ("text-vectorisation", "triplet"): {"texts": TEXTS, "groups": GROUPS},
    ("image-classification", "single_label"): {"images": PHOTOS, "labels": LABELS},
    ("image-vectorisation", "triplet"): {"images": PHOTOS, "groups": GROUPS},
    ("image-vectorisation", "cosine_similarity"): {**PHOTO_PAIRS, "similarity_scores": SCORES},
    ("image-text-vectorisation", "triplet"): {"images": PHOTOS, "texts": TEXTS, "groups": GROUPS},
    ("image-text-vectorisation", "cosine_similarity"): {
        **PHOTO_PAIRS,
        **PAIRS,
        "similarity_scores": SCORES,
    },
}


@pytest.mark.parametrize(("task", "variant"), TASKS)
def test_every_task_s_columns_tell_its_variant(task: str, variant: str) -> None:
    params = TASKS[task, variant]
    for asked in (None, variant):
        data = read(task, params, variant=asked)
        assert (data.variant, len(data), list(data.columns)) == (variant, 4, list(params))
    for name, values in data.columns.items():
        given = params[name]
        assert [v.source if isinstance(v, Picture) else v for v in values] == given


def test_every_way_to_finetune_is_tried_above() -> None:
    ways = {(name, way.variant) for name, spec in SPECS.items() for way in spec.training}
    assert ways - set(TASKS) == {(name, "multi_label") for name in MULTI_LABEL_TASKS}


def test_labels_may_be_whole_numbers_and_booleans() -> None:
    given = [1, True, np.int64(2), np.True_, 3.0, 10**400]
    data = read("text-classification", {"texts": list("abcdef"), "labels": given})
    assert data.columns["labels"] == ["1", "True", "2", "True", "3", str(10**400)]


def test_a_history_is_a_list_of_pairs() -> None:
    params = {**TASKS["qa", ""], "prev_qas": [[("q", "a")], [], None, '[["q", "a"]]']}
    assert read("qa", params).columns["prev_qas"] == [[("q", "a")], [], [], [("q", "a")]]
    params["prev_qas"] = [["q", "a"], "text", [("q", 1)], []]
    assert "prev_qas: 3 values are not pairs" in fault("qa", params)


@pytest.mark.parametrize("task", MULTI_LABEL_TASKS)
def test_lists_of_labels_make_it_multi_label(task: str) -> None:
    first = SPECS[task].training[0].columns[0].name
    inputs = PHOTOS if first == "images" else TEXTS
    data = read(task, {first: inputs, "labels": [["b", "a"], [], ("c",), np.array(["a"])]})
    assert (data.variant, data.multi_label, data.labels) == ("multi_label", True, ["a", "b", "c"])
    assert data.columns["labels"] == data.label_sets == [["b", "a"], [], ["c"], ["a"]]
    listed = {first: inputs, "labels": ["b, a", "", '["c"]', "a"]}
    assert read(task, listed, variant="multi_label").columns == data.columns
    single = fault(task, {first: inputs, "labels": [["b"], "a", "c", "d"]}, variant="single_label")
    assert "labels: 1 value is a list of labels; pass one a row, or variant='multi_label'" in single
    flags = {first: inputs, "labels": [[0, 1, 0], [1, 1, 0], [0, 0, 0], [1, 0, 0]]}
    assert "labels: 4 values are with a label twice" in fault(task, flags)


@pytest.mark.parametrize(
    ("outputs", "multi_label", "labels"),
    [
        (["joy", "joy, love", "anger", "love"], True, ["anger", "joy", "love"]),
        (["joy", "love", "anger", "mild annoyance"], False, None),
        (["joy", "Well, that was not what I had hoped for.", "anger", "love"], False, None),
        ([["joy"], ["joy", "love"], ["anger"], []], True, ["anger", "joy", "love"]),
    ],
    ids=["commas", "single", "sentences", "lists"],
)
def test_emotions_with_commas_are_several(
    outputs: list[Any], multi_label: bool, labels: list[str] | None
) -> None:
    data = read("emotion", {"input_text": TEXTS, "output_text": outputs})
    assert (data.multi_label, data.labels) == (multi_label, labels or sorted(outputs))
    assert all(isinstance(value, str) for value in data.columns["output_text"])
    listed = [[output] if isinstance(output, str) else output for output in outputs]
    sets = [label.split(", ") for label in outputs] if labels and listed != outputs else listed
    assert data.label_sets == sets


def test_tasks_without_labels_have_none() -> None:
    data = read("summarisation", TASKS["summarisation", ""])
    assert (data.labels, data.label_sets) == ([], [])


# --- Faults ------------------------------------------------------------------------------


def test_all_faults_are_found_at_once_with_their_rows() -> None:
    texts: list[Any] = ["fine", "", " \n", None, 5, "half \ud800", math.nan]
    message = fault(
        "text-classification", {"texts": texts, "labels": ["a", 0.5, "", NAType(), 1, 2]}
    )
    assert "The data for text-classification has 8 kinds of faults:" in message
    for line in (
        "- the columns differ in length (texts 7, labels 6); each row needs a value in each.",
        "- texts: 2 values are blank; fill in or remove such rows (row 1: '', row 2: ' \\n').",
        "- texts: 2 values are missing; fill in or remove such rows (row 3, row 6).",
        "- texts: 1 value is of type int; pass strings (row 4: 5).",
        "- texts: 1 value is not valid Unicode; decode it again, with errors='replace' (row 5).",
        "- labels: 1 value is a fraction; pass names or whole numbers as labels (row 1: 0.5).",
        "- labels: 1 value is blank; fill in or remove such rows (row 2: '').",
        "- labels: 1 value is missing; fill in or remove such rows (row 3).",
    ):
        assert line in message.split("\n")


def test_rows_of_one_fault_are_listed_up_to_ten() -> None:
    message = fault(
        "text-classification", {"texts": [""] * 22 + ["b"], "labels": ["a"] * 22 + ["b"]}
    )
    assert "22 values are blank" in message
    assert "row 9: '', … and 12 more)" in message
    assert "row 10" not in message


def test_rows_of_a_file_are_named_by_line_too(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", 'text,label\n"two\nlines",a\n,b\nc,\n')
    message = fault("text-classification", path)
    assert "(row 1 (line 4): '')" in message and "(row 2 (line 5): '')" in message


@pytest.mark.parametrize(
    ("params", "part"),
    [
        ({"texts": TEXTS, "label_names": LABELS}, "'labels' is missing"),
        (
            {"texts": TEXTS, "lables": LABELS},
            "'lables' is not a column that is learnt from here; did you mean 'labels'?",
        ),
        ({**PARAMS, "max_length": 3}, "'max_length' is not a column that is learnt"),
        ({"texts": "a text", "labels": LABELS}, "texts must be a list with one value a row"),
        ({"texts": TEXTS, "label": LABELS, "category": LABELS}, "may be any of"),
        ({"texts": ["a"], "labels": ["b"]}, "there is 1 row; pass at least 2"),
        ({"texts": [], "labels": []}, "there are no rows"),
        ({"texts": TEXTS, "labels": ["a"] * 4}, "only the label 'a'"),
        ({}, "'texts' is missing (there are: none)"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_unfit_columns_are_refused(params: Any, part: str) -> None:
    assert part in fault("text-classification", params)


def test_names_of_columns_are_checked() -> None:
    message = fault("text-classification", PARAMS, columns={"texts": "body", "inputs": "texts"})
    assert "columns= says that 'texts' is 'body', but there are only: 'texts', 'labels'" in message
    assert "columns= names 'inputs', but the columns are: texts, labels" in message


def test_unknown_tasks_and_variants_are_refused() -> None:
    with pytest.raises(UnsupportedTaskError):
        read("translation", PARAMS)
    assert "no variant 'pairs'; use 'cosine_similarity', 'triplet'" in fault(
        "text-vectorisation", PAIRS, variant="pairs"
    )


@pytest.mark.parametrize(
    ("scores", "part"),
    [
        (
            [0, 2.5, 5, 1],
            "2 values are above 1 or below -1; divide scores from 0 to 5 by 5 (row 1: 2.5",
        ),
        ([0, 50, 100, 1], "scale them to 0 to 1"),
        ([0, math.inf, True, "much"], "3 values are not a finite number"),
        ([0, None, 0, 0], "1 value is missing"),
    ],
)
def test_scores_are_cosines(scores: list[Any], part: str) -> None:
    assert part in fault("text-vectorisation", {**PAIRS, "similarity_scores": scores})


def test_scores_may_be_written() -> None:
    data = read("text-vectorisation", {**PAIRS, "similarity_scores": ["0.5", "1", "0", "-1"]})
    assert data.columns["similarity_scores"] == [0.5, 1.0, 0.0, -1.0]


@pytest.mark.parametrize(
    ("groups", "part"),
    [
        (["a", "b", "c", "d"], "each of the 4 groups has one row only"),
        (["a"] * 4, "one group only ('a')"),
        (["a", "a", [1], ""], "groups: 1 value is no name of a group"),
    ],
)
def test_groups_need_partners(groups: list[Any], part: str) -> None:
    assert part in fault("text-vectorisation", {"texts": TEXTS, "groups": groups})


def test_evaluation_asks_for_no_more_than_a_row() -> None:
    params = {"texts": ["a"], "labels": ["b"]}
    assert len(read("text-classification", params, for_training=False)) == 1


def test_unreadable_images_are_found(tmp_path: Path) -> None:
    tiny.photo(size=(200, 200)).save(tmp_path / "whole.png")
    content = (tmp_path / "whole.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(content[: len(content) // 2])  # its header is fine
    (tmp_path / "text.png").write_text("no image")
    images = [
        *(tmp_path / "whole.png", str(tmp_path / "cut.png"), tmp_path / "text.png"),
        *("missing.png", {"bytes": content, "path": None}, {"bytes": None, "path": "gone.png"}),
        *(None, 3),
    ]
    message = fault("image-classification", {"images": images, "labels": list("ababab") + [1, 2]})
    assert "1 value is damaged; check that the file is complete (row 1: " in message
    assert "4 values are not usable as an image; pass paths, PIL images, bytes" in message
    for part in (
        "text.png: is not an image in a known format, row 3",
        "row 3: 'missing.png': is neither an existing file nor base64",
        "row 7: 3: must be an image",
    ):
        assert part in message
    assert "1 value is missing; fill in or remove such rows (row 6)" in message
    assert "row 0" not in message and "row 4" not in message


def test_a_caller_s_images_are_not_copied_or_changed() -> None:
    data = read("image-classification", {"images": PHOTOS, "labels": LABELS})
    assert all(p.source is photo for p, photo in zip(data.columns["images"], PHOTOS, strict=True))


def test_rows_that_contradict_each_other_are_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    read("text-classification", {"texts": ["a", "a", "b", "b"], "labels": ["x", "y", "x", "x"]})
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "2 rows are the same as another row but for their labels" in caplog.text


# --- The split ---------------------------------------------------------------------------


def classified(labels: list[str]) -> Data:
    params = {"texts": [f"text {i}" for i in range(len(labels))], "labels": labels}
    return read("text-classification", params)


def grouped(groups: list[Any]) -> Data:
    params = {"texts": [f"text {i}" for i in range(len(groups))], "groups": groups}
    return read("text-vectorisation", params)


def is_partition(sides: tuple[list[int], list[int]], count: int) -> bool:
    train, aside = sides
    in_order = train == sorted(train) and aside == sorted(aside)
    return in_order and sorted(train + aside) == list(range(count))


def test_classes_keep_their_shares() -> None:
    data = classified(["a"] * 60 + ["b"] * 30 + ["c"] * 10)
    train, aside = split(data, 0.2)
    assert is_partition((train, aside), 100)
    assert Counter(data.columns["labels"][i] for i in aside) == {"a": 12, "b": 6, "c": 2}


@settings(max_examples=60)
@given(
    st.lists(st.sampled_from("abcd"), min_size=3, max_size=60).filter(
        lambda labels: 1 < len(set(labels)) < len(labels)
    ),
    st.floats(0.01, 0.99),
    st.integers(0, 3),
)
def test_each_class_keeps_a_training_row(labels: list[str], share: float, seed: int) -> None:
    train, aside = split(classified(labels), share, seed=seed)
    assert is_partition((train, aside), len(labels)) and aside
    assert {labels[i] for i in train} == set(labels)
    assert len(aside) <= max(1, round(share * len(labels)))


@settings(max_examples=60)
@given(
    st.lists(st.integers(0, 5), min_size=8, max_size=60).filter(
        lambda groups: max(Counter(groups).values()) >= 4 and len(set(groups)) > 1
    ),
    st.floats(0.01, 0.99),
)
def test_rows_of_a_group_leave_and_stay_in_pairs(groups: list[int], share: float) -> None:
    train, aside = split(grouped(groups), share)
    assert is_partition((train, aside), len(groups)) and aside
    left, gone = (Counter(groups[i] for i in side) for side in (train, aside))
    assert all(count >= 2 and left[group] >= 2 for group, count in gone.items())


def test_groups_of_two_are_kept_aside_whole() -> None:
    groups = [i // 2 for i in range(40)]
    train, aside = split(grouped(groups), 0.15)
    assert len(aside) == 6 and len(train) == 34
    assert not {groups[i] for i in train} & {groups[i] for i in aside}


def test_a_row_of_several_labels_counts_as_its_rarest() -> None:
    outputs = ["common, rare" if i % 10 == 0 else "common" for i in range(100)]
    data = read("emotion", {"input_text": [f"t{i}" for i in range(100)], "output_text": outputs})
    _, aside = split(data, 0.2)
    assert sum("rare" in outputs[i] for i in aside) == 2 and len(aside) == 20


@settings(max_examples=60)
@given(
    st.lists(st.lists(st.sampled_from("abcde"), max_size=3, unique=True), min_size=6, max_size=30),
    st.floats(0.1, 0.9),
)
def test_each_of_several_labels_keeps_a_training_row(labels: list[list[str]], share: float) -> None:
    texts = [f"t{i}" for i in range(len(labels))]
    params: dict[str, list[Any]] = {"texts": texts, "labels": labels}
    data = Data("text-classification", "multi_label", params, sorted({*sum(labels, [])}), True)
    train = split(data, share)[0] if can_spare(labels) else range(len(labels))
    assert {label for i in train for label in labels[i]} == set(data.labels)


def can_spare(labels: list[list[str]]) -> bool:
    """Return whether there is a row all labels of which another row has."""
    counts = Counter(sum(labels, []))
    return any(all(counts[label] > 1 for label in row) for row in labels)


def test_rows_without_labels_are_split_at_random() -> None:
    params = {"input_text": ["a"] * 50, "output_text": ["b"] * 50}
    data = read("summarisation", params)
    assert is_partition(split(data, 0.1), 50) and len(split(data, 0.1)[1]) == 5
    assert split(data, 0.1) != split(data, 0.1, seed=1)
    assert split(data, 0) == (list(range(50)), [])
    assert len(split(data, 0.999)[0]) == 1


def test_the_split_and_the_fingerprint_are_the_same_in_every_process() -> None:
    code = """
        from backprop.data import fingerprint, read, split
        texts = [f"text {i}" for i in range(40)]
        data = read("text-classification", {"texts": texts, "labels": list("abcd") * 10})
        print(split(data, 0.2), fingerprint(data))
        """
    outputs = {run_python(code, env={"PYTHONHASHSEED": seed}).stdout for seed in ("1", "2")}
    assert len(outputs) == 1 and outputs.pop().startswith("([")


def test_row_numbers_are_used_as_they_are() -> None:
    data = classified(["a", "b", "a", "b"])
    assert split(data, ([2, 0], np.array([1]))) == ([2, 0], [1])  # type: ignore[arg-type]
    assert split(data, ([3], [])) == ([3], [])


@pytest.mark.parametrize(
    ("given", "part"),
    [
        (1.0, "from 0 to below 1"),
        (-0.1, "received -0.1"),
        (True, "received True"),
        ("0.1", "received '0.1'"),
        (([0], [1], [2]), "received 3"),
        (([], [1]), "no training rows"),
        (([0, 1], [1, 2]), "lists 1 rows more than once (1)"),
        (([0, 0], [1]), "more than once (0)"),
        (([0, 9], [-1]), "1 row numbers that are not whole numbers from 0 to 3: 9"),
        (([0, 1.5], [2]), "1.5"),
        ((0, 1), "two lists of row numbers; received 0"),
    ],
)
def test_a_split_that_makes_no_sense_is_refused(given: Any, part: str) -> None:
    with pytest.raises(InputError, match=re.escape(part)):
        split(classified(["a", "b", "a", "b"]), given)


def test_a_split_that_can_spare_no_row_is_refused() -> None:
    with pytest.raises(InputError, match="No row of 3 can be spared"):
        split(classified(["a", "b", "c"]))
    with pytest.raises(InputError, match="No row of 4 can be spared"):
        split(grouped(["a", "a", "b", "b"]))


# --- The fingerprint ---------------------------------------------------------------------


def test_the_fingerprint_knows_every_value(tmp_path: Path) -> None:
    def of(task: str, **params: Any) -> str:
        return fingerprint(read(task, params))

    first = of("text-classification", texts=["ab", "c"], labels=["x", "y"])
    assert first == of("text-classification", texts=("ab", "c"), labels=["x", "y"])
    assert len(first) == 64
    others = [
        of("text-classification", texts=["a", "bc"], labels=["x", "y"]),
        of("text-classification", texts=["c", "ab"], labels=["x", "y"]),
        of("text-classification", texts=["ab", "c"], labels=["y", "x"]),
        of("emotion", input_text=["ab", "c"], output_text=["x", "y"]),
        of("image-classification", images=PHOTOS[:2], labels=["x", "y"]),
        of("image-classification", images=PHOTOS[2:], labels=["x", "y"]),
    ]
    for seed in (1, 2):
        tiny.photo(seed, size=(20 * seed, 20)).save(tmp_path / "a.png")
        content = (tmp_path / "a.png").read_bytes()
        others.append(of("image-classification", images=[tmp_path / "a.png"] * 2, labels=[1, 2]))
        others.append(of("image-classification", images=[content] * 2, labels=[1, 2]))
    assert len({first, *others}) == 11
