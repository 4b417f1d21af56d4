"""Inputs to try a model with, made from the tasks' specs."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from PIL import Image

from backprop.specs import Field, Option, TaskSpec

__all__ = ["batch", "options", "optional_groups", "rows"]

TEXTS = (
    "What a lovely day, thank you so much!",
    "The train to London was late again. Nobody told us why. We waited for an hour in the rain.",
    "It rains.",
)
SAMPLES: Mapping[str, Sequence[Any]] = MappingProxyType(
    {
        "text": TEXTS,
        "question": ("Where does Sally live?", "What was late?", "Who is it?"),
        "context": ("Sally lives in London.", TEXTS[1], "It is Tom, who came by bike."),
        "prev_q": (["Who is Sally?"], ["Where to?", "Is that far?"], []),
        "prev_a": (["A friend."], ["To London.", "Yes, it is."], []),
        "labels": (["animal", "vehicle", "food"], ["vehicle", "weather"], ["weather", "food"]),
    }
)
"""Field to its value in each row; the rows differ in length, so that batches need padding."""

VALUES: Mapping[str, Any] = MappingProxyType(
    {"bool": True, "int": 2, "float": 0.9, "str": "This is {}.", "strings": ["zebra"]}
)
"""Kind of option to a value that every option of that kind allows."""

SHORT = MappingProxyType({"max_length": 8})
"""Options that keep a check quick, for the tasks that have them."""


def rows(spec: TaskSpec, extra: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Return single inputs, one a row: required fields and those optional ones named ``extra``."""
    fields = [field for field in spec.fields if field.required or field.name in extra]
    columns = [_samples(field) for field in fields]
    return [
        {field.name: value for field, value in zip(fields, values, strict=True)}
        for values in zip(*columns, strict=True)
    ]


def batch(singles: Sequence[Mapping[str, Any]], spec: TaskSpec) -> dict[str, Any]:
    """Return one input that holds all of ``singles`` as lists; of none, the required fields."""
    names = singles[0] if singles else [field.name for field in spec.fields if field.required]
    return {name: [single[name] for single in singles] for name in names}


def optional_groups(spec: TaskSpec) -> list[list[str]]:
    """Return the optional fields, those that only make sense together in one list."""
    groups: dict[str, list[str]] = {}
    for field in spec.fields:
        if not field.required:
            groups.setdefault(field.argument, []).append(field.name)
    return list(groups.values())


def options(spec: TaskSpec) -> list[dict[str, Any]]:
    """Return for each option a model may see a dictionary that holds just it."""
    return [{option.name: _value(option)} for option in spec.options if not option.caller_only]


def short(spec: TaskSpec) -> dict[str, Any]:
    """Return the options that keep the task's answers short."""
    return {option.name: SHORT[option.name] for option in spec.options if option.name in SHORT}


def _value(option: Option) -> Any:
    if option.name in SHORT:
        return SHORT[option.name]
    return option.choices[-1] if option.choices else VALUES[option.kind]


def _samples(field: Field) -> Sequence[Any]:
    return _images() if field.kind == "image" else SAMPLES[field.name]


def _images() -> Sequence[Any]:
    """Return images in the forms of the schema: PIL and base64."""
    return (
        _gradient((64, 48)),
        base64.b64encode(_png(_gradient((40, 56)).rotate(90))).decode(),
        _gradient((32, 32)).convert("L"),
    )


def _gradient(size: tuple[int, int]) -> Image.Image:
    """Return a picture with a little of everything: light, dark, colours and an edge."""
    ramp = Image.linear_gradient("L").resize(size)
    disc = Image.radial_gradient("L").resize(size)
    return Image.merge("RGB", (ramp, disc, ramp.transpose(Image.Transpose.ROTATE_180)))


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
