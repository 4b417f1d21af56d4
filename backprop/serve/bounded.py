"""HTTP on one connection, bounded: in what surrounds a body, and in how long a client takes.

Uvicorn leaves both to a proxy. Without one, a client that never ends its headers, sends a byte a
minute or never reads its answer would hold memory or a connection for ever, some of them before any
key is asked for.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from backprop.serve.exchange import ALWAYS, request_id_of

__all__ = ["BoundedProtocol"]

logger = logging.getLogger("backprop.serve")

FRAME_BYTES = 16
"""A chunk of one byte may have so many around it that are not counted: its length, line ends."""


class BoundedProtocol(HttpToolsProtocol):
    """Uvicorn's protocol, which refuses what is too large around its body, or comes too slowly.

    Time is looked at a window at a time: a request has one for its headers, and each further one
    has to bring a part of the body; so has each in which an answer waits to be read. A window that
    began or ended while it was the app that kept the client waiting does not count.
    """

    most_bytes = 65_536
    """Of a request line, headers and trailers together. What is not ended yet, and the extensions
    of chunks, may be larger by one read of the socket."""
    most_headers = 128
    most_waiting = 8
    """Requests that came before the one ahead of them was answered."""
    window_s = 30.0
    least_rate = 1024.0
    """Bytes a second of a body or an answer, on average in a window."""
    end_s = 5.0
    """So long may a request still come whose answer has been sent."""

    cycle: Any
    """The request that has last had its headers; None before the first."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._fields = self._headers = self._loose = self._came = self._unsent = 0
        self._is_begun = self._has_head = self._was_kept = False
        self._timer: asyncio.TimerHandle | None = None
        """Of what shall come."""
        self._sending: asyncio.TimerHandle | None = None
        """Of what shall be read there."""

    # --- The connection -----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for a request."""
        super().connection_made(transport)
        self._wait(self.window_s, self._end)

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing any more."""
        self._stop()
        self._stop_sending()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read what has come; refuse it if there is too much that is no body."""
        self._loose += len(data)
        super().data_received(data)
        if self._is_begun and self._loose > self.most_bytes:
            self._refuse_size()
        elif not self._is_begun and self._timer is None and self._is_idle():
            # Line ends before a request, or the end of one that was answered: uvicorn's own timer
            # of connections without work has ended at them.
            self._wait(self.window_s, self._end)

    def timeout_keep_alive_handler(self) -> None:
        """Close a connection that is not used."""
        self._end()

    # --- A request ------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """Wait for its headers."""
        super().on_message_begin()
        self._fields = self._headers = self._loose = 0
        self._is_begun, self._has_head = True, False
        self._open_window()

    def on_url(self, url: bytes) -> None:
        """Take a part of the request line."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header, or a trailer."""
        self._headers += 1
        self._count(len(name) + len(value))
        if self._headers > self.most_headers:
            raise ValueError("too many headers")
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Give the request to the app, and wait for its body."""
        if len(self.pipeline) >= self.most_waiting:
            raise ValueError("too many requests at once")
        super().on_headers_complete()
        self._has_head = True
        self._open_window()

    def on_body(self, body: bytes) -> None:
        """Take a part of the body."""
        self._came += len(body)
        self._loose = max(0, self._loose - FRAME_BYTES * len(body))
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Wait for nothing: what follows is an answer."""
        self._stop()
        self._is_begun = False
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Let a request that is still coming end soon, as nobody reads it any more."""
        super().on_response_complete()
        if self.transport.is_closing():
            self._end()
        elif self._is_begun and self._has_head and self.cycle.response_complete:
            self._wait(self.end_s, self._end)
        elif self._is_begun:
            self._open_window()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP, or too much of it."""
        if self._fields > self.most_bytes:
            self._refuse_size()
        elif self._headers > self.most_headers:
            status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
            self._refuse(status, f"At most {self.most_headers} headers are taken.")
        elif len(self.pipeline) >= self.most_waiting:
            message = "Too many requests at once on one connection; read the answers first."
            self._refuse(HTTPStatus.TOO_MANY_REQUESTS, message)
        else:
            self._refuse(HTTPStatus.BAD_REQUEST, "This is no valid HTTP/1.1 request.")

    def _count(self, size: int) -> None:
        self._fields += size
        if self._fields > self.most_bytes:
            raise ValueError("too many bytes of headers")

    # --- Time -------------------------------------------------------------------------------

    def _wait(self, seconds: float, late: Callable[[], None]) -> None:
        self._stop()
        self._timer = self.loop.call_later(seconds, late)

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _open_window(self) -> None:
        self._came = 0
        self._was_kept = self._is_kept()
        self._wait(self.window_s, self._close_window)

    def _close_window(self) -> None:
        """Refuse the request if it brought too little, and else wait on."""
        is_enough = self._has_head and self._came >= self.least_rate * self.window_s
        if is_enough or self._was_kept or self._is_kept():
            self._open_window()
            return
        self._refuse(
            HTTPStatus.REQUEST_TIMEOUT,
            f"The request came too slowly: its headers have {self.window_s:g} seconds, and its "
            f"body has to bring {self.least_rate:g} bytes a second; send it again.",
        )

    def _is_kept(self) -> bool:
        """Whether it is the app that has not read on, or not answered what came before."""
        if self.flow.read_paused or self.pipeline:
            return True
        if self._has_head:
            return bool(self.cycle.waiting_for_100_continue)
        return not self._is_idle()

    def _is_idle(self) -> bool:
        return self.cycle is None or bool(self.cycle.response_complete)

    # --- Answers --------------------------------------------------------------------------------

    def pause_writing(self) -> None:
        """Begin to watch how the client reads."""
        super().pause_writing()
        self._stop_sending()
        self._watch_sending()

    def resume_writing(self) -> None:
        """Trust the client again, unless the connection shall end."""
        super().resume_writing()
        if not self.transport.is_closing():
            self._stop_sending()

    def _watch_sending(self) -> None:
        self._unsent = self.transport.get_write_buffer_size()
        self._sending = self.loop.call_later(self.window_s, self._look_at_sending)

    def _look_at_sending(self) -> None:
        self._sending = None
        read = self._unsent - self.transport.get_write_buffer_size()
        if read < min(self._unsent, self.least_rate * self.window_s):
            logger.info("answer not read", extra={"client": self._client()})
            self.transport.abort()
        else:
            self._watch_sending()

    def _stop_sending(self) -> None:
        if self._sending is not None:
            self._sending.cancel()
            self._sending = None

    def _refuse_size(self) -> None:
        self._refuse(
            HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
            f"What is around the body has at most {self.most_bytes:,} bytes.",
        )

    def _refuse(self, status: HTTPStatus, message: str) -> None:
        """Answer that, if no other answer is under way, and close the connection."""
        if self.transport.is_closing():
            return
        number = request_id_of(None)
        told = {"status": status.value, "client": self._client(), "request_id": number}
        logger.info("connection refused", extra=told)
        is_own = self._has_head and not self.pipeline and not self.cycle.response_started
        if is_own or (not self._has_head and self._is_idle()):
            self.transport.write(_answer(status, message, number))
        self.pipeline.clear()
        self._end()

    def _end(self) -> None:
        """Close the connection once the client has read what it was sent."""
        self._stop()
        self.transport.close()
        if self._sending is None and self.transport.get_write_buffer_size():
            self._watch_sending()

    def _client(self) -> str:
        return self.client[0] if self.client else ""


def _answer(status: HTTPStatus, message: str, request_id: str) -> bytes:
    body = json.dumps({"message": message}).encode()
    headers = [
        *ALWAYS,
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
        (b"x-request-id", request_id.encode()),
    ]
    lines = [f"HTTP/1.1 {status.value} {status.phrase}".encode()]
    lines += [name + b": " + value for name, value in headers]
    return b"\r\n".join([*lines, b"", body])
