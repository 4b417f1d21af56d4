"""Processes that the server starts: with few of its variables, and never left behind."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
from contextlib import suppress

__all__ = ["Child", "end_all"]

logger = logging.getLogger("backprop.serve")

PASSED = (
    *("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TMP", "TEMP", "SYSTEMROOT", "LD_LIBRARY_PATH"),
    *("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "VIRTUAL_ENV"),
)
PASSED_STARTS = (
    *("BACKPROP_", "HF_", "OMP_", "MKL_", "OPENBLAS_", "GOMP_", "PYTHON", "PIP_", "CUDA_", "XDG_"),
)
SECRET = "BACKPROP_API_KEY"
MOST_LINES = 200
"""Lines of its standard error that are logged."""

_RUNNING: set[subprocess.Popen[bytes]] = set()


class Child:
    """A Python module that runs in a process of its own.

    It sees variables that say where things are and how to compute, and none that hold the keys of
    databases and stores. What it says on standard error is logged, line by line.

    Args:
        module: its name.
        arguments: what follows it.
    """

    def __init__(self, module: str, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=_environment(),
            start_new_session=True,  # Ctrl-C is for the server, which lets it end what it does
        )
        _RUNNING.add(self._process)
        self.last_line = ""
        """Of its standard error."""
        self._listener = threading.Thread(target=self._listen, args=(module,), daemon=True)
        self._listener.start()

    @property
    def is_alive(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    def write(self, data: bytes) -> None:
        """Send something to its standard input; OSError if it has ended."""
        assert self._process.stdin is not None
        self._process.stdin.write(data)
        self._process.stdin.flush()

    def line(self) -> bytes:
        """Return the next line of its standard output; nothing once it has ended."""
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def wait(self, seconds: float) -> int:
        """Return its exit code; it is killed if it takes longer."""
        try:
            code = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            code = self._process.wait()
        self._listener.join(1)
        return code

    def kill(self) -> None:
        """End it now."""
        with suppress(ProcessLookupError):
            self._process.kill()

    def close(self) -> None:
        """End it, and let go of all that it took."""
        self.kill()
        self._process.wait()
        self._listener.join(1)
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None:
                with suppress(OSError):  # what could not be sent to it is sent now, in vain
                    pipe.close()
        _RUNNING.discard(self._process)

    def _listen(self, module: str) -> None:
        assert self._process.stderr is not None
        with suppress(ValueError):  # closed meanwhile
            for number, line in enumerate(self._process.stderr):
                text = line.decode(errors="replace").strip()
                self.last_line = text or self.last_line
                if text and number < MOST_LINES:
                    logger.info("child", extra={"module_name": module, "text": text[:500]})


def end_all() -> None:
    """End every child now."""
    for process in list(_RUNNING):
        with suppress(ProcessLookupError):
            process.kill()


def _environment() -> dict[str, str]:
    return {
        name: value
        for name, value in os.environ.items()
        if (name in PASSED or name.startswith(PASSED_STARTS)) and name != SECRET
    }
