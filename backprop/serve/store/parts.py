"""Parts of uploads that go on: one file each, added to by one request at a time."""

from __future__ import annotations

import hashlib
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from filelock import FileLock, Timeout

from backprop import folders, manifest

__all__ = ["Part", "Parts"]

PART, LOCK = ".part", ".lock"


class Parts:
    """The parts in a folder, by the sha256 their whole will have.

    Args:
        folder: made when missing.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder = folder

    def kept(self, sha256: str) -> int:
        """Return how many bytes are kept of a file; 0 where there is no part."""
        try:
            return self._path(sha256, PART).stat().st_size
        except FileNotFoundError:
            return 0

    def claim(self, sha256: str) -> Part | None:
        """Return the part, new or kept, for this caller alone; None while another one has it.

        The lock is the system's: it ends with the process, however that ends.
        """
        # Taken and released by whichever threads serve one request.
        lock = FileLock(self._path(sha256, LOCK), thread_local=False)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return None
        try:
            return Part(self._path(sha256, PART), lock)
        except BaseException:
            lock.release()
            raise

    def sweep(self, older_s: float) -> None:
        """Delete parts that nobody has added to for so long, and locks nobody needs."""
        latest = time.time() - older_s
        for path in list(self._folder.glob(f"*{LOCK}")):
            with suppress(FileNotFoundError):
                if path.stat().st_mtime <= latest:
                    self._sweep(path.stem, latest)

    def _sweep(self, sha256: str, latest: float) -> None:
        part = self.claim(sha256)
        if part is None:
            return
        with part:
            if part.path.stat().st_mtime <= latest or part.size == 0:
                part.discard()
                # While it is held: who waits for it sees that it has no name any more.
                self._path(sha256, LOCK).unlink(missing_ok=True)

    def _path(self, sha256: str, suffix: str) -> Path:
        return self._folder / f"{sha256}{suffix}"


class Part:
    """What is kept of one file, open to be added to.

    Args:
        path: of the part; made when missing.
        lock: held; released by ``close``.
    """

    def __init__(self, path: Path, lock: FileLock) -> None:
        self.path = path
        self._lock = lock
        self._file = path.open("ab", buffering=0)
        self.size = self._file.tell()
        self._is_gone = False
        # Counted along where it is seen from its start; else the file is read once more.
        self._hash = hashlib.sha256() if self.size == 0 else None

    def __enter__(self) -> Part:
        """Return the part."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close it."""
        self.close()

    def append(self, data: bytes) -> None:
        """Add ``data`` at the end."""
        left = memoryview(data)
        while left:
            written = self._file.write(left)
            self.size += written
            if self._hash is not None:
                self._hash.update(left[:written])
            left = left[written:]

    def finish(self) -> str:
        """Return the sha256 of what is kept, once it is on the disk; nothing is added then."""
        self._file.close()
        folders.sync_file(self.path)
        if self._hash is not None:
            return self._hash.hexdigest()
        return manifest.digest(self.path).sha256

    def discard(self) -> None:
        """Delete what is kept; done once, since another's part may have the name after that."""
        if not self._is_gone:
            self.path.unlink(missing_ok=True)
            self._is_gone = True

    def close(self) -> None:
        """Let others add to it; an empty part leaves nothing behind."""
        try:
            self._file.close()
            if self.size == 0:
                self.discard()
        finally:
            self._lock.release()
