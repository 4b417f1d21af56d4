"""Twice as many requests as the server can answer, for a minute: who is admitted, and how fast?

First the capacity is measured with closed clients. Then requests are sent at twice that rate,
whether or not earlier ones were answered. Refused ones must be told at once; admitted ones must
be answered in bounded time; none may time out.

Run as ``python -m bench.serve.overload``; the exit code is 1 if one of these fails.
"""

from __future__ import annotations

import argparse
import json
import selectors
import sys
import time
from collections import deque

from backprop.bench import sides
from bench.serve.client import Connection, load, request
from bench.serve.servers import Server, ours

WAIT_S = 1.0
"""Longest expected wait that the server is told to admit."""
CONNECTIONS = 1024
REFUSED_MS = 50.0
TIMEOUT_S = 30.0


def main() -> None:
    """Measure, and print what happened."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seconds", type=float, default=60)
    seconds = parser.parse_args().seconds
    texts = sides.texts(256)
    messages = [
        request("/text-vectorisation", json.dumps({"text": text}).encode()) for text in texts
    ]
    with ours("--preload", "text-vectorisation", "--wait", str(WAIT_S)) as server:
        load(server.port, messages[:64], clients=8)
        capacity = load(server.port, messages, clients=32, seconds=10).per_s
        print(f"capacity: {capacity:.0f} requests/s", flush=True)
        fine = flood(server, messages, rate=2 * capacity, seconds=seconds)
    sys.exit(0 if fine else 1)


def flood(server: Server, messages: list[bytes], *, rate: float, seconds: float) -> bool:
    """Send at a rate, print what came back, and return whether it is as it should be."""
    selector = selectors.DefaultSelector()
    free = deque(Connection(server.port) for _ in range(CONNECTIONS))
    admitted: list[float] = []
    refused: list[float] = []
    other: dict[int, int] = {}
    sent = unsent = running = 0
    start = time.perf_counter()
    while True:
        now = time.perf_counter() - start
        while now < seconds and sent + unsent < now * rate:
            if not free:  # counted, so that the client is not what bounds the load unseen
                unsent += 1
                continue
            connection = free.popleft()
            connection.send(sent, messages[sent % len(messages)])
            selector.register(connection.socket, selectors.EVENT_READ, connection)
            sent, running = sent + 1, running + 1
        if (now > seconds and not running) or now > seconds + TIMEOUT_S:
            break
        for key, _ in selector.select(0.001):
            connection = key.data
            if not connection.receive():
                continue
            took = time.perf_counter() - connection.start
            selector.unregister(connection.socket)
            free.append(connection)
            running -= 1
            if connection.status == 200:
                admitted.append(took)
            elif connection.status == 503:
                refused.append(took)
            else:
                other[connection.status] = other.get(connection.status, 0) + 1
    return told(admitted, refused, other, unsent=unsent, timeouts=running, seconds=seconds)


def told(
    admitted: list[float],
    refused: list[float],
    other: dict[int, int],
    *,
    unsent: int,
    timeouts: int,
    seconds: float,
) -> bool:
    """Print the figures, and return whether all is as it should be."""
    late = percentile(refused, 0.99)
    print(
        f"{len(admitted):,} admitted ({len(admitted) / seconds:.0f}/s): p50 "
        f"{percentile(admitted, 0.5):.0f} ms, p99 {percentile(admitted, 0.99):.0f} ms, most "
        f"{percentile(admitted, 1):.0f} ms\n{len(refused):,} refused: p50 "
        f"{percentile(refused, 0.5):.1f} ms, p99 {late:.1f} ms, most {percentile(refused, 1):.1f} "
        f"ms\n{timeouts} timeouts, other answers: {other or 'none'}, {unsent} not sent for want of "
        "a connection"
    )
    bounded = percentile(admitted, 0.99) < 2000 * WAIT_S
    return bounded and late < REFUSED_MS and not timeouts and not other


def percentile(times_s: list[float], share: float) -> float:
    """Return a percentile in milliseconds."""
    ordered = sorted(times_s) or [0.0]
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)] * 1e3


if __name__ == "__main__":
    main()
