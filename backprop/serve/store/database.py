"""The hub's database: its tables, the engine, and transactions that wait for their turn."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Engine,
    Float,
    ForeignKey,
    ForeignKeyConstraint,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    create_engine,
    event,
    func,
    inspect,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, OperationalError

from backprop.errors import InputError
from backprop.optional import require

__all__ = [
    "ALIASES",
    "BLOBS",
    "FILES",
    "MODELS",
    "VERSIONS",
    "add_new",
    "file_of",
    "open_engine",
    "reading",
    "writing",
]

SCHEMA = 1
BUSY_S = 30
CONNECTIONS = 8
MORE_CONNECTIONS = 56
# Any constant of our own: two servers that start at once make the tables one after the other.
TABLES_LOCK = 0x6261636B

READ_ONLY = "backprop_read_only"
SQLITE, POSTGRESQL = "sqlite", "postgresql"
SQLITE_PRAGMAS = {
    "busy_timeout": BUSY_S * 1000,
    "journal_mode": "DELETE",
    "synchronous": "FULL",
    "foreign_keys": "ON",
}

METADATA = MetaData()
STATE = Table("hub_schema", METADATA, Column("version", Integer, primary_key=True))

BLOBS = Table(
    "hub_blobs",
    METADATA,
    Column("sha256", String(64), primary_key=True),
    Column("size_bytes", BigInteger, nullable=False),
    # When it was last uploaded or asked for: what nobody refers to is kept for a while from then.
    Column("used_at", Float, nullable=False),
)
MODELS = Table(
    "hub_models",
    METADATA,
    Column("name", String(100), primary_key=True),
    # Counts up only, so the number of a deleted version never means another one.
    Column("last_number", Integer, nullable=False),
)
VERSIONS = Table(
    "hub_versions",
    METADATA,
    Column("name", ForeignKey(MODELS.c.name, ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("digest", String(64), nullable=False, index=True),
    Column("meta", Text, nullable=False),
    Column("card", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("created", Float, nullable=False),
    Column("uploaded_by", String(100), nullable=False),
)
FILES = Table(
    "hub_files",
    METADATA,
    Column("name", String(100), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("path", String(700), primary_key=True),
    Column("sha256", ForeignKey(BLOBS.c.sha256), nullable=False, index=True),
    Column("size_bytes", BigInteger, nullable=False),
    ForeignKeyConstraint(
        ["name", "number"], [VERSIONS.c.name, VERSIONS.c.number], ondelete="CASCADE"
    ),
)
ALIASES = Table(
    "hub_aliases",
    METADATA,
    Column("name", String(100), primary_key=True),
    Column("alias", String(50), primary_key=True),
    Column("number", Integer, nullable=False),
    ForeignKeyConstraint(
        ["name", "number"], [VERSIONS.c.name, VERSIONS.c.number], ondelete="CASCADE"
    ),
)


def open_engine(url: str, data: Path) -> Engine:
    """Return an engine whose database has the hub's tables.

    ``engine.begin()`` takes SQLite's write lock at once and waits for it, so a transaction never
    fails halfway for having read first. ``reading`` takes none.

    Args:
        url: of SQLAlchemy, SQLite or PostgreSQL; empty for an SQLite file in ``data``.
        data: the server's folder.

    Raises:
        InputError: the URL is of another kind, the database can't be reached, or a newer
            version of backprop has changed it.
        MissingPackageError: PostgreSQL's driver is not installed.
    """
    address = _address(url, data)
    if address.get_backend_name() == SQLITE:
        engine = _sqlite(address)
    else:
        require("psycopg", extra="serve-postgresql")
        engine = create_engine(
            address,
            pool_pre_ping=True,  # a connection may have been cut while it was idle
            pool_size=CONNECTIONS,
            max_overflow=MORE_CONNECTIONS,
        )
    try:
        _make_tables(engine)
    except OperationalError as error:
        engine.dispose()
        # What the driver says may hold parts of the URL, the password among them.
        raise InputError(
            f"The {address.get_backend_name()} database can't be opened; check that it runs, "
            "that database_url is right and that its user may create tables."
        ) from error
    except BaseException:
        engine.dispose()
        raise
    return engine


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """Yield a connection for queries, all of which see the same moment.

    It waits for no writer longer than a commit takes.
    """
    with engine.connect() as connection:
        if engine.dialect.name == POSTGRESQL:
            connection.execution_options(isolation_level="REPEATABLE READ")
        connection.execution_options(**{READ_ONLY: True})
        yield connection


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """Yield a connection whose work is committed whole at the end, or not at all."""
    with engine.begin() as connection:
        yield connection


def add_new(
    connection: Connection,
    table: Table,
    row: Mapping[str, Any],
    *,
    update: tuple[str, ...] = (),
) -> bool:
    """Insert ``row`` unless one with its primary key is there; return whether a row changed.

    Args:
        connection: of a transaction that writes.
        table: where to.
        row: column to value.
        update: columns that are set where the row is there already.
    """
    make = sqlite.insert if connection.dialect.name == SQLITE else postgresql.insert
    statement = make(table).values(**row)
    keys = [column.name for column in table.primary_key]
    if update:
        new = {name: row[name] for name in update}
        statement = statement.on_conflict_do_update(index_elements=keys, set_=new)
    else:
        statement = statement.on_conflict_do_nothing(index_elements=keys)
    return connection.execute(statement).rowcount == 1


def file_of(url: str, data: Path) -> Path | None:
    """Return the file of an SQLite database; None of any other.

    Args:
        url: see ``open_engine``.
        data: see ``open_engine``.

    Raises:
        InputError: the URL is none.
    """
    address = _address(url, data)
    return Path(str(address.database)) if address.get_backend_name() == SQLITE else None


def _address(url: str, data: Path) -> URL:
    if not url:
        return URL.create(SQLITE, database=str(data / "server.db"))
    try:
        address = make_url(url)
        kind = address.get_backend_name()
    except ArgumentError as error:
        # The value is not shown, for it may hold a password.
        raise InputError(
            "database_url can't be read; write it as sqlite:////folder/file.db or "
            "postgresql://user:password@host/database."
        ) from error
    if kind in ("postgres", POSTGRESQL):
        return address.set(drivername="postgresql+psycopg")
    if kind != SQLITE or address.database in (None, "", ":memory:"):
        raise InputError(
            f"database_url is of the kind {kind!r}, or names no file; use "
            "sqlite:////folder/file.db or postgresql://user:password@host/database."
        )
    return address


def _sqlite(address: URL) -> Engine:
    Path(str(address.database)).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    engine = create_engine(
        address,
        connect_args={"timeout": BUSY_S},
        pool_size=CONNECTIONS,
        max_overflow=MORE_CONNECTIONS,
    )
    event.listen(engine, "connect", _prepare)
    event.listen(engine, "begin", _begin)
    return engine


def _prepare(raw: Any, _: object) -> None:
    raw.isolation_level = None  # else the driver begins transactions of its own, and late
    for name, value in SQLITE_PRAGMAS.items():
        raw.execute(f"PRAGMA {name}={value}").close()


def _begin(connection: Connection) -> None:
    read_only = connection.get_execution_options().get(READ_ONLY, False)
    connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")


def _make_tables(engine: Engine) -> None:
    with writing(engine) as connection:
        if engine.dialect.name == POSTGRESQL:
            connection.execute(select(func.pg_advisory_xact_lock(TABLES_LOCK)))
        if not inspect(connection).has_table(STATE.name):
            METADATA.create_all(connection)
            add_new(connection, STATE, {"version": SCHEMA})
        found = connection.execute(select(func.max(STATE.c.version))).scalar_one()
    if found != SCHEMA:
        raise InputError(
            f"The database has layout {found}; this version of backprop knows {SCHEMA}: upgrade it."
        )
