"""What a folder must hold, file by file, and whether it does."""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

__all__ = [
    "Digest",
    "FolderFault",
    "check_path",
    "describe",
    "digest",
    "read_json",
    "read_manifest",
    "verify",
    "write_manifest",
]

CHUNK_BYTES = 1 << 20
MAX_JSON_BYTES = 4 << 20
MAX_FILE_BYTES = 1 << 40
MAX_FOLDERS_DEEP = 2
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}")
SHA256 = re.compile(r"[0-9a-f]{64}")


class FolderFault(Exception):
    """What is wrong with a folder, in words; callers raise it again as an error of their own."""


@dataclass(frozen=True)
class Digest:
    """What a file must be: its sha256 (64 hex digits) and its size."""

    sha256: str
    size_bytes: int


def digest(path: Path) -> Digest:
    """Return the sha256 and size of the file's bytes."""
    sha256, size_bytes = hashlib.sha256(), 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            sha256.update(chunk)
            size_bytes += len(chunk)
    return Digest(sha256.hexdigest(), size_bytes)


def check_path(name: str) -> None:
    """Raise FolderFault unless ``name`` is a plain relative path, at most two folders deep."""
    parts = name.split("/")
    if len(parts) > MAX_FOLDERS_DEEP + 1 or not all(NAME.fullmatch(part) for part in parts):
        raise FolderFault(
            f"the path {name!r} is refused: names are letters, digits and '_', '.', '-' (not "
            f"first), at most {MAX_FOLDERS_DEEP} folders deep"
        )


def describe(folder: Path, *, ignore: Collection[str] = ()) -> dict[str, Digest]:
    """Return the digest of each file below ``folder``, by relative path, sorted.

    Raises:
        FolderFault: a link, a special file or a path that ``check_path`` refuses.
    """
    return {name: digest(folder / name) for name in sorted(_stats(folder, ignore))}


def verify(
    folder: Path,
    files: Mapping[str, Digest],
    *,
    ignore: Collection[str] = (),
    known: Callable[[str, os.stat_result], bool] = lambda name, facts: False,
) -> dict[str, os.stat_result]:
    """Return each file's stat, taken before its bytes were read, when all are as listed.

    Args:
        folder: what to check.
        files: every file it must hold, and no other.
        ignore: names at its top that are not looked at.
        known: says of a file of the right size that its bytes need no reading.

    Raises:
        FolderFault: the first difference, in words.
    """
    stats = _stats(folder, ignore)
    for name in sorted(files.keys() ^ stats.keys()):
        raise FolderFault(f"{name!r} is {'missing' if name in files else 'not listed'}")
    for name, expected in files.items():
        size_bytes = stats[name].st_size
        if size_bytes != expected.size_bytes:
            raise FolderFault(f"{name!r} has {size_bytes} bytes, not {expected.size_bytes}")
        if not known(name, stats[name]):
            found = digest(folder / name)
            if found != expected:
                raise FolderFault(f"{name!r} has sha256 {found.sha256}, not {expected.sha256}")
    return stats


def write_manifest(path: Path, files: Mapping[str, Digest]) -> None:
    """Write the list of ``files`` in the one form ``read_manifest`` accepts."""
    path.write_bytes(_manifest_bytes(files))


def read_manifest(path: Path) -> dict[str, Digest]:
    """Return the files a manifest lists.

    Raises:
        FolderFault: missing, too large, or any byte differs from what ``write_manifest``
            writes for the same list.
    """
    content = read_json(path)
    try:
        files = {name: Digest(**facts) for name, facts in content["files"].items()}
    except (AttributeError, KeyError, TypeError) as error:
        raise FolderFault(f"{path.name!r} is not a list of files ({error!r})") from error
    for name, facts in files.items():
        check_path(name)
        size, sha256 = facts.size_bytes, facts.sha256
        if type(size) is not int or not 0 <= size <= MAX_FILE_BYTES:
            raise FolderFault(f"{path.name!r} gives {name!r} the size {size!r}")
        if type(sha256) is not str or not SHA256.fullmatch(sha256):
            raise FolderFault(f"{path.name!r} gives {name!r} the sha256 {sha256!r}")
    if path.read_bytes() != _manifest_bytes(files):
        raise FolderFault(f"{path.name!r} is not as it was written")
    return files


def read_json(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file of at most 4 MiB.

    Raises:
        FolderFault: missing, a link, too large, or not a strict JSON object.
    """
    try:
        facts = path.lstat()
        if not stat.S_ISREG(facts.st_mode) or facts.st_size > MAX_JSON_BYTES:
            raise FolderFault(f"{path.name!r} is not a file of at most {MAX_JSON_BYTES} bytes")
        text = path.read_text("utf-8")
        content = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except FileNotFoundError as error:
        raise FolderFault(f"{path.name!r} is missing") from error
    except (ValueError, RecursionError) as error:
        raise FolderFault(f"{path.name!r} is not strict JSON ({error})") from error
    if not isinstance(content, dict):
        raise FolderFault(f"{path.name!r} holds a {type(content).__name__}, not an object")
    return content


def _stats(folder: Path, ignore: Collection[str]) -> dict[str, os.stat_result]:
    stats = {}
    pending = [child for child in folder.iterdir() if child.name not in ignore]
    while pending:
        child = pending.pop()
        name = child.relative_to(folder).as_posix()
        check_path(name)
        facts = child.lstat()
        if stat.S_ISDIR(facts.st_mode):
            pending.extend(child.iterdir())
        elif stat.S_ISREG(facts.st_mode):
            stats[name] = facts
        else:
            raise FolderFault(f"{name!r} is a link or a special file")
    return stats


def _manifest_bytes(files: Mapping[str, Digest]) -> bytes:
    content = {"files": {name: asdict(facts) for name, facts in files.items()}}
    return (json.dumps(content, indent=2, sort_keys=True) + "\n").encode()


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        raise ValueError("a key stands twice")
    return content


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON number")
