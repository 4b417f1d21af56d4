"""One request and its answer, tried again where that may help."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from backprop.client import connections
from backprop.client.address import Server
from backprop.client.tries import AGAIN, CONNECT_S, REFUSED, Tries, retry_after_s, timeout
from backprop.errors import RemoteError

__all__ = [
    "BROKEN",
    "FAILED",
    "Answer",
    "Request",
    "asend",
    "persist",
    "read",
    "refusal",
    "said",
    "send",
    "unreached",
]

logger = logging.getLogger(__name__)

BROKEN = (httpx.NetworkError, httpx.RemoteProtocolError, httpx.ConnectTimeout)
"""What may go better the next time."""
UNSENT = (httpx.ConnectError, httpx.ConnectTimeout)
"""Of these, what the server knows nothing of."""
FAILED = (httpx.HTTPError, httpx.InvalidURL)


@dataclass(frozen=True)
class Request:
    """What is asked.

    Args:
        method: of HTTP.
        path: put after the server's address.
        content: the body, or what makes it anew for each try, with a ``content-length`` beside it.
        headers: beside the key's.
        is_repeatable: whether to send it again where nobody knows if the server has acted on it.
    """

    method: str
    path: str
    content: bytes | Callable[[], Iterable[bytes]] = b""
    headers: Mapping[str, str] | None = None
    is_repeatable: bool = True

    def arguments(self, server: Server) -> dict[str, Any]:
        """Return it as httpx takes it."""
        return {
            "method": self.method,
            "url": f"{server.url}/{self.path}",
            "content": self.content() if callable(self.content) else self.content,
            "headers": {**server.headers, **(self.headers or {})},
        }


@dataclass(frozen=True)
class Answer:
    """What came back, whole."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    @property
    def is_success(self) -> bool:
        """Whether the server did what was asked."""
        return 200 <= self.status < 300

    def json(self) -> Any:
        """Return the body as JSON; None where it is none."""
        try:
            return json.loads(self.content)
        except (ValueError, RecursionError):
            return None


def send(server: Server, request: Request, *, timeout_s: float) -> Answer:
    """Return the server's answer, whatever its status.

    Args:
        server: where to.
        request: what to ask.
        timeout_s: most seconds for all tries together.

    Raises:
        RemoteError: no answer came.
    """
    tries = Tries(timeout_s)
    return persist(server, request, tries, lambda: _send_once(server, request, tries))


def persist(server: Server, request: Request, tries: Tries, once: Callable[[], Answer]) -> Answer:
    """Return the answer of the last try of a request.

    Args:
        server: where to.
        request: what is asked, for messages and for whether to repeat it.
        tries: how often and how long.
        once: tries it.

    Raises:
        RemoteError: no answer came.
    """
    while True:
        outcome: Answer | Exception
        try:
            outcome = once()
        except FAILED as error:
            outcome = error
        pause_s = _pause_s(server, request, outcome, tries)
        if pause_s is None:
            return _result(server, request, outcome, tries)
        time.sleep(pause_s)


async def asend(server: Server, request: Request, *, timeout_s: float) -> Answer:
    """Do as ``send`` does, while the event loop goes on."""
    tries = Tries(timeout_s)
    while True:
        outcome: Answer | Exception
        try:
            once = _asend_once(server, request, tries)
            outcome = await asyncio.wait_for(once, tries.left_s)
        except asyncio.TimeoutError:
            outcome = httpx.ReadTimeout("")
        except FAILED as error:
            outcome = error
        pause_s = _pause_s(server, request, outcome, tries)
        if pause_s is None:
            return _result(server, request, outcome, tries)
        await asyncio.sleep(pause_s)


def read(server: Server, answer: Answer) -> Any:
    """Return the JSON of an answer.

    Raises:
        RemoteError: the server refused, in its own words.
    """
    if not answer.is_success:
        raise refusal(server, answer.status, answer.headers, answer.content)
    return answer.json()


def refusal(server: Server, status: int, headers: Mapping[str, str], content: bytes) -> RemoteError:
    """Return the error that an answer stands for."""
    is_foreign = "x-request-id" not in headers and 400 <= status < 500
    silence = SILENT.get(status, FOREIGN if is_foreign else SILENCE)
    words = said(server, Answer(status, headers, content).json(), silence)
    if 300 <= status < 400:
        place = server.clean(headers.get("location", "elsewhere"))
        words = f"it points to {place}, which is not followed; pass the address meant as api_url"
    request_id = server.clean(headers.get("x-request-id", ""))[:100]
    note = f" (request {request_id})" if request_id else ""
    return RemoteError(
        f"The server answered {status}: {words}{note}.",
        status=status,
        request_id=request_id or None,
    )


SILENT: Mapping[int, str] = {
    401: "it wants a key, or does not know this one; pass api_key (on the command line --api-key), "
    "or set BACKPROP_API_KEY",
    403: "this api_key may not do that; one of scope write, or admin, may be needed",
}
"""What a status means where the answer has no message, as those to HEAD never have."""

SILENCE = "no message"
FOREIGN = f"{SILENCE}, so it may be no backprop server; check the host and port of api_url"


def said(server: Server, content: Any, otherwise: str = SILENCE) -> str:
    """Return the message in an answer, in the form of 2021 or in OpenAI's, made safe to show."""
    found = content if isinstance(content, dict) else {}
    inner = found.get("error")
    message = found.get("message") or (inner.get("message") if isinstance(inner, dict) else None)
    return server.clean(str(message)).rstrip(".") if message else otherwise


def unreached(server: Server, path: str, error: Exception, timeout_s: float) -> RemoteError:
    """Return the error for a request that got no answer."""
    if isinstance(error, httpx.TimeoutException) and not isinstance(error, httpx.ConnectTimeout):
        return RemoteError(
            f"{server.shown}/{path} gave no answer within {timeout_s:g} s; pass a larger "
            "timeout_s, or send less at once."
        )
    said = server.clean(str(error)) or type(error).__name__
    if isinstance(error, httpx.ConnectTimeout):
        said = f"no connection within {CONNECT_S:g} s"
    return RemoteError(
        f"{server.shown} could not be reached ({said}); check api_url, and that the server runs."
    )


def _pause_s(
    server: Server, request: Request, outcome: Answer | Exception, tries: Tries
) -> float | None:
    """Return the seconds until the next try; None where none shall follow."""
    if isinstance(outcome, Answer):
        if outcome.status not in (AGAIN if request.is_repeatable else REFUSED):
            return None
        pause_s = tries.pause_s(retry_after_s(outcome.headers.get("retry-after")))
        what = f"answered {outcome.status}"
    else:
        if not isinstance(outcome, BROKEN if request.is_repeatable else UNSENT):
            return None
        pause_s = tries.pause_s()
        what = f"did not answer ({type(outcome).__name__})"
    if pause_s is not None:
        logger.info("%s %s; trying again in %.1f s", server.shown, what, pause_s)
    return pause_s


def _result(server: Server, request: Request, outcome: Answer | Exception, tries: Tries) -> Answer:
    """Return the answer, or raise what there was instead."""
    if isinstance(outcome, Answer):
        return outcome
    raise unreached(server, request.path, outcome, tries.timeout_s) from outcome


def _send_once(server: Server, request: Request, tries: Tries) -> Answer:
    arguments = request.arguments(server)
    client = connections.client(server.url)
    with client.stream(**arguments, timeout=timeout(tries)) as response:
        content = b"".join(_in_time(response, tries))
        return Answer(response.status_code, response.headers, content)


async def _asend_once(server: Server, request: Request, tries: Tries) -> Answer:
    arguments = request.arguments(server)
    client = await connections.async_client(server.url)
    async with client.stream(**arguments, timeout=timeout(tries)) as response:
        content = b"".join([chunk async for chunk in response.aiter_bytes()])
        return Answer(response.status_code, response.headers, content)


def _in_time(response: httpx.Response, tries: Tries) -> Iterator[bytes]:
    """Yield the body; httpx bounds the wait for each piece, but not for all of them."""
    for chunk in response.iter_bytes():
        if not tries.left_s:
            raise httpx.ReadTimeout("")
        yield chunk
