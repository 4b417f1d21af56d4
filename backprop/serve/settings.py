"""How a server runs: one table of settings, each a flag of ``backprop serve``."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from backprop.errors import InputError
from backprop.folders import cache_dir

__all__ = ["LOOPBACK_NAMES", "Settings", "is_loopback"]

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")
"""What a ``Host`` header may say of a server that only this machine reaches."""


def _data() -> Path:
    return cache_dir() / ".server"


@dataclass(frozen=True)
class Settings:
    """How a server runs.

    Args:
        host: address to listen on; beyond loopback it takes keys.
        port: to listen on; 0 takes a free one.
        data: folder of the database, uploaded files and models made of them.
        database_url: of SQLAlchemy; by default an SQLite file in ``data``.
        storage_url: of fsspec, where uploaded files are kept; by default a folder in ``data``.
        hosts: further names that a ``Host`` header may say, such as that of a reverse proxy.
        models: catalogue models that are served; by default the starters.
        preload: what is loaded before the server says it is ready: tasks, each by itself or
            as ``task=model``.
        queue: most items that wait for one model; beyond that requests are refused.
        wait_s: longest time that a request may be expected to wait; beyond that it is refused.
        deadline_s: a request that has waited longer is dropped before it is computed.
        grace_s: what accepted requests have to end in when the server is told to stop.
        idle_s: a model that nobody asked for that long is unloaded.
        memory_bytes: of loaded models together; the one used longest ago goes first.
        rate_per_minute: requests that a key may make a minute; 0 is any number.
        most_tokens: that may be asked for of one text that is written.
        upload_bytes: largest file that may be uploaded.
        threads: cores that compute; 0 takes all.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    data: Path = field(default_factory=_data)
    database_url: str = ""
    storage_url: str = ""
    hosts: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    preload: tuple[str, ...] = ()
    queue: int = 512
    wait_s: float = 10.0
    deadline_s: float = 60.0
    grace_s: float = 30.0
    idle_s: float = 900.0
    memory_bytes: int = 4 << 30
    rate_per_minute: int = 0
    most_tokens: int = 4096
    upload_bytes: int = 4 << 30
    threads: int = 0

    def __post_init__(self) -> None:
        """Check what can be checked without starting.

        Raises:
            InputError: a value is out of bounds.
        """
        for name, (low, high) in BOUNDS.items():
            value = getattr(self, name)
            if not low <= value <= high:  # not a number is neither
                raise InputError(f"{name} must be from {low} to {high}; received {value!r}.")

    @property
    def is_local(self) -> bool:
        """Whether only this machine reaches the server."""
        return is_loopback(self.host)


def is_loopback(host: str) -> bool:
    """Return whether ``host``, a name or an address, is this machine's loopback."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


DAY_S, TIB = 86_400.0, 1 << 40
BOUNDS: Mapping[str, tuple[float, float]] = {
    "port": (0, 65_535),
    "queue": (1, 1_000_000),
    "wait_s": (0.001, DAY_S),
    "deadline_s": (0.001, DAY_S),
    "grace_s": (0, DAY_S),
    "idle_s": (0, 365 * DAY_S),
    "memory_bytes": (1, TIB),
    "rate_per_minute": (0, 1_000_000),
    "most_tokens": (1, 1_000_000),
    "upload_bytes": (1, TIB),
    "threads": (0, 1024),
}
"""Lowest and highest value of each setting that is a number."""
