"""Models that are ready to answer: converted before, and opened without torch."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from backprop import artefact, catalogue
from backprop.catalogue import Entry
from backprop.engines import ASKED, PRECISIONS
from backprop.errors import InputError
from backprop.handlers.plans import Plan, place, plan_key
from backprop.models.places import saved_folder
from backprop.optional import load

__all__ = ["asked", "handler", "handler_of", "identity", "identity_of", "plan_of"]

ADAPTERS = Path(__file__).with_name("starter")
DRIVER = Path("/proc/driver/nvidia/version")


def handler(
    name: str, task: str, *, device: Any = None, engine: str = "auto", precision: str = "float32"
) -> Any:
    """Return what answers ``task`` with the model called ``name``; None where torch is needed.

    Args:
        name: as for ``AutoModel.from_pretrained``.
        task: task string.
        device: as for a task; with a GPU torch answers.
        engine: as for a task.
        precision: the same.
    """
    chosen = asked(engine, precision)
    if chosen == "torch" or not (str(device) == "cpu" or (device is None and not DRIVER.exists())):
        return None
    plan = plan_of(name, task, chosen)
    if plan is None:
        return None
    return plan.handler(lambda: _model(name).torch_handler(task))


def plan_of(name: str, task: str, chosen: str = "auto") -> Plan | None:
    """Return how ``task`` is answered without torch, if the model called ``name`` was converted.

    Args:
        name: as for ``AutoModel.from_pretrained``.
        task: task string.
        chosen: what ``asked`` returned.
    """
    own = identity(name)
    return Plan.read(place(plan_key(own, task, chosen))) if own else None


def handler_of(name: str, task: str) -> Any:
    """Return what answers ``task`` with the model called ``name``, by torch if need be."""
    found = handler(name, task)
    if found is not None:
        return found
    return _model(name).handler(task)


def _model(name: str) -> Any:
    return load("backprop.models.auto:AutoModel").from_pretrained(name)  # imports torch


def asked(engine: str, precision: str = "float32") -> str:
    """Return an engine's name: as asked for; for ``auto`` perhaps ``$BACKPROP_ENGINE``.

    With a precision of 8 bits it is ``int8``, which ONNX Runtime runs.

    Raises:
        InputError: there is no such engine or precision, or the engine has not that precision.
    """
    if precision not in PRECISIONS:
        raise InputError(
            f"precision must be one of {', '.join(PRECISIONS)}; received {precision!r}."
        )
    if precision == "int8":
        if engine not in ("auto", "onnx"):
            raise InputError(f"precision='int8' runs on onnx, not on {engine}; leave engine out.")
        return precision
    named = "BACKPROP_ENGINE" if engine == "auto" else "engine"
    chosen = os.environ.get("BACKPROP_ENGINE", "auto") if engine == "auto" else engine
    if chosen not in ASKED:
        raise InputError(f"{named} must be one of {', '.join(ASKED)}; received {chosen!r}.")
    return chosen


def identity(name: str) -> str:
    """Return a hash of where a model's weights and settings come from.

    Empty for folders and repositories whose content nothing vouches for.
    """
    entry = catalogue.find(name)
    if entry is not None:
        return identity_of(entry)
    folder = saved_folder(name)
    if folder is None or not artefact.was_saved(folder):
        return ""
    return identity_of(artefact.read(folder).folder)


def identity_of(source: Entry | Path) -> str:
    """Return a hash of a catalogue model, or of a folder that was saved, read and verified."""
    if isinstance(source, Path):
        return hashlib.sha256((source / artefact.MANIFEST).read_bytes()).hexdigest()
    return hashlib.sha256(json.dumps(_facts(source)).encode()).hexdigest()


def _facts(entry: Entry) -> Mapping[str, Any]:
    """Return all that the answers of a catalogue model depend on."""
    facts: dict[str, Any] = {
        "model": entry.model,
        "sources": [source.identity for source in entry.sources],
        "convert": entry.convert_version,
        "settings": entry.settings,
        "tasks": entry.tasks,
        "parts": [_facts(catalogue.get(part)) for part in entry.parts],
    }
    adapter = entry.settings.get("adapter")
    if adapter:
        content = (ADAPTERS / f"{adapter}.safetensors").read_bytes()
        facts["adapter"] = hashlib.sha256(content).hexdigest()
    return facts
