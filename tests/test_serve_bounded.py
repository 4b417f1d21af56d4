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

from backprop.serve.bounded import BoundedProtocol

WINDOW_S = 0.4
END = b"\r\n\r\n"
LARGE = 20_000_000


class Hasty(BoundedProtocol):
    """Waits for less time: 40 bytes a window are enough."""

    window_s = WINDOW_S
    least_rate = 100.0
    end_s = WINDOW_S


class Patient(BoundedProtocol):
    """Waits longer than any test, so that only sizes are refused."""

    window_s = 100.0


async def count(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Answer with the number of bytes of the body; the path says how late to read, or to answer."""
    what, _, seconds = scope["path"][1:].partition("/")
    if what == "late":
        await asyncio.sleep(float(seconds))
    size, more = 0, what != "unread"
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        size += len(message["body"])
        more = message["more_body"]
    if what == "slow":
        await asyncio.sleep(float(seconds))
    body = b"x" * LARGE if what == "large" else str(size).encode()
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def serving(kind: type[BoundedProtocol]) -> Iterator[int]:
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(count, http=kind, lifespan="off", log_config=None)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    yield listener.getsockname()[1]
    server.should_exit = server.force_exit = True
    thread.join()


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """Return the port of a server of ``count``."""
    yield from serving(Hasty)


@pytest.fixture(scope="module")
def patient_port() -> Iterator[int]:
    """Return the port of one that only sizes matter to."""
    yield from serving(Patient)


@pytest.fixture
def client(port: int) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as found:
        yield found


@pytest.fixture
def patient(patient_port: int) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", patient_port), timeout=20) as found:
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
    assert b"x-content-type-options: nosniff" in head and b"x-request-id: " in head
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


def ask(path: str = "/", size: int = 0, *more: bytes) -> bytes:
    """Return the head of a request whose body has ``size`` bytes."""
    lines = [b"POST %s HTTP/1.1" % path.encode(), b"host: a", b"content-length: %d" % size, *more]
    return b"\r\n".join([*lines, b"", b""])


# Time: of requests


def test_a_connection_on_which_nothing_comes_is_closed(client: socket.socket) -> None:
    start = time.monotonic()
    assert answers(client) == b""
    assert time.monotonic() - start >= WINDOW_S * 0.9


@pytest.mark.parametrize("before", [b"", ask()], ids=["at first", "after an answer"])
def test_line_ends_hold_no_connection(client: socket.socket, before: bytes) -> None:
    if before:
        client.sendall(before)
        assert answer(client) == b"0"
    start = time.monotonic()
    client.settimeout(WINDOW_S / 8)
    with contextlib.suppress(ConnectionError):
        while time.monotonic() - start < 10:
            client.sendall(b"\r\n")
            with contextlib.suppress(TimeoutError):
                assert client.recv(100) == b""
                break
    assert time.monotonic() - start < 5


@pytest.mark.parametrize("begun", [b"G", b"GET / HTTP/1.1\r\nhost: a\r\n", b"\r\nGET / "])
def test_headers_that_never_end_are_refused(client: socket.socket, begun: bytes) -> None:
    client.sendall(begun)
    status, message = refusal(client)
    assert status == 408
    assert message.startswith("The request came too slowly: its headers have 0.4 seconds")


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


@pytest.mark.parametrize("sent", [3, 100_000])
def test_a_body_that_stops_is_refused_whatever_came_before(
    client: socket.socket, sent: int
) -> None:
    start = time.monotonic()
    client.sendall(ask(size=900_000) + b"x" * sent)
    assert refusal(client)[0] == 408
    assert time.monotonic() - start < 5


def test_a_body_that_comes_at_the_least_rate_is_taken(client: socket.socket) -> None:
    client.sendall(ask(size=200))
    for _ in range(20):
        client.sendall(b"x" * 10)
        time.sleep(0.06)  # 167 bytes a second, for three windows
    assert answer(client) == b"200"


@pytest.mark.parametrize("late_s", [0.35, 0.9, 2.5 * WINDOW_S])
@pytest.mark.parametrize("path", ["slow", "late"])
def test_a_request_may_be_answered_as_late_as_the_app_likes(
    client: socket.socket, path: str, late_s: float
) -> None:
    for _ in range(2):
        client.sendall(ask(f"/{path}/{late_s}", 3) + b"abc")
        assert answer(client) == b"3"


@pytest.mark.parametrize("late_s", [0.1, 0.35, 0.9])
def test_a_client_that_waits_for_the_word_is_not_late(client: socket.socket, late_s: float) -> None:
    client.sendall(ask(f"/late/{late_s}", 3, b"expect: 100-continue"))
    assert client.recv(100).startswith(b"HTTP/1.1 100 ")
    time.sleep(0.15)
    client.sendall(b"abc")
    assert answer(client) == b"3"


@pytest.mark.parametrize("late_s", [0.35, 0.9])
def test_a_body_that_the_app_reads_late_is_not_late(client: socket.socket, late_s: float) -> None:
    client.sendall(ask(f"/late/{late_s}", LARGE))
    sending = threading.Thread(target=client.sendall, args=(b"x" * LARGE,))
    sending.start()
    assert answer(client) == str(LARGE).encode()
    sending.join()


def test_an_open_connection_waits_for_the_next_request(client: socket.socket) -> None:
    for _ in range(2):
        client.sendall(ask())
        assert answer(client) == b"0"
        time.sleep(2 * WINDOW_S)


@pytest.mark.parametrize("late_s", [0.35, 0.9])
def test_a_slow_second_request_does_not_harm_the_first(
    client: socket.socket, late_s: float
) -> None:
    client.sendall(ask(f"/slow/{late_s}") + b"GET / HT")
    assert answer(client) == b"0"
    time.sleep(0.1)
    client.sendall(b"TP/1.1\r\nhost: a\r\n\r\n")
    assert answer(client) == b"0"


# Time: of what is answered before it has come, and of answers


def test_what_is_answered_unread_gets_one_answer_and_soon_no_more_time(
    client: socket.socket,
) -> None:
    start = time.monotonic()
    client.sendall(ask("/unread", 1_000_000) + b"x" * 10)
    assert answers(client).count(b"HTTP/1.1") == 1
    assert time.monotonic() - start < 5


def test_nor_does_it_gain_time_by_coming_on(client: socket.socket) -> None:
    client.sendall(ask("/unread", 10_000_000))
    assert answer(client) == b"0"
    start = time.monotonic()
    client.settimeout(0.05)
    with contextlib.suppress(ConnectionError):
        while time.monotonic() - start < 10:
            client.sendall(b"x" * 100)
            with contextlib.suppress(TimeoutError):
                assert client.recv(100) == b""
                break
    assert time.monotonic() - start < 5


def test_what_was_answered_unread_may_still_end(client: socket.socket) -> None:
    client.sendall(ask("/unread", 6) + b"abc")
    assert answer(client) == b"0"
    time.sleep(WINDOW_S / 4)
    client.sendall(b"def")
    time.sleep(WINDOW_S / 4)
    client.sendall(ask())
    assert answer(client) == b"0"


@pytest.mark.parametrize("more", [b"", b"connection: close"])
def test_an_answer_that_nobody_reads_is_given_up(client: socket.socket, more: bytes) -> None:
    client.sendall(ask("/large", 0, *filter(None, [more])))
    time.sleep(5 * WINDOW_S)
    assert len(answers(client)) < LARGE


def test_an_answer_that_is_read_slowly_comes_whole(client: socket.socket) -> None:
    client.sendall(ask("/large", 0, b"connection: close"))
    found = 0
    while part := client.recv(2_000_000):
        found += len(part)
        time.sleep(0.06)
    assert found > LARGE


# Size


@pytest.mark.parametrize(
    "around",
    [
        b"GET / HTTP/1.1\r\nhost: a\r\na: ",
        b"GET /",
        b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n1;a=",
        b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\na: ",
    ],
    ids=["header", "path", "extension", "trailer"],
)
def test_what_is_around_a_body_has_a_limit(patient: socket.socket, around: bytes) -> None:
    patient.sendall(around)
    sent = 0
    with contextlib.suppress(ConnectionError):
        while sent < 400_000:  # no more than a server that refuses it leaves unread
            patient.sendall(b"x" * 1_000)
            sent += 1_000
            time.sleep(0.0005)
    found = answers(patient)
    assert not found or found.startswith(b"HTTP/1.1 431 ")
    assert sent < 400_000


@pytest.mark.parametrize(("size", "status"), [(65_000, 200), (65_600, 431)])
def test_headers_are_counted_to_the_byte_however_they_come(
    patient: socket.socket, size: int, status: int
) -> None:
    patient.sendall(b"GET / HTTP/1.1\r\nhost: a\r\na: " + b"x" * size + END)
    if status == 200:
        assert answer(patient) == b"0"
    else:
        assert refusal(patient) == (431, "What is around the body has at most 65,536 bytes.")


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\n",
        b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n",
    ],
    ids=["headers", "trailers"],
)
def test_headers_have_a_number(patient: socket.socket, head: bytes) -> None:
    patient.sendall(head + b"a: b\r\n" * 129 + b"\r\n")
    assert refusal(patient) == (431, "At most 128 headers are taken.")


def test_chunks_may_be_of_one_byte(patient: socket.socket) -> None:
    patient.sendall(b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n")
    for _ in range(20):
        patient.sendall(b"1\r\nx\r\n" * 5_000)
    patient.sendall(b"0\r\n\r\n")
    assert answer(patient) == b"100000"


def test_a_few_requests_may_come_before_the_answer_to_the_first(patient: socket.socket) -> None:
    patient.sendall(ask("/slow/0.3") + ask() * 8)
    found = b""
    while found.count(b"HTTP/1.1 200 ") < 9:
        part = patient.recv(65_536)
        assert part, found
        found += part


def test_many_may_not(patient: socket.socket) -> None:
    patient.sendall(ask("/slow/0.3") + ask() * 5_000)
    assert answers(patient) == b""


def test_what_is_no_request_is_told_as_json(patient: socket.socket) -> None:
    patient.sendall(b"hello there\r\n\r\n")
    assert refusal(patient) == (400, "This is no valid HTTP/1.1 request.")
