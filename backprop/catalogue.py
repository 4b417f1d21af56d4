"""The models there are: one entry each, read from ``catalogue.json`` on first use.

What is handed out is a copy: whatever a caller does to it, the table stays as it is.
"""

from __future__ import annotations

import copy
import difflib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

from backprop import artefact, sources
from backprop.errors import InputError, NotFoundError
from backprop.hub import HubSource
from backprop.index import IndexSource, Member
from backprop.sources import Source
from backprop.specs import spec_of

__all__ = ["SIZES", "Entry", "as_dict", "entries", "get", "task_aliases"]

Size = Literal["starter", "base", "large"]

SIZES: tuple[Size, ...] = ("starter", "base", "large")
MULTILINGUAL = "multilingual"
FILE = Path(__file__).with_name("catalogue.json")

SHOWN = 10
"""Saved models that a message names."""


@dataclass(frozen=True)
class Entry:
    """One model of the catalogue.

    Args:
        name: unique; as models are named.
        model: name of its class in ``backprop.models``.
        sources: where its weights come from, tried in order; empty for a model made of others,
            which ``settings["parts"]`` names.
        tasks: task strings, the one it is best at first.
        description: one line for people.
        licence: SPDX identifier of its weights' licence.
        languages: ISO 639-1 codes, ``["multilingual"]``, or none where no words are involved.
        parameters: how many numbers it has.
        size: ``starter`` works without the hub; ``base`` and ``large`` come from it.
        finetunable: those of ``tasks`` it can be finetuned on.
        dimensions: of its vectors, of one side where an answer joins two.
        max_length: most tokens of one text, special ones included; None where images only are
            read, or there is no limit.
        aliases: further names, unique among all names.
        settings: further arguments of its class; JSON.
        scores: published figures, each ``{"task", "dataset", "metric", "value", "source"}``.
        convert: how the files of the source become hub format; empty where they are.
        convert_version: changes with what ``convert`` writes.
    """

    name: str
    model: str
    sources: list[Source]
    tasks: list[str]
    description: str
    licence: str
    languages: list[str]
    parameters: int
    size: Size
    finetunable: list[str]
    dimensions: int | None = None
    max_length: int | None = None
    aliases: list[str] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)
    scores: list[dict[str, Any]] = field(default_factory=list)
    convert: str = ""
    convert_version: str = ""

    @property
    def parts(self) -> list[str]:
        """Names of the catalogue models it is made of; mostly none."""
        return list(self.settings.get("parts", {}).values())


def entries(
    task: str | None = None,
    language: str | None = None,
    size: str | None = None,
    licence: str | None = None,
    finetunable: bool | None = None,
    offline: bool | None = None,
) -> list[Entry]:
    """Return the models that fit every filter, starters first.

    Args:
        task: a task string.
        language: ISO 639-1 code; multilingual models fit each.
        size: ``starter``, ``base`` or ``large``.
        licence: SPDX identifier, in any case.
        finetunable: whether it can be finetuned, on ``task`` where that is given.
        offline: whether its weights are in the cache, so that no network is needed.

    Raises:
        UnsupportedTaskError: there is no such task.
        InputError: there is no such size.
    """
    if task is not None:
        spec_of(task)
    if size is not None and size not in SIZES:
        raise InputError(f"There is no size {size!r}; use one of: {', '.join(SIZES)}.")
    found = [
        entry
        for entry in _models().values()
        if (task is None or task in entry.tasks)
        and (language is None or _speaks(entry, language))
        and (size is None or size == entry.size)
        and (licence is None or licence.lower() == entry.licence.lower())
        and (finetunable is None or finetunable == _learns(entry, task))
        # Last, since it reads the disk.
        and (offline is None or offline == _is_cached(entry))
    ]
    return copy.deepcopy(found)


def get(name: str) -> Entry:
    """Return the model called ``name``, or that has it as an alias; letter case is ignored.

    Raises:
        NotFoundError: there is none; the message has the names nearest to it.
    """
    found = find(name)
    if found is None:
        saved = artefact.saved_names()
        near = difflib.get_close_matches(name.lower(), [*_names(), *saved], n=3)
        hint = f"The nearest names are: {', '.join(near)}. " if near else ""
        own = f" Saved on this machine: {', '.join(saved[:SHOWN])}." if saved else ""
        raise NotFoundError(
            f"There is no model {name!r}. {hint}To see the catalogue, run: backprop models.{own}"
        )
    return found


def find(name: str) -> Entry | None:
    """Return the model of that name or alias; None, and at once, where there is none."""
    found = _names().get(name.lower())
    return copy.deepcopy(_models()[found]) if found is not None else None


def task_aliases(task: str) -> dict[str, str]:
    """Return the names that in 2021 meant a model within ``task`` only, such as ``english``.

    Raises:
        UnsupportedTaskError: there is no such task.
    """
    found: dict[str, str] = _read()["task_aliases"].get(spec_of(task).name, {})
    return dict(found)


def as_dict(entry: Entry) -> dict[str, Any]:
    """Return ``entry`` as JSON."""
    return asdict(entry)


def _speaks(entry: Entry, language: str) -> bool:
    return language.lower() in entry.languages or MULTILINGUAL in entry.languages


def _learns(entry: Entry, task: str | None) -> bool:
    return bool(entry.finetunable) if task is None else task in entry.finetunable


def _is_cached(entry: Entry) -> bool:
    if entry.parts:
        return all(_is_cached(_models()[part]) for part in entry.parts)
    return sources.is_cached(entry.sources, convert_version=entry.convert_version)


# --- Reading -----------------------------------------------------------------------------


@cache
def _read() -> Mapping[str, Any]:
    raw: Mapping[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
    return raw


@cache
def _models() -> Mapping[str, Entry]:
    return {name: _entry(name, raw) for name, raw in _read()["models"].items()}


@cache
def _names() -> Mapping[str, str]:
    """Return the model's name for each name and alias."""
    aliases = {alias: entry.name for entry in _models().values() for alias in entry.aliases}
    return {**aliases, **{name: name for name in _models()}}


def _entry(name: str, raw: Mapping[str, Any]) -> Entry:
    own = dict(raw)
    # One that is made of another by an adapter has that one's files.
    base = own.pop("base", None)
    given = own["sources"] if base is None else _read()["models"][base]["sources"]
    return Entry(name=name, **{**own, "sources": _sources(given)})


def _sources(raw: Sequence[Mapping[str, Any]]) -> list[Source]:
    return [HubSource(**each) if "repo" in each else _index_source(**each) for each in raw]


def _index_source(package: str, version: str, members: Mapping[str, Any]) -> IndexSource:
    return IndexSource(
        package, version, {target: Member(**member) for target, member in members.items()}
    )
