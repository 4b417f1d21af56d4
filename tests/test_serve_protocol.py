"""What a connection may take, told on real sockets: time, headers, and bytes around a body."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn

from backprop.serve.protocol import Protocol

GRACE_S = 0.4
END = b"\r\n\r\n"


class Hasty(Protocol):
    """Waits for less time."""

    grace_s = GRACE_S
    least_rate = 100.0


async def count(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Answer with the number of bytes of the body."""
    if scope["path"] == "/late":
        await asyncio.sleep(3 * GRACE_S)
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        size += len(message["body"])
        more = message["more_body"]
    if scope["path"] == "/slow":
        await asyncio.sleep(3 * GRACE_S)
    body = str(size).encode()
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """Return the port of a server of ``count``."""
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(count, http=Hasty, lifespan="off", log_config=None)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    yield listener.getsockname()[1]
    server.should_exit = True
    thread.join()


@pytest.fixture
def client(port: int) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as found:
        yield found


def answers(client: socket.socket) -> bytes:
    """Return all that comes until the connection is closed."""
    found = b""
    with contextlib.suppress(ConnectionResetError):
        while part := client.recv(65_536):
            found += part
    return found


def refusal(client: socket.socket) -> tuple[int, str]:
    """Return the status and the message of the one answer that comes before the end."""
    head, _, body = answers(client).partition(END)
    assert b"connection: close" in head
    return int(head.split()[1]), json.loads(body)["message"]


def answer(client: socket.socket) -> bytes:
    """Return the body of an answer that leaves the connection open."""
    found = b""
    while END not in found or not found.partition(END)[2]:
        part = client.recv(65_536)
        assert part, found
        found += part
    assert found.startswith(b"HTTP/1.1 200 "), found
    return found.partition(END)[2]


def test_a_connection_on_which_nothing_comes_is_closed(client: socket.socket) -> None:
    start = time.monotonic()
    assert answers(client) == b""
    assert time.monotonic() - start >= GRACE_S * 0.9


@pytest.mark.parametrize("begun", [b"G", b"GET / HTTP/1.1\r\nhost: a\r\n", b"\r\nGET / "])
def test_headers_that_never_end_are_refused(client: socket.socket, begun: bytes) -> None:
    client.sendall(begun)
    status, message = refusal(client)
    assert status == 408
    assert message.startswith("The request took too long to come: it has 0.4 seconds")


def test_headers_that_come_byte_by_byte_gain_no_time(client: socket.socket) -> None:
    start = time.monotonic()
    client.sendall(b"GET / HTTP/1.1\r\n")
    client.settimeout(0.05)
    found = b""
    while not found and time.monotonic() - start < 10:
        client.sendall(b"a:b\r\n")
        with contextlib.suppress(TimeoutError):
            found = client.recv(65_536)
    assert found.startswith(b"HTTP/1.1 408 ")
    assert time.monotonic() - start < 5


def test_a_body_that_stops_is_refused(client: socket.socket) -> None:
    client.sendall(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nabc")
    assert refusal(client)[0] == 408


def test_a_body_that_comes_at_the_least_rate_is_taken(client: socket.socket) -> None:
    client.sendall(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 200\r\n\r\n")
    for _ in range(20):
        client.sendall(b"x" * 10)
        time.sleep(0.06)  # 167 bytes a second, three times as long as the grace
    assert answer(client) == b"200"


@pytest.mark.parametrize("path", ["/slow", "/late"])
def test_a_request_may_be_answered_as_late_as_the_app_likes(
    client: socket.socket, path: str
) -> None:
    for _ in range(2):
        client.sendall(
            b"POST %s HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc" % path.encode()
        )
        assert answer(client) == b"3"


def test_a_client_that_waits_for_the_word_is_not_late(client: socket.socket) -> None:
    head = b"POST /late HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\nexpect: 100-continue\r\n\r\n"
    client.sendall(head)
    assert client.recv(100).startswith(b"HTTP/1.1 100 ")
    client.sendall(b"abc")
    assert answer(client) == b"3"


def test_an_open_connection_waits_for_the_next_request(client: socket.socket) -> None:
    for _ in range(2):
        client.sendall(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        assert answer(client) == b"0"
        time.sleep(2 * GRACE_S)


def test_a_slow_second_request_does_not_harm_the_first(client: socket.socket) -> None:
    client.sendall(b"GET /slow HTTP/1.1\r\nhost: a\r\n\r\nGET / HT")
    time.sleep(2 * GRACE_S)
    assert answer(client) == b"0"
    client.sendall(b"TP/1.1\r\nhost: a\r\n\r\n")
    assert answer(client) == b"0"


@pytest.mark.parametrize(
    "around",
    [
        b"GET / HTTP/1.1\r\nhost: a\r\na: ",
        b"GET /",
        b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n1;a=",
        b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\na: ",
    ],
    ids=["header", "path", "extension", "trailer"],
)
def test_what_is_around_a_body_has_a_limit(client: socket.socket, around: bytes) -> None:
    client.sendall(around)
    sent = 0
    with contextlib.suppress(ConnectionError):
        while sent < 50_000_000:
            client.sendall(b"x" * 10_000)
            sent += 10_000
    assert sent < 5_000_000  # the socket's own buffers hold some of it


def test_a_little_too_much_is_told(client: socket.socket) -> None:
    client.sendall(b"GET / HTTP/1.1\r\nhost: a\r\n")
    time.sleep(0.1)
    client.sendall(b"a: " + b"x" * 66_000)
    assert refusal(client) == (431, "All around the body has at most 65,536 bytes.")


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\n",
        b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n",
    ],
    ids=["headers", "trailers"],
)
def test_headers_have_a_number(client: socket.socket, head: bytes) -> None:
    client.sendall(head + b"a: b\r\n" * 129 + b"\r\n")
    assert refusal(client) == (431, "At most 128 headers are taken.")


def test_chunks_may_be_of_one_byte(client: socket.socket) -> None:
    client.sendall(b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n")
    for _ in range(20):
        client.sendall(b"1\r\nx\r\n" * 5_000)
    client.sendall(b"0\r\n\r\n")
    assert answer(client) == b"100000"


def test_what_is_no_request_is_told_as_json(client: socket.socket) -> None:
    client.sendall(b"hello there\r\n\r\n")
    assert refusal(client) == (400, "This is no valid HTTP/1.1 request.")
