"""Who is logged in on the web page: a random cookie each, in memory."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable, Mapping

from backprop.serve.keys import Key, Keys

__all__ = ["COOKIE", "LIFETIME_S", "Sessions"]

COOKIE = "backprop_session"
LIFETIME_S = 12 * 3600
MOST_SESSIONS = 1000
MOST_CHARACTERS = 4096
"""Of a ``Cookie`` header that is looked at."""
ATTRIBUTES = "; HttpOnly; SameSite=Strict; Path=/"


class Sessions:
    """Sessions of the web page; they end with the process, after 12 hours, or with their key.

    Args:
        keys: asked at each request whether the key of a session still holds.
        most: sessions at a time; beyond it the oldest ends.
        lifetime_s: of a session.
        clock: seconds that only go up.
    """

    def __init__(
        self,
        keys: Keys,
        *,
        most: int = MOST_SESSIONS,
        lifetime_s: float = LIFETIME_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._keys, self._most, self._lifetime_s, self._clock = keys, most, lifetime_s, clock
        # By hash of the token: how long it takes to look one up tells nothing of another.
        self._open: dict[bytes, tuple[str, float]] = {}

    def __len__(self) -> int:
        """Return how many are open."""
        return len(self._open)

    def open(self, key: Key, *, secure: bool) -> str:
        """Begin a session and return the ``Set-Cookie`` header of it.

        Args:
            key: that was checked.
            secure: whether the page came over https, which the cookie is then bound to.
        """
        token = secrets.token_urlsafe(32)
        self._open[_hash(token)] = (key.id, self._clock() + self._lifetime_s)
        if len(self._open) > self._most:
            del self._open[next(iter(self._open))]
        end = "; Secure" if secure else ""
        return f"{COOKIE}={token}; Max-Age={int(self._lifetime_s)}{ATTRIBUTES}{end}"

    def key_of(self, cookies: str) -> Key | None:
        """Return the key of the session in a ``Cookie`` header, if it is open and the key holds."""
        place = _hash(_token(cookies))
        id, end = self._open.get(place, ("", 0.0))
        if not id:
            return None
        key = self._keys.find(id) if self._clock() < end else None
        if key is None:
            self._open.pop(place, None)
        return key

    def close(self, headers: Mapping[str, str]) -> str:
        """End the session of a request; return the ``Set-Cookie`` header that removes its cookie.

        Args:
            headers: of the request.
        """
        self._open.pop(_hash(_token(headers.get("cookie") or "")), None)
        return f"{COOKIE}=; Max-Age=0{ATTRIBUTES}"


def _token(cookies: str) -> str:
    """Return our cookie of a ``Cookie`` header, or ""."""
    if len(cookies) > MOST_CHARACTERS:
        return ""
    for part in cookies.split(";"):
        name, _, value = part.strip().partition("=")
        if name == COOKIE:
            return value
    return ""


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
