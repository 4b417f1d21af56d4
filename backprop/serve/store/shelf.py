"""Stored files and the rows that tell of them: kept alike, and deleted when nobody needs them.

A row is written after its file is stored, and taken away in the transaction that deletes the
file; so whoever adds a row, and only then sees that the file is there, can rely on both.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import BinaryIO

from sqlalchemy import Engine, delete, exists, select, update

from backprop import manifest
from backprop.errors import ArtefactError, NotFoundError
from backprop.manifest import Digest
from backprop.serve.faults import HTTPFault
from backprop.serve.store.blobs import Blobs
from backprop.serve.store.database import BLOBS, FILES, add_new, reading, writing
from backprop.serve.store.parts import Part, Parts

__all__ = ["GRACE_S", "Shelf"]

logger = logging.getLogger(__name__)

GRACE_S = 3600.0
"""How long a file that no version refers to is kept: its upload may be going on."""

STALE_PART_S = 86_400.0
FRESH_S = 60.0
TRIES = 5


class Shelf:
    """The files of all versions, each stored once.

    Args:
        engine: of the hub's database.
        blobs: where the bytes are.
    """

    def __init__(self, engine: Engine, blobs: Blobs) -> None:
        self._engine = engine
        self._blobs = blobs
        self.parts = Parts(blobs.parts)

    def size(self, sha256: str) -> int | None:
        """Return the size of a file that is stored whole, else None; it is kept for a while."""
        with reading(self._engine) as connection:
            row = connection.execute(select(BLOBS).where(BLOBS.c.sha256 == sha256)).first()
        if row is None or self._blobs.size(sha256) != row.size_bytes:
            return None
        if time.time() - row.used_at > FRESH_S and not self._touch(sha256):
            return None  # deleted between the two
        return int(row.size_bytes)

    def put(self, part: Part, sha256: str) -> None:
        """Store a part that was checked and is on the disk; it is no part afterwards."""
        row = {"sha256": sha256, "size_bytes": part.size}
        for _ in range(TRIES):
            self._blobs.prepare(part.path, sha256)
            try:
                with writing(self._engine) as connection:
                    add_new(
                        connection,
                        BLOBS,
                        {**row, "used_at": time.time()},
                        update=("size_bytes", "used_at"),
                    )
                    # From here on nobody deletes it, but someone may have done so just before.
                    if not self._blobs.settle(part.path, sha256, part.size):
                        raise _VanishedError
            except _VanishedError:
                continue
            part.discard()
            return
        raise HTTPFault(503, "The file could not be stored; try again.", {"retry-after": "5"})

    def require(self, files: Mapping[str, Digest]) -> None:
        """Raise ArtefactError, which lists them, unless all ``files`` are stored."""
        sizes = {path: self.size(each.sha256) for path, each in files.items()}
        missing = [path for path, size_bytes in sizes.items() if size_bytes is None]
        if missing:
            raise _missing(missing)
        for path, size_bytes in sizes.items():
            if size_bytes != files[path].size_bytes:
                raise ArtefactError(
                    f"{path!r} was uploaded with {size_bytes} bytes, not "
                    f"{files[path].size_bytes}; send the size of the file."
                )

    def fetch(self, path: str, expected: Digest, target: Path) -> None:
        """Copy a stored file to ``target`` and check every byte of the copy.

        Args:
            path: what the file is called in messages.
            expected: which one.
            target: a file that is not there yet.

        Raises:
            ArtefactError: it is gone or damaged.
        """
        try:
            self._blobs.fetch(expected.sha256, target)
        except FileNotFoundError as error:
            raise _missing([path]) from error
        if manifest.digest(target) != expected:
            logger.error("the stored file %s is damaged", expected.sha256)
            self._discard(expected.sha256, unused_since=None)
            raise ArtefactError(f"{path!r} is damaged where it is stored; upload it again.")

    def open(self, sha256: str) -> tuple[BinaryIO, int]:
        """Return a file of some version, open to be read, and its size in bytes.

        Raises:
            NotFoundError: no version has it.
        """
        query = select(FILES.c.size_bytes).where(FILES.c.sha256 == sha256).limit(1)
        with reading(self._engine) as connection:
            size_bytes = connection.execute(query).scalar()
        if size_bytes is not None:
            try:
                return self._blobs.open(sha256), int(size_bytes)
            except FileNotFoundError:
                logger.exception("the stored file %s is gone", sha256)
        raise NotFoundError(f"No version has a file with the sha256 {sha256}.")

    def collect(self, grace_s: float = GRACE_S) -> int:
        """Delete files that no version refers to; return how many.

        Args:
            grace_s: one that was uploaded or asked for in these last seconds is kept.
        """
        latest = time.time() - grace_s
        self.parts.sweep(max(grace_s, STALE_PART_S) if grace_s else 0.0)
        used = exists().where(FILES.c.sha256 == BLOBS.c.sha256)
        with reading(self._engine) as connection:
            known = set(connection.execute(select(BLOBS.c.sha256)).scalars())
            query = select(BLOBS.c.sha256).where(BLOBS.c.used_at <= latest, ~used)
            old = set(connection.execute(query).scalars())
        # Files without a row are left by a kill between the two, or wait for their row now.
        lost = {each for each in self._blobs.names() if each not in known}
        old |= {each for each in lost if (self._blobs.modified(each) or latest) <= latest}
        return sum(self._discard(each, unused_since=latest) for each in sorted(old))

    def _touch(self, sha256: str) -> bool:
        mine = BLOBS.c.sha256 == sha256
        with writing(self._engine) as connection:
            change = update(BLOBS).where(mine).values(used_at=time.time())
            return connection.execute(change).rowcount == 1

    def _discard(self, sha256: str, *, unused_since: float | None) -> bool:
        """Delete a file and its row unless a version refers to it; return whether that was done."""
        mine = BLOBS.c.sha256 == sha256
        free = ~exists().where(FILES.c.sha256 == sha256)
        condition = free if unused_since is None else free & (BLOBS.c.used_at <= unused_since)
        with writing(self._engine) as connection:
            # A row of our own, where there is none, makes others wait who would add theirs.
            added = add_new(connection, BLOBS, {"sha256": sha256, "size_bytes": 0, "used_at": 0.0})
            if not connection.execute(delete(BLOBS).where(mine & condition)).rowcount:
                return False
            self._blobs.delete(sha256)
        if added:
            logger.info("deleted a stored file without a row, %s", sha256)
        return True


class _VanishedError(Exception):
    """A file was deleted after it was stored and before its row was there."""


def _missing(paths: Iterable[str]) -> ArtefactError:
    names = ", ".join(repr(path) for path in sorted(paths))
    return ArtefactError(f"These files are not uploaded: {names}. Upload them, then commit.")
