"""Folders of the cache: filled once and whole, checked each time, never written to again.

Beside its files an entry has ``.complete.json``, sha256 and size of each, written last, and
``.checked.json``, the times of the files when their bytes were last read and found right.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from backprop import folders, manifest
from backprop.errors import IntegrityError

__all__ = ["is_whole", "keep_newest", "store"]

logger = logging.getLogger(__name__)

COMPLETE = ".complete.json"
CHECKED = ".checked.json"
OURS = (COMPLETE, CHECKED)
# A file touched later than this before a check may change again within one tick of its clock.
SETTLED_NS = 100_000_000


def store(entry: Path, write: Callable[[Path], None]) -> None:
    """Make an entry of what ``write`` puts into the folder it is given.

    Raises:
        IntegrityError: something was written that can't be an entry, such as a link.
    """
    with folders.building(entry) as folder:
        write(folder)
        try:
            files = manifest.describe(folder)
        except manifest.FolderFault as fault:
            raise IntegrityError(f"What was made for {entry.name} is refused: {fault}") from fault
        manifest.write_manifest(folder / COMPLETE, files)


def keep_newest(
    folder: Path, pattern: str, most: int, size: Callable[[Path], int] = lambda _: 1
) -> None:
    """Delete the oldest entries, so that the sizes of those left are ``most`` together.

    Args:
        folder: where they are.
        pattern: of their names.
        most: entries, or what ``size`` counts.
        size: of an entry.
    """
    found: list[tuple[int, int, Path]] = []
    for entry in folder.glob(pattern):
        with suppress(OSError):  # another process deletes it just now
            found.append((entry.stat().st_mtime_ns, size(entry), entry))
    total = 0
    for _, own, entry in sorted(found, reverse=True):
        total += own
        if total > most:
            with suppress(OSError):
                folders.remove(entry)


def is_whole(entry: Path, *, warn: bool) -> bool:
    """Return whether an entry is there, every file as it was written.

    Args:
        entry: its folder.
        warn: whether a damaged one is worth a warning, since it is to be made again.
    """
    if not entry.is_dir():
        return False
    try:
        files = manifest.read_manifest(entry / COMPLETE)
        checked = _read_checked(entry)
        stats = manifest.verify(
            entry, files, ignore=OURS, known=lambda name, facts: checked.get(name) == _times(facts)
        )
    except (OSError, manifest.FolderFault) as fault:
        if warn:
            logger.warning("The cached %s is damaged (%s); making it again", entry, fault)
        return False
    _write_checked(entry, stats, checked)
    return True


def _read_checked(entry: Path) -> dict[str, list[int]]:
    try:
        return manifest.read_json(entry / CHECKED)
    except (OSError, manifest.FolderFault):
        return {}


def _write_checked(
    entry: Path, stats: Mapping[str, os.stat_result], before: Mapping[str, list[int]]
) -> None:
    """Note the times of the files whose bytes were just found right, if the cache allows."""
    now_ns = time.time_ns()
    checked = {
        name: _times(facts)
        for name, facts in stats.items()
        if now_ns - max(facts.st_mtime_ns, facts.st_ctime_ns) > SETTLED_NS
    }
    if checked == before:
        return
    # In place: half of it is no JSON, and then every byte is read again.
    with suppress(OSError):
        (entry / CHECKED).write_text(json.dumps(checked))


def _times(facts: os.stat_result) -> list[int]:
    # The time of the last change of state too: it can't be set back as the other one can.
    return [facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns, facts.st_ino]
