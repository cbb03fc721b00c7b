"""Opens the database, and gives the queries their two ways in: a read and a write transaction."""

import sqlite3
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, InterfaceError, NoSuchModuleError, OperationalError
from sqlalchemy.pool import StaticPool

from emulator.database import schema

_BUSY_TIMEOUT_MS = 10_000
#: Where a transaction keeps the ids of the jobs that it changes.
CHANGED = "changed jobs"


#: What queries raise when the database cannot answer now: locked by another program, full, gone for a moment.
DATABASE_OUTAGES = (OperationalError, InterfaceError, sqlite3.OperationalError)


class DatabaseUnusable(Exception):
    """The database cannot be opened; the message names it, the cause and the remedy."""


def now_us() -> int:
    """The time now, in microseconds since 1970."""
    return time.time_ns() // 1000


class Connected:
    """The open engine. The groups of queries inherit from it and share its transactions."""

    def __init__(self, url: str, clock: Callable[[], int] = now_us) -> None:
        self.clock = clock
        #: Called after each commit that adds steps of jobs, with the ids of these jobs, from any thread.
        self.listeners: list[Callable[[Collection[int]], None]] = []
        self._writer: Connection | None = None
        self._probe: Any = None
        self._writing = False
        #: Another number after each change of models that was made here.
        self._models_changed = 0
        self._url = _parse(url)
        self._sqlite = self._url.get_backend_name() == "sqlite"
        in_memory = self._sqlite and self._url.database in (None, "", ":memory:")
        # SQLite takes one writer at a time and makes the others sleep in growing steps; queueing here
        # keeps the wait as short as the write. In memory there is one connection for all threads.
        self._lock = threading.RLock()
        self._write_lock: AbstractContextManager[Any] = self._lock if self._sqlite else nullcontext()
        self._read_lock: AbstractContextManager[Any] = self._write_lock if in_memory else nullcontext()
        try:
            self._engine = create_engine(self._url, **self._engine_options(in_memory))
        except (ArgumentError, NoSuchModuleError, ImportError) as error:
            raise self._unusable(f"{error}; install the driver that the URL names, or correct it") from error
        if self._sqlite:
            event.listen(self._engine, "connect", _set_pragmas)
        self._prepare()

    @property
    def is_shared(self) -> bool:
        """Whether other servers are likely to work on the same rows."""
        return not self._sqlite

    @property
    def answers_at_once(self) -> bool:
        """Whether a row can be read or written without waiting for anybody, but for the disk."""
        return (
            self._sqlite
            and self._read_lock is not self._write_lock
            and not self._writing
            and self._no_program_writes()
        )

    def close(self) -> None:
        """Close every connection."""
        with self._write_lock:
            for connection in (self._writer, self._probe):
                if connection is not None:
                    connection.close()
            self._engine.dispose()

    def _no_program_writes(self) -> bool:
        """Whether no other process holds SQLite's lock: taking it for an instant takes microseconds."""
        if not self._lock.acquire(blocking=False):
            return False
        try:
            if self._probe is None:
                self._probe = self._engine.raw_connection()
                self._probe.driver_connection.execute("PRAGMA busy_timeout = 0")
            self._probe.driver_connection.execute("BEGIN IMMEDIATE")
            self._probe.driver_connection.execute("ROLLBACK")
        except sqlite3.OperationalError:
            return False
        finally:
            self._lock.release()
        return True

    @contextmanager
    def _read(self) -> Iterator[Connection]:
        with self._read_lock, self._engine.connect() as connection:
            yield connection

    @contextmanager
    def _read_one_moment(self) -> Iterator[Connection]:
        """As `_read`; all that is read is of the same moment, while others go on writing."""
        with self._read_lock, self._engine.connect() as connection:
            if not self._sqlite:
                connection.execution_options(isolation_level="REPEATABLE READ")
                yield connection
                return
            # The driver opens a transaction for what writes only.
            driver: Any = connection.connection.driver_connection
            driver.execute("BEGIN")
            try:
                yield connection
            finally:
                driver.execute("ROLLBACK")

    @contextmanager
    def _write(self) -> Iterator[Connection]:
        with self._write_lock, self._begin() as connection:
            changed: set[int] = set()
            connection.info[CHANGED] = changed
            yield connection
        if changed:
            for listener in list(self.listeners):
                listener(changed)

    @contextmanager
    def _begin(self) -> Iterator[Connection]:
        if not self._sqlite:
            with self._engine.begin() as connection:
                yield connection
            return
        # One connection for all that is written: its cache is never out of date.
        if self._writer is None:
            self._writer = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        driver: Any = self._writer.connection.driver_connection
        self._writing = True
        try:
            # Taken at once: a transaction that reads first and writes later could fail halfway.
            driver.execute("BEGIN IMMEDIATE")
            yield self._writer
            driver.execute("COMMIT")
        finally:
            if driver.in_transaction:
                driver.execute("ROLLBACK")
            self._writing = False

    @contextmanager
    def _write_models(self) -> Iterator[Connection]:
        """As `_write`, for what changes models: what is remembered of them does not count any more."""
        try:
            with self._write() as connection:
                yield connection
        finally:
            self._models_changed += 1

    def _engine_options(self, in_memory: bool) -> dict[str, Any]:
        if not self._sqlite:
            return {"pool_pre_ping": True, "pool_size": 10, "max_overflow": 20}
        options: dict[str, Any] = {"connect_args": {"check_same_thread": False}}
        if in_memory:
            options["poolclass"] = StaticPool
        else:
            # One connection per thread that is inside a query at the same moment, however many.
            # The last one used comes first: its cache is the one that knows the latest pages.
            options |= {"pool_size": 16, "max_overflow": -1, "pool_use_lifo": True}
        return options

    def _prepare(self) -> None:
        try:
            if self._sqlite and self._url.database and not self._url.database.startswith("file:"):
                Path(self._url.database).parent.mkdir(parents=True, exist_ok=True)
            with self._write() as connection:
                schema.prepare(connection)
        except schema.SchemaMismatch as error:
            self.close()
            raise self._unusable(f"{error}; {self._remedy()}") from error
        except (DBAPIError, sqlite3.Error, OSError) as error:
            self.close()
            cause = str(getattr(error, "orig", None) or error).strip()
            raise self._unusable(f"{cause}; {self._remedy(cause)}") from error

    def _unusable(self, reason: str) -> DatabaseUnusable:
        return DatabaseUnusable(f"The database {self._url.render_as_string()} cannot be used: {reason}.")

    def _remedy(self, cause: str = "") -> str:
        if not self._sqlite:
            return "see that the server runs, that the database exists and that the user may create tables"
        if "locked" in cause:
            return "another program holds the file; stop it, or name another database"
        if any(symptom in cause for symptom in ("readonly", "unable to open", "[Errno")):
            return "make the file and its folder writable, or name another database"
        return "move the file away to start with an empty database, or name another one"


def _parse(url: str) -> URL:
    try:
        return make_url(url)
    except ArgumentError:
        raise DatabaseUnusable(
            f"{url!r} is not a database URL; write one as in sqlite:////data/emulator.db or"
            " postgresql+psycopg://user@host/name."
        ) from None


def _set_pragmas(connection: Any, _record: object) -> None:
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_MS}")
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = NORMAL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()
