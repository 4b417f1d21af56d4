"""A lean HTTP client: many connections in one thread, bytes in, times out.

An ordinary client takes a third of a small machine, and what is measured would be the client.
"""

from __future__ import annotations

import selectors
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

__all__ = ["Connection", "Load", "load", "request"]

HEAD_END = b"\r\n\r\n"


@dataclass
class Load:
    """What came of it.

    Args:
        seconds: from the first request to the last answer.
        times_s: of each request that was answered, in order of their ends.
        statuses: how many answers had each status.
        bodies: of the first answers, as many as were asked for.
        refused_s: times of answers with status 503.
    """

    seconds: float = 0.0
    times_s: list[float] = field(default_factory=list)
    statuses: dict[int, int] = field(default_factory=dict)
    bodies: dict[int, bytes] = field(default_factory=dict)
    refused_s: list[float] = field(default_factory=list)

    @property
    def per_s(self) -> float:
        """Requests that were answered well, a second."""
        return len(self.times_s) / self.seconds

    def percentile_ms(self, share: float) -> float:
        """Return a percentile of the times, in milliseconds."""
        times = sorted(self.times_s)
        return times[min(int(share * len(times)), len(times) - 1)] * 1e3


def request(path: str, body: bytes, *, key: str = "", host: str = "127.0.0.1") -> bytes:
    """Return the bytes of a POST request."""
    lines = [f"POST {path} HTTP/1.1", f"host: {host}", "content-type: application/json"]
    lines += [f"x-api-key: {key}"] if key else []
    lines += [f"content-length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode() + body


class Connection:
    """One client: sends, waits for the whole answer, sends again."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = bytearray()
        self.wanted = -1
        self.number = -1
        self.start = 0.0

    def send(self, number: int, message: bytes) -> None:
        """Send a request, whatever its number."""
        self.number, self.wanted = number, -1
        self.buffer.clear()
        self.start = time.perf_counter()
        self.socket.sendall(message)

    def receive(self) -> bool:
        """Read what is there; whether the answer is whole."""
        data = self.socket.recv(1 << 18)
        if not data:
            raise ConnectionError("The server closed the connection.")
        self.buffer += data
        if self.wanted < 0:
            end = self.buffer.find(HEAD_END)
            if end < 0:
                return False
            head = bytes(self.buffer[:end]).lower()
            _, found, rest = head.partition(b"content-length:")
            length = int(rest.split(b"\r", 1)[0]) if found else 0
            self.wanted = end + len(HEAD_END) + length
        return len(self.buffer) >= self.wanted

    def receive_head(self) -> bool:
        """Read what is there of an answer without a body; whether it is whole."""
        self.wanted = 0
        self.receive()
        return HEAD_END in self.buffer

    @property
    def status(self) -> int:
        """Status of the answer."""
        return int(self.buffer[9:12])

    @property
    def body(self) -> bytes:
        """Body of the answer."""
        return bytes(self.buffer[self.buffer.find(HEAD_END) + len(HEAD_END) :])


def load(
    port: int,
    messages: Sequence[bytes],
    *,
    clients: int,
    keep: int = 0,
    seconds: float | None = None,
    pause_s: float = 0.05,
) -> Load:
    """Return what came of sending all messages, each client one at a time.

    Args:
        port: of the server, on this machine.
        messages: requests; sent again from the start where ``seconds`` is given.
        clients: connections that send at once.
        keep: bodies of the first so many messages are kept.
        seconds: send for so long instead of once each.
        pause_s: what a client waits after it was refused.
    """
    connections = [Connection(port) for _ in range(clients)]
    crowd = _Crowd(messages, seconds, keep, pause_s)
    try:
        return crowd.run(connections)
    finally:
        for each in connections:
            each.socket.close()


class _Crowd:
    """Clients that send as soon as they are answered."""

    def __init__(
        self, messages: Sequence[bytes], seconds: float | None, keep: int, pause_s: float
    ) -> None:
        self.messages, self.seconds = messages, seconds
        self.keep, self.pause_s = keep, pause_s
        self.found = Load()
        self.selector = selectors.DefaultSelector()
        self.resting: list[tuple[float, Connection]] = []
        self.sent = self.busy = 0
        self.start = time.perf_counter()

    def run(self, connections: Sequence[Connection]) -> Load:
        """Send until there is nothing left to send."""
        for each in connections:
            self.send(each)
        while self.busy or self.resting:
            for key, _ in self.selector.select(0.01 if self.resting else None):
                if key.data.receive():
                    self.answered(key.data)
            self.wake()
        self.found.seconds = time.perf_counter() - self.start
        return self.found

    def send(self, connection: Connection) -> None:
        """Send the next message, if there is one."""
        past_s = time.perf_counter() - self.start
        if past_s > self.seconds if self.seconds else self.sent >= len(self.messages):
            return
        connection.send(self.sent, self.messages[self.sent % len(self.messages)])
        self.sent += 1
        self.busy += 1
        self.selector.register(connection.socket, selectors.EVENT_READ, connection)

    def answered(self, connection: Connection) -> None:
        """Note an answer, and send on; who was refused rests first."""
        self.selector.unregister(connection.socket)
        self.busy -= 1
        now = time.perf_counter()
        took, status = now - connection.start, connection.status
        self.found.statuses[status] = self.found.statuses.get(status, 0) + 1
        if status == 503:
            self.found.refused_s.append(took)
            self.resting.append((now + self.pause_s, connection))
            return
        self.found.times_s.append(took)
        if connection.number < self.keep:
            self.found.bodies[connection.number] = connection.body
        self.send(connection)

    def wake(self) -> None:
        """Let those send on who have rested."""
        now = time.perf_counter()
        for entry in [entry for entry in self.resting if entry[0] <= now]:
            self.resting.remove(entry)
            self.send(entry[1])
