"""An answer other than success, raised where it is known and sent by the app."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["HTTPFault"]


@dataclass
class HTTPFault(Exception):
    """End the request with this answer.

    Args:
        status: HTTP status, 4xx or 5xx.
        message: for the caller: what was wrong, the value received, what to do; it holds no
            path of this machine, no key and no traceback.
        headers: further headers of the answer.
    """

    status: int
    message: str
    headers: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Make the message what ``str`` shows."""
        super().__init__(self.message)

    def __str__(self) -> str:
        """Return the message."""
        return self.message
