"""Tasks on a server: the REST protocol of 2021, and streams by OpenAI's."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping
from typing import Any

from backprop import inputs
from backprop.client import exchange, sse
from backprop.client.address import Server
from backprop.client.bodies import Body, bodies
from backprop.client.tries import TIMEOUT_S
from backprop.errors import RemoteError
from backprop.specs import TaskSpec, spec_of

__all__ = ["acall", "call", "stream"]

JSON = {"content-type": "application/json"}


def call(
    task: str,
    task_input: Mapping[str, Any],
    *,
    api_url: str,
    api_key: str | None,
    model: str,
    timeout_s: float = TIMEOUT_S,
) -> Any:
    """Return a server's answer to the task's input.

    A batch that is more than a server takes in one request (16 MiB, 256 rows) is sent in several,
    and the answers are joined in order. A request that a busy or restarting server did not answer
    is sent again; all tasks only read, so that is safe.

    Args:
        task: task string.
        task_input: the task's input dictionary; checked here before it is sent.
        api_url: where the server is; the task string is put after it.
        api_key: sent as ``x-api-key``.
        model: a name the server knows, or ``""`` for its default.
        timeout_s: most seconds for a request, tried again or not.

    Raises:
        InputError: the input does not fit the task's schema.
        RemoteError: the server could not be reached, or answered with an error.
    """
    spec, server = spec_of(task), Server(api_url, api_key or "")
    request = inputs.read(task, task_input)
    found: list[Any] = []
    for body in bodies(spec, request, model):
        answer = exchange.send(server, _asking(task, body), timeout_s=timeout_s)
        found += _answers(server, spec, answer, body, single=request.single)
    return inputs.unwrap(found, single=request.single)


async def acall(
    task: str,
    task_input: Mapping[str, Any],
    *,
    api_url: str,
    api_key: str | None,
    model: str,
    timeout_s: float = TIMEOUT_S,
) -> Any:
    """Do as ``call`` does, while the event loop goes on."""
    spec, server = spec_of(task), Server(api_url, api_key or "")
    # To check input, to read images and to write JSON may each take long.
    request = await asyncio.to_thread(inputs.read, task, task_input)
    found: list[Any] = []
    waiting = bodies(spec, request, model)
    while (body := await asyncio.to_thread(next, waiting, None)) is not None:
        answer = await exchange.asend(server, _asking(task, body), timeout_s=timeout_s)
        found += await asyncio.to_thread(
            _answers, server, spec, answer, body, single=request.single
        )
    return inputs.unwrap(found, single=request.single)


def _asking(task: str, body: Body) -> exchange.Request:
    return exchange.Request("POST", task, body.content, JSON)


def _answers(
    server: Server, spec: TaskSpec, answer: exchange.Answer, body: Body, *, single: bool
) -> list[Any]:
    """Return the answers of one request, one a row.

    Raises:
        RemoteError: the server refused, or answered something else.
    """
    content = exchange.read(server, answer)
    if not isinstance(content, dict) or spec.output not in content:
        raise exchange.refusal(server, answer.status, answer.headers, answer.content)
    found = content[spec.output]
    if single:
        return [found]
    if not isinstance(found, list) or len(found) != body.rows:
        count = len(found) if isinstance(found, list) else "no list of"
        raise RemoteError(
            f"The server gave {count} answers to {body.rows} rows of {spec.name}; it may be of "
            "another version.",
            status=answer.status,
        )
    return found


def stream(
    task_input: Mapping[str, Any],
    *,
    api_url: str,
    api_key: str | None,
    model: str,
    timeout_s: float = TIMEOUT_S,
) -> Iterator[str]:
    """Yield the pieces of a text as a server writes it; see ``TextGeneration.stream``.

    Raises:
        RemoteError: the server could not be reached, refused, or broke off.
    """
    server = Server(api_url, api_key or "")
    given = {OPENAI.get(key, key): value for key, value in task_input.items() if value is not None}
    content = json.dumps({**given, "model": model, "stream": True}, ensure_ascii=False).encode()
    asking = exchange.Request("POST", "v1/completions", content, JSON)
    for event in sse.events(server, asking, timeout_s=timeout_s):
        for choice in event.get("choices") or ():
            if isinstance(choice, dict) and choice.get("text"):
                yield str(choice["text"])


OPENAI = {"text": "prompt", "max_length": "max_tokens", "num_generations": "n"}
"""Our names to those of OpenAI's protocol; the others are the same, or extensions of it."""
