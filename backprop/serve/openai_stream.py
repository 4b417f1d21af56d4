"""Text sent while it is written, as server-sent events; and the shapes of OpenAI's answers."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from backprop.serve.connection import while_connected
from backprop.serve.held import Held
from backprop.serve.registry import Target
from backprop.serve.services import Services

if TYPE_CHECKING:
    from backprop.serve.openai_routes import Asked

__all__ = ["Shape", "stream"]

TASK = "text-generation"
DONE = b"data: [DONE]\n\n"
BROKEN = "The text broke off: the model failed."


@dataclass(frozen=True)
class Shape:
    """How an answer looks.

    Args:
        whole: ``object`` of an answer.
        chunk: ``object`` of a piece of it.
        prefix: what its id begins with.
        is_chat: whether it is a message, or plain text.
    """

    whole: str
    chunk: str
    prefix: str
    is_chat: bool

    def choice(self, index: int, text: str, reason: str) -> dict[str, Any]:
        """Return one of the texts that were written."""
        own: dict[str, Any] = {"index": index, "finish_reason": reason, "logprobs": None}
        if self.is_chat:
            return {**own, "message": {"role": "assistant", "content": text, "refusal": None}}
        return {**own, "text": text}

    def piece(self, text: str | None, reason: str | None, *, first: bool) -> dict[str, Any]:
        """Return what has come since the piece before; the last has a reason and no text."""
        own: dict[str, Any] = {"index": 0, "finish_reason": reason, "logprobs": None}
        if not self.is_chat:
            return {**own, "text": text or ""}
        delta: dict[str, Any] = {"role": "assistant"} if first else {}
        return {**own, "delta": delta if text is None else {**delta, "content": text}}

    def usage(self, read: int, written: int) -> dict[str, int]:
        """Return how many tokens an answer took."""
        total = read + written
        return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": total}


async def stream(
    services: Services,
    request: Request,
    shape: Shape,
    target: Target,
    asked: Asked,
    head: Mapping[str, Any],
) -> Response:
    """Return an answer that is sent piece by piece.

    What is wrong with the request is raised here, before the first byte is sent.
    """
    start = time.perf_counter()
    model = await while_connected(request, services.registry.using(target, TASK, 1))
    pieces = model.stream(asked.rows[0], asked.options)
    try:
        first = await while_connected(request, _next(pieces))
    except BaseException:
        await _let_go(model, pieces)
        raise
    events = _events(services, shape, model, asked, head, pieces, first, start)
    return _Streamed(events, model, pieces)


class _Streamed(StreamingResponse):
    """Sends events, and lets the model go whatever happens."""

    def __init__(
        self, events: AsyncIterator[bytes], model: Held, pieces: AsyncGenerator[str]
    ) -> None:
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        super().__init__(events, media_type="text/event-stream", headers=headers)
        self._model, self._pieces = model, pieces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            await _let_go(self._model, self._pieces)


async def _let_go(model: Held, pieces: AsyncGenerator[str]) -> None:
    with model:
        await pieces.aclose()


async def _next(pieces: AsyncGenerator[str]) -> str | None:
    return await anext(pieces, None)


async def _events(
    services: Services,
    shape: Shape,
    model: Held,
    asked: Asked,
    head: Mapping[str, Any],
    pieces: AsyncGenerator[str],
    piece: str | None,
    start: float,
) -> AsyncIterator[bytes]:
    parts: list[str] = []
    common = {**head, "object": shape.chunk}
    try:
        while piece is not None:
            choice = shape.piece(piece, None, first=not parts)
            parts.append(piece)
            yield _event({**common, "choices": [choice]})
            piece = await _next(pieces)
    except Exception:
        yield _event({"message": BROKEN, "error": {"message": BROKEN}})
        raise
    read = sum(await model.count_read(asked.rows))
    [written] = await model.count(["".join(parts)])
    most = asked.options.get("max_length") or model.most_new
    reason = "length" if most and written >= most else "stop"
    services.metrics.tokens(model.name, read, written)
    services.metrics.request(TASK, model.name, time.perf_counter() - start)
    yield _event({**common, "choices": [shape.piece(None, reason, first=not parts)]})
    if asked.counts:
        yield _event({**common, "choices": [], "usage": shape.usage(read, written)})
    yield DONE


def _event(content: Mapping[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(content) + b"\n\n"
