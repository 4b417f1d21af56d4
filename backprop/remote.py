"""Every request to a server: the REST protocol of 2021."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx

from backprop import inputs
from backprop.errors import InputError, RemoteError
from backprop.pictures import Picture
from backprop.specs import spec_of

__all__ = ["call"]

TIMEOUT_S = 60.0


def call(
    task: str, task_input: Mapping[str, Any], *, api_url: str, api_key: str | None, model: str
) -> Any:
    """Return a server's answer to the task's input.

    Args:
        task: task string.
        task_input: the task's input dictionary; checked here before it is sent.
        api_url: where the server is; the task string is put after it.
        api_key: sent as ``x-api-key``.
        model: a name the server knows, or ``""`` for its default.

    Raises:
        InputError: the input does not fit the task's schema.
        RemoteError: the server could not be reached, or answered with an error.
    """
    request = inputs.read(task, task_input)
    body = json.dumps({**_body(request, task_input), "model": model}, default=_plain)
    if not (api_key or "").isascii():
        raise InputError("api_key holds a character that no key has; copy the key again.")
    headers = {"content-type": "application/json", "x-api-key": api_key or ""}
    url = f"{api_url.rstrip('/')}/{task}"
    try:
        response = httpx.post(url, content=body, headers=headers, timeout=TIMEOUT_S)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise RemoteError(f"{url} could not be reached ({error}); check api_url.") from error
    return _answer(response, spec_of(task).output)


def _body(request: inputs.Request, task_input: Mapping[str, Any]) -> dict[str, Any]:
    """Return the input as JSON: what was passed, with images as base64."""
    body = {key: value for key, value in task_input.items() if value is not None}
    body.update(request.options)
    if request.rows and isinstance(request.rows[0].get("image"), Picture):
        images = [_base64(row["image"]) for row in request.rows]
        body["image"] = inputs.unwrap(images, single=request.single)
    return body


def _plain(value: Any) -> Any:
    """Return a list for what holds one, such as an array; checked input has nothing else."""
    return value.tolist()


def _base64(picture: Picture) -> str:
    """Return the picture's own bytes, or PNG of one that is in memory only."""
    if isinstance(picture.source, Path):
        return base64.b64encode(picture.source.read_bytes()).decode()
    if isinstance(picture.source, bytes):
        return base64.b64encode(picture.source).decode()
    buffer = io.BytesIO()
    picture.rgb().save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def _answer(response: httpx.Response, key: str) -> Any:
    try:
        content = response.json()
    except json.JSONDecodeError:
        content = {}
    if response.is_success and isinstance(content, dict) and key in content:
        return content[key]
    said = content.get("message") if isinstance(content, dict) else None
    raise RemoteError(
        f"The server answered {response.status_code}: {said or 'no message'}.",
        status=response.status_code,
    )
