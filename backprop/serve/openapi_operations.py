"""The routes that are not tasks, as OpenAPI describes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from backprop.serve import limits

__all__ = ["COMPONENTS", "LENGTH_FIELDS", "MODEL", "OPERATIONS", "STRINGS", "nullable"]

Json = dict[str, Any]

NAME: Json = {"type": "string", "pattern": "^[a-z0-9_-]{3,100}$"}
ALIAS: Json = {"type": "string", "pattern": "^[a-z_-][a-z0-9_-]{0,49}$"}
SHA256: Json = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
NUMBER: Json = {"type": "integer", "minimum": 1, "maximum": 2**31 - 1}
OBJECT: Json = {"type": "object"}
_STRING: Json = {"type": "string", "minLength": 1, "maxLength": limits.MAX_TEXT}
STRINGS: Json = {
    "anyOf": [_STRING, {"type": "array", "items": _STRING, "minItems": 1, "maxItems": 16}]
}
"""One string or several."""
TEXT: Json = {"type": "string", "minLength": 1, "maxLength": limits.MAX_TEXT, "pattern": r"\S"}


def nullable(schema: Json) -> Json:
    """Return the schema of a value that may be null, which means that it is left out."""
    return {"anyOf": [schema, {"type": "null"}]}


MODEL: Json = nullable(
    {
        "type": "string",
        "maxLength": 160,
        "description": "a name, name@version or name@alias; the default if left out",
    }
)
MESSAGES: Mapping[str, str] = {
    "400": "The request does not fit.",
    "401": "No key, or not a valid one.",
    "403": "The key may not do this.",
    "404": "There is no such thing.",
    "409": "It is not as the request takes it to be.",
    "413": "Too large.",
    "415": "Not JSON.",
    "416": "There is no such part.",
    "422": "The model was refused.",
    "429": "Too many requests; Retry-After says when to come back.",
    "503": "Too busy, starting or stopping; Retry-After says when to come back.",
}
ERROR: Json = {
    "type": "object",
    "required": ["message"],
    "properties": {"message": {"type": "string"}},
}
COMPONENTS: Json = {
    "securitySchemes": {
        "key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
        "bearer": {"type": "http", "scheme": "bearer"},
    },
    "responses": {
        code: {"description": text, "content": {"application/json": {"schema": ERROR}}}
        for code, text in MESSAGES.items()
    },
}
COMMON = ("400", "401", "403", "429", "503")


def _operation(
    name: str,
    summary: str,
    tag: str,
    *,
    status: str = "200",
    answer: Json | None = OBJECT,
    refusals: tuple[str, ...] = (),
    body: Json | None = None,
    example: Any = None,
    parameters: Mapping[str, Json] | None = None,
    content: str = "application/json",
) -> Json:
    """Return an operation; parameters are those of the path."""
    fine: Json = {"description": summary}
    if answer is not None:
        fine["content"] = {content: {"schema": answer}}
    own: Json = {
        "operationId": name,
        "summary": summary,
        "tags": [tag],
        "responses": {
            status: fine,
            **{
                code: {"$ref": f"#/components/responses/{code}"}
                for code in sorted({*COMMON, *refusals})
            },
        },
    }
    if parameters:
        own["parameters"] = [
            {"name": key, "in": "path", "required": True, "schema": schema}
            for key, schema in parameters.items()
        ]
    if body is not None:
        media: Json = {"schema": body}
        if example is not None:
            media["example"] = example
        own["requestBody"] = {"required": True, "content": {"application/json": media}}
    return own


_OPTIONS: Json = {
    "max_tokens": {"type": "integer", "minimum": 1},
    "temperature": {"type": "number", "minimum": 0, "maximum": 100},
    "top_p": {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
    "n": {"type": "integer", "minimum": 1, "maximum": 16},
    "stop": STRINGS,
    "seed": {"type": "integer", "minimum": 0, "maximum": 2**63 - 1},
    "stream": {"type": "boolean"},
}
GENERATION: Json = {
    "model": MODEL,
    **{name: nullable(schema) for name, schema in _OPTIONS.items()},
    "user": {},
}
LENGTH_FIELDS = {"max_tokens"}
"""Fields that the server's settings bound."""
MESSAGE: Json = {
    "type": "object",
    "required": ["role", "content"],
    "properties": {
        "role": {"enum": ["system", "developer", "user", "assistant"]},
        "content": TEXT,
    },
    "additionalProperties": False,
}
FILES: Json = {
    "type": "object",
    "minProperties": 1,
    "maxProperties": 64,
    "additionalProperties": {
        "type": "object",
        "required": ["sha256", "size_bytes"],
        "properties": {
            "sha256": SHA256,
            "size_bytes": {"type": "integer", "minimum": 0, "maximum": 2**40},
        },
        "additionalProperties": False,
    },
}
BINARY: Json = {"type": "string", "format": "binary"}
UPLOAD_HEADERS = [
    {
        "name": "upload-length",
        "in": "header",
        "required": True,
        "schema": {"type": "integer", "minimum": 0},
    },
    {
        "name": "upload-offset",
        "in": "header",
        "required": False,
        "schema": {"type": "integer", "minimum": 0},
    },
]


def _texts(name: str, extra: Json) -> Json:
    many = {"type": "array", "items": TEXT, "minItems": 1, "maxItems": limits.MAX_ROWS}
    return {
        "type": "object",
        "required": [name],
        "properties": {name: {"anyOf": [TEXT, many]}, **extra},
        "additionalProperties": False,
    }


EMBEDDINGS: Json = _texts(
    "input",
    {
        "model": MODEL,
        "dimensions": nullable({"type": "integer", "minimum": 1, "maximum": 100_000}),
        "encoding_format": {"enum": ["float", "base64", None]},
        "user": {},
    },
)
CHAT: Json = {
    "type": "object",
    "required": ["messages"],
    "properties": {
        "messages": {"type": "array", "items": MESSAGE, "minItems": 1, "maxItems": 200},
        **GENERATION,
    },
    "additionalProperties": False,
}
HELLO = [{"role": "user", "content": "Say hello."}]

OPERATIONS: Mapping[tuple[str, str], Json] = {
    ("GET", "/models"): _operation("models", "All models that are served", "models"),
    ("GET", "/models/{name}"): _operation(
        "model", "One model, with its card", "models", refusals=("404",), parameters={"name": NAME}
    ),
    ("GET", "/models/{name}/versions"): _operation(
        "versions",
        "The versions of an uploaded model, newest first",
        "hub",
        refusals=("404",),
        parameters={"name": NAME},
    ),
    ("POST", "/models/{name}/versions"): _operation(
        "commit",
        "Make a version of files that were uploaded",
        "hub",
        status="201",
        refusals=("404", "409", "413", "415", "422"),
        parameters={"name": NAME},
        body={
            "type": "object",
            "required": ["files"],
            "properties": {"files": FILES, "description": {"type": "string", "maxLength": 10_000}},
            "additionalProperties": False,
        },
    ),
    ("GET", "/models/{name}/versions/{ref}"): _operation(
        "version",
        "One version by number, alias or 'latest', with its files",
        "hub",
        refusals=("404",),
        parameters={"name": NAME, "ref": {"type": "string", "pattern": "^[a-z0-9_-]{1,50}$"}},
    ),
    ("DELETE", "/models/{name}/versions/{ref}"): _operation(
        "delete_version",
        "Delete a version that no alias means",
        "hub",
        status="204",
        answer=None,
        refusals=("404", "409"),
        parameters={"name": NAME, "ref": NUMBER},
    ),
    ("DELETE", "/models/{name}"): _operation(
        "delete_model",
        "Delete a model with all its versions",
        "hub",
        status="204",
        answer=None,
        refusals=("404",),
        parameters={"name": NAME},
    ),
    ("PUT", "/models/{name}/aliases/{alias}"): _operation(
        "set_alias",
        "Let an alias stand for a version",
        "hub",
        refusals=("404", "409", "413", "415"),
        parameters={"name": NAME, "alias": ALIAS},
        body={
            "type": "object",
            "required": ["version"],
            "properties": {"version": NUMBER},
            "additionalProperties": False,
        },
        example={"version": 1},
    ),
    ("DELETE", "/models/{name}/aliases/{alias}"): _operation(
        "delete_alias",
        "Delete an alias",
        "hub",
        status="204",
        answer=None,
        refusals=("404",),
        parameters={"name": NAME, "alias": ALIAS},
    ),
    ("HEAD", "/blobs/{sha256}"): _operation(
        "stat_blob",
        "Whether a file is here whole; if not, how much of it is",
        "hub",
        answer=None,
        refusals=("404",),
        parameters={"sha256": SHA256},
    ),
    ("GET", "/blobs/{sha256}"): _operation(
        "get_blob",
        "A file of a version",
        "hub",
        answer=BINARY,
        content="application/octet-stream",
        refusals=("404", "416"),
        parameters={"sha256": SHA256},
    ),
    ("PUT", "/blobs/{sha256}"): {
        **_operation(
            "put_blob",
            "Upload a file, or the next part of it",
            "hub",
            status="201",
            answer=None,
            refusals=("409", "413", "422"),
            parameters={"sha256": SHA256},
        ),
        "requestBody": {
            "required": True,
            "content": {"application/octet-stream": {"schema": BINARY}},
        },
    },
    ("GET", "/v1/models"): _operation("openai_models", "Models, as OpenAI lists them", "OpenAI"),
    ("GET", "/v1/models/{name}"): _operation(
        "openai_model",
        "One model, as OpenAI lists it",
        "OpenAI",
        refusals=("404",),
        parameters={"name": NAME},
    ),
    ("POST", "/v1/embeddings"): _operation(
        "embeddings",
        "Text vectors",
        "OpenAI",
        refusals=("404", "413", "415"),
        body=EMBEDDINGS,
        example={"input": ["The train was late."]},
    ),
    ("POST", "/v1/completions"): _operation(
        "completions",
        "Text that is written",
        "OpenAI",
        refusals=("404", "413", "415"),
        body=_texts("prompt", GENERATION),
        example={"prompt": "Say hello.", "max_tokens": 8},
    ),
    ("POST", "/v1/chat/completions"): _operation(
        "chat",
        "The next message of a conversation",
        "OpenAI",
        refusals=("404", "413", "415"),
        body=CHAT,
        example={"messages": HELLO, "max_tokens": 8},
    ),
    ("GET", "/livez"): {
        **_operation("livez", "Whether the process lives", "health"),
        "security": [],
    },
    ("GET", "/readyz"): {
        **_operation("readyz", "Whether it takes requests", "health"),
        "security": [],
    },
    ("GET", "/metrics"): _operation(
        "metrics",
        "Figures for Prometheus",
        "health",
        answer={"type": "string"},
        content="text/plain",
    ),
    ("GET", "/stats.json"): _operation("stats", "What is loaded now, and how it does", "health"),
    ("GET", "/openapi.json"): _operation("openapi", "This document", "health"),
}

_HEAD: Any = OPERATIONS["HEAD", "/blobs/{sha256}"]
_HEAD["responses"] = {
    code: {"description": MESSAGES.get(code, _HEAD["summary"])} for code in _HEAD["responses"]
}
_PUT: Any = OPERATIONS["PUT", "/blobs/{sha256}"]
_PUT["parameters"] = [*_PUT["parameters"], *UPLOAD_HEADERS]
_PUT["responses"] |= {
    "200": {"description": "It was here already."},
    "204": {"description": "A part was kept; more is to come at upload-offset."},
}
_COMPLETIONS = ("/v1/completions", "/v1/chat/completions")
for _path in _COMPLETIONS:
    _answer: Any = OPERATIONS["POST", _path]["responses"]["200"]
    _answer["content"]["text/event-stream"] = {}
