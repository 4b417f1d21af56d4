"""A server that really runs, for scripts that attack it over loopback."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

__all__ = ["Server", "serving"]

READY_S = 60


@dataclass(frozen=True)
class Server:
    """A server and a client of it.

    Args:
        client: knows the server's address.
        process: what runs.
    """

    client: httpx.Client
    process: subprocess.Popen[bytes]

    def seconds(self) -> float:
        """Return how long the server itself has worked so far, other processes not counted."""
        times = psutil.Process(self.process.pid).cpu_times()
        return float(times.user + times.system)

    def resident_bytes(self) -> int:
        """Return the memory of the server, with the processes it has started."""
        own = psutil.Process(self.process.pid)
        total = 0
        for each in (own, *own.children(recursive=True)):
            try:
                total += each.memory_info().rss
            except psutil.NoSuchProcess:
                continue
        return total


@contextmanager
def serving(data: Path, env: Mapping[str, str] | None = None, *flags: str) -> Iterator[Server]:
    """Yield ``python -m backprop serve`` on a free port, ready; it is stopped in the end.

    Args:
        data: its folder.
        env: further variables.
        flags: of the command.
    """
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "backprop", "serve", "--port", str(port)]
    with (data.parent / f"{data.name}.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--data", str(data), *flags],
            stdout=log,
            stderr=log,
            env={**os.environ, **(env or {})},
        )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120) as client:
            _wait(client, process)
            yield Server(client, process)
    finally:
        process.terminate()
        process.wait(30)


def _wait(client: httpx.Client, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + READY_S
    while time.monotonic() < end and process.poll() is None:
        try:
            if client.get("/readyz").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.05)
    raise SystemExit(f"The server was not ready within {READY_S} s.")
