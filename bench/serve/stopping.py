"""SIGTERM under load, again and again: is any request lost that the server had accepted?

A request is accepted once the server has read it: it then stands in its log, and every one
of these must be answered whole; so must each one sent on a connection that was answered before.
What the system took for a socket that closes, before the server saw it, is refused and not lost.
Clients send without a pause, on connections that stay open; the signal comes at a random moment.

Run as ``python -m bench.serve.stopping``; the exit code is 1 if one was lost.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import sys
import threading
import time
from dataclasses import dataclass

from bench.serve.client import Connection, request
from bench.serve.servers import Server, ours

CLIENTS = 16
TEXTS = [f"The train number {i} to London was late again." for i in range(64)]


@dataclass
class Tally:
    """What clients saw of one stop."""

    answered: int = 0
    refused: int = 0
    lost: int = 0


def main() -> None:
    """Stop a server so many times, and print what was lost."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--count", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    chance = random.Random(arguments.seed)
    total, slowest, codes = Tally(), 0.0, set()
    for turn in range(arguments.count):
        tally, seconds, code = stop_once(chance.uniform(0.05, 0.8))
        total.answered += tally.answered
        total.refused += tally.refused
        total.lost += tally.lost
        slowest = max(slowest, seconds)
        codes.add(code)
        print(f"stop {turn + 1}: {tally}, ended {seconds:.2f} s after the signal", flush=True)
    print(
        f"{arguments.count} stops under load: {total.answered:,} requests answered, {total.lost} "
        f"accepted requests lost, {total.refused} refused before they were accepted; the slowest "
        f"stop took {slowest:.2f} s; exit codes {sorted(codes)}"
    )
    sys.exit(1 if total.lost else 0)


def stop_once(after_s: float) -> tuple[Tally, float, int]:
    """Return what clients saw, how long the stop took, and the exit code."""
    tally, lock, stopped = Tally(), threading.Lock(), threading.Event()
    with ours("--preload", "text-vectorisation") as server:
        threads = [
            threading.Thread(target=_client, args=(server, i, tally, lock, stopped))
            for i in range(CLIENTS)
        ]
        for each in threads:
            each.start()
        time.sleep(after_s)
        start = time.perf_counter()
        server.process.send_signal(signal.SIGTERM)
        code = server.process.wait(60)
        seconds = time.perf_counter() - start
        stopped.set()
        for each in threads:
            each.join()
        accepted = sum(b'"path":"/text-vectorisation"' in line for line in server.lines())
        tally.lost += max(accepted - tally.answered, 0)
    return tally, seconds, code


def _client(
    server: Server, number: int, tally: Tally, lock: threading.Lock, stopped: threading.Event
) -> None:
    body = json.dumps({"text": TEXTS[number % len(TEXTS)]}).encode()
    message = request("/text-vectorisation", body)
    connection: Connection | None = None
    is_fresh = True
    while not stopped.is_set():
        try:
            if connection is None:
                connection, is_fresh = Connection(server.port), True
            connection.send(0, message)
        except OSError:  # nobody listens any more, or the connection was closed before
            with lock:
                tally.refused += 1
            return
        try:
            while not connection.receive():
                pass
        except OSError:
            with lock:
                tally.refused += is_fresh
                tally.lost += not is_fresh
            return
        is_fresh = False
        with lock:
            tally.answered += 1
        if b"connection: close" in bytes(connection.buffer[:600]).lower():
            connection.socket.close()
            connection = None


if __name__ == "__main__":
    main()
