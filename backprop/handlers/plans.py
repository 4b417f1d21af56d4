"""Plans: what answers a task, as files. Whoever reads one needs no torch.

An entry of the cache, below ``cache_dir()/.engines``::

    plan-<hash>     plan.json: the handler, and the engines and tokenizers in it;
                    tokens-<n>.json: tokenizers; tails.safetensors: layers after an encoder
    unit-<hash>     a converted network, named by the hash of its weights, so that models share it
"""

from __future__ import annotations

import hashlib
import json
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer

from backprop.engines import ENCODERS, ENGINES, WRITERS, Array
from backprop.engines.tails import Tail
from backprop.entries import is_whole, keep_newest, store
from backprop.errors import ArtefactError
from backprop.folders import cache_dir
from backprop.handlers.describing import build
from backprop.handlers.encoding import LabelEncoder
from backprop.handlers.tokens import Tokens
from backprop.optional import load

__all__ = ["FORMAT", "Plan", "Unit", "place", "plan_key", "prune"]

FORMAT = "6"
"""Changes whenever a plan or a unit would be written otherwise."""

PACKAGES = ("ctranslate2", "onnxruntime")


@dataclass(frozen=True)
class Unit:
    """A converted network.

    Args:
        engine: key of ``ENGINES``, ``ENCODERS`` or ``WRITERS``.
        key: name of its folder.
        tails: function to what comes after, for engines that need it.
        settings: further arguments of the engine; JSON.
    """

    engine: str
    key: str
    tails: Mapping[str, Tail] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """Where it is, if it is."""
        return place(self.key)

    @property
    def is_there(self) -> bool:
        """Whether it is, every byte as it was written."""
        return is_whole(self.folder, warn=True)

    def open(self, torch: Callable[[], Any]) -> Any:
        """Return the engine; its weights are loaded once in a process.

        Args:
            torch: returns the same engine on torch, for what this one can't do.
        """
        key = (self.engine, self.key)
        network = _LOADED.get(key)
        kind = load({**ENGINES, **ENCODERS, **WRITERS}[self.engine])
        if network is None:
            network = _LOADED[key] = kind.network(self.folder)
        if self.engine in WRITERS:
            return kind(network, **self.settings, torch=torch)
        return kind(network, self.tails) if self.tails else kind(network)


_LOADED: weakref.WeakValueDictionary[tuple[str, str], Any] = weakref.WeakValueDictionary()


@dataclass(frozen=True)
class Plan:
    """A handler, described, with what stands for the names in it.

    Args:
        description: see ``describing``; its names are ``["unit", n]``, ``["tokens", n]`` and
            ``["labels", model]``.
        units: networks.
        tokens: tokenizers.
        measured: how near each unit came to torch.
    """

    description: Any
    units: Sequence[Unit]
    tokens: Sequence[Tokens]
    measured: Mapping[str, Any] = field(default_factory=dict)

    def handler(
        self,
        torch: Callable[[], Any],
        *,
        labels: Callable[[str], LabelEncoder] = LabelEncoder,
    ) -> Any:
        """Return the handler, its networks loaded.

        Args:
            torch: returns the same handler on torch, for what fast engines can't do.
            labels: returns the encoder of labels by the model of this name.
        """
        opened = [unit.open(lambda: torch().writer.generator) for unit in self.units]

        def named(name: Any) -> Any:
            kind, which = name
            if kind == "labels":
                return labels(which)
            return opened[which] if kind == "unit" else self.tokens[which]

        return build(self.description, named)

    def write(self, entry: Path) -> None:
        """Store the plan; its units are stored already."""
        store(entry, self._write)

    def _write(self, folder: Path) -> None:
        arrays: dict[str, Array] = {}
        units = []
        for i, unit in enumerate(self.units):
            tails = {name: tail.plan() for name, tail in unit.tails.items()}
            for name, tail in unit.tails.items():
                arrays.update({f"{i}.{name}.{key}": v for key, v in tail.arrays().items()})
            units.append(
                {"engine": unit.engine, "key": unit.key, "tails": tails, **_extra(unit.settings)}
            )
        for i, own in enumerate(self.tokens):
            (folder / f"tokens-{i}.json").write_text(own.tokenizer.to_str(), "utf-8")
        save_file(
            {key: np.ascontiguousarray(value) for key, value in arrays.items()},
            folder / TAILS,
        )
        written = {
            "format": FORMAT,
            "description": self.description,
            "units": units,
            "tokens": [own.options() for own in self.tokens],
            "measured": dict(self.measured),
        }
        (folder / PLAN).write_text(json.dumps(written, indent=1), "utf-8")

    @classmethod
    def read(cls, entry: Path) -> Plan | None:
        """Return the plan stored at ``entry``; None if it, or one of its units, is not there."""
        if not is_whole(entry, warn=True):
            return None
        written = json.loads((entry / PLAN).read_text("utf-8"))
        if written.get("format") != FORMAT:
            raise ArtefactError(f"{entry} has another form; delete it.")
        arrays = load_file(entry / TAILS)
        units = [
            Unit(own["engine"], own["key"], _tails(i, own, arrays), own.get("settings", {}))
            for i, own in enumerate(written["units"])
        ]
        if not all(unit.is_there for unit in units):
            return None
        tokens = [
            Tokens(Tokenizer.from_file(str(entry / f"tokens-{i}.json")), **options)
            for i, options in enumerate(written["tokens"])
        ]
        return cls(written["description"], units, tokens, written["measured"])


PLAN, TAILS = "plan.json", "tails.safetensors"


def _extra(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {"settings": dict(settings)} if settings else {}


def _tails(unit: int, own: Mapping[str, Any], arrays: Mapping[str, Array]) -> dict[str, Tail]:
    found = {}
    for name, plan in own["tails"].items():
        start = f"{unit}.{name}."
        weights = {k.removeprefix(start): v for k, v in arrays.items() if k.startswith(start)}
        found[name] = Tail.read(plan, weights)
    return found


def place(key: str) -> Path:
    """Return the folder of a plan or unit."""
    return cache_dir() / ".engines" / key


def prune() -> None:
    """Delete all but the newest ``MOST_UNITS`` units; one that is wanted again is made again."""
    keep_newest(place(""), "unit-*", MOST_UNITS)


MOST_UNITS = 40
"""Each change of a model's weights makes one, mostly never to be used again."""


def plan_key(identity: str, task: str, engine: str) -> str:
    """Return the name of a plan's folder.

    Args:
        identity: what the model is: a hash of where its weights come from, and its settings.
        task: task string.
        engine: as asked for, perhaps ``auto``.
    """
    made_by = [FORMAT, *map(_version, PACKAGES)]
    text = json.dumps([identity, task, engine, *made_by])
    return f"plan-{hashlib.sha256(text.encode()).hexdigest()[:24]}"


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""
