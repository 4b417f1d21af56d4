import dataclasses
import inspect
from typing import Any

import pytest

from backprop import catalogue, tasks
from backprop.errors import UnsupportedTaskError
from backprop.specs import SPECS, STYLES, Training, spec_of

# The nine inference tables of models.rst: task string and keys.
INFERENCE = {
    "qa": "question context prev_q prev_a",
    "text-classification": "text labels top_k",
    "emotion": "text",
    "summarisation": "text",
    "image-classification": "image labels top_k",
    "image-vectorisation": "image",
    "image-text-vectorisation": "image text",
    "text-generation": (
        "text min_length max_length temperature top_k top_p repetition_penalty length_penalty "
        "num_beams num_generations do_sample"
    ),
    "text-vectorisation": "text",
}

# The table of task classes: class, and its call of 2021 with the defaults.
GENERATION = INFERENCE["text-generation"].split()[1:]
CLASSES: dict[str, tuple[str, dict[str, Any]]] = {
    "qa": ("QA", {"question": ..., "context": ..., "prev_qa": None}),
    "text-classification": ("TextClassification", {"text": ..., "labels": None, "top_k": 0}),
    "emotion": ("Emotion", {"text": ...}),
    "summarisation": ("Summarisation", {"text": ...}),
    "text-generation": ("TextGeneration", {"text": ..., **dict.fromkeys(GENERATION)}),
    "text-vectorisation": ("TextVectorisation", {"text": ..., "return_tensor": False}),
    "image-classification": ("ImageClassification", {"image": ..., "labels": None, "top_k": 0}),
    "image-vectorisation": ("ImageVectorisation", {"image": ..., "return_tensor": False}),
    "image-text-vectorisation": (
        "ImageTextVectorisation",
        {"image": ..., "text": ..., "return_tensor": False},
    ),
}

# What came after 2021 is keyword-only.
RICHER = {
    "qa": "details allow_no_answer",
    "text-classification": "template multi_label",
    "emotion": "top_k",
    "summarisation": "style",
    "text-generation": "stop seed",
    "text-vectorisation": "normalise dimensions",
    "image-classification": "template",
    "image-vectorisation": "normalise dimensions",
    "image-text-vectorisation": "normalise dimensions",
}

# The REST protocol: key of the answer.
OUTPUTS = {
    "qa": "answer",
    "text-classification": "probabilities",
    "image-classification": "probabilities",
    "emotion": "emotion",
    "summarisation": "summary",
    "text-generation": "output",
    "text-vectorisation": "vector",
    "image-vectorisation": "vector",
    "image-text-vectorisation": "vector",
}

# The table of finetuning: variant to columns; [x] is optional. The first variant is the default.
TEXT_PAIRS = "texts1 texts2 similarity_scores"
IMAGE_PAIRS = "imgs1 imgs2 similarity_scores"
BOTH_PAIRS = "imgs1 imgs2 texts1 texts2 similarity_scores"
FINETUNE: dict[str, dict[str, str]] = {
    "qa": {"": "questions answers contexts [prev_qas]"},
    "emotion": {"": "input_text output_text"},
    "text-generation": {"": "input_text output_text"},
    "summarisation": {"": "input_text output_text"},
    # Several labels a row are an extension of ours.
    "text-classification": {"single_label": "texts labels", "multi_label": "texts labels"},
    "image-classification": {"single_label": "images labels", "multi_label": "images labels"},
    "text-vectorisation": {"cosine_similarity": TEXT_PAIRS, "triplet": "texts groups"},
    "image-vectorisation": {"triplet": "images groups", "cosine_similarity": IMAGE_PAIRS},
    "image-text-vectorisation": {
        "triplet": "images texts groups",
        "cosine_similarity": BOTH_PAIRS,
    },
}

ARGUMENTS = {
    "qa": {"max_input_length": 256, "max_output_length": 32},
    "emotion": {"max_input_length": 256, "max_output_length": 32},
    "text-generation": {"max_input_length": 128, "max_output_length": 32},
    "summarisation": {"max_input_length": 512, "max_output_length": 128},
    "text-classification": {"max_length": 128},
}

# The tables of models.rst for process_batch: keys that come from the row itself. (What the
# arguments above give, and class_to_idx, are the trainer's.)
PROCESSED = {
    "qa": "question context prev_qa output",
    "text-classification": "inputs labels",
    "emotion": "input output",
    "summarisation": "input output",
    "image-classification": "image",
    "image-vectorisation": "image",
    "text-generation": "input output",
    "text-vectorisation": "text",
    "image-text-vectorisation": "image text",
}


def call_of(task: str) -> dict[str, inspect.Parameter]:
    method = getattr(tasks, SPECS[task].task_class).__call__
    parameters = dict(inspect.signature(method).parameters)
    del parameters["self"]
    return parameters


def test_there_are_nine_tasks() -> None:
    assert set(SPECS) == set(INFERENCE)
    assert all(spec.name == task and spec.title for task, spec in SPECS.items())


@pytest.mark.parametrize("task", SPECS)
def test_the_signature_is_the_spec_s(task: str) -> None:
    found = [
        (
            name,
            ... if parameter.default is parameter.empty else parameter.default,
            parameter.kind is parameter.KEYWORD_ONLY,
        )
        for name, parameter in call_of(task).items()
    ]
    expected = list(SPECS[task].arguments())
    assert found == expected
    # 0 == False and 0.0 == 0, so the types are compared too.
    assert [type(default) for _, default, _ in found] == [type(each) for _, each, _ in expected]


@pytest.mark.parametrize("task", SPECS)
def test_a_call_of_2021_means_the_same(task: str) -> None:
    name, arguments = CLASSES[task]
    assert SPECS[task].task_class == name
    assert getattr(tasks, name).task == task
    parameters = call_of(task)
    positional = {
        name: ... if each.default is each.empty else each.default
        for name, each in parameters.items()
        if each.kind is each.POSITIONAL_OR_KEYWORD
    }
    assert list(positional.items()) == list(arguments.items())


@pytest.mark.parametrize("task", SPECS)
def test_richer_options_are_keyword_only(task: str) -> None:
    for name in RICHER[task].split():
        assert call_of(task)[name].kind is inspect.Parameter.KEYWORD_ONLY


@pytest.mark.parametrize("task", SPECS)
def test_every_documented_key_is_one_of_the_spec_s(task: str) -> None:
    assert set(INFERENCE[task].split()) <= set(SPECS[task].keys)


@pytest.mark.parametrize("task", SPECS)
def test_fields_and_options_do_not_share_names(task: str) -> None:
    spec = SPECS[task]
    names = [field.name for field in spec.fields] + [option.name for option in spec.options]
    assert len(set(names)) == len(names)
    assert spec.primary.required


@pytest.mark.parametrize("task", SPECS)
def test_every_field_and_option_is_explained(task: str) -> None:
    assert all(field.doc for field in SPECS[task].fields)
    assert all(option.doc for option in SPECS[task].options)


@pytest.mark.parametrize("task", SPECS)
def test_defaults_are_within_bounds(task: str) -> None:
    for option in SPECS[task].options:
        if option.kind in ("int", "float") and option.default is not None:
            assert option.low is None or option.low <= option.default
            assert option.high is None or option.default <= option.high
        assert option.default is None or not option.choices or option.default in option.choices


@pytest.mark.parametrize("task", SPECS)
def test_the_key_of_the_answer(task: str) -> None:
    assert SPECS[task].output == OUTPUTS[task]


@pytest.mark.parametrize("task", SPECS)
def test_finetune_columns_and_variants(task: str) -> None:
    found = {training.variant: shown(training) for training in SPECS[task].training}
    assert list(found.items()) == list(FINETUNE[task].items())


def shown(training: Training) -> str:
    return " ".join(
        column.name if column.required else f"[{column.name}]" for column in training.columns
    )


@pytest.mark.parametrize("task", SPECS)
def test_finetune_arguments(task: str) -> None:
    for training in SPECS[task].training:
        given = dict(training.arguments)
        if task == "text-vectorisation":  # the document names max_length and no default
            assert list(given) == ["max_length"]
        else:
            assert given == ARGUMENTS.get(task, {})


@pytest.mark.parametrize("task", SPECS)
def test_columns_reach_process_batch_under_the_documented_keys(task: str) -> None:
    for training in SPECS[task].training:
        assert {column.row for column in training.columns if column.row} == set(
            PROCESSED[task].split()
        )


@pytest.mark.parametrize("task", SPECS)
def test_the_default_model_does_the_task(task: str) -> None:
    assert task in catalogue.get(SPECS[task].default).tasks


def test_each_style_of_summary_has_a_model() -> None:
    [style] = [option for option in SPECS["summarisation"].options if option.name == "style"]
    assert tuple(STYLES) == style.choices
    assert all("summarisation" in catalogue.get(name).tasks for name in STYLES.values())
    assert SPECS["summarisation"].default in STYLES.values()


def test_the_table_can_t_be_changed() -> None:
    table: Any = SPECS
    spec: Any = SPECS["qa"]
    with pytest.raises(TypeError):
        table["qa"] = spec
    with pytest.raises(TypeError):
        del table["qa"]
    for part in (spec, spec.fields[0], spec.options[0], spec.training[0]):
        with pytest.raises(dataclasses.FrozenInstanceError):
            part.name = "other"
    with pytest.raises(dataclasses.FrozenInstanceError):
        spec.training[0].columns[0].name = "other"
    for group in (spec.fields, spec.options, spec.training, spec.training[0].columns):
        assert isinstance(group, tuple)
    assert hash(spec)


@pytest.mark.parametrize("task", ["QA", "sentiment", "", None, ["qa"], 3])
def test_an_unknown_task_is_refused_with_those_there_are(task: object) -> None:
    with pytest.raises(UnsupportedTaskError) as refusal:
        spec_of(task)
    assert repr(task) in str(refusal.value)
    assert all(name in str(refusal.value) for name in SPECS)
