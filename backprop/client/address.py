"""Which server is meant, and with which key."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from backprop.errors import InputError

__all__ = ["Server", "of_hub", "of_task"]

URL, KEY = "BACKPROP_API_URL", "BACKPROP_API_KEY"
HTTP_URL = re.compile(r"https?://[^/\s]", re.IGNORECASE)
SENDABLE = re.compile(r"[\x21-\x7e]*")


@dataclass(frozen=True)
class Server:
    """A server's address, and the key to it.

    Args:
        url: what routes are put after.
        key: sent as ``x-api-key``; never shown.

    Raises:
        InputError: the address is none, or the key holds what no key has.
    """

    url: str
    key: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        """Trim both, and check them before a library puts them into a message."""
        object.__setattr__(self, "url", self.url.strip().rstrip("/"))
        object.__setattr__(self, "key", self.key.strip())
        if not SENDABLE.fullmatch(self.key):
            raise InputError("api_key holds a character that no key has; copy the key again.")
        if not HTTP_URL.match(self.url):
            received = self.url.rpartition("@")[2]  # what is before it may be a password
            meant = (
                f"; did you mean http://{received}?"
                if re.match(r"[\w.-]+(:\d|/|$)", received)
                else ""
            )
            raise InputError(
                f"api_url must begin with http:// or https://; received {received!r}{meant}"
            )

    @property
    def shown(self) -> str:
        """The address without the name and password it may hold."""
        scheme, marks, rest = self.url.partition("://")
        host, slash, path = rest.partition("/")
        return f"{scheme}{marks}{host.rpartition('@')[2]}{slash}{path}"

    @property
    def headers(self) -> dict[str, str]:
        """Headers that say who asks."""
        return {"x-api-key": self.key} if self.key else {}

    def clean(self, text: str) -> str:
        """Return ``text``, from the server or a library, fit for a message: no key, one line."""
        shown = text.replace(self.key, "***") if self.key else text
        password = _password(self.url)
        shown = shown.replace(password, "***") if password else shown
        # Else a server could write escape sequences to the terminal.
        shown = "".join(each if each.isprintable() else " " for each in shown)
        shown = " ".join(shown.split())
        return shown if len(shown) <= LONGEST else f"{shown[:LONGEST]} …"


LONGEST = 2000
"""Characters of a server's message that are shown."""


def of_task(api_url: str | None, api_key: str | None) -> Server:
    """Return the server of a task that was told to run on one, by a URL or a key.

    ``BACKPROP_API_URL`` stands in for a URL that is missing beside a key, ``BACKPROP_API_KEY`` for
    a key that is missing beside a URL. Neither sends anything anywhere by itself, and the key of
    one server is not sent to another.

    Raises:
        InputError: no URL is known.
    """
    known = os.environ.get(URL, "").strip()
    url = (api_url if api_url is not None else known).strip()
    if not url:
        raise InputError(
            "api_key was given without api_url, and the hosted service of 2021 is gone; pass "
            f"api_url='https://your-server' or set {URL}, or leave api_key out to run here."
        )
    key = api_key
    if key is None and (not known or known.rstrip("/") == url.rstrip("/")):
        key = os.environ.get(KEY)
    return Server(url, key or "")


def of_hub(api_url: str | None, api_key: str | None) -> Server:
    """Return the server that models are sent to and fetched from.

    Raises:
        InputError: no URL is known.
    """
    if api_url is None and not os.environ.get(URL, "").strip():
        raise InputError(
            f"No server is known to keep models; pass api_url='https://your-server' or set {URL}. "
            "To start one here, run: backprop serve"
        )
    return of_task(api_url, api_key)


def _password(url: str) -> str:
    try:
        return urlsplit(url).password or ""
    except ValueError:
        return ""
