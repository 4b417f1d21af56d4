"""Folders that are whole or absent: built beside their place, synced, then swapped in.

A kill at any moment leaves the old folder or the new one. Unfinished siblings carry a dotted
name and a lock their process holds, so the next writer can tell the dead ones and sweep them.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import secrets
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

if sys.platform != "win32":
    import fcntl

__all__ = ["building", "cache_dir", "remove", "restore", "sweep", "sync", "sync_file", "tree_bytes"]

DAY_S = 86_400
# "tmp" may be deleted when its process is dead; "old" is put back if its place is empty.
UNFINISHED = re.compile(r"\.(?P<name>.+)\.[0-9a-f]{8}\.(?P<kind>tmp|old)")


def cache_dir() -> Path:
    """Return the folder for saved models and downloads: ``$BACKPROP_CACHE`` as it is now."""
    chosen = os.environ.get("BACKPROP_CACHE")
    return Path(chosen or "~/.cache/backprop").expanduser().absolute()


@contextmanager
def building(path: Path) -> Iterator[Path]:
    """Yield an empty folder that becomes ``path`` when the block ends without an error.

    Files and folders reach the disk before the swap, so a power cut is as harmless as a kill.
    Where ``path`` exists it is exchanged in one step (Linux ``renameat2``). Systems without
    that step use two renames: a kill between them leaves no ``path``, with the old folder
    whole beside it, and the next ``restore`` or ``building`` puts it back; a reader at that
    very moment may find nothing, and of two writers one may fail. Neither leaves a mix.

    Args:
        path: a folder to make or replace; a symbolic link is followed.
    """
    path = path.resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    sweep(path.parent, path.name)
    new, lock = _claim(path)
    try:
        yield new
        sync(new)
        _swap(new, path)
        sync_file(path.parent)
    finally:
        # After an exchange this is the old folder.
        shutil.rmtree(new, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def remove(path: Path) -> None:
    """Delete the folder ``path``; a kill midway leaves nothing of it under that name."""
    with suppress(FileNotFoundError):
        aside = _sibling(path, "tmp")
        path.rename(aside)
        shutil.rmtree(aside, ignore_errors=True)


def restore(path: Path) -> None:
    """Put back the folder that a kill between the two renames of ``building`` left aside."""
    path = path.resolve()
    if path.exists() or not path.parent.is_dir():
        return
    for _, aside in _unfinished(path.parent, path.name, "old"):
        with suppress(OSError):
            aside.rename(path)


def sweep(parent: Path, name: str | None = None) -> None:
    """Delete what dead processes left unfinished in ``parent``, of ``name`` alone if given."""
    for owner, aside in _unfinished(parent, name, "old"):
        restore(parent / owner)
        _discard(aside)
    for _, new in _unfinished(parent, name, "tmp"):
        with suppress(OSError):  # taken, gone by now, or another user's
            lock = _hold(new)
            if lock is not None or time.time() - new.stat().st_mtime > DAY_S:
                shutil.rmtree(new, ignore_errors=True)
            if lock is not None:
                os.close(lock)


def sync(folder: Path) -> None:
    """Return once every file and folder below ``folder`` is on the disk."""
    for place, _, names in os.walk(folder, topdown=False):
        for name in names:
            sync_file(Path(place, name))
        sync_file(Path(place))


def sync_file(path: Path) -> None:
    """Return once this one file or folder is on the disk."""
    if sys.platform == "win32":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def tree_bytes(folder: Path) -> int:
    """Return how many bytes the files below ``folder`` hold now; it may be changing."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                total += os.lstat(os.path.join(place, name)).st_size
    return total


def _unfinished(parent: Path, name: str | None, kind: str) -> Iterator[tuple[str, Path]]:
    for child in list(parent.iterdir()):
        found = UNFINISHED.fullmatch(child.name)
        if found and found["kind"] == kind and name in (None, found["name"]):
            yield found["name"], child


def _sibling(path: Path, kind: str) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.{kind}")


def _claim(path: Path) -> tuple[Path, int | None]:
    while True:
        new = _sibling(path, "tmp")
        new.mkdir()
        # A sweeper may see the folder before it is locked; then another name is tried.
        with suppress(BlockingIOError, FileNotFoundError):
            lock = _hold(new)
            if new.exists():
                return new, lock
            if lock is not None:
                os.close(lock)


def _hold(folder: Path) -> int | None:
    """Return the lock on ``folder``, or None where the system has none; raise if it is taken.

    The lock is the folder's own, since it ends with its process, unlike a number in a file.
    """
    if sys.platform == "win32":
        return None
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise
    except OSError:  # some network drives lock no folders
        os.close(handle)
        return None
    return handle


def _swap(new: Path, path: Path) -> None:
    try:
        new.rename(path)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        if not _exchange(new, path):
            aside = _sibling(path, "old")
            path.rename(aside)
            new.rename(path)
            _discard(aside)


def _discard(old: Path) -> None:
    # Renamed first: half an "old" folder must never be put back.
    with suppress(FileNotFoundError):
        shutil.rmtree(old.rename(old.with_suffix(".tmp")), ignore_errors=True)


def _exchange(first: Path, second: Path) -> bool:
    """Return whether the two folders changed places in one step; False if the system can't."""
    at_cwd, exchange = -100, 2
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError, TypeError):
        return False
    renameat2.argtypes = (
        ctypes.c_int,
        ctypes.c_char_p,
        ctypes.c_int,
        ctypes.c_char_p,
        ctypes.c_uint,
    )
    if renameat2(at_cwd, os.fsencode(first), at_cwd, os.fsencode(second), exchange) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP):
        return False
    raise OSError(code, os.strerror(code), str(second))
