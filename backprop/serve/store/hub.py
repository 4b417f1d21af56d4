"""The hub: models people uploaded, their versions and aliases, and the files of each."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, delete, select
from sqlalchemy.exc import IntegrityError, OperationalError

from backprop.errors import NotFoundError
from backprop.manifest import Digest
from backprop.serve.faults import HTTPFault
from backprop.serve.settings import Settings
from backprop.serve.store import checks, rows
from backprop.serve.store.blobs import open_blobs
from backprop.serve.store.built import Built
from backprop.serve.store.database import (
    ALIASES,
    VERSIONS,
    add_new,
    open_engine,
    reading,
    writing,
)
from backprop.serve.store.rows import Model, NewVersion, Version
from backprop.serve.store.shelf import GRACE_S, Shelf

__all__ = ["Hub"]

TRIES = 20
PAUSE_S = 0.05

Result = TypeVar("Result")


class Hub:
    """What was uploaded to a server. Its methods block, and any thread may call them.

    Several processes may share a database and a storage; those on one machine, a folder too.

    Args:
        settings: where everything is; made when missing.
        vet: given the folder of an upload that is whole, returns what its ``backprop.json`` says;
            raises ArtefactError where it may not be served.

    Raises:
        InputError: the database or the storage can't be used.
        MissingPackageError: a package for either is not installed.
    """

    def __init__(self, settings: Settings, *, vet: Callable[[Path], dict[str, Any]]) -> None:
        settings.data.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.engine = open_engine(settings.database_url, settings.data)
        try:
            self.shelf = Shelf(self.engine, open_blobs(settings.storage_url, settings.data))
            self._built = Built(settings.data / "models", self.shelf)
        except BaseException:
            self.engine.dispose()
            raise
        self.changes = 0
        """Grows with each change made here, so that what was read before is known to be old."""
        self._vet = vet
        self._upload_bytes = settings.upload_bytes

    def models(self) -> list[Model]:
        """Return every uploaded model that has a version, by name."""
        return self._models(None)

    def names(self, most: int) -> list[str]:
        """Return the names of uploaded models, at most so many."""
        with reading(self.engine) as connection:
            query = select(VERSIONS.c.name).distinct().order_by(VERSIONS.c.name).limit(most)
            return list(connection.execute(query).scalars())

    def model(self, name: str) -> Model:
        """Return an uploaded model, or raise NotFoundError."""
        found = self._models(name)
        if not found:
            raise NotFoundError(f"There is no uploaded model {name!r}.")
        return found[0]

    def version(self, name: str, ref: str | int = "latest") -> Version:
        """Return a version of a model.

        Args:
            name: of the model.
            ref: a number, an alias, or ``latest``.

        Raises:
            NotFoundError: there is no such model or version.
            InputError: ``ref`` can't be one.
        """
        wanted = checks.parse_ref(ref)
        with reading(self.engine) as connection:
            return rows.find_version(connection, name, wanted)

    def versions(self, name: str) -> list[Version]:
        """Return every version of a model, newest first; raises NotFoundError."""
        with reading(self.engine) as connection:
            found = rows.list_versions(connection, name)
        if not found:
            raise NotFoundError(f"There is no uploaded model {name!r}.")
        return found

    def commit(
        self,
        name: str,
        files: Mapping[str, Digest] | Mapping[str, Mapping[str, Any]],
        description: str = "",
        by: str = "",
    ) -> Version:
        """Make uploaded files a new version of a model, whole or not at all.

        Args:
            name: of the model, new or known.
            files: path to ``{"sha256", "size_bytes"}``, or to a ``Digest``.
            description: of this version.
            by: id of the key of who uploaded it.

        Raises:
            InputError: an argument is not of its form.
            ArtefactError: files are missing or the model may not be served.
            HTTPFault: 409, the name is the catalogue's; 413, a file is too large.
        """
        checks.check_new_name(name)
        checked = checks.check_files(files, self._upload_bytes)
        description = checks.check_description(description)
        self.shelf.require(checked)
        meta, card = self._built.vetted(rows.digest_of(checked), checked, self._vet)
        new = NewVersion(name, checked, meta, card, description, uploaded_by=by[:100])

        def add(connection: Connection) -> Version:
            return rows.find_version(connection, name, rows.add_version(connection, new))

        return self._retried(add)

    def delete(self, name: str, number: int | None = None) -> None:
        """Delete one version, or all of a model with its aliases; then files nobody refers to.

        Raises:
            NotFoundError: there is no such model or version.
            HTTPFault: 409, aliases mean that version.
        """
        with writing(self.engine) as connection:
            rows.delete_versions(connection, name, number)
        self.changes += 1
        with suppress(HTTPFault):  # a storage out of reach: it is deleted all the same
            self.collect()

    def set_alias(self, name: str, alias: str, number: int) -> None:
        """Let ``alias`` mean a version, whatever it meant before.

        Raises:
            InputError: ``alias`` can't be one.
            NotFoundError: there is no such version.
        """
        alias, number = checks.check_alias(alias), checks.check_number(number)
        row = {"name": name, "alias": alias, "number": number}

        def set_it(connection: Connection) -> None:
            rows.find_version(connection, name, number)
            add_new(connection, ALIASES, row, update=("number",))

        self._retried(set_it)

    def delete_alias(self, name: str, alias: str) -> None:
        """Delete an alias, or raise NotFoundError."""
        mine = (ALIASES.c.name == name) & (ALIASES.c.alias == alias)
        with writing(self.engine) as connection:
            if not connection.execute(delete(ALIASES).where(mine)).rowcount:
                raise NotFoundError(f"The model {name!r} has no alias {alias!r}.")
        self.changes += 1

    def kept(self, digests: Collection[str]) -> set[str]:
        """Return those of these digests that a version still has."""
        with reading(self.engine) as connection:
            return rows.kept_digests(connection, digests)

    def materialise(self, version: Version) -> Path:
        """Return a local folder with the version's files, each byte of it verified; read only."""
        return self._built.get(version.digest, version.files)

    def collect(self, grace_s: float = GRACE_S) -> int:
        """Delete stored files and local folders that no version needs; return how many files.

        Args:
            grace_s: a file uploaded or asked for in these last seconds is kept, for a version
                may be about to refer to it.
        """
        self._built.collect(self._is_used)
        return self.shelf.collect(grace_s)

    def close(self) -> None:
        """Close the database."""
        self.engine.dispose()

    def _is_used(self, digest: str) -> bool:
        query = select(VERSIONS.c.digest).where(VERSIONS.c.digest == digest).limit(1)
        with reading(self.engine) as connection:
            return connection.execute(query).first() is not None

    def _models(self, name: str | None) -> list[Model]:
        with reading(self.engine) as connection:
            latest = rows.latest_versions(connection, name)
            numbers = rows.numbers_of(connection, name)
            aliases = rows.aliases_of(connection, name)
        return [
            Model(each.name, numbers[each.name], each, aliases.get(each.name, {}))
            for each in latest
        ]

    def _retried(self, work: Callable[[Connection], Result]) -> Result:
        """Return what ``work`` does in one transaction, done again where others were faster."""
        for _ in range(TRIES):
            try:
                with writing(self.engine) as connection:
                    done = work(connection)
                self.changes += 1
                return done
            except (IntegrityError, OperationalError):
                time.sleep(random.uniform(0, PAUSE_S))
        raise HTTPFault(
            503, "Many changes at once, so yours was not made; try again.", {"retry-after": "1"}
        )
