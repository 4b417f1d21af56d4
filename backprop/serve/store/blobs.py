"""Stored files, named by their sha256: each is whole or absent."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

import fsspec
from fsspec.implementations.local import LocalFileSystem

from backprop import folders
from backprop.errors import InputError, MissingPackageError
from backprop.manifest import SHA256
from backprop.serve.faults import HTTPFault

__all__ = ["Blobs", "FolderBlobs", "open_blobs"]

logger = logging.getLogger(__name__)

RETRY_S = 5


class Blobs:
    """Files in an object store.

    Args:
        system: of fsspec.
        root: where in it; one object a file.
        parts: local folder for uploads that go on.
    """

    def __init__(self, system: Any, root: str, parts: Path) -> None:
        self._system = system
        self._root = root.rstrip("/")
        self.parts = parts

    def size(self, sha256: str) -> int | None:
        """Return the size of a stored file in bytes; None when it is not there."""
        with _reached():
            try:
                return int(self._system.info(self._key(sha256))["size"])
            except FileNotFoundError:
                return None

    def prepare(self, part: Path, sha256: str) -> None:
        """Do what takes long of storing ``part``; it may be done again."""
        with _reached():
            self._system.put_file(str(part), self._key(sha256))

    def settle(self, part: Path, sha256: str, size_bytes: int) -> bool:
        """Return whether the file is stored for good now; False asks for ``prepare`` again."""
        return self.size(sha256) == size_bytes

    def fetch(self, sha256: str, target: Path) -> None:
        """Copy a stored file to ``target``.

        Raises:
            FileNotFoundError: it is not stored.
        """
        with _reached():
            self._system.get_file(self._key(sha256), str(target))

    def open(self, sha256: str) -> BinaryIO:
        """Return a stored file, open to be read.

        Raises:
            FileNotFoundError: it is not stored.
        """
        with _reached():
            return cast(BinaryIO, self._system.open(self._key(sha256), "rb"))

    def delete(self, sha256: str) -> None:
        """Delete a stored file, if it is there."""
        with _reached():
            try:
                self._system.rm_file(self._key(sha256))
            except FileNotFoundError:
                pass

    def names(self) -> Iterator[str]:
        """Yield the sha256 of every stored file."""
        with _reached():
            paths = self._system.find(self._root, maxdepth=1)
        for path in paths:
            name = path.rpartition("/")[2]
            if SHA256.fullmatch(name):
                yield name

    def modified(self, sha256: str) -> float | None:
        """Return when a file was stored, in seconds since 1970; None where that is not told."""
        with _reached():
            try:
                return float(self._system.modified(self._key(sha256)).timestamp())
            except (NotImplementedError, FileNotFoundError):
                return None

    def _key(self, sha256: str) -> str:
        return f"{self._root}/{sha256}"


class FolderBlobs(Blobs):
    """Files in a folder of this machine.

    Args:
        folder: made when missing; parts lie in it too, so a whole one is only renamed.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        super().__init__(LocalFileSystem(), folder.absolute().as_posix(), folder / ".parts")
        self._folder = folder

    def prepare(self, part: Path, sha256: str) -> None:
        """Do nothing: renaming takes no time."""

    def settle(self, part: Path, sha256: str, size_bytes: int) -> bool:
        """Rename ``part``, which is on the disk already; return True once that is too."""
        part.rename(self._folder / sha256)
        folders.sync_file(self._folder)
        return True


def open_blobs(url: str, data: Path) -> Blobs:
    """Return where uploaded files are kept.

    Args:
        url: of fsspec, or a folder; empty for a folder in ``data``.
        data: the server's folder.

    Raises:
        InputError: the URL can't be used.
        MissingPackageError: the package for this kind of store is not installed.
    """
    if not url:
        return FolderBlobs(data / "blobs")
    kind = url.partition("://")[0] if "://" in url else "file"
    try:
        # Listings are not kept: another server may write there.
        system, root = fsspec.core.url_to_fs(url, use_listings_cache=False)
        if isinstance(system, LocalFileSystem):
            return FolderBlobs(Path(root))
        system.makedirs(root, exist_ok=True)
    except ImportError as error:
        raise MissingPackageError(
            f"storage_url is of the kind {kind!r}, which takes a package that is not installed "
            f"({error}); for S3, run: pip install 'backprop[serve-s3]'"
        ) from error
    except Exception as error:  # each store has errors of its own
        raise InputError(
            f"storage_url, of the kind {kind!r}, can't be used ({type(error).__name__}); check "
            "that the place exists and that this machine may write there."
        ) from error
    return Blobs(system, root, data / "parts")


@contextmanager
def _reached() -> Iterator[None]:
    """Turn what a store raises into an answer; its own words may name keys and hosts."""
    try:
        yield
    except FileNotFoundError:
        raise
    except Exception as error:
        logger.exception("the storage of uploaded files failed")
        raise HTTPFault(
            503,
            "The storage of uploaded files can't be reached; try again later.",
            {"retry-after": str(RETRY_S)},
        ) from error
