"""What a ``Host`` header may say, and where a request that changes something may come from.

A page of another site can make a browser send requests here: under a name of its own that it has
pointed at this machine (the ``Host`` header then has that name), or across sites (``Origin`` and
``Sec-Fetch-Site`` then say so).
"""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache

from backprop.serve.settings import LOOPBACK_NAMES, Settings

__all__ = ["Hosts", "is_cross_site"]

LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
FORM = re.compile(rf"(\[[0-9a-f:.]{{2,45}}\]|{LABEL}(?:\.{LABEL}){{0,30}})(?::(\d{{1,5}}))?", re.A)
MOST_CHARACTERS = 261
"""The longest name there is, and a port."""

WILDCARDS = ("", "0.0.0.0", "::", "[::]")
"""Addresses to listen on that stand for all of a machine's."""

DEFAULT_PORTS = {"http": ":80", "https": ":443"}
FOREIGN_SITES = (b"cross-site", b"same-site")


class Hosts:
    """The names by which a server may be asked.

    Loopback names where it listens on loopback; elsewhere the address it listens on. Where it
    listens on all addresses any address will do, and loopback names: only a name can be pointed
    at a machine by somebody else. ``settings.hosts`` come on top. Ports do not matter.

    Args:
        settings: of the server.
    """

    def __init__(self, settings: Settings) -> None:
        bound = settings.host.lower()
        self._any_address = bound in WILDCARDS
        own = LOOPBACK_NAMES if settings.is_local or self._any_address else ()
        names = {*own, *(name.lower() for name in settings.hosts)}
        if not self._any_address:
            names.add(bound)
        self._names = frozenset(_bracketed(name) for name in names)
        # Bounded, since what is asked for comes from outside.
        self._remembered = lru_cache(maxsize=256)(self._allows)

    def allows(self, header: bytes) -> bool:
        """Return whether a ``Host`` header is well formed and names this server."""
        return len(header) <= MOST_CHARACTERS and self._remembered(header)

    def _allows(self, header: bytes) -> bool:
        name = _name(header)
        if name is None:
            return False
        return name in self._names or (self._any_address and _is_address(name))


def is_cross_site(host: bytes, origin: bytes | None, fetch_site: bytes | None) -> bool:
    """Return whether a browser says that another site's page makes this request.

    Args:
        host: the ``Host`` header.
        origin: the ``Origin`` header, which only browsers send.
        fetch_site: the ``Sec-Fetch-Site`` header, likewise.
    """
    if fetch_site is not None and fetch_site.strip().lower() in FOREIGN_SITES:
        return True
    if origin is None:
        return False
    scheme, mark, place = origin.decode("latin-1").lower().partition("://")
    port = DEFAULT_PORTS.get(scheme)
    if not mark or port is None:
        return True  # "null", or no web page at all
    own = host.decode("latin-1").lower()
    return place.removesuffix(port) != own.removesuffix(port)


def _name(header: bytes) -> str | None:
    """Return the name in a ``Host`` header without its port, or None for a malformed one."""
    match = FORM.fullmatch(header.decode("latin-1").lower())
    if match is None or int(match[2] or 0) > 65535:
        return None
    return _bracketed(match[1])


def _bracketed(name: str) -> str:
    """Return ``name`` as a ``Host`` header has it: brackets around an IPv6 address, shortest."""
    try:
        address = ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return name
    return f"[{address}]" if address.version == 6 else str(address)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True
