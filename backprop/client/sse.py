"""Answers that come in pieces: server-sent events."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import httpx

from backprop.client import connections
from backprop.client.address import Server
from backprop.client.exchange import BROKEN, FAILED, Request, refusal, said, unreached
from backprop.client.tries import AGAIN, Tries, retry_after_s, timeout
from backprop.errors import RemoteError

__all__ = ["events"]

END = "[DONE]"


def events(server: Server, request: Request, *, timeout_s: float) -> Iterator[dict[str, Any]]:
    """Yield the events of a stream, as JSON, until its end.

    Args:
        server: where to.
        request: safe to send twice; it is tried again until the first event only.
        timeout_s: most seconds for the first event, and for each after the one before.

    Raises:
        RemoteError: no answer came, it was an error, or it broke off.
    """
    tries = Tries(timeout_s)
    while True:
        began = False
        pause_s = None
        try:
            with connections.client(server.url).stream(
                **request.arguments(server), timeout=timeout(tries)
            ) as response:
                if response.is_success:
                    for event in _read(server, response):
                        began = True
                        yield event
                    return
                content = response.read()
                if response.status_code in AGAIN:
                    pause_s = tries.pause_s(retry_after_s(response.headers.get("retry-after")))
                if pause_s is None:
                    raise refusal(server, response.status_code, response.headers, content)
        except FAILED as error:
            if began and not isinstance(error, httpx.TimeoutException):
                raise _broken_off(server) from error
            if isinstance(error, BROKEN) and not began:
                pause_s = tries.pause_s()
            if pause_s is None:
                raise unreached(server, request.path, error, timeout_s) from error
        time.sleep(pause_s)


def _read(server: Server, response: httpx.Response) -> Iterator[dict[str, Any]]:
    for line in response.iter_lines():
        if not line.startswith("data:"):
            continue  # a comment that keeps the connection alive, or the end of an event
        data = line.removeprefix("data:").strip()
        if data == END:
            return
        yield _event(server, data)
    raise _broken_off(server)


def _broken_off(server: Server) -> RemoteError:
    return RemoteError(
        f"The stream of {server.shown} broke off before its end, as when a server is stopped; ask "
        "again."
    )


def _event(server: Server, data: str) -> dict[str, Any]:
    try:
        event = json.loads(data)
    except (ValueError, RecursionError):
        event = None
    if not isinstance(event, dict) or "error" in event or "message" in event:
        raise RemoteError(f"The stream of {server.shown} ended in an error: {said(server, event)}.")
    return event
