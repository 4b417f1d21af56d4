"""From a JSON body to rows, and from answers to JSON: what the task routes share."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache, partial
from typing import Any

import anyio
import anyio.to_thread
import orjson
from starlette.requests import Request
from starlette.responses import Response

from backprop import inputs
from backprop.errors import InputError
from backprop.handlers.writer import DEFAULT_NEW_TOKENS
from backprop.pictures import describe
from backprop.serve import limits
from backprop.serve.images import check_images
from backprop.serve.settings import Settings
from backprop.specs import SPECS

__all__ = ["JSON", "body_of", "checked", "to_json"]

JSON = "application/json"
SMALL_BYTES = 64 << 10
"""A body up to here is checked on the event loop: faster than a thread takes to wake."""


@cache
def _large() -> anyio.CapacityLimiter:
    """Return what bounds how many large bodies are read at once: each takes much memory."""
    return anyio.CapacityLimiter(2)


async def body_of(request: Request) -> tuple[dict[str, Any], int]:
    """Return the JSON object that was sent, and its size in bytes.

    Raises:
        InputError: it is something else.
    """
    raw = await request.body()
    if len(raw) > SMALL_BYTES:
        return await anyio.to_thread.run_sync(_object, raw, limiter=_large()), len(raw)
    return _object(raw), len(raw)


def _object(raw: bytes) -> dict[str, Any]:
    brackets = raw.count(b"[") + raw.count(b"{")
    if brackets > limits.MAX_BRACKETS:
        raise InputError(
            f"The body has {brackets:,} brackets; at most {limits.MAX_BRACKETS:,} are taken."
        )
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise InputError(f"The body is not JSON ({error}); send a JSON object.") from error
    if not isinstance(body, dict):
        raise InputError(f"The body must be a JSON object; received {describe(body)}.")
    return body


async def checked(
    task: str, body: Mapping[str, Any], size: int, settings: Settings
) -> inputs.Request:
    """Return a task's input, checked against its spec and the server's limits.

    Args:
        task: task string.
        body: the task's input dictionary.
        size: of the body, in bytes.
        settings: of the server.

    Raises:
        InputError: it does not fit.
    """
    if size > SMALL_BYTES:
        check = partial(_checked, task, body, settings)
        return await anyio.to_thread.run_sync(check, limiter=_large())
    return _checked(task, body, settings)


def _checked(task: str, body: Mapping[str, Any], settings: Settings) -> inputs.Request:
    most = settings.most_tokens
    limits.check(SPECS[task], body, most)
    asked = inputs.read(task, check_images(SPECS[task], body), paths=False)
    if task == "text-generation" and most < DEFAULT_NEW_TOKENS:
        asked.options.setdefault("max_length", max(most, asked.options.get("min_length", 0)))
    return asked


def to_json(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return an answer in JSON."""
    return Response(orjson.dumps(content), status, headers, media_type=JSON)
