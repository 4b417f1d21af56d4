"""One request and its answer: the body counted as it comes, headers put on every answer."""

from __future__ import annotations

import json
import logging
import random
import re
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

__all__ = ["FAULT", "TOO_LARGE", "Exchange", "request_id_of"]

logger = logging.getLogger("backprop.serve")

Message = MutableMapping[str, Any]

ALWAYS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
)
"""Headers of every answer, unless the app has set them."""

CSP = b"content-security-policy"
POLICIES = {
    b"text/html": (
        b"default-src 'self'; base-uri 'none'; object-src 'none'; form-action 'self'; "
        b"frame-ancestors 'none'"
    ),
    # A drawing that is opened by itself is a page, and one that was uploaded may hold a script.
    b"image/svg+xml": b"default-src 'none'; style-src 'unsafe-inline'; sandbox",
}
"""Media type to what a browser lets such a page do."""

REQUEST_ID = re.compile(rb"[A-Za-z0-9-]{1,64}")

SECRETS = re.compile(rb"(bp_[0-9a-f]{1,12}_)([A-Za-z0-9_]+)")
"""Keys, as a message may quote them that quotes what was sent."""

CLIENT_GONE = 499
FAULT = "Something went wrong here; the log says more under this answer's x-request-id."
TOO_LARGE = "The body is too large; at most {limit:,} bytes are taken."


class Exchange:
    """What a request receives and sends, on its way through the guard.

    Args:
        receive: of the server, which brings the body.
        send: of the server, which takes the answer.
        request_id: that the answer is marked with.
        is_closing: says whether the connection is to be closed after the answer.
    """

    __slots__ = (
        *("_is_closing", "_receive", "_send", "_size"),
        *("is_cut", "is_started", "is_whole", "limit", "request_id", "status"),
    )

    def __init__(
        self,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
        request_id: str,
        is_closing: Callable[[], bool],
    ) -> None:
        self._receive, self._send, self._is_closing = receive, send, is_closing
        self.request_id = request_id
        self.limit = 0
        self.status = CLIENT_GONE
        self.is_started = self.is_whole = self.is_cut = False
        self._size = 0

    async def receive(self) -> Message:
        """Return the next part of the body; past the limit the request is refused and ends."""
        if self.is_cut:
            return {"type": "http.disconnect"}
        message = await self._receive()
        if message["type"] == "http.request":
            self._size += len(message.get("body") or b"")
            if self._size > self.limit:
                await self.refuse(413, TOO_LARGE.format(limit=self.limit))
                self.is_cut = True
                return {"type": "http.disconnect"}
        return message

    async def send(self, message: Message) -> None:
        """Pass on a part of the answer."""
        if self.is_cut:
            return  # the app still answers a request that was refused meanwhile
        kind = message["type"]
        if kind == "http.response.start":
            self.is_started = True
            self.status = message["status"]
            message = {**message, "headers": self._headers(message.get("headers", ()))}
        elif kind == "http.response.body":
            self.is_whole = not message.get("more_body", False)
            if self.status >= 400 and b"bp_" in message.get("body", b""):
                message = {**message, "body": SECRETS.sub(_starred, message["body"])}
        await self._send(message)

    async def refuse(
        self, status: int, message: str, headers: Mapping[str, str] | None = None
    ) -> None:
        """Send an error, unless an answer has begun."""
        if self.is_started:
            return
        body = json.dumps({"message": message}).encode()
        pairs = [
            (name.encode(), value.encode("latin-1")) for name, value in (headers or {}).items()
        ]
        pairs.append((b"content-type", b"application/json"))
        pairs.append((b"content-length", str(len(body)).encode()))
        await self.send({"type": "http.response.start", "status": status, "headers": pairs})
        await self.send({"type": "http.response.body", "body": body})

    async def fail(self, error: Exception) -> None:
        """Log what the app did not see coming, and tell the client that it was not its fault."""
        if self.is_whole or self.is_cut:
            return  # answered already, and logged by whoever did
        logger.error("failed", exc_info=error, extra={"request_id": self.request_id})
        await self.refuse(500, FAULT)

    def _headers(self, given: Any) -> list[tuple[bytes, bytes]]:
        headers = list(given)
        names = dict(headers)
        for pair in ALWAYS:
            if pair[0] not in names:
                headers.append(pair)
        policy = POLICIES.get(names.get(b"content-type", b"").partition(b";")[0])
        if policy is not None and CSP not in names:
            headers.append((CSP, policy))
        if self._is_closing():
            headers.append((b"connection", b"close"))
        headers.append((b"x-request-id", self.request_id.encode()))
        return headers


def _starred(match: re.Match[bytes]) -> bytes:
    """Return a key without its secret, as long as before: the length has been sent already."""
    return match[1] + b"*" * len(match[2])


def request_id_of(given: bytes | None) -> str:
    """Return the id that a request came with, if it is a sane one, else a new one."""
    if given is not None and REQUEST_ID.fullmatch(given):
        return given.decode()
    # It has to be unique, not secret.
    return f"{random.getrandbits(64):016x}"
