"""How often somebody may do something: a bucket of tokens each, in bounded memory."""

from __future__ import annotations

import ipaddress
import math
import time
from collections.abc import Callable

__all__ = ["Buckets", "network_of"]

MOST_BUCKETS = 10_000


class Buckets:
    """A bucket of tokens for each name; it fills evenly over time.

    Whoever has waited a minute finds the bucket full, so ``per_minute`` is also the largest burst.

    Args:
        per_minute: tokens that come in a minute, at least 1.
        most: names that are remembered; beyond it the one seen longest ago is forgotten.
        clock: seconds that only go up.
    """

    def __init__(
        self,
        per_minute: int,
        *,
        most: int = MOST_BUCKETS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._size, self._rate = float(per_minute), per_minute / 60
        self._most, self._clock = most, clock
        self._buckets: dict[str, tuple[float, float]] = {}

    def __len__(self) -> int:
        """Return the number of names that are remembered."""
        return len(self._buckets)

    def take(self, name: str) -> int:
        """Take a token; return 0, or the seconds until there is one."""
        now = self._clock()
        tokens = self._tokens(name, now)
        taken = tokens >= 1
        # Taken out and put back, so that the first one is always the one seen longest ago.
        self._buckets.pop(name, None)
        self._buckets[name] = (tokens - 1 if taken else tokens, now)
        if len(self._buckets) > self._most:
            del self._buckets[next(iter(self._buckets))]
        return 0 if taken else self._wait(tokens)

    def wait(self, name: str) -> int:
        """Return 0, or the seconds until there is a token; takes none."""
        if name not in self._buckets:
            return 0
        tokens = self._tokens(name, self._clock())
        return 0 if tokens >= 1 else self._wait(tokens)

    def _tokens(self, name: str, now: float) -> float:
        tokens, then = self._buckets.get(name, (self._size, now))
        return min(self._size, tokens + (now - then) * self._rate)

    def _wait(self, tokens: float) -> int:
        return max(1, math.ceil((1 - tokens) / self._rate))


def network_of(address: str) -> str:
    """Return what to count a client by: its address, or the /64 network of an IPv6 one.

    Whoever has one address of version 6 has all of its network.
    """
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address[:64]
    if found.version == 4:
        return str(found)
    mapped = found.ipv4_mapped
    return str(mapped) if mapped else str(ipaddress.ip_network((found, 64), strict=False))
