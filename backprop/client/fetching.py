"""A version of a model, fetched from a server's hub into the cache: whole, verified, or absent.

The cache, below ``cache_dir()/.hub``::

    <digest>            the files of a version; equal content is kept once
    <digest>.parts      what has come of it so far, deleted when it is whole
    <digest>.lock       one process at a time fetches it
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from backprop import folders, manifest
from backprop.client import connections, exchange, references
from backprop.client.address import Server
from backprop.client.exchange import Answer, Request
from backprop.client.tries import Tries, timeout
from backprop.errors import IntegrityError, NotFoundError, SourceError
from backprop.manifest import Digest
from backprop.progress import progress

__all__ = ["fetch"]

TIMEOUT_S = 300.0
"""Of one file, counted anew whenever some of it has come."""
MAX_FILES = 1000
ROOM_BYTES = 64 << 20
"""Disk that is left alone."""


def fetch(server: Server, reference: str) -> Path:
    """Return the folder of a version, fetched unless it is in the cache.

    Args:
        server: whose hub it is.
        reference: as ``hub://name@3``.

    Raises:
        NotFoundError: the hub has no such model or version.
        IntegrityError: what came is not what the hub lists.
        RemoteError: the server could not be reached, or refused.
        SourceError: the cache can't be written.
    """
    files = _listed(server, reference)
    content = json.dumps({name: asdict(facts) for name, facts in files.items()}, sort_keys=True)
    place = folders.cache_dir() / ".hub" / hashlib.sha256(content.encode()).hexdigest()[:40]
    if _is_there(place, files):
        return place
    # Here, since it takes 70 ms and a filled cache never needs it.
    from filelock import FileLock

    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(place.with_name(f"{place.name}.lock")):
            if not _is_there(place, files):
                _fill(server, reference, files, place)
    except SourceError:
        raise
    except OSError as error:
        raise SourceError(
            f"The cache {str(folders.cache_dir())!r} could not be filled ({error}); make room or "
            "set BACKPROP_CACHE to a folder that can be written."
        ) from error
    return place


def _is_there(place: Path, files: Mapping[str, Digest]) -> bool:
    """Whether the cache has a version; what its files hold is verified when they are read."""
    try:
        return bool(manifest.verify(place, files, known=lambda name, facts: True))
    except (OSError, manifest.FolderFault):
        return False


def _listed(server: Server, reference: str) -> dict[str, Digest]:
    """Return the files of a version as the hub lists them, every value checked."""
    name, version = references.split(reference)
    route = f"models/{name}/versions/{version}"
    answer = exchange.send(server, Request("GET", route), timeout_s=TIMEOUT_S)
    if answer.status == 404:
        said = exchange.said(server, answer.json())
        raise NotFoundError(f"{server.shown} has no {name}@{version}: {said}.")
    found = exchange.read(server, answer)
    try:
        if found["name"] != name or not 0 < len(found["files"]) <= MAX_FILES:
            raise manifest.FolderFault(f"it lists {len(found['files'])} files of {found['name']!r}")
        return {path: _checked(path, **facts) for path, facts in found["files"].items()}
    except (AttributeError, KeyError, TypeError, manifest.FolderFault) as fault:
        raise IntegrityError(
            f"{server.shown} lists {name}@{version} in a form that can't be used: {fault}."
        ) from fault


def _checked(path: str, sha256: Any = None, size_bytes: Any = None) -> Digest:
    """Return what a server lists of a file, if it may become one.

    Raises:
        FolderFault: a path, size or hash that is refused.
    """
    manifest.check_path(path)
    if type(size_bytes) is not int or not 0 <= size_bytes <= manifest.MAX_FILE_BYTES:
        raise manifest.FolderFault(f"{path!r} has the size {size_bytes!r}")
    if type(sha256) is not str or not manifest.SHA256.fullmatch(sha256):
        raise manifest.FolderFault(f"{path!r} has the sha256 {sha256!r}")
    return Digest(sha256, size_bytes)


def _fill(server: Server, reference: str, files: Mapping[str, Digest], place: Path) -> None:
    parts = place.with_name(f"{place.name}.parts")
    parts.mkdir(exist_ok=True)
    wanted = {facts.sha256: facts for facts in files.values()}
    size_bytes = sum(facts.size_bytes for facts in wanted.values())
    left_bytes = size_bytes - folders.tree_bytes(parts)
    free_bytes = shutil.disk_usage(parts).free
    if left_bytes > free_bytes - ROOM_BYTES:
        raise OSError(f"{reference} needs {left_bytes / 1e6:.0f} MB, {free_bytes / 1e6:.0f} free")
    with progress(
        f"Fetching {reference}",
        measure=lambda: folders.tree_bytes(parts),
        size_bytes=size_bytes,
    ):
        for facts in wanted.values():
            _fetch_blob(server, facts, parts / facts.sha256)
    with folders.building(place) as folder:
        for name, facts in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            _link(parts / facts.sha256, folder / name)
    shutil.rmtree(parts, ignore_errors=True)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # a disk without links
        shutil.copyfile(source, target)


def _fetch_blob(server: Server, facts: Digest, path: Path) -> None:
    """Return once ``path`` has the bytes that ``facts`` says, going on with what it has of them.

    Raises:
        IntegrityError: others came, twice.
        RemoteError: the server could not be reached, or refused.
    """
    asking, tries = Request("GET", f"blobs/{facts.sha256}"), Tries(TIMEOUT_S)
    for _ in range(2):
        if not path.exists() or path.stat().st_size != facts.size_bytes:
            answer = exchange.persist(
                server, asking, tries, lambda: _receive(server, asking, facts, path, tries)
            )
            exchange.read(server, answer)
        if path.exists() and manifest.digest(path) == facts:
            return
        path.unlink(missing_ok=True)  # perhaps what it had before was damaged
    raise IntegrityError(
        f"{server.shown} sent other bytes than it lists (sha256 {facts.sha256}); try again, and "
        "tell whoever runs it if it stays so."
    )


def _receive(server: Server, asking: Request, facts: Digest, path: Path, tries: Tries) -> Answer:
    """Write what comes of a file behind what is there, never more than its size."""
    have = path.stat().st_size if path.exists() else 0
    if have > facts.size_bytes:
        path.unlink()
        have = 0
    arguments = asking.arguments(server)
    arguments["headers"]["accept-encoding"] = "identity"
    if have:
        arguments["headers"]["range"] = f"bytes={have}-"
    with connections.client(server.url).stream(**arguments, timeout=timeout(tries)) as response:
        status, headers = response.status_code, response.headers
        if status not in (200, 206):
            return Answer(status, headers, response.read())
        with path.open("ab" if status == 206 else "wb") as file:
            left_bytes = facts.size_bytes - file.tell()
            for chunk in response.iter_raw():  # as it comes: httpx loses what it gathers
                # One byte too many shows that these are other bytes; no more are kept.
                file.write(chunk[: left_bytes + 1])
                left_bytes -= len(chunk)
                tries.restart()
                if left_bytes < 0:
                    break
    return Answer(status, headers, b"")
