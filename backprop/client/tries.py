"""How often, how soon and how long one request is tried."""

from __future__ import annotations

import datetime
import email.utils
import random
import re
import time

import httpx

__all__ = ["AGAIN", "CONNECT_S", "REFUSED", "TIMEOUT_S", "Tries", "retry_after_s", "timeout"]

TIMEOUT_S = 120.0
"""Of one request, all its tries and pauses included; longer than a server lets one wait."""
CONNECT_S = 5.0
AGAIN = frozenset({408, 429, 502, 503, 504})
"""Statuses after which the same request may succeed."""
REFUSED = frozenset({429, 503})
"""Of these, the ones by which the server itself says that it did nothing."""
RETRIES = 5
FIRST_S, MOST_S = 0.2, 8.0
"""Longest pause after the first failure, which doubles with each, and longest of all."""


class Tries:
    """The tries of one request.

    Args:
        timeout_s: seconds for all of them together.
    """

    def __init__(self, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        self.restart()

    def restart(self) -> None:
        """Count anew, as after a part that went well."""
        self.count = 0
        self.ends = time.monotonic() + self.timeout_s

    @property
    def left_s(self) -> float:
        """Seconds left; 0 when the time is over."""
        return max(0.0, self.ends - time.monotonic())

    def pause_s(self, least_s: float = 0.0) -> float | None:
        """Return how long to wait before the next try; None if there shall be none.

        Pauses are random between nothing and a bound that doubles, so that many clients of a server
        that was down do not come back at once.

        Args:
            least_s: what the server asked for. A pause for which no time is left is none.

        Source: "full jitter", M. Brooker, Exponential Backoff and Jitter, AWS 2015.
        """
        if self.count >= RETRIES:
            return None
        pause = least_s + random.uniform(0, min(MOST_S, FIRST_S * 2**self.count))
        self.count += 1
        return pause if pause < self.left_s else None


def timeout(tries: Tries) -> httpx.Timeout:
    """Return what httpx shall wait at most, within the time that is left."""
    left_s = max(tries.left_s, 0.001)
    return httpx.Timeout(left_s, connect=min(CONNECT_S, left_s))


def retry_after_s(header: str | None) -> float:
    """Return the seconds a ``Retry-After`` asks for, a number or a date; 0 where it is neither."""
    text = (header or "").strip()
    if re.fullmatch(r"[0-9]{1,9}", text):
        return float(text)
    try:
        moment = email.utils.parsedate_to_datetime(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=datetime.timezone.utc)
        left = moment - datetime.datetime.now(datetime.timezone.utc)
    except (IndexError, OverflowError, TypeError, ValueError):
        return 0.0
    return max(0.0, left.total_seconds())
