"""What the routes of a server share."""

from __future__ import annotations

from dataclasses import dataclass

from backprop.serve.auth import Sessions
from backprop.serve.keys import Keys
from backprop.serve.metrics import Metrics
from backprop.serve.registry import Registry
from backprop.serve.settings import Settings
from backprop.serve.store.hub import Hub
from backprop.serve.telling import Told

__all__ = ["Services"]


@dataclass
class Services:
    """What the routes of a server share.

    Args:
        settings: how it runs.
        registry: its models.
        told: what they are and how they do.
        hub: uploaded models.
        keys: who may do what.
        sessions: of the web page.
        metrics: what is counted.
        is_ready: whether it takes new work; load balancers ask.
        failure: why it could not start, if so.
    """

    settings: Settings
    registry: Registry
    told: Told
    hub: Hub
    keys: Keys
    sessions: Sessions
    metrics: Metrics
    is_ready: bool = False
    failure: Exception | None = None
