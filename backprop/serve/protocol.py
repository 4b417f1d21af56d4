"""HTTP on one connection: a request may take so long to come, and be so large beside its body.

Uvicorn leaves both to a proxy. Without one, a client that never ends its headers, or sends them a
byte a minute, would hold memory or a connection for ever, and before any key is asked for.
"""

from __future__ import annotations

import asyncio
import json
import logging
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

__all__ = ["Protocol"]

logger = logging.getLogger("backprop.serve")

FRAME_BYTES = 16
"""Beside each byte of a body, for the length of its chunk: HTTP allows chunks of one byte."""


class Protocol(HttpToolsProtocol):
    """Uvicorn's protocol, which refuses what comes too slowly, or with too much around its body."""

    extra_bytes = 65_536
    """Of a request line, headers, trailers and extensions of chunks, the first read not counted."""
    most_headers = 128
    grace_s = 30.0
    """A request has so long to come, from the connection or its first byte,"""
    least_rate = 1024.0
    """and a second more for so many bytes of its body."""
    cycle: Any
    """The request that has last had its headers; None before the first."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._extra = self._came = self._headers = 0
        self._is_begun = self._has_head = False
        self._since = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for a request."""
        super().connection_made(transport)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing any more."""
        self._stop()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read what has come; end the connection if it is too much around a body."""
        self._extra += len(data)
        super().data_received(data)
        if self._extra > self.extra_bytes and self._is_begun:
            self._refuse(
                HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
                f"All around the body has at most {self.extra_bytes:,} bytes.",
            )

    def on_message_begin(self) -> None:
        """Wait for the rest of it."""
        super().on_message_begin()
        self._extra = self._came = self._headers = 0
        self._is_begun, self._has_head = True, False
        self._wait()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header, or a trailer."""
        self._headers += 1
        if self._headers > self.most_headers:
            raise ValueError("too many headers")
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Give the request to the app."""
        super().on_headers_complete()
        self._has_head = True

    def on_body(self, body: bytes) -> None:
        """Take a part of the body."""
        self._came += len(body)
        self._extra = max(0, self._extra - FRAME_BYTES * len(body))
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Wait for nothing: what follows is an answer."""
        self._stop()
        self._is_begun = False
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP, or has too many headers."""
        if self._headers > self.most_headers:
            status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
            self._refuse(status, f"At most {self.most_headers} headers are taken.")
        else:
            self._refuse(HTTPStatus.BAD_REQUEST, "This is no valid HTTP/1.1 request.")

    def _wait(self) -> None:
        self._stop()
        self._since = self.loop.time()
        self._timer = self.loop.call_later(self.grace_s, self._look)

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        """End the connection if its request is late, and else look again when it would be."""
        now = self.loop.time()
        if self._is_kept_waiting():
            self._since = now
        due = self._since + self.grace_s + self._came / self.least_rate
        if now < due:
            self._timer = self.loop.call_at(due, self._look)
        elif self._is_begun:
            self._refuse(
                HTTPStatus.REQUEST_TIMEOUT,
                f"The request took too long to come: it has {self.grace_s:g} seconds, and one more "
                f"for each {self.least_rate:g} bytes.",
            )
        else:
            self.transport.close()

    def _is_kept_waiting(self) -> bool:
        """Whether it is the app that has not read on, or not answered what came before."""
        if self.flow.read_paused or self.pipeline:
            return True
        if self._has_head:
            return bool(self.cycle.waiting_for_100_continue)
        return self.cycle is not None and not self.cycle.response_complete

    def _refuse(self, status: HTTPStatus, message: str) -> None:
        """Answer that, if no other answer is under way, and close the connection."""
        if self.transport.is_closing():
            return
        logger.info("connection refused", extra={"status": status.value})
        cycle = self.cycle
        is_own = self._has_head and not self.pipeline and not cycle.response_started
        if cycle is None or cycle.response_complete or is_own:
            body = json.dumps({"message": message}).encode()
            head = (
                f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: application/json\r\n"
                f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
            )
            self.transport.write(head.encode() + body)
        self.transport.close()
