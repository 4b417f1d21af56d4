"""Rows that are kept in memory, and how a server hears that another process has changed them.

Both readers answer ``changed``: the rows if they may be others than the time before, else None.
Neither lets a request wait for a database that is busy or gone: then what is known stays.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from typing import Any, Protocol

from sqlalchemy import Engine, Row, Select, create_engine
from sqlalchemy.exc import OperationalError, SQLAlchemyError
from sqlalchemy.pool import StaticPool

from backprop.serve.store.database import reading

__all__ = ["FileReader", "Reader", "TimedReader", "reader_of"]

logger = logging.getLogger(__name__)

Rows = Sequence[Row[Any]]

EVERY_S = 1.0
PATIENCE_S = 0.25
"""What a request waits at most for a database over the network, before it goes on without."""


class Reader(Protocol):
    """Rows of one query, read when there is reason to."""

    def changed(self) -> Rows | None:
        """Return the rows if they may have changed since the call before, else None."""

    def close(self) -> None:
        """Let go of what was opened."""


def reader_of(engine: Engine, query: Select[Any]) -> Reader:
    """Return the reader that suits the database: a file is watched, others are asked in turns."""
    return FileReader(engine, query) if _is_file(engine) else TimedReader(engine, query)


class FileReader:
    """An SQLite file, whose counter of changes is compared at every call.

    It has a connection of its own: the counter tells of commits by any other connection, those of
    this process too. Asking takes some 10 microseconds.

    Args:
        engine: on the file; not used itself, since it may wait where this must not.
        query: what to read.
    """

    def __init__(self, engine: Engine, query: Select[Any]) -> None:
        self._query = query
        self._engine = create_engine(
            engine.url,
            poolclass=StaticPool,
            connect_args={"timeout": 0, "check_same_thread": False},
        )
        self._connection = self._engine.raw_connection()
        self._cursor = self._connection.cursor()
        self._seen: int | None = None
        self._is_well = True

    def changed(self) -> Rows | None:
        """Return the rows if the file has changed since the call before, else None."""
        try:
            self._cursor.execute("PRAGMA data_version")
            # All rows, though it is one: a statement that has not ended would keep the file locked.
            version = self._cursor.fetchall()[0][0]
            if version == self._seen:
                return None
            with self._engine.connect() as connection:
                rows = connection.execute(self._query).all()
        except (sqlite3.OperationalError, OperationalError) as error:
            # A file that is locked is being written to; the next request asks again.
            self._is_well = self._is_well and _is_lock(error)
            if not (_is_lock(error) or self._is_well):
                logger.warning("keys could not be read again: %s", type(error).__name__)
            return None
        # The counter was read before the rows: a change between the two is found the next time.
        self._seen, self._is_well = version, True
        return rows

    def close(self) -> None:
        """Close the connection."""
        self._cursor.close()
        self._connection.close()
        self._engine.dispose()


class TimedReader:
    """Any other database, read when the last time was a second ago, in a thread of its own.

    Args:
        engine: to read with.
        query: what to read.
        every_s: between two times.
        patience_s: that a call waits for the database at most.
        clock: seconds that only go up.
    """

    def __init__(
        self,
        engine: Engine,
        query: Select[Any],
        *,
        every_s: float = EVERY_S,
        patience_s: float = PATIENCE_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine, self._query = engine, query
        self._every_s, self._patience_s, self._clock = every_s, patience_s, clock
        self._due = clock()
        self._pending: Future[Rows] | None = None

    def changed(self) -> Rows | None:
        """Return the rows if they were read anew, else None."""
        rows = self._taken()
        if self._pending is None and self._clock() >= self._due:
            self._due = self._clock() + self._every_s
            self._pending = _in_thread(self._read)
            wait([self._pending], self._patience_s)
            newer = self._taken()
            rows = rows if newer is None else newer
        return rows

    def close(self) -> None:
        """Do nothing: the engine is its owner's."""

    def _taken(self) -> Rows | None:
        """Return what the thread has read, if it is done."""
        if self._pending is None or not self._pending.done():
            return None
        pending, self._pending = self._pending, None
        try:
            return pending.result()
        except SQLAlchemyError as error:
            logger.warning("keys could not be read again: %s", type(error).__name__)
            return None

    def _read(self) -> Rows:
        with reading(self._engine) as connection:
            return connection.execute(self._query).all()


def _is_file(engine: Engine) -> bool:
    """Return whether the database is an SQLite file, rather than in memory or on a server."""
    name = engine.url.database or ""
    in_memory = not name or ":memory:" in name or "mode=memory" in str(engine.url)
    return engine.dialect.name == "sqlite" and not in_memory


def _is_lock(error: Exception) -> bool:
    return "locked" in str(error)


def _in_thread(work: Callable[[], Rows]) -> Future[Rows]:
    """Return the future of ``work``, done by a thread that does not hold up the process's end."""
    future: Future[Rows] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, name="backprop-keys", daemon=True).start()
    return future
