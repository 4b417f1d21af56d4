"""OpenAI's protocol, so that its clients work: embeddings, completions, chat.

What a field asks for and no model here does is refused rather than ignored. Where a field is left
out the model's own default holds: texts are not sampled unless ``temperature``, ``top_p`` or
``top_k`` say so, or ``n`` asks for several. The tokens of a prompt are all that a model
that writes reads, its chat template's included; those of an embedding are the text's own.
``finish_reason`` is ``length`` where a text has as many as were allowed.

Source: the OpenAPI document of OpenAI's API, version 2.3.0.
"""

from __future__ import annotations

import base64
import re
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import anyio.to_thread
import numpy as np
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from backprop import inputs
from backprop.errors import InputError, UnsupportedTaskError
from backprop.pictures import describe
from backprop.serve.answers import body_of, checked, to_json
from backprop.serve.connection import while_connected
from backprop.serve.openai_chat import conversation
from backprop.serve.openai_stream import Shape, stream
from backprop.serve.services import Services
from backprop.serve.settings import Settings
from backprop.serve.task_routes import model_of

__all__ = ["routes"]

VECTORS, TEXTS = "text-vectorisation", "text-generation"

OPTIONS: Mapping[str, str] = {
    "max_tokens": "max_length",
    "max_completion_tokens": "max_length",
    "temperature": "temperature",
    "top_p": "top_p",
    "n": "num_generations",
    "stop": "stop",
    "seed": "seed",
    **{
        name: name
        for name in ("top_k", "min_length", "repetition_penalty", "length_penalty", "do_sample")
    },
}
"""OpenAI's name of an option to ours; those that it has none for go by our own."""

IGNORED = frozenset(
    {"user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key"}
)
"""About the account, or how a request is kept; nothing of the answer depends on them."""

NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "logit_bias": ({},),
    "logprobs": (False, 0),
    "top_logprobs": (0,),
    "echo": (False,),
    "suffix": ("",),
    "best_of": (1,),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "parallel_tool_calls": (True, False),
}
"""Fields that no model here can do, and the values that ask for nothing."""


def routes(services: Services) -> list[Route]:
    """Return the routes of OpenAI's clients."""
    return [
        Route("/v1/models", partial(_models, services), methods=["GET"]),
        Route("/v1/models/{name}", partial(_model, services), methods=["GET"]),
        Route("/v1/embeddings", partial(_embeddings, services), methods=["POST"]),
        Route("/v1/completions", partial(_write, services, COMPLETION), methods=["POST"]),
        Route("/v1/chat/completions", partial(_write, services, CHAT), methods=["POST"]),
    ]


COMPLETION = Shape("text_completion", "text_completion", "cmpl", is_chat=False)
CHAT = Shape("chat.completion", "chat.completion.chunk", "chatcmpl", is_chat=True)


async def _models(services: Services, request: Request) -> Response:
    wanted = {VECTORS, TEXTS}
    found = await anyio.to_thread.run_sync(services.told.models)
    data = [_told(each) for each in found if wanted & set(each["tasks"])]
    return to_json({"object": "list", "data": data})


async def _model(services: Services, request: Request) -> Response:
    name = request.path_params["name"]
    return to_json(_told(await anyio.to_thread.run_sync(services.told.model, name)))


def _told(model: Mapping[str, Any]) -> dict[str, Any]:
    return {"id": model["name"], "object": "model", "created": 0, "owned_by": model["source"]}


async def _embeddings(services: Services, request: Request) -> Response:
    start = time.perf_counter()
    body, size = await body_of(request)
    name = model_of(body)
    _known(body, {"input", "dimensions", "encoding_format"})
    encoding = body.get("encoding_format")
    if encoding is None:
        encoding = "float"
    if encoding not in ("float", "base64"):
        raise InputError(f"encoding_format must be float or base64; received {describe(encoding)}.")
    texts = _texts(body, "input")
    given = {"text": texts, "dimensions": body.get("dimensions")}
    with _in_names_of(body, "input"):
        asked = await checked(VECTORS, given, size, services.settings)
    target = await services.registry.find(name, VECTORS)
    request.state.facts = {"model": target.label, "rows": len(texts)}

    async def answer() -> tuple[list[Any], int]:
        with await services.registry.using(target, VECTORS, len(texts)) as model:
            vectors = await model.answer(asked.rows, asked.options)
            return vectors, sum(await model.count(texts))

    vectors, read = await while_connected(request, answer())
    services.metrics.request(VECTORS, target.name, time.perf_counter() - start)
    services.metrics.tokens(target.name, read, 0)
    data = [
        {"object": "embedding", "index": i, "embedding": _encoded(vector, encoding)}
        for i, vector in enumerate(vectors)
    ]
    usage = {"prompt_tokens": read, "total_tokens": read}
    return to_json({"object": "list", "data": data, "model": target.label, "usage": usage})


def _encoded(vector: list[float], encoding: str) -> Any:
    if encoding == "float":
        return vector
    return base64.b64encode(np.asarray(vector, "<f4").tobytes()).decode()


async def _write(services: Services, shape: Shape, request: Request) -> Response:
    start = time.perf_counter()
    body, size = await body_of(request)
    name = model_of(body)
    primary = "messages" if shape.is_chat else "prompt"
    with _in_names_of(body, primary):
        asked = await _asked(services.settings, primary, body, size)
        target = await services.registry.find(name, TEXTS)
        request.state.facts = {"model": target.label, "rows": len(asked.rows)}
        head = {
            "id": f"{shape.prefix}-{secrets.token_hex(12)}",
            "created": int(time.time()),
            "model": target.label,
        }
        if asked.streams:
            return await stream(services, request, shape, target, asked, head)

        async def answer() -> tuple[list[str], int, list[int], int]:
            with await services.registry.using(target, TEXTS, len(asked.rows)) as model:
                answers = await model.answer(asked.rows, asked.options)
                texts = [
                    text for own in answers for text in (own if isinstance(own, list) else [own])
                ]
                read = sum(await model.count_read(asked.rows))
                return texts, read, await model.count(texts), model.most_new

        texts, read, written, most_new = await while_connected(request, answer())
    most = asked.options.get("max_length") or most_new
    services.metrics.request(TEXTS, target.name, time.perf_counter() - start)
    services.metrics.tokens(target.name, read, sum(written))
    choices = [
        shape.choice(i, text, "length" if most and count >= most else "stop")
        for i, (text, count) in enumerate(zip(texts, written, strict=True))
    ]
    usage = shape.usage(read, sum(written))
    return to_json({**head, "object": shape.whole, "choices": choices, "usage": usage})


@dataclass(frozen=True)
class Asked:
    """A request for text, checked.

    Args:
        rows: what to answer.
        options: those of ``text-generation``.
        streams: whether the text is to be sent as it comes.
        counts: whether a stream ends with its usage.
    """

    rows: list[inputs.Row]
    options: dict[str, Any]
    streams: bool
    counts: bool


async def _asked(settings: Settings, primary: str, body: Mapping[str, Any], size: int) -> Asked:
    """Return what a body asks for.

    Raises:
        InputError: it does not fit.
    """
    _known(body, {primary, "stream", "stream_options", *OPTIONS})
    given = {ours: body[name] for name, ours in OPTIONS.items() if body.get(name) is not None}
    streams = _flag(body.get("stream"), "stream")
    counts = _usage_asked(body.get("stream_options"))
    if primary == "messages":
        messages = conversation(body)
        said = "\n".join(message["content"] for message in messages)
        checked_texts = await checked(TEXTS, {"text": said, **given}, size, settings)
        rows: list[inputs.Row] = [{"messages": messages}]
    else:
        prompts = _texts(body, "prompt")
        checked_texts = await checked(TEXTS, {"text": prompts, **given}, size, settings)
        rows = checked_texts.rows
    if streams and (len(rows) > 1 or checked_texts.options.get("num_generations", 1) > 1):
        raise InputError("stream follows one prompt and one text; send several requests.")
    return Asked(rows, checked_texts.options, streams, counts)


@contextmanager
def _in_names_of(body: Mapping[str, Any], primary: str) -> Iterator[None]:
    """Tell what is wrong by the names that a body has, in place of ours.

    Args:
        body: what was sent.
        primary: its field that has the text.

    Raises:
        InputError: one was raised inside.
    """
    try:
        yield
    except UnsupportedTaskError:
        raise
    except InputError as error:
        told = re.sub(r"^text\b", primary, str(error))
        for name, ours in reversed(list(OPTIONS.items())):  # of two names of one the last holds
            if body.get(name) is not None:
                told = re.sub(rf"\b{ours}\b", name, told)
        raise InputError(told) from error


def _texts(body: Mapping[str, Any], name: str) -> list[str]:
    """Return the texts of a field that takes one or several.

    Raises:
        InputError: there are none, or token ids in their place.
    """
    if name not in body:
        raise InputError(f"{name} is missing; send a string or a list of them.")
    value = body[name]
    texts = [value] if isinstance(value, str) else value
    if texts == []:
        raise InputError(f"{name} must not be empty.")
    if not isinstance(texts, list):
        raise InputError(f"{name} must be a string or a list of them; received {describe(value)}.")
    if any(isinstance(each, (int, list)) for each in texts):
        raise InputError(f"{name} holds token ids; send the text itself.")
    return texts


def _known(body: Mapping[str, Any], known: set[str]) -> None:
    """Refuse fields that would have to be ignored.

    Raises:
        InputError: there is one.
    """
    for name, value in body.items():
        if name in known or name in IGNORED or value is None:
            continue
        if name not in NEUTRAL:
            raise InputError(f"There is no field {describe(name)}; known are {_list(known)}.")
        if value not in NEUTRAL[name]:
            raise InputError(f"{name} can't be used here; leave it out.")


def _list(names: set[str]) -> str:
    return ", ".join(["model", *sorted(names)])


def _flag(value: object, name: str) -> bool:
    if value is None or isinstance(value, bool):
        return bool(value)
    raise InputError(f"{name} must be true or false; received {describe(value)}.")


def _usage_asked(value: object) -> bool:
    if value is None:
        return False
    if not isinstance(value, dict):
        raise InputError(f"stream_options must be an object; received {describe(value)}.")
    return _flag(value.get("include_usage"), "include_usage")
