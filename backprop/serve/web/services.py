"""What the pages ask of the rest of the server."""

from __future__ import annotations

from typing import Any, Protocol

from backprop.serve.auth import Sessions
from backprop.serve.keys import Keys
from backprop.serve.store.hub import Hub

__all__ = ["PageServices", "Told"]


class Told(Protocol):
    """The models that are served, and how they do; asked from several threads at once."""

    def models(self) -> list[dict[str, Any]]:
        """Return every model, as GET /models has them."""

    def model(self, name: str) -> dict[str, Any]:
        """Return one of them with its ``card``, or raise NotFoundError."""

    def stats(self) -> dict[str, Any]:
        """Return what is loaded and how fast it answers."""


class PageServices(Protocol):
    """The parts of a server that pages use."""

    hub: Hub
    registry: Told
    sessions: Sessions
    keys: Keys
