"""The OpenAPI document of the server: task routes from ``SPECS``, the others from a table."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from typing import Any

from backprop.serve import limits
from backprop.serve.openapi_operations import (
    COMPONENTS,
    LENGTH_FIELDS,
    MODEL,
    OPERATIONS,
    STRINGS,
    nullable,
)
from backprop.serve.settings import Settings
from backprop.specs import SPECS, Field, Option, TaskSpec

__all__ = ["document"]

Json = dict[str, Any]

TEXT: Json = {"type": "string", "minLength": 1, "maxLength": limits.MAX_TEXT, "pattern": r"\S"}
ANY_TEXT: Json = {"type": "string", "maxLength": limits.MAX_TEXT}
IMAGE: Json = {
    "type": "string",
    "format": "image-base64",
    "minLength": 1,
    "description": "base64 of a JPEG, PNG, GIF, WEBP, BMP or TIFF file, or a data URL of it",
}
LABELS: Json = {
    "type": "array",
    "items": TEXT,
    "minItems": 1,
    "maxItems": limits.MAX_LABELS,
    "uniqueItems": True,
}
HISTORY: Json = {"type": "array", "items": ANY_TEXT, "maxItems": limits.MAX_HISTORY}
PROBABILITIES: Json = {
    "type": "object",
    "additionalProperties": {"type": "number", "minimum": 0, "maximum": 1},
}
ANSWERS: Mapping[str, Json] = {
    "text": {"type": "string"},
    "probabilities": PROBABILITIES,
    "vector": {"type": "array", "items": {"type": "number"}},
}
TYPES: Mapping[str, str] = {"bool": "boolean", "int": "integer", "float": "number", "str": "string"}

PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAIAAABLbSncAAAAD0lEQVR4nGPYH3ACK2IYWhIAfshmAR6mlewAAAAASUVO"
    "RK5CYII="
)
"""Eight by eight pixels, for examples."""
EXAMPLES: Mapping[str, Any] = {
    "question": "Where does Sally live?",
    "context": "Sally has been living in London for 3 years.",
    "text": "The train to London was late again.",
    "image": PIXEL,
}


def document(settings: Settings) -> Json:
    """Return the OpenAPI document of a server that runs so."""
    return _document(settings.most_tokens)


@cache
def _document(most_tokens: int) -> Json:
    paths: dict[str, Json] = {}
    bounds = {**limits.OPTION_BOUNDS, **dict.fromkeys(limits.LENGTHS, most_tokens)}
    for spec in SPECS.values():
        paths[f"/{spec.name}"] = {"post": _task(spec, bounds)}
    for (method, path), known in OPERATIONS.items():
        operation = _bounded(known, most_tokens)
        paths.setdefault(path, {})[method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "backprop",
            "version": metadata.version("backprop"),
            "description": "Machine-learning models for nine tasks. Images are base64.",
        },
        "paths": paths,
        "components": COMPONENTS,
        "security": [{"key": []}, {"bearer": []}],
    }


def _bounded(operation: Json, most_tokens: int) -> Json:
    """Return an operation whose lengths of text are bounded as the server's are."""
    own = copy.deepcopy(operation)
    for media in own.get("requestBody", {}).get("content", {}).values():
        for name in LENGTH_FIELDS & media["schema"].get("properties", {}).keys():
            media["schema"]["properties"][name]["anyOf"][0]["maximum"] = most_tokens
    return own


def _task(spec: TaskSpec, bounds: Mapping[str, float]) -> Json:
    single, batch = (_body(spec, bounds, batch=several) for several in (False, True))
    answer = _answer(spec)
    given = {field.name: EXAMPLES[field.name] for field in spec.fields if field.name in EXAMPLES}
    return {
        "operationId": spec.name,
        "summary": spec.title,
        "tags": ["tasks"],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {"anyOf": [single, batch]},
                    "examples": {
                        "single": {"value": given},
                        "batch": {"value": {key: [value] for key, value in given.items()}},
                    },
                }
            },
        },
        "responses": {
            "200": {
                "description": "The answer: one, or a list of them for a list.",
                "content": {
                    "application/json": {
                        "schema": {
                            "type": "object",
                            "required": [spec.output],
                            "properties": {spec.output: answer},
                            "additionalProperties": False,
                        }
                    }
                },
            },
            **{code: {"$ref": f"#/components/responses/{code}"} for code in REFUSALS},
        },
    }


REFUSALS = ("400", "401", "403", "404", "413", "415", "429", "503")


def _answer(spec: TaskSpec) -> Json:
    one = ANSWERS[spec.answer]
    kinds = [one]
    if spec.name == "qa":
        kinds.append({"type": "object"})  # with ``details``
    if spec.name == "emotion":
        kinds.append(PROBABILITIES)  # with ``top_k``
    if spec.name == "text-generation":
        kinds.append({"type": "array", "items": one})  # with ``num_generations``
    single = kinds[0] if len(kinds) == 1 else {"anyOf": kinds}
    return {"anyOf": [single, {"type": "array", "items": single}]}


def _body(spec: TaskSpec, bounds: Mapping[str, float], *, batch: bool) -> Json:
    properties: Json = {}
    for field in spec.fields:
        own = _field(field, batch)
        properties[field.name] = own if field.required else nullable(own)
    for option in spec.options:
        if not option.caller_only:
            properties[option.name] = nullable(_option(option, bounds))
    properties["model"] = MODEL
    return {
        "type": "object",
        "required": [field.name for field in spec.fields if field.required],
        "properties": properties,
        "additionalProperties": False,
    }


def _field(field: Field, batch: bool) -> Json:
    described = {"description": field.doc}
    if field.kind == "labels":
        return {**LABELS, **described}
    one = {"text": TEXT, "image": IMAGE, "history": HISTORY}[field.kind]
    if not batch:
        return {**one, **described}
    most = limits.MAX_ROWS
    return {"type": "array", "items": one, "maxItems": most, **described}


def _option(option: Option, bounds: Mapping[str, float]) -> Json:
    own: Json = {"description": option.doc}
    if option.kind == "strings":
        return {**own, **STRINGS}
    own["type"] = TYPES[option.kind]
    if option.choices:
        own["enum"] = list(option.choices)
    elif option.kind == "str":
        own |= TEXT
        if option.name == "template":
            own["pattern"] = r"^[^{}]*\{\}[^{}]*$"
    if option.low is not None:
        own["exclusiveMinimum" if option.above_low else "minimum"] = option.low
    high = bounds.get(option.name, option.high)
    if high is not None and option.kind in ("int", "float"):
        own["maximum"] = high
    return own
