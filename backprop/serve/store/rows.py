"""Versions of models: what they are, and the transactions that add, find and delete them."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from sqlalchemy import Connection, Row, and_, delete, func, insert, select, update

from backprop.errors import ArtefactError, NotFoundError
from backprop.manifest import Digest
from backprop.serve.faults import HTTPFault
from backprop.serve.store.database import ALIASES, BLOBS, FILES, MODELS, VERSIONS, add_new

__all__ = [
    "Model",
    "NewVersion",
    "Version",
    "add_version",
    "aliases_of",
    "delete_versions",
    "digest_of",
    "find_version",
    "kept_digests",
    "latest_versions",
    "list_versions",
    "numbers_of",
]


@dataclass(frozen=True)
class Version:
    """One upload of a model, which never changes.

    Args:
        name: of the model.
        number: from 1, in the order of uploads; a deleted one is not given again.
        files: path to what the file must be, sorted.
        meta: what its ``backprop.json`` says.
        card: the text of its ``README.md``; empty without one.
        description: of this version, by its uploader.
        created: when it was committed, in UTC.
        digest: sha256 over the files: versions with the same content have the same.
    """

    name: str
    number: int
    files: Mapping[str, Digest]
    meta: dict[str, Any]
    card: str
    description: str
    created: datetime
    digest: str

    @property
    def size_bytes(self) -> int:
        """Size of all files together."""
        return sum(each.size_bytes for each in self.files.values())


@dataclass(frozen=True)
class Model:
    """An uploaded model.

    Args:
        name: unique.
        versions: their numbers, ascending; at least one.
        latest: the newest version.
        aliases: further name to a version's number.
    """

    name: str
    versions: list[int]
    latest: Version
    aliases: dict[str, int]


@dataclass(frozen=True)
class NewVersion:
    """A version that has no number yet; see ``Version`` for the fields."""

    name: str
    files: Mapping[str, Digest]
    meta: dict[str, Any]
    card: str
    description: str
    uploaded_by: str


def digest_of(files: Mapping[str, Digest]) -> str:
    """Return the sha256 over paths, hashes and sizes; it names the content as a whole."""
    lines = (f"{path}\0{each.sha256}\0{each.size_bytes}\n" for path, each in sorted(files.items()))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def add_version(connection: Connection, new: NewVersion) -> int:
    """Add ``new`` and return the number it got, one more than any before it.

    Raises:
        ArtefactError: a file was deleted meanwhile.
    """
    add_new(connection, MODELS, {"name": new.name, "last_number": 0})
    # The row stays locked to the end, so commits of one name pass here one at a time.
    mine = MODELS.c.name == new.name
    connection.execute(update(MODELS).where(mine).values(last_number=MODELS.c.last_number + 1))
    number = connection.execute(select(MODELS.c.last_number).where(mine)).scalar_one()
    _hold_blobs(connection, {each.sha256 for each in new.files.values()})
    connection.execute(
        insert(VERSIONS).values(
            name=new.name,
            number=number,
            digest=digest_of(new.files),
            meta=json.dumps(new.meta),
            card=new.card,
            description=new.description,
            created=time.time(),
            uploaded_by=new.uploaded_by,
        )
    )
    rows = [
        {"name": new.name, "number": number, "path": path, **vars(each)}
        for path, each in new.files.items()
    ]
    connection.execute(insert(FILES), rows)
    return int(number)


def find_version(connection: Connection, name: str, ref: int | str | None) -> Version:
    """Return a version of a model.

    Args:
        connection: to read by.
        name: of the model.
        ref: its number, an alias, or None for the newest.

    Raises:
        NotFoundError: there is no such model or version.
    """
    number = _number(connection, name, ref)
    where = and_(VERSIONS.c.name == name, VERSIONS.c.number == number)
    row = connection.execute(select(VERSIONS).where(where)).first()
    if row is None:
        raise _missing(connection, name, ref)
    return _versions(connection, [row])[0]


def list_versions(connection: Connection, name: str) -> list[Version]:
    """Return every version of a model, newest first; none where there is no such model."""
    query = select(VERSIONS).where(VERSIONS.c.name == name).order_by(VERSIONS.c.number.desc())
    return _versions(connection, connection.execute(query).all())


def latest_versions(connection: Connection, name: str | None = None) -> list[Version]:
    """Return the newest version of each model, or of one, by name."""
    newest = select(VERSIONS.c.name, func.max(VERSIONS.c.number).label("number"))
    newest = newest.group_by(VERSIONS.c.name)
    if name is not None:
        newest = newest.where(VERSIONS.c.name == name)
    of = newest.subquery()
    same = and_(VERSIONS.c.name == of.c.name, VERSIONS.c.number == of.c.number)
    query = select(VERSIONS).join(of, same).order_by(VERSIONS.c.name)
    return _versions(connection, connection.execute(query).all())


def numbers_of(connection: Connection, name: str | None = None) -> dict[str, list[int]]:
    """Return the numbers of the versions there are of each model, or of one, ascending."""
    query = select(VERSIONS.c.name, VERSIONS.c.number).order_by(VERSIONS.c.number)
    if name is not None:
        query = query.where(VERSIONS.c.name == name)
    numbers: dict[str, list[int]] = {}
    for row in connection.execute(query):
        numbers.setdefault(row.name, []).append(row.number)
    return numbers


def aliases_of(connection: Connection, name: str | None = None) -> dict[str, dict[str, int]]:
    """Return the aliases of each model that has any, or of one, by alias."""
    query = select(ALIASES).order_by(ALIASES.c.alias)
    if name is not None:
        query = query.where(ALIASES.c.name == name)
    aliases: dict[str, dict[str, int]] = {}
    for row in connection.execute(query):
        aliases.setdefault(row.name, {})[row.alias] = row.number
    return aliases


def delete_versions(connection: Connection, name: str, number: int | None) -> None:
    """Delete one version, or all of a model and its aliases.

    The model's own row stays, so that no number is ever given twice.

    Raises:
        NotFoundError: there is nothing to delete.
        HTTPFault: 409, aliases mean that version: whoever asks for them would lose it.
    """
    unwanted = delete(VERSIONS).where(VERSIONS.c.name == name)
    if number is not None:
        _refuse_if_meant(connection, name, number)
        unwanted = unwanted.where(VERSIONS.c.number == number)
    if not connection.execute(unwanted).rowcount:
        raise _missing(connection, name, number)


def _refuse_if_meant(connection: Connection, name: str, number: int) -> None:
    """Refuse to delete a version that aliases mean; no further one can be set meanwhile."""
    version = (VERSIONS.c.name == name) & (VERSIONS.c.number == number)
    connection.execute(select(VERSIONS.c.number).where(version).with_for_update())
    mine = (ALIASES.c.name == name) & (ALIASES.c.number == number)
    query = select(ALIASES.c.alias).where(mine).order_by(ALIASES.c.alias)
    if aliases := connection.scalars(query).all():
        raise HTTPFault(
            409,
            f"Version {number} of {name!r} is what these aliases mean: {', '.join(aliases)}. "
            "Set them to another version or delete them first.",
        )


def kept_digests(connection: Connection, digests: Collection[str]) -> set[str]:
    """Return those of these digests that a version has."""
    query = select(VERSIONS.c.digest).where(VERSIONS.c.digest.in_(digests)).distinct()
    return set(connection.scalars(query))


def _hold_blobs(connection: Connection, needed: set[str]) -> None:
    """Keep the blobs from being deleted before the files that refer to them are there."""
    mine = BLOBS.c.sha256.in_(needed)
    # In one order, so that two commits never wait for each other.
    lock = select(BLOBS.c.sha256).where(mine).order_by(BLOBS.c.sha256).with_for_update()
    if len(connection.execute(lock).all()) != len(needed):
        raise ArtefactError("A file was deleted meanwhile; upload it again, then commit.")
    connection.execute(update(BLOBS).where(mine).values(used_at=time.time()))


def _number(connection: Connection, name: str, ref: int | str | None) -> int | None:
    if isinstance(ref, int):
        return ref
    query = select(func.max(VERSIONS.c.number)).where(VERSIONS.c.name == name)
    if ref is not None:
        query = select(ALIASES.c.number).where(ALIASES.c.name == name, ALIASES.c.alias == ref)
    return connection.execute(query).scalar()


def _versions(connection: Connection, rows: Iterable[Row[Any]]) -> list[Version]:
    rows = list(rows)
    files: dict[tuple[str, int], dict[str, Digest]] = {(row.name, row.number): {} for row in rows}
    for name, numbers in _by_name(files).items():
        query = select(FILES).where(FILES.c.name == name, FILES.c.number.in_(numbers))
        for each in connection.execute(query.order_by(FILES.c.path)):
            files[name, each.number][each.path] = Digest(each.sha256, each.size_bytes)
    return [_version(row, files[row.name, row.number]) for row in rows]


def _by_name(keys: Iterable[tuple[str, int]]) -> dict[str, list[int]]:
    numbers: dict[str, list[int]] = {}
    for name, number in keys:
        numbers.setdefault(name, []).append(number)
    return numbers


def _version(row: Row[Any], files: dict[str, Digest]) -> Version:
    return Version(
        name=row.name,
        number=row.number,
        files=dict(sorted(files.items())),
        meta=json.loads(row.meta),
        card=row.card,
        description=row.description,
        created=datetime.fromtimestamp(row.created, timezone.utc),
        digest=row.digest,
    )


def _missing(connection: Connection, name: str, ref: int | str | None) -> NotFoundError:
    numbers = numbers_of(connection, name).get(name)
    if numbers is None:
        return NotFoundError(f"There is no uploaded model {name!r}.")
    newest = ", ".join(str(number) for number in numbers[-10:])
    known = list(aliases_of(connection, name).get(name, {}))
    aliases = ", ".join(known[:10]) + ", …" * (len(known) > 10)
    return NotFoundError(
        f"There is no version {ref!r} of {name!r}; the newest are: {newest}"
        + (f"; its aliases are: {aliases}." if aliases else ".")
    )
