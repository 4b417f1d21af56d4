"""Fences for tests: a fresh Python process, modules that must stay unimported, no network."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NoReturn, TypeAlias
from unittest import mock

ROOT = Path(__file__).resolve().parents[1]

# What ``socket.connect`` takes: (host, port, ...) for the internet, a path for a unix socket.
Address: TypeAlias = tuple[object, ...] | str | bytes

_BLOCKER = """\
import sys
class _Blocked:
    names = {names!r}
    def find_spec(self, name, path=None, target=None):
        for blocked in self.names:
            if name == blocked or name.startswith(blocked + "."):
                raise ModuleNotFoundError("a test blocks the import of " + name, name=name)
sys.meta_path.insert(0, _Blocked())
del sys
"""


class NetworkBlockedError(OSError):
    """A guarded test tried to reach the network; an OSError, as a machine offline would give."""

    def __init__(self, target: object) -> None:
        """Say which address was tried."""
        super().__init__(errno.ENETUNREACH, f"a test blocks the network; tried {target}")


def blocked_modules(*names: str) -> str:
    """Return source that makes importing ``names`` raise ImportError, to put before a program.

    Args:
        names: dotted module names; what lies below each is blocked too.
    """
    return _BLOCKER.format(names=names)


def run_python(
    code: str,
    *,
    blocked: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
    timeout_s: float = 120,
) -> subprocess.CompletedProcess[str]:
    """Return what a new interpreter makes of ``code``, run from the repository's root.

    Args:
        code: source, dedented before use.
        blocked: module names that raise ImportError in that process.
        env: added to this process's environment.
        timeout_s: seconds after which ``subprocess.TimeoutExpired`` is raised.

    Returns:
        Exit code, stdout and stderr as text; a failure is the caller's to judge.
    """
    source = (blocked_modules(*blocked) if blocked else "") + textwrap.dedent(code)
    return subprocess.run(
        [sys.executable, "-c", source],
        env={**os.environ, **(env or {})},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


@contextmanager
def no_network() -> Iterator[Callable[[], list[str]]]:
    """Refuse every connection but unix sockets, here and in Python processes started meanwhile.

    Refused are connections (loopback too) and look-ups of host names; listening stays possible.
    Libraries may swallow the error, so a test that wants silence asserts on what is yielded.

    Yields:
        A function that returns what was tried so far, one "host:port" or host name each.
    """
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        log = Path(folder) / "attempts"
        log.touch()
        # Python runs a module of this name at start, so a child (pip, say) is fenced as well.
        (Path(folder) / "sitecustomize.py").write_text(
            f"import runpy\nrunpy.run_path({__file__!r})['fence']({str(log)!r})\n"
        )
        path = os.pathsep.join(filter(None, [folder, os.environ.get("PYTHONPATH")]))
        stack.enter_context(mock.patch.dict(os.environ, PYTHONPATH=path))
        for patch in _patches(log):
            stack.enter_context(patch)
        yield lambda: log.read_text().splitlines()


def fence(log: str) -> None:
    """Block the network for the rest of this process and write attempts to the file ``log``."""
    for patch in _patches(Path(log)):
        patch.start()


def _patches(log: Path) -> list[mock._patch[Callable[..., object]]]:
    connect, connect_ex = socket.socket.connect, socket.socket.connect_ex
    getaddrinfo = socket.getaddrinfo

    def refuse(target: str) -> NoReturn:
        with log.open("a") as lines:
            lines.write(f"{target}\n")
        raise NetworkBlockedError(target)

    def guarded_connect(self: socket.socket, address: Address) -> None:
        return connect(self, address) if _is_unix(self) else refuse(_shown(address))

    def guarded_connect_ex(self: socket.socket, address: Address) -> int:
        return connect_ex(self, address) if _is_unix(self) else refuse(_shown(address))

    def guarded_lookup(host: str | bytes | None, *args: Any, **options: Any) -> Any:
        return getaddrinfo(host, *args, **options) if _is_local(host) else refuse(str(host))

    return [
        mock.patch.object(socket.socket, "connect", guarded_connect),
        mock.patch.object(socket.socket, "connect_ex", guarded_connect_ex),
        mock.patch.object(socket, "getaddrinfo", guarded_lookup),
    ]


def _is_unix(connection: socket.socket) -> bool:
    return connection.family == socket.AF_UNIX


def _shown(address: Address) -> str:
    return (
        ":".join(str(part) for part in address[:2]) if isinstance(address, tuple) else str(address)
    )


def _is_local(host: str | bytes | None) -> bool:
    """Tell whether looking ``host`` up asks nobody else."""
    name = host.decode() if isinstance(host, bytes) else host
    if not name or name == "localhost":
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
