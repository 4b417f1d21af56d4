"""Model names to folders, without loading anything heavy."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from backprop import artefact, catalogue, sources
from backprop.catalogue import Entry
from backprop.client import address, references
from backprop.errors import InputError, NotFoundError
from backprop.optional import load

__all__ = ["fetch", "find_folder", "read_json", "saved_folder", "tasks_of"]

CONVERSIONS: Mapping[str, str] = {
    "gguf": "backprop.models.generation:convert_gguf",
    "efficientnet-lite": "backprop.models.efficientnet_lite:convert",
}
"""A catalogue entry's ``convert`` to the function that makes hub format of the source's files."""


def find_folder(path: str | Path) -> Path:
    """Return the folder of a model: as given, or fetched by catalogue name or hub repository.

    Raises:
        NotFoundError: there is no such folder, and it can't be a name.
        SourceError: it can't be fetched.
    """
    folder = saved_folder(str(path))
    if folder is not None:
        return folder
    try:
        return fetch(catalogue.get(str(path)))
    except NotFoundError:
        if not is_repository(str(path)):
            raise
    return fetch_repository(str(path))


def fetch_repository(name: str) -> Path:
    """Return the folder of a hub repository that is not in the catalogue.

    Raises:
        SourceError: it can't be fetched.
    """
    return sources.fetch([sources.HubSource(name, None)], name=name)


def is_repository(name: str) -> bool:
    """Whether ``name`` has the form of a hub repository, ``owner/name``."""
    return re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", name) is not None


def saved_folder(
    name: str, *, api_url: str | None = None, api_key: str | None = None
) -> Path | None:
    """Return the folder of a saved model by its name or path, or a folder in hub format.

    What a server's hub has, ``hub://name@version``, is fetched.

    Args:
        name: what it is called.
        api_url: where the server is; ``$BACKPROP_API_URL`` by default.
        api_key: of the server; ``$BACKPROP_API_KEY`` by default.
    """
    if references.is_reference(name):
        server = address.of_hub(api_url, api_key)
        fetched: Path = load("backprop.client.fetching:fetch")(server, name)  # imports httpx
        return fetched
    path = Path(name).expanduser()
    if path.is_dir():
        return path
    try:
        path = artefact.default_path(artefact.check_name(name))
    except InputError:
        return None
    return path if path.is_dir() else None


def tasks_of(name: str) -> tuple[str, ...] | None:
    """Return the tasks of the model called ``name`` without loading it; None if unknown yet.

    Raises:
        NotFoundError: there is no such model.
    """
    try:
        return tuple(catalogue.get(name).tasks)
    except NotFoundError:
        folder = saved_folder(name)
        if folder is None and not is_repository(name):
            raise
    if folder is None or not artefact.is_artefact(folder):
        return None
    return tuple(read_json(folder / "backprop.json").get("tasks", ()))


def fetch(entry: Entry) -> Path:
    """Return the folder of a catalogue model's weights, fetched and converted if need be.

    Raises:
        SourceError: they can't be fetched.
    """
    return sources.fetch(
        entry.sources,
        name=entry.name,
        starter=_starter_for(entry),
        convert=_late(CONVERSIONS[entry.convert]) if entry.convert else None,
        convert_version=entry.convert_version,
    )


def _starter_for(entry: Entry) -> str:
    """Return the starter model of the entry's first task; empty if it is one itself."""
    if entry.size == "starter":
        return ""
    starters = catalogue.entries(task=entry.tasks[0], size="starter")
    return starters[0].name if starters else ""


def _late(function: str) -> Callable[[Path, Path], None]:
    """Return a converter that is imported when it is called."""

    def convert(raw: Path, out: Path) -> None:
        load(function)(raw, out)

    return convert


def read_json(path: Path) -> dict[str, Any]:
    """Return the JSON object in ``path``."""
    found: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return found
