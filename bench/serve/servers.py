"""The servers that are compared, each a process with its children, started and measured."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import psutil

__all__ = ["Server", "free_port", "ours", "peer"]

HERE = Path(__file__).parent
START_S = 180.0


@dataclass
class Server:
    """A running server.

    Args:
        process: the one that was started.
        port: where it listens.
        ready_s: from its start until it answered.
        log: what it prints.
    """

    process: subprocess.Popen[bytes]
    port: int
    ready_s: float
    log: IO[bytes]

    def lines(self) -> list[bytes]:
        """Return the lines of its log so far."""
        self.log.seek(0)
        return self.log.read().splitlines()

    def processes(self) -> list[psutil.Process]:
        """Return it and its children."""
        own = psutil.Process(self.process.pid)
        return [own, *own.children(recursive=True)]

    def cpu_s(self) -> float:
        """Return the seconds of CPU that all of it has used."""
        total = 0.0
        for each in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                times = each.cpu_times()
                total += times.user + times.system
        return total

    def memory_mb(self) -> float:
        """Return its resident memory, what processes share counted once."""
        total = 0
        for each in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                total += each.memory_full_info().pss
        return total / 1e6

    def open_files(self) -> int:
        """Return how many files it has open, those of its children too."""
        total = 0
        for each in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                total += each.num_fds()
        return total

    def stop(self) -> None:
        """End it."""
        for each in reversed(self.processes()):
            with contextlib.suppress(psutil.NoSuchProcess):
                each.send_signal(signal.SIGTERM)
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            for each in self.processes():
                each.kill()


def free_port() -> int:
    """Return a port that is free now."""
    with socket.socket() as each:
        each.bind(("127.0.0.1", 0))
        return int(each.getsockname()[1])


@contextlib.contextmanager
def ours(
    *flags: str, data: Path | None = None, environment: Mapping[str, str] | None = None
) -> Iterator[Server]:
    """Run ``backprop serve`` with these flags, its data in a folder that goes with it."""
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        place = str(data or Path(folder) / "data")
        command = [sys.executable, "-m", "backprop", "serve", "--port", str(port), "--data", place]
        with _running([*command, *flags], port, "/readyz", environment or {}) as server:
            yield server


@contextlib.contextmanager
def peer(command: Sequence[str], port: int, environment: Mapping[str, str]) -> Iterator[Server]:
    """Run a peer's server."""
    with _running(command, port, "/", environment) as server:
        yield server


@contextlib.contextmanager
def _running(
    command: Sequence[str], port: int, path: str, environment: Mapping[str, str]
) -> Iterator[Server]:
    with tempfile.TemporaryFile() as log:
        start = time.perf_counter()
        process = subprocess.Popen(
            command, stdout=log, stderr=log, env={**os.environ, **environment}
        )
        try:
            while not _answers(port, path):
                if process.poll() is not None or time.perf_counter() - start > START_S:
                    log.seek(0)
                    raise SystemExit(f"{command} did not start:\n{log.read().decode()[-3000:]}")
                time.sleep(0.02)
            server = Server(process, port, time.perf_counter() - start, log)
            yield server
        finally:
            with contextlib.suppress(psutil.NoSuchProcess):
                Server(process, port, 0, log).stop()


def _answers(port: int, path: str) -> bool:
    """Whether a server answers; any status but 503 will do."""
    try:
        with socket.create_connection(("127.0.0.1", port), 1) as each:
            each.sendall(f"GET {path} HTTP/1.0\r\nhost: 127.0.0.1\r\n\r\n".encode())
            head = each.recv(64)
    except OSError:
        return False
    return bool(re.match(rb"HTTP/1\.\d (?!503)\d", head))
