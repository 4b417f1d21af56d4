"""What is served and how it does, as JSON."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import psutil

from backprop import catalogue
from backprop.errors import NotFoundError
from backprop.serve.registry import Registry, Target
from backprop.specs import SPECS

__all__ = ["Told"]

RATE_S = 10.0
"""Time over which requests a second are counted."""
SCORE = ("task", "dataset", "metric", "value", "source")


class Told:
    """Tells of a registry's models; reads the database, and may be called from any thread.

    Args:
        registry: what it tells of.
    """

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def models(self) -> list[dict[str, Any]]:
        """Return all that is served, as ``GET /models`` tells it."""
        found = {own.name: self._of_catalogue(own) for own in self._registry.served.values()}
        hub = self._registry.hub
        for own in hub.models() if hub is not None else []:
            found[own.name] = self._of_hub(own)
        return list(found.values())

    def model(self, name: str) -> dict[str, Any]:
        """Return what is known of one model, its card too.

        Args:
            name: perhaps with a version, whose card is then told.

        Raises:
            NotFoundError: there is no such model.
        """
        plain, _, ref = name.partition("@")
        known = self._registry.served.get(plain.lower())
        if known is not None and not ref:
            return {**self._of_catalogue(known), "card": _card(known.name)}
        hub = self._registry.hub
        if hub is None:
            raise NotFoundError(f"There is no model {name!r}. See GET /models.")
        own = hub.model(plain)
        version = hub.version(plain, ref) if ref else own.latest
        return {**self._of_hub(own), "card": version.card}

    def stats(self) -> dict[str, Any]:
        """Return what is loaded now and how it does."""
        now = time.monotonic()
        recent = sum(now - when <= RATE_S for when in list(self._registry.recent))
        return {
            "models": [self._of_loaded(own) for own in list(self._registry.loaded.values())],
            "rss_bytes": psutil.Process().memory_info().rss,
            "uptime_s": now - self._registry.started,
            "requests_per_s": recent / RATE_S,
        }

    def depths(self) -> Mapping[tuple[str, str], int]:
        """Return how many rows wait, by model and task."""
        found: dict[tuple[str, str], int] = {}
        for own in list(self._registry.loaded.values()):
            key = own.name, own.task
            found[key] = found.get(key, 0) + own.batcher.waiting
        return found

    def _of_catalogue(self, target: Target) -> dict[str, Any]:
        entry = catalogue.get(target.name)
        return {
            "name": entry.name,
            "tasks": entry.tasks,
            "description": entry.description,
            "source": "catalogue",
            "licence": entry.licence,
            "languages": entry.languages,
            "size": entry.size,
            "parameters": entry.parameters,
            "default_for": [name for name, spec in SPECS.items() if spec.default == entry.name],
            "versions": [],
            "latest": None,
            "aliases": {},
            "loaded": self._is_loaded(entry.name),
        }

    def _of_hub(self, own: Any) -> dict[str, Any]:
        report = own.latest.meta.get("report")
        began = catalogue.find(str(report.get("model"))) if isinstance(report, dict) else None
        return {
            "name": own.name,
            "tasks": list(own.latest.meta.get("tasks", [])),
            "description": own.latest.description or own.latest.meta.get("description", ""),
            "source": "hub",
            "licence": began.licence if began else "",
            "languages": began.languages if began else [],
            "size": "",
            "parameters": 0,
            "default_for": [],
            "versions": list(own.versions),
            "latest": own.latest.number,
            "aliases": dict(own.aliases),
            "loaded": self._is_loaded(own.name),
        }

    def _is_loaded(self, name: str) -> bool:
        return any(own.name == name for own in list(self._registry.loaded.values()))

    def _of_loaded(self, own: Any) -> dict[str, Any]:
        times = sorted(own.times_s)
        return {
            "name": own.label,
            "task": own.task,
            "loaded": True,
            "memory_bytes": sum(own.model.sizes.values()),
            "queue": own.batcher.waiting,
            "requests": own.requests,
            "p50_ms": _percentile(times, 0.5),
            "p99_ms": _percentile(times, 0.99),
            "batch_mean": self._registry.metrics.batch_mean(own.name, own.task),
        }


def _card(name: str) -> str:
    """Return the card of a catalogue model: its description and its scores."""
    entry = catalogue.get(name)
    lines = [f"# {entry.name}", "", entry.description, ""]
    if entry.scores:
        lines += ["| task | dataset | metric | value | source |", "|---|---|---|---|---|"]
        lines += [
            "| " + " | ".join(str(score.get(key, "")) for key in SCORE) + " |"
            for score in entry.scores
        ]
    return "\n".join(lines) + "\n"


def _percentile(times_s: Sequence[float], share: float) -> float | None:
    if not times_s:
        return None
    return round(times_s[min(int(share * len(times_s)), len(times_s) - 1)] * 1e3, 2)
