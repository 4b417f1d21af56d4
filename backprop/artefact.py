"""The saved folder of a model: written whole or not at all, verified when read.

A folder holds the model's own files (in the hub's format, so other libraries open it too) and::

    backprop.json    what the model is: {"format": 1, "class": ..., "name": ..., ...}
    manifest.json    sha256 and size of every other file
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from backprop import folders, manifest
from backprop.errors import ArtefactError, InputError

__all__ = [
    "Artefact",
    "Json",
    "check_name",
    "default_path",
    "is_artefact",
    "read",
    "saved_names",
    "was_saved",
    "write",
]

FORMAT = 1
META = "backprop.json"
MANIFEST = "manifest.json"
MODEL_NAME = re.compile(r"[a-z0-9_-]{3,100}")

Json: TypeAlias = "Mapping[str, Json] | list[Json] | tuple[Json, ...] | str | float | bool | None"


@dataclass(frozen=True)
class Artefact:
    """A saved folder whose every byte was verified.

    Args:
        folder: where it is.
        meta: what ``backprop.json`` says.
    """

    folder: Path
    meta: dict[str, Any]


def check_name(name: object) -> str:
    """Return ``name`` if it is a valid model name.

    Raises:
        InputError: it is not 3 to 100 of a-z, 0-9, ``-`` and ``_``.
    """
    if not isinstance(name, str) or not MODEL_NAME.fullmatch(name):
        raise InputError(
            f"The model name {name!r} is not valid; use 3 to 100 characters of a-z, 0-9, '-', '_'."
        )
    return name


def default_path(name: str) -> Path:
    """Return the folder a model of this name is saved to when no path is given."""
    return folders.cache_dir() / check_name(name)


def saved_names() -> list[str]:
    """Return the names of the models in the default place, sorted."""
    place = folders.cache_dir()
    there = sorted(place.iterdir()) if place.is_dir() else []
    return [each.name for each in there if is_artefact(each)]


def is_artefact(path: str | Path) -> bool:
    """Return whether ``path`` looks like a saved model; nothing is verified."""
    try:
        return "format" in manifest.read_json(Path(path).expanduser() / META)
    except (OSError, manifest.FolderFault):
        return False


def was_saved(path: str | Path) -> bool:
    """Return whether a model was saved at ``path``, which may have been damaged since."""
    folder = Path(path).expanduser()
    if os.path.lexists(folder / META):
        return True
    try:
        return META.encode() in (folder / MANIFEST).read_bytes()
    except OSError:
        return False


def write(path: str | Path, build: Callable[[Path], None], meta: Mapping[str, Json]) -> Path:
    """Save a model at ``path``: an older one there is replaced in one step, or kept on failure.

    Args:
        path: the folder to make.
        build: writes the model's own files into the empty folder it is given.
        meta: what ``backprop.json`` shall say; JSON only, ``format`` is added.

    Returns:
        The folder.

    Raises:
        ArtefactError: ``path`` holds something else, or ``build`` wrote a file whose name or
            kind is refused.
        InputError: ``meta`` is not JSON.
    """
    path = Path(path).expanduser()
    folders.restore(path)
    if path.exists() and not is_artefact(path) and (not path.is_dir() or any(path.iterdir())):
        raise ArtefactError(
            f"{str(path)!r} exists and is not a saved model, so it is not replaced; choose another "
            "path or remove it first."
        )
    text = json.dumps(_plain({"format": FORMAT, **meta}, "meta"), indent=2, ensure_ascii=False)
    with folders.building(path) as folder:
        build(folder)
        if (folder / META).exists() or (folder / MANIFEST).exists():
            raise ArtefactError(
                f"A model may not write {META} or {MANIFEST} of its own; rename it."
            )
        (folder / META).write_bytes(f"{text}\n".encode())
        try:
            manifest.write_manifest(folder / MANIFEST, manifest.describe(folder))
        except manifest.FolderFault as fault:
            raise ArtefactError(f"The model can't be saved at {str(path)!r}: {fault}.") from fault
    return path


def read(path: str | Path) -> Artefact:
    """Return the saved model at ``path`` after checking every byte of it.

    Raises:
        ArtefactError: it is missing, damaged, holds files that are not listed, or was made by
            a newer version.
    """
    folder = Path(path).expanduser()
    folders.restore(folder)
    if not folder.is_dir():
        raise ArtefactError(f"There is no saved model at {str(path)!r}; check the path.")
    try:
        meta = _verified_meta(folder)
    except (FileNotFoundError, manifest.FolderFault) as fault:
        raise ArtefactError(
            f"The saved model at {str(path)!r} is damaged or not ours: {fault}. Save it again or "
            "copy it anew."
        ) from fault
    if meta.get("format") != FORMAT:
        raise ArtefactError(
            f"The saved model at {str(path)!r} has format {meta.get('format')!r}; this version "
            f"reads {FORMAT}: upgrade backprop."
        )
    return Artefact(folder, meta)


def _verified_meta(folder: Path) -> dict[str, Any]:
    while True:
        identity = _identity(folder)
        try:
            files = manifest.read_manifest(folder / MANIFEST)
            if META not in files:
                raise manifest.FolderFault(f"{META!r} is not in its list of files")
            manifest.verify(folder, files, ignore=(MANIFEST,))
            meta = manifest.read_json(folder / META)
        except (FileNotFoundError, manifest.FolderFault):
            if _identity(folder) == identity:
                raise
        else:
            if _identity(folder) == identity:
                return meta
        # A writer has put a new folder in its place meanwhile: read that one.


def _identity(folder: Path) -> tuple[int, int]:
    # The number alone is not enough: a new folder often gets that of one just deleted.
    facts = folder.stat()
    return facts.st_ino, facts.st_ctime_ns


def _plain(value: object, where: str) -> Json:
    """Return ``value`` as plain JSON; what JSON would alter or refuse is named by its place."""
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: _plain(item, f"{where}[{key!r}]") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, f"{where}[{i}]") for i, item in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value):
        raise InputError(f"{where} is {value!r}, which JSON can't hold; use None or a number.")
    if value is None or isinstance(value, str | int | float):
        return value
    raise InputError(
        f"{where} is a {type(value).__name__} ({value!r:.80}), which JSON can't hold; use text, "
        "numbers, lists and dictionaries with text keys."
    )
