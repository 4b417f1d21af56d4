"""Local folders of versions: built from stored files, whole or absent, checked before use."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from backprop import artefact, folders, manifest
from backprop.errors import ArtefactError
from backprop.manifest import Digest, FolderFault
from backprop.serve.store.shelf import Shelf

__all__ = ["Built"]

CARD = "README.md"
MAX_CARD_BYTES = 256 << 10

Facts = tuple[int, int, int, int]


class Built:
    """The folders, by the digest of their content.

    Args:
        place: where they are.
        shelf: the stored files; copied, never linked, for a folder is others' to read.
    """

    def __init__(self, place: Path, shelf: Shelf) -> None:
        place.mkdir(parents=True, exist_ok=True, mode=0o700)
        folders.sweep(place)
        self._place = place
        self._shelf = shelf
        # What each file looked like when its bytes were last read and found right.
        self._seen: dict[str, dict[str, Facts]] = {}

    def get(self, digest: str, files: Mapping[str, Digest]) -> Path:
        """Return the folder; its every byte was verified by this process.

        Raises:
            ArtefactError: a stored file is gone or damaged.
        """
        path = self._place / digest
        with self._locked(digest):
            if not self._is_intact(digest, files):
                with folders.building(path) as folder:
                    self._fill(folder, files)
                self._remember(digest, files)
        return path

    def vetted(
        self, digest: str, files: Mapping[str, Digest], vet: Callable[[Path], dict[str, Any]]
    ) -> tuple[dict[str, Any], str]:
        """Return what ``vet`` says of the folder, and its card.

        Nothing is left of a folder that it refuses, unless that was accepted before.

        Raises:
            ArtefactError: a stored file is gone or damaged, or the folder was refused.
        """
        path = self._place / digest
        with self._locked(digest):
            if self._is_intact(digest, files):
                return vet(path), _card(path)
            with folders.building(path) as folder:
                self._fill(folder, files)
                found = vet(folder), _card(folder)
            self._remember(digest, files)
            return found

    def collect(self, is_used: Callable[[str], bool]) -> None:
        """Delete the folders whose digest is not used."""
        for path in list(self._place.iterdir()):
            if path.name.startswith(".") or is_used(path.name):
                continue
            # One that is held is being built or vetted: it is used now, or soon.
            with suppress(Timeout, OSError), self._locked(path.name, timeout_s=0):
                # Asked again, since a version may have come meanwhile; a later one builds anew.
                if not is_used(path.name):
                    self._seen.pop(path.name, None)
                    folders.remove(path)
                    # While it is held: who waits for it sees that it has no name any more.
                    self._lock(path.name).unlink(missing_ok=True)

    def _fill(self, folder: Path, files: Mapping[str, Digest]) -> None:
        for path, expected in files.items():
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            self._shelf.fetch(path, expected, target)
        others = {path: each for path, each in files.items() if path != artefact.MANIFEST}
        try:
            listed = manifest.read_manifest(folder / artefact.MANIFEST)
        except FolderFault as fault:
            raise ArtefactError(f"The upload is refused: {fault}.") from fault
        if listed != others:
            differing = {path for path, _ in listed.items() ^ others.items()}
            raise ArtefactError(
                f"The upload is refused: {artefact.MANIFEST!r} does not agree with the files sent, "
                f"first in {min(differing)!r}; send the folder as it was saved."
            )

    def _is_intact(self, digest: str, files: Mapping[str, Digest]) -> bool:
        folder, seen = self._place / digest, self._seen.get(digest, {})
        try:
            manifest.verify(folder, files, known=lambda path, stat: seen.get(path) == _facts(stat))
        except (FolderFault, OSError):
            return False
        self._remember(digest, files)
        return True

    def _remember(self, digest: str, files: Mapping[str, Digest]) -> None:
        folder = self._place / digest
        self._seen[digest] = {path: _facts((folder / path).stat()) for path in files}

    @contextmanager
    def _locked(self, digest: str, timeout_s: float = -1) -> Iterator[None]:
        with FileLock(self._lock(digest)).acquire(timeout=timeout_s):
            yield

    def _lock(self, digest: str) -> Path:
        return self._place / f".{digest}.lock"


def _facts(stat: os.stat_result) -> Facts:
    return stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


def _card(folder: Path) -> str:
    """Return the model's card, cut where it is very long; a database takes no zero characters."""
    try:
        with (folder / CARD).open("rb") as file:
            raw = file.read(MAX_CARD_BYTES)
    except FileNotFoundError:
        return ""
    return raw.decode(errors="replace").replace("\0", "\ufffd")
