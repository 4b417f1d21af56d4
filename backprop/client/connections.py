"""Connections that stay open between requests: one set a server, safe across threads and forks."""

from __future__ import annotations

import asyncio
import atexit
import importlib.metadata
import os
import threading
from collections.abc import AsyncGenerator
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any

import httpx

__all__ = ["async_client", "client", "close"]

# As many connections as requests at a time: what a busy caller opened is used again.
LIMITS = httpx.Limits(max_connections=100, max_keepalive_connections=100)

_lock = threading.Lock()
_clients: dict[str, httpx.Client] = {}
_of_loops: dict[asyncio.AbstractEventLoop, dict[str, asyncio.Task[_Kept]]] = {}
_inherited: list[Any] = []


class _Kept:
    """A client for one event loop, closed when that loop ends."""

    def __init__(self) -> None:
        self.client = httpx.AsyncClient(**_options())
        self._guard = self._until_the_end()

    async def start(self) -> None:
        """Have the loop close the client: it ends asynchronous generators that are left."""
        await self._guard.__anext__()

    async def _until_the_end(self) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            _of_loops.pop(asyncio.get_running_loop(), None)
            await self.client.aclose()


def client(url: str) -> httpx.Client:
    """Return the client for a server; any thread may use it."""
    with _lock:
        if url not in _clients:
            _clients[url] = httpx.Client(**_options())
        return _clients[url]


async def async_client(url: str) -> httpx.AsyncClient:
    """Return the client for a server within the running event loop."""
    own = _of_loops.setdefault(asyncio.get_running_loop(), {})
    if url not in own:
        own[url] = asyncio.create_task(_start())
    # Others wait for it too.
    try:
        return (await asyncio.shield(own[url])).client
    except Exception:  # of its start: the next call tries again
        own.pop(url, None)
        raise


async def _start() -> _Kept:
    # To read the system's certificates takes long.
    kept = await asyncio.to_thread(_Kept)
    await kept.start()
    return kept


def _options() -> dict[str, Any]:
    return {
        "limits": LIMITS,
        # A redirect would carry the key, and files, to where nobody meant them to go.
        "follow_redirects": False,
        # Two keys to one server share a client, but never a cookie.
        "cookies": CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        "headers": {"user-agent": f"backprop/{importlib.metadata.version('backprop')}"},
    }


def close() -> None:
    """Close the connections of this process but those of event loops; later ones are new."""
    with _lock:
        for each in _clients.values():
            each.close()
        _clients.clear()


def _forked() -> None:
    """Leave the parent's connections alone: two processes can't share one."""
    global _lock
    _lock = threading.Lock()
    # Kept, since to close or to collect them could say good-bye on the parent's behalf.
    _inherited.append((dict(_clients), dict(_of_loops)))
    _clients.clear()
    _of_loops.clear()


atexit.register(close)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
