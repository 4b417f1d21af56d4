"""Errors as pages for browsers: one place for all routes, whoever made the error."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request

from backprop.serve.web.errors import error_page, wants_page

__all__ = ["FriendlyErrors"]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

SAID = "The server answered {status}."


class FriendlyErrors:
    """ASGI middleware that tells errors in HTML to those who asked for HTML.

    An error is an answer from 400 on whose body is ``{"message": ...}``; its other headers stay.

    Args:
        app: what answers.
    """

    def __init__(self, app: Callable[[Scope, Receive, Send], Awaitable[None]]) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] == "http" and wants_page(Headers(scope=scope), scope["method"]):
            send = _Retold(Request(scope), send)
        await self.app(scope, receive, send)


class _Retold:
    """Sends on what comes, and an error as a page once all of it is there."""

    def __init__(self, request: Request, send: Send) -> None:
        self.request, self.send = request, send
        self.start: Message | None = None
        self.body = b""

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start" and _is_error(message):
            self.start = message
        elif self.start is None:
            await self.send(message)
        else:
            self.body += message.get("body", b"")
            if not message.get("more_body", False):
                await self._retell(self.start)

    async def _retell(self, start: Message) -> None:
        status = start["status"]
        try:
            said = str(json.loads(self.body)["message"])
        except (ValueError, KeyError, TypeError):
            said = SAID.format(status=status)
        page = error_page(self.request, status, said)
        headers = MutableHeaders(raw=list(start["headers"]))
        headers.update(page.headers)
        await self.send({**start, "headers": headers.raw})
        await self.send({"type": "http.response.body", "body": page.body})


def _is_error(start: Message) -> bool:
    kind = Headers(raw=list(start.get("headers", ()))).get("content-type", "")
    return start["status"] >= 400 and kind.startswith("application/json")
