"""Keys of the server: made once, kept as hashes, checked from memory.

The hash is plain SHA-256, fast and without salt. Passwords need slow, salted hashes since people
choose them and lists of them exist; the secret of a key is 43 random letters and digits (256 bits),
which nobody can guess or list, and a check must cost microseconds.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import string
import threading
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Any

from sqlalchemy import (
    Column,
    DateTime,
    Engine,
    MetaData,
    Row,
    String,
    Table,
    insert,
    select,
    update,
)
from sqlalchemy.exc import DBAPIError
from sqlalchemy.schema import CreateTable

from backprop.errors import InputError, NotFoundError
from backprop.serve.freshness import reader_of
from backprop.serve.store.database import reading, writing

__all__ = ["SCOPES", "Key", "Keys"]

SCOPES = ("infer", "write", "admin")
"""What a key may do; each includes those before it."""

RANKS = {scope: rank for rank, scope in enumerate(SCOPES)}
PREFIX = "bp"
ALPHABET = string.ascii_letters + string.digits
SECRET_CHARACTERS = 43
MOST_CHARACTERS = 128
"""Longer than any key, so that what is presented is bounded before it is looked at."""
MOST_NAME_CHARACTERS = 100
NOBODY = hashlib.sha256(b"").hexdigest()
"""What is compared where there is no such key; of no secret, since none is empty."""

KEYS = Table(
    "access_keys",
    MetaData(),
    Column("id", String(12), primary_key=True),
    Column("secret_sha256", String(64), nullable=False),
    Column("scope", String(16), nullable=False),
    Column("name", String(MOST_NAME_CHARACTERS), nullable=False),
    Column("created", DateTime(timezone=True), nullable=False),
    Column("revoked", DateTime(timezone=True)),
)
ALL = select(KEYS).order_by(KEYS.c.created, KEYS.c.id)


@dataclass(frozen=True)
class Key:
    """What is known of a key; its secret is not.

    Args:
        id: the part of it that may be shown, such as in logs.
        scope: of ``SCOPES``.
        name: what its owner calls it.
        created: when it was made, UTC.
        revoked: when it was revoked, UTC, or None.
    """

    id: str
    scope: str
    name: str
    created: datetime
    revoked: datetime | None = None

    def allows(self, scope: str) -> bool:
        """Return whether this key's scope includes ``scope``."""
        return RANKS[self.scope] >= RANKS[scope]


class Keys:
    """The keys in a database.

    Args:
        engine: on SQLite or PostgreSQL; the table is made if it is not there.

    Raises:
        sqlalchemy.exc.SQLAlchemyError: the database can't be read; without it nobody could tell
            whether there are keys.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        self._known: dict[str, tuple[Key, str]] = {}
        _make_table(engine)
        self._read()
        self._reader = reader_of(engine, ALL)

    def create(self, scope: str, name: str = "") -> tuple[Key, str]:
        """Return a new key, and the string to present, which exists nowhere else.

        Args:
            scope: of ``SCOPES``.
            name: to tell keys apart; at most 100 printable characters.

        Raises:
            InputError: there is no such scope, or the name does not fit.
        """
        if scope not in SCOPES:
            raise InputError(f"scope must be one of {', '.join(SCOPES)}; received {scope!r}.")
        if len(name) > MOST_NAME_CHARACTERS or not name.isprintable():
            raise InputError(
                f"name may have {MOST_NAME_CHARACTERS} printable characters; "
                f"received {name[:MOST_NAME_CHARACTERS]!r} ({len(name)} characters)."
            )
        key = Key(secrets.token_hex(6), scope, name, datetime.now(timezone.utc))
        secret = "".join(secrets.choice(ALPHABET) for _ in range(SECRET_CHARACTERS))
        row = {**vars(key), "secret_sha256": _sha256(secret)}
        with writing(self._engine) as connection:
            connection.execute(insert(KEYS).values(row))
        self._read()
        return key, f"{PREFIX}_{key.id}_{secret}"

    def revoke(self, id: str) -> str:
        """Make a key worthless for ever; once more changes nothing.

        Args:
            id: of the key, or the whole key: whoever has seen it where it should not be has that.

        Returns:
            Its id.

        Raises:
            NotFoundError: there is no key of that id.
        """
        # Of a whole key only this is ever shown.
        id = re.sub(rf".*\b{PREFIX}_", "", id.strip()).partition("_")[0]
        now = datetime.now(timezone.utc)
        with writing(self._engine) as connection:
            found = connection.execute(select(KEYS.c.id).where(KEYS.c.id == id)).first()
            if found is None:
                raise NotFoundError(
                    f"There is no key of id {id[:MOST_CHARACTERS]!r}; see: backprop keys list"
                )
            unrevoked = (KEYS.c.id == id) & KEYS.c.revoked.is_(None)
            connection.execute(update(KEYS).where(unrevoked).values(revoked=now))
        self._read()
        return id

    def list(self) -> list[Key]:
        """Return all keys, revoked ones too, in the order they were made."""
        with reading(self._engine) as connection:
            return [_key(row) for row in connection.execute(ALL)]

    def any(self) -> bool:
        """Return whether a key was ever made.

        Revoked ones count: revoking the last key must not open a server to everybody.
        """
        self._refresh()
        return bool(self._known)

    def are_all_revoked(self) -> bool:
        """Return whether there are keys, of which none opens anything."""
        self._refresh()
        return all(key.revoked is not None for key, _ in self._known.values()) and bool(self._known)

    def find(self, id: str) -> Key | None:
        """Return the key of that id if it is there and not revoked."""
        self._refresh()
        key, _ = self._known.get(id, (None, NOBODY))
        return key if key is not None and key.revoked is None else None

    def check(self, presented: str | None) -> Key | None:
        """Return the key that ``presented`` is, or None for one that is wrong, revoked or missing.

        Takes the same time for an unknown id as for a wrong secret. Answers from memory; what
        another process has changed is seen at once on SQLite, and within a second elsewhere.
        """
        if presented is None or len(presented) > MOST_CHARACTERS:
            return None
        self._refresh()
        prefix, _, rest = presented.partition("_")
        id, _, secret = rest.partition("_")
        key, expected = self._known.get(id, (None, NOBODY))
        is_same = hmac.compare_digest(_sha256(secret), expected)
        is_whole = prefix == PREFIX and len(secret) == SECRET_CHARACTERS
        if key is None or not (is_same and is_whole) or key.revoked is not None:
            return None
        return key

    @property
    def place(self) -> str:
        """The database they are in, its password hidden."""
        url = self._engine.url
        return url.database or str(url) if url.drivername.startswith("sqlite") else str(url)

    def close(self) -> None:
        """Close the connection that listens for changes; the engine stays open."""
        self._reader.close()

    def _refresh(self) -> None:
        with self._lock:
            rows = self._reader.changed()
            if rows is not None:
                self._known = _by_id(rows)

    def _read(self) -> None:
        """Read all keys, waiting for the database where that is needed."""
        with reading(self._engine) as connection:
            rows = connection.execute(ALL).all()
        self._known = _by_id(rows)


def _make_table(engine: Engine) -> None:
    """Make the table if it is not there."""
    make = CreateTable(KEYS, if_not_exists=True)
    try:
        with writing(engine) as connection:
            connection.execute(make)
    except DBAPIError:
        # PostgreSQL fails one of two processes that make it at once; then it is there.
        with writing(engine) as connection:
            connection.execute(make)


def _by_id(rows: Iterable[Row[Any]]) -> dict[str, tuple[Key, str]]:
    """Return key and hash by id, revoked ones too, since they are compared as well."""
    return {row.id: (_key(row), row.secret_sha256) for row in rows}


def _key(row: Row[Any]) -> Key:
    """Return the key of a row; a scope that nobody knows allows nothing, so it is revoked."""
    key = Key(row.id, row.scope, row.name, _utc(row.created), row.revoked and _utc(row.revoked))
    return key if key.scope in RANKS else replace(key, revoked=key.revoked or key.created)


def _utc(moment: datetime) -> datetime:
    """Return ``moment`` with its zone, which SQLite leaves out."""
    if moment.tzinfo is None:
        return moment.replace(tzinfo=timezone.utc)
    return moment.astimezone(timezone.utc)


def _sha256(secret: str) -> str:
    # What was presented may hold anything that a header can.
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
