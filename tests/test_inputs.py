"""The one door for input: what is refused and how, what comes through and in which form."""

from __future__ import annotations

import base64
import copy
import io
import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from backprop import inputs
from backprop.errors import BackpropError, InputError, UnsupportedTaskError
from backprop.pictures import Picture
from backprop.specs import SPECS, Option
from tests import tiny


def png(seed: int = 0) -> bytes:
    buffer = io.BytesIO()
    tiny.photo(seed, (6, 4)).save(buffer, "PNG")
    return buffer.getvalue()


PNG = png()
BASE64 = base64.b64encode(PNG).decode()

LEAST: dict[str, dict[str, Any]] = {
    "qa": {"question": "Who?", "context": "Sally lives in London."},
    "text-classification": {"text": "a"},
    "emotion": {"text": "a"},
    "summarisation": {"text": "a"},
    "text-generation": {"text": "a"},
    "text-vectorisation": {"text": "a"},
    "image-classification": {"image": PNG},
    "image-vectorisation": {"image": PNG},
    "image-text-vectorisation": {"image": PNG, "text": "a"},
}
"""The fields each task can't do without."""

Case = tuple[str, dict[Any, Any], list[str]]

# A task, what is added to its least input, and what the message must hold: the field, what was
# received, and what to do instead.
REFUSED: dict[str, Case] = {
    "text of another type": ("emotion", {"text": 3}, ["text must be a string", "3", "int"]),
    "blank text": ("emotion", {"text": " \n"}, ["text is blank", r"' \n'", "pass some text"]),
    "empty text": ("emotion", {"text": ""}, ["text is blank", "''", "pass some text"]),
    "one text of a list is blank": ("emotion", {"text": ["a", "\t"]}, ["text[1]", r"'\t'"]),
    "one text of a list is none": ("emotion", {"text": ["a", None]}, ["text[1]", "None"]),
    "mixed types": ("emotion", {"text": ["a", 2.5]}, ["text[1] must be a string", "2.5", "float"]),
    "lists of lists of texts": ("emotion", {"text": [["a"]]}, ["text[0]", "['a']", "list"]),
    "half of a surrogate pair": ("emotion", {"text": "ab\ud83d"}, ["text", "position 2", "decode"]),
    "bytes as text": ("emotion", {"text": b"a"}, ["text must be a string", "b'a'", "bytes"]),
    "a dictionary as text": ("emotion", {"text": {"a": 1}}, ["text", "{'a': 1}", "dict"]),
    "one context for two questions": (
        "qa",
        {"question": ["a", "b"], "context": ["c"]},
        ["context has 1 item for 2", "one for each"],
    ),
    "a single context for a list of questions": (
        "qa",
        {"question": ["a", "b"], "context": "c"},
        ["context must be a list of 2", "'c'", "one for each row"],
    ),
    "a list of contexts for a single question": (
        "qa",
        {"context": ["c"]},
        ["context must be one value", "['c']", "as the other fields are"],
    ),
    "a blank context": ("qa", {"context": ""}, ["context is blank", "''"]),
    "earlier questions without answers": (
        "qa",
        {"prev_q": ["a"]},
        ["'prev_q' alone", "prev_q and prev_a together"],
    ),
    "fewer earlier answers than questions": (
        "qa",
        {"prev_q": ["a", "b"], "prev_a": ["c"]},
        ["2 prev_q and 1 prev_a", "one answer for each question"],
    ),
    "earlier questions that are one string": (
        "qa",
        {"prev_q": "a", "prev_a": "b"},
        ["list", "'a'"],
    ),
    "earlier answers that are numbers": (
        "qa",
        {"prev_q": ["a"], "prev_a": [4]},
        ["prev_a[0] must be a string", "4"],
    ),
    "histories for fewer questions than asked": (
        "qa",
        {"question": ["a", "b"], "context": ["c", "d"], "prev_q": [["e"]], "prev_a": [["f"]]},
        ["prev_q must be a list of 2 lists", "[['e']]"],
    ),
    "one history for a list of questions": (
        "qa",
        {"question": ["a", "b"], "context": ["c", "d"], "prev_q": ["e", "f"], "prev_a": ["g", "h"]},
        ["prev_q must be a list of 2 lists", "['e', 'f']"],
    ),
    "labels that are one string": (
        "text-classification",
        {"labels": "sport"},
        ["labels must be a list", "'sport'", "str"],
    ),
    "no labels": ("text-classification", {"labels": []}, ["labels is empty", "leave it out"]),
    "a label that is a number": (
        "text-classification",
        {"labels": ["a", 7]},
        ["labels[1] must be a string", "7", "int"],
    ),
    "a blank label": (
        "image-classification",
        {"labels": ["a", " "]},
        ["labels[1] is blank", "' '"],
    ),
    "the same label twice": (
        "text-classification",
        {"labels": ["sport", "art", "sport"]},
        ["labels", "'sport' more than once", "once"],
    ),
    "the same label twice for one text": (
        "text-classification",
        {"text": ["a", "b"], "labels": [["x"], ["y", "y"]]},
        ["labels[1]", "'y' more than once"],
    ),
    "lists of labels for fewer texts": (
        "text-classification",
        {"text": ["a", "b"], "labels": [["x"]]},
        ["labels has 1 lists for 2 rows", "one for each"],
    ),
    "labels and lists of labels": (
        "text-classification",
        {"text": ["a", "b"], "labels": ["x", ["y"]]},
        ["labels must be", "one list for each row", "['x', ['y']]"],
    ),
    "lists of labels for a single text": (
        "text-classification",
        {"labels": [["x"]]},
        ["labels must be one list of strings", "[['x']]"],
    ),
    "a template without a place": (
        "text-classification",
        {"labels": ["a"], "template": "about it"},
        ["template must hold {} once", "'about it'"],
    ),
    "a template with two places": (
        "image-classification",
        {"labels": ["a"], "template": "{} {}"},
        ["template must hold {} once", "'{} {}'"],
    ),
    "a template that can't be encoded": (
        "text-classification",
        {"template": "\ud800{}"},
        ["template must be", "valid Unicode", "ud800"],
    ),
    "top_k below zero": ("text-classification", {"top_k": -1}, ["top_k", "at least 0", "-1"]),
    "top_k of zero emotions": ("emotion", {"top_k": 0}, ["top_k", "at least 1", "received 0"]),
    "top_k with a fraction": ("emotion", {"top_k": 1.5}, ["top_k must be a whole number", "1.5"]),
    "top_k that is true": ("emotion", {"top_k": True}, ["top_k must be a whole number", "True"]),
    "top_k in words": ("emotion", {"top_k": "3"}, ["top_k must be a whole number", "'3'", "str"]),
    "a number beyond 64 bits": (
        "text-generation",
        {"max_length": 10**400},
        ["max_length", "at most"],
    ),
    "temperature that is not a number": (
        "text-generation",
        {"temperature": math.nan},
        ["temperature must be a finite number", "nan"],
    ),
    "infinite temperature": ("text-generation", {"temperature": math.inf}, ["temperature", "inf"]),
    "temperature below zero": (
        "text-generation",
        {"temperature": -0.1},
        ["temperature must be at least 0", "-0.1"],
    ),
    "top_p of zero": ("text-generation", {"top_p": 0}, ["top_p must be above 0", "at most 1"]),
    "top_p above one": ("text-generation", {"top_p": 1.01}, ["top_p", "at most 1", "1.01"]),
    "top_p that is not a number": ("text-generation", {"top_p": math.nan}, ["top_p", "nan"]),
    "no repetition penalty": ("text-generation", {"repetition_penalty": 0}, ["above 0", "0"]),
    "no beams": ("text-generation", {"num_beams": 0}, ["num_beams must be at least 1", "0"]),
    "no generations": (
        "text-generation",
        {"num_generations": 0},
        ["num_generations", "at least 1"],
    ),
    "no room for new tokens": ("text-generation", {"max_length": 0}, ["max_length", "at least 1"]),
    "do_sample in words": ("text-generation", {"do_sample": "no"}, ["do_sample", "True or False"]),
    "do_sample as a number": ("text-generation", {"do_sample": 1}, ["do_sample", "True or False"]),
    "lengths the wrong way round": (
        "text-generation",
        {"min_length": 5, "max_length": 4},
        ["min_length (5) is above max_length (4)"],
    ),
    "more greedy generations than beams": (
        "text-generation",
        {"num_generations": 2, "do_sample": False},
        ["num_generations is 2", "1 beams", "do_sample=True"],
    ),
    "more generations than beams while sampling": (
        "text-generation",
        {"num_generations": 3, "num_beams": 2, "do_sample": True},
        ["num_generations is 3", "2 beams", "without num_beams"],
    ),
    "several generations at temperature zero": (
        "text-generation",
        {"num_generations": 2, "temperature": 0},
        ["num_generations is 2", "do_sample=True"],
    ),
    "sampling at temperature zero": (
        "text-generation",
        {"do_sample": True, "temperature": 0},
        ["temperature 0", "do_sample=False"],
    ),
    "a stop string that is empty": ("text-generation", {"stop": ""}, ["stop", "none empty", "''"]),
    "a stop string that is a number": ("text-generation", {"stop": ["a", 1]}, ["stop", "['a', 1]"]),
    "a seed below zero": ("text-generation", {"seed": -1}, ["seed must be at least 0", "-1"]),
    "no dimensions": ("text-vectorisation", {"dimensions": 0}, ["dimensions", "at least 1", "0"]),
    "an unknown policy": (
        "text-vectorisation",
        {"long": "cut"},
        ["long must be one of 'truncate', 'chunk', 'error'", "'cut'"],
    ),
    "an unknown style": ("summarisation", {"style": "short"}, ["'extractive', 'abstractive'"]),
    "a misspelt field": ("text-classification", {"label": ["a"]}, ["'label'", "mean 'labels'"]),
    "a field of another task": ("emotion", {"image": PNG}, ["no field 'image'", "takes: text"]),
    "a key that is no string": ("emotion", {4: "a"}, ["no field 4", "takes: text"]),
    "an image that is a number": (
        "image-vectorisation",
        {"image": 3},
        ["image must be", "3", "int"],
    ),
    "an image of a list that is none": (
        "image-vectorisation",
        {"image": [PNG, None]},
        ["image[1]", "None", "pass a path"],
    ),
    "fewer texts than images": (
        "image-text-vectorisation",
        {"image": [PNG, PNG], "text": ["a"]},
        ["text has 1 item for 2", "one for each"],
    ),
    "a field that is missing": ("qa", {"context": None}, ["qa needs 'context'", "question"]),
}


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED.keys())
def test_refuses_with_field_value_and_remedy(case: Case) -> None:
    task, added, wanted = case
    with pytest.raises(InputError) as caught:
        inputs.read(task, {**LEAST[task], **added})
    missing = [part for part in wanted if part not in str(caught.value)]
    assert not missing, caught.value


@pytest.mark.parametrize("task_input", ["text", ["text"], None, 3], ids=repr)
def test_refuses_what_is_no_dictionary(task_input: object) -> None:
    with pytest.raises(InputError, match="emotion takes a dictionary with text") as caught:
        inputs.read("emotion", task_input)
    assert repr(task_input) in str(caught.value)


@pytest.mark.parametrize("task", ["QA", "", None, ["qa"], {}], ids=repr)
def test_an_unknown_task_is_answered_with_the_nine_there_are(task: Any) -> None:
    with pytest.raises(UnsupportedTaskError) as caught:
        inputs.read(task, {"text": "a"})
    assert all(name in str(caught.value) for name in SPECS)


class Unshowable:
    def __repr__(self) -> str:
        raise RuntimeError("no picture of me")


def deep_list() -> list[Any]:
    outer: list[Any] = []
    for _ in range(20_000):
        outer = [outer]
    return outer


@pytest.mark.parametrize("make", [Unshowable, deep_list, lambda: 10**5000])
def test_values_that_python_can_not_print_are_refused_all_the_same(make: Any) -> None:
    with pytest.raises(InputError, match="can't be shown"):
        inputs.read("emotion", {"text": make()})
    with pytest.raises(InputError, match="can't be shown"):
        inputs.read("text-classification", {"text": "a", "top_k": make()})


def test_a_long_value_is_shortened_in_the_message() -> None:
    with pytest.raises(InputError) as caught:
        inputs.read("emotion", {"text": ["a", ["x" * 5000]]})
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("task", SPECS)
def test_an_empty_list_in_gives_an_empty_list_out(task: str) -> None:
    empty: dict[str, Any] = {name: [] for name in LEAST[task]}
    request = inputs.read(task, empty)
    assert (request.rows, request.single) == ([], False)
    assert inputs.unwrap([], single=request.single) == []


@pytest.mark.parametrize("task", SPECS)
def test_a_single_item_gives_a_single_answer_and_a_list_of_one_a_list(task: str) -> None:
    single = inputs.read(task, LEAST[task])
    batched = inputs.read(task, {name: [value] for name, value in LEAST[task].items()})
    assert len(single.rows) == len(batched.rows) == 1
    assert inputs.unwrap(["answer"], single=single.single) == "answer"
    assert inputs.unwrap(["answer"], single=batched.single) == ["answer"]


def test_one_list_of_labels_holds_for_all_texts_and_each_text_may_have_its_own() -> None:
    def labels(text: Any, labels: Any) -> list[list[str]]:
        request = inputs.read("text-classification", {"text": text, "labels": labels})
        return [row["labels"] for row in request.rows]

    assert labels("a", ["x", "y"]) == [["x", "y"]]
    assert labels(["a", "b"], ["x", "y"]) == [["x", "y"], ["x", "y"]]
    assert labels(["a", "b"], [["x", "y"], ["z"]]) == [["x", "y"], ["z"]]
    assert labels(("a", "b"), (("x", "y"), ["z"])) == [["x", "y"], ["z"]]
    assert labels(["a"], ["x"]) == [["x"]]
    assert labels([], ["x"]) == labels([], []) == []


def test_history_comes_for_one_question_or_for_each_of_a_list() -> None:
    def history(question: Any, prev_q: Any, prev_a: Any) -> list[tuple[list[str], list[str]]]:
        context = "c" if isinstance(question, str) else ["c"] * len(question)
        given = {"question": question, "context": context, "prev_q": prev_q, "prev_a": prev_a}
        rows = inputs.read("qa", given).rows
        return [(row["prev_q"], row["prev_a"]) for row in rows]

    assert history("q", ["a", "b"], ["c", "d"]) == [(["a", "b"], ["c", "d"])]
    assert history("q", [], []) == [([], [])]
    assert history(["q", "r"], [["a"], []], [["c"], []]) == [(["a"], ["c"]), ([], [])]
    assert history(["q", "r"], [], []) == [([], []), ([], [])]
    assert history("q", ("a",), ("",)) == [(["a"], [""])]


def test_fields_and_options_left_out_or_none_are_not_there() -> None:
    request = inputs.read("qa", {**LEAST["qa"], "prev_q": None, "prev_a": None, "long": None})
    assert request.rows == [LEAST["qa"]]
    assert request.options == {}


def test_numpy_arrays_and_scalars_stand_for_lists_and_numbers() -> None:
    given = {
        "text": np.array(["a", "b"]),
        "top_k": np.float32(5),
        "seed": np.int64(4),
        "do_sample": np.bool_(True),
        "top_p": np.float64(0.5),
        "stop": np.array(["x", "y"]),
    }
    request = inputs.read("text-generation", given)
    assert request.rows == [{"text": "a"}, {"text": "b"}]
    wanted = {"top_k": 5, "seed": 4, "do_sample": True, "top_p": 0.5, "stop": ["x", "y"]}
    assert request.options == wanted
    assert [type(request.options[key]) for key in wanted] == [int, int, bool, float, list]
    assert all(type(row["text"]) is str for row in request.rows)


def test_numbers_of_any_kind_become_the_option_s_own() -> None:
    given = {"text": "a", "max_length": 3.0, "top_k": Fraction(6, 2), "temperature": Fraction(1, 2)}
    options = inputs.read("text-generation", {**given, "length_penalty": 2}).options
    assert options == {"max_length": 3, "top_k": 3, "temperature": 0.5, "length_penalty": 2.0}
    assert [type(value) for value in options.values()] == [int, float, int, float]


def test_one_stop_string_is_a_list_of_one() -> None:
    assert inputs.read("text-generation", {"text": "a", "stop": "\n"}).options == {"stop": ["\n"]}


def test_bounds_themselves_are_allowed() -> None:
    for spec in SPECS.values():
        for option in spec.options:
            low = option.low if not option.above_low else None
            for bound in (low, option.high):
                if bound is not None and not option.caller_only:
                    assert inputs.check_option(option, bound) == bound


@pytest.mark.parametrize("task", SPECS)
def test_what_the_caller_passed_is_unchanged_and_not_shared(task: str) -> None:
    given = valid_inputs(task, batched=True)
    before = copy.deepcopy(given)
    request = inputs.read(task, given)
    assert given == before
    for row in request.rows:
        for value in row.values():
            if isinstance(value, list):
                value.append("mine")
    assert given == before


def test_rows_that_share_labels_do_not_share_the_list() -> None:
    given = {"text": ["a", "b"], "labels": ["x", "y"]}
    first, second = inputs.read("text-classification", given).rows
    first["labels"].append("mine")
    assert second["labels"] == ["x", "y"]


def test_images_are_left_as_they_were() -> None:
    picture = tiny.photo(0, (6, 4), "RGBA")
    picture.info["note"] = "mine"
    before = picture.tobytes()
    [row] = inputs.read("image-vectorisation", {"image": picture}).rows
    row["image"].rgb().putpixel((0, 0), (1, 2, 3))
    assert (picture.mode, picture.tobytes(), picture.info) == ("RGBA", before, {"note": "mine"})


def test_paths_are_not_opened_where_they_are_not_allowed(tmp_path: Any) -> None:
    path = tmp_path / "photo.png"
    path.write_bytes(PNG)
    assert inputs.read("image-vectorisation", {"image": str(path)}).rows
    for place in (str(path), path):
        with pytest.raises(InputError):
            inputs.read("image-vectorisation", {"image": place}, paths=False)
    assert inputs.read("image-vectorisation", {"image": BASE64}, paths=False).rows


# --- hypothesis: anything at all -----------------------------------------------------------------

PHOTO = Image.new("L", (3, 2))
ATOMS: list[Any] = [
    *(None, True, False, 0, 1, -1, 3, 2**63, 10**400, 10**5000, 0.5, -0.0, 1e308, 1j),
    *(math.nan, math.inf, -math.inf, Fraction(1, 3), Fraction(10**400, 3), np.float16("nan")),
    *(
        "",
        " ",
        "a",
        "b",
        "Sally?",
        "{}",
        "{} {}",
        "\ud800",
        "a\x00b",
        "x" * 300,
        "日本",
        "https://a",
    ),
    *("chunk", "truncate", "error", "extractive", "data:image/png;base64,", "data:,", "AAAA", "."),
    *(b"", b"GIF89a", PNG, PNG[:30], bytearray(PNG), memoryview(PNG), BASE64, BASE64[:-9], PHOTO),
    *({}, {"a": 1}, {1, 2}, range(2), object, object(), Unshowable(), ..., lambda: 0, iter("ab")),
    *(np.array(3), np.array([]), np.array(["a", "b"]), np.array([[1.0]]), np.zeros((2, 2, 3))),
    *(np.bool_(True), np.str_("a"), np.datetime64("2020-01-01"), np.array([None], dtype=object)),
    *([], (), [[]], ["a"], ("a", "b"), ["a", "a"], [["a"], ["b"]], [["a", "b"]], ["a", ["b"]]),
]
atoms = st.sampled_from(ATOMS)
wild = st.one_of(
    atoms,
    atoms,
    st.lists(atoms, max_size=3),
    st.lists(st.lists(atoms, max_size=2), max_size=3),
    st.tuples(atoms, atoms),
    st.integers(),
    st.floats(),
    st.text(max_size=4),
)
KEYS = sorted({key for spec in SPECS.values() for key in spec.keys})
changes = st.dictionaries(st.sampled_from([*KEYS, "txt", "", 0]), wild, max_size=4)


@settings(max_examples=10_000, deadline=None, suppress_health_check=list(HealthCheck))
@given(task=st.sampled_from(list(SPECS)), changed=changes, batched=st.booleans())
def test_nothing_but_our_own_error_comes_out_whatever_goes_in(
    task: str, changed: dict[Any, Any], batched: bool
) -> None:
    # Keys of other tasks would be refused at once, so mostly this task's own are changed.
    own = {key: value for key, value in changed.items() if key in SPECS[task].keys}
    given = {**valid_inputs(task, batched=batched), **(own or changed)}
    before = dict(given)
    try:
        request = inputs.read(task, given)
    except BackpropError as error:
        assert str(error)
    else:
        assert_well_formed(task, request)
    assert given.keys() == before.keys()
    assert all(given[key] is before[key] for key in given)


def assert_well_formed(task: str, request: inputs.Request) -> None:
    kinds = {"text": str, "image": Picture, "history": list, "labels": list}
    spec = SPECS[task]
    required = {field.name for field in spec.fields if field.required}
    for row in request.rows:
        assert required <= row.keys()
        for name, value in row.items():
            assert isinstance(value, kinds[spec.field(name).kind])
        assert all(isinstance(label, str) for label in row.get("labels", ()))
    assert request.options.keys() <= {option.name for option in spec.options}
    assert None not in request.options.values()
    assert len(request.rows) == 1 or not request.single


# --- hypothesis: what fits comes through ----------------------------------------------------------

words = st.sampled_from(["a", "b", "cats", "two words", "日本", "😀", "x" * 100, " padded "])
word_lists = st.lists(words, max_size=3)
label_lists = st.lists(words, min_size=1, max_size=3, unique=True)


def option_values(option: Option) -> st.SearchStrategy[Any]:
    if option.choices:
        return st.sampled_from(option.choices)
    low, high = option.low, option.high
    if option.kind == "int":
        return st.integers(int(low or 0), int(high or 99))
    if option.kind == "float":
        return st.floats(low, high, exclude_min=option.above_low)
    kinds = {"bool": st.booleans(), "str": st.just("so {} so"), "strings": word_lists.filter(bool)}
    return kinds[option.kind]


def field_values(kind: str, count: int) -> st.SearchStrategy[list[Any]]:
    items = {"text": words, "image": st.sampled_from([PNG, BASE64, PHOTO]), "labels": label_lists}
    return st.lists(items[kind], min_size=count, max_size=count)


@st.composite
def valid_requests(draw: st.DrawFn) -> tuple[str, dict[str, Any], int]:
    """Draw a task, a batched input that fits it, and the number of rows."""
    task = draw(st.sampled_from(list(SPECS)))
    spec, count = SPECS[task], draw(st.integers(0, 3))
    given: dict[str, Any] = {}
    for field in spec.fields:
        if field.kind != "history" and (field.required or draw(st.booleans())):
            given[field.name] = draw(field_values(field.kind, count))
    if task == "qa" and draw(st.booleans()):
        turns = draw(st.lists(word_lists, min_size=count, max_size=count))
        given |= {"prev_q": turns, "prev_a": [own[::-1] for own in turns]}
    for option in spec.options:
        if not option.caller_only and draw(st.booleans()):
            given[option.name] = draw(option_values(option))
    return task, given, count


def fits_together(given: dict[str, Any]) -> bool:
    """Whether the options agree with each other, as text generation asks."""
    greedy = given.get("do_sample") is False or given.get("temperature") == 0
    wanted, beams = given.get("num_generations", 1), given.get("num_beams", 1)
    enough = wanted <= beams or (beams == 1 and not greedy)
    samples_nothing = given.get("do_sample") and given.get("temperature") == 0
    ordered = given.get("min_length", 0) <= given.get("max_length", math.inf)
    return bool(enough and ordered and not samples_nothing)


@settings(max_examples=1_000, deadline=None, suppress_health_check=list(HealthCheck))
@given(request=valid_requests())
def test_what_fits_comes_through_row_by_row_and_as_it_was(
    request: tuple[str, dict[str, Any], int],
) -> None:
    task, given, count = request
    if not fits_together(given):
        with pytest.raises(InputError):
            inputs.read(task, given)
        return
    read = inputs.read(task, given)
    fields = [field.name for field in SPECS[task].fields if field.name in given]
    assert read.options == {key: value for key, value in given.items() if key not in fields}
    assert len(read.rows) == count
    for i, row in enumerate(read.rows):
        texts = {name: value for name, value in row.items() if name != "image"}
        assert texts == {name: given[name][i] for name in fields if name != "image"}
        if "image" in row:
            size = row["image"].rgb().size
            assert size == (PHOTO.size if given["image"][i] is PHOTO else (6, 4))
        alone = {**given, **{name: given[name][i] for name in fields}}
        one = inputs.read(task, alone)
        assert one.single
        assert {k: v for k, v in one.rows[0].items() if k != "image"} == texts


def valid_inputs(task: str, *, batched: bool) -> dict[str, Any]:
    """Return an input with every field, single or a list of two."""
    every = dict(LEAST[task])
    if task == "qa":
        every |= {"prev_q": ["a"], "prev_a": ["b"]}
    if task.endswith("-classification"):
        every |= {"labels": ["x", "y"]}
    return {key: [copy.copy(value), value] for key, value in every.items()} if batched else every
