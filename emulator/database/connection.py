"""Opens the database and gives the queries a read and a write transaction."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, create_engine, event, select
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, InvalidatePoolError, NoSuchModuleError
from sqlalchemy.pool import StaticPool

from emulator.database import migrations
from emulator.database.outages import DATABASE_OUTAGES, WAIT_S, DatabaseUnavailable, Outages
from emulator.database.rows import JobRow
from emulator.database.schema import schema_versions
from emulator.database.watchdog import Watchdog

_BUSY_TIMEOUT_MS = int(WAIT_S * 1000)
# At startup another server may work on the tables for longer: the busy timeout is multiplied by this.
_PATIENCE = 5
# PostgreSQL: no statement of the emulator takes longer, except those that touch every row.
_STATEMENT_TIMEOUT_MS = 8000
# A database server that has not answered by then is considered gone.
_TRANSACTION_S = 9.0
# A stat of SQLite's file costs a tenth of a read, so reads rely on the last check for this long.
_READ_ON_S = 0.05
#: The key in `Connection.info` for the ids of the jobs that a transaction changes.
CHANGED = "changed jobs"


class DatabaseUnusable(Exception):
    """The database cannot be opened; the message names it, the cause and the remedy."""


def now_us() -> int:
    """The time now, in microseconds since 1970."""
    return time.time_ns() // 1000


class Connected:
    """The open engine. The query classes inherit from it and share its transactions."""

    def __init__(self, url: str, clock: Callable[[], int] = now_us, *, migrate: bool = True) -> None:
        self.clock = clock
        #: Called after each commit that adds steps of jobs, with the ids of these jobs, from any thread.
        self.listeners: list[Callable[[Collection[int]], None]] = []
        #: Called with each job that this process has ended, and the seconds of each shard it has recorded.
        self.end_listeners: list[Callable[[JobRow], None]] = []
        self.recorded: list[Callable[[float], None]] = []
        self._writer: Connection | None = None
        self._probe: Any = None
        self._writing = False
        # The transaction that a thread has opened with `all_or_nothing`.
        self._joint = threading.local()
        #: A counter that grows with each change of models made by this server.
        self._models_changed = 0
        self._url = parse_url(url)
        self._sqlite = self._url.get_backend_name() == "sqlite"
        in_memory = self._sqlite and self._url.database in (None, "", ":memory:")
        # SQLite takes one writer at a time and makes the others sleep in growing steps. A lock of our own
        # keeps the wait as short as the write. In memory, all threads share one connection.
        self._lock = threading.RLock()
        self._write_lock = self._lock if self._sqlite else None
        self._read_lock = self._lock if in_memory else None
        told: set[str] = set()
        self._reads, self._writes = Outages(told), Outages(told)
        self._file: tuple[int, int] | None = None
        self._look_again = 0.0
        try:
            self._engine = create_engine(self._url, **self._engine_options(in_memory))
        except (ArgumentError, NoSuchModuleError, ImportError) as error:
            raise self._unusable(f"{error}; install the driver that the URL names, or correct it") from error
        event.listen(self._engine, "connect", _set_pragmas if self._sqlite else _set_timeouts)
        self._closed = False
        event.listen(self._engine, "checkin", self._close_late)
        self._watchdog = None if self._sqlite else Watchdog()
        if self._watchdog is not None:
            event.listen(self._engine, "checkout", self._checked_out)
            event.listen(self._engine, "checkin", self._checked_in)
        self._prepare(migrations.prepare if migrate else migrations.require)
        if not self._sqlite:
            event.listen(self._engine, "connect", _mark)
        self._file = self._identity()

    @property
    def is_shared(self) -> bool:
        """Whether other servers are likely to work on the same rows."""
        return not self._sqlite

    @property
    def reads_at_once(self) -> bool:
        """Whether a row can be read without waiting for another call (only for the disk).

        In SQLite's WAL file a writer blocks no reader.
        """
        return self._sqlite and self._read_lock is not self._write_lock

    @property
    def answers_at_once(self) -> bool:
        """Whether a row can be read or written without waiting for another call (only for the disk)."""
        return self.reads_at_once and not self._writing and self._no_program_writes()

    def close(self) -> None:
        """Close every connection. A connection that another thread still uses closes when it is returned."""
        self._closed = True
        with self._lock:
            for connection in (self._writer, self._probe):
                if connection is not None:
                    connection.close()
            self._engine.dispose()
        if self._watchdog is not None:
            self._watchdog.close()

    def _close_late(self, connection: Any, _record: object) -> None:
        if self._closed and connection is not None:
            connection.close()

    def _checked_out(self, connection: Any, _record: object, _proxy: object) -> None:
        """Ping a connection to a database server within a time limit; invalidate the pool if that fails."""
        assert self._watchdog is not None
        self._watchdog.limit(connection, WAIT_S)
        dialect = self._engine.dialect
        try:
            dialect.do_ping(connection)
        except dialect.loaded_dbapi.Error as error:
            self._watchdog.leave(connection)
            raise InvalidatePoolError from error
        self._watchdog.limit(connection, _TRANSACTION_S)

    def _checked_in(self, connection: Any, _record: object) -> None:
        assert self._watchdog is not None
        self._watchdog.leave(connection)

    def _take_time(self, connection: Connection) -> None:
        """Lift the time limits of a transaction's statements."""
        if self._watchdog is not None:
            self._watchdog.leave(connection.connection.driver_connection)
            connection.exec_driver_sql("SET LOCAL statement_timeout = 0")

    def _no_program_writes(self) -> bool:
        """Whether no other process holds SQLite's write lock. Taking it for an instant takes microseconds."""
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

    @property
    def problem(self) -> str:
        """The reason why the database cannot be used now; empty if it can be used."""
        try:
            with self._read() as connection:
                connection.scalar(select(schema_versions.c.version))
            if self._writes.problem:
                with self._write():
                    pass
        except DATABASE_OUTAGES as error:
            return error.message
        return ""

    @contextmanager
    def _turn(self, outages: Outages, lock: threading.RLock | None) -> Iterator[None]:
        """Take the caller's turn to use the database.

        Raises:
            DatabaseUnavailable, DatabaseFull: the database cannot answer, now or inside the block.
        """
        outages.check()
        seen = outages.failures
        if lock is not None and not lock.acquire(timeout=WAIT_S):
            raise DatabaseUnavailable(f"Another call writes to the database for {WAIT_S:g} s now. Try again.")
        try:
            outages.check(seen)
            with outages.attempt():
                if lock is not None or time.monotonic() >= self._look_again:
                    self._check_file()
                yield
        finally:
            if lock is not None:
                lock.release()

    def _check_file(self) -> None:
        """Raise if SQLite's file was removed or replaced: anything written to it now is lost."""
        if self._file is not None and self._identity() != self._file:
            raise DatabaseUnavailable(
                f"The database file {self._url.database} was removed or replaced while the server runs."
                " Restart the server."
            )
        self._look_again = time.monotonic() + _READ_ON_S

    def _identity(self) -> tuple[int, int] | None:
        path = self._url.database or ""
        if not self._sqlite or path in ("", ":memory:") or path.startswith("file:"):
            return None
        try:
            status = os.stat(path)  # noqa: PTH116
        except OSError:
            return 0, 0
        return status.st_dev, status.st_ino

    @contextmanager
    def all_or_nothing(self) -> Iterator[None]:
        """Run everything this thread reads and writes inside in one transaction, without a time limit."""
        with self._write_all() as connection:
            self._joint.connection = connection
            try:
                yield
            finally:
                self._joint.connection = None

    @contextmanager
    def _read(self) -> Iterator[Connection]:
        if joint := self._joint_connection:
            yield joint
            return
        with self._turn(self._reads, self._read_lock), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def _read_one_moment(self) -> Iterator[Connection]:
        """Like `_read`, but all reads see one consistent snapshot while others go on writing."""
        with self._read() as connection:
            if not self._sqlite:
                connection.execution_options(isolation_level="REPEATABLE READ")
                self._take_time(connection)
                yield connection
                return
            # sqlite3 opens a transaction by itself only before a write.
            driver: Any = connection.connection.driver_connection
            driver.execute("BEGIN")
            try:
                yield connection
            finally:
                driver.execute("ROLLBACK")

    @property
    def _joint_connection(self) -> Connection | None:
        return getattr(self._joint, "connection", None)

    @contextmanager
    def _write(self) -> Iterator[Connection]:
        if joint := self._joint_connection:
            # A write inside may fail and the block go on.
            with _savepoint(joint):
                yield joint
            return
        with self._turn(self._writes, self._write_lock), self._begin() as connection:
            changed: set[int] = set()
            connection.info[CHANGED] = changed
            yield connection
        if changed:
            for listener in list(self.listeners):
                listener(changed)

    @contextmanager
    def _write_all(self) -> Iterator[Connection]:
        """Like `_write_models`, without a time limit: for changes that touch every row."""
        with self._write_models() as connection:
            self._take_time(connection)
            yield connection

    @contextmanager
    def _begin(self, patience: int = 1) -> Iterator[Connection]:
        if not self._sqlite:
            with self._engine.begin() as connection:
                yield connection
            return
        # One connection for all writes, so its page cache is never stale.
        if self._writer is None:
            self._writer = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        driver: Any = self._writer.connection.driver_connection
        self._writing = True
        try:
            # IMMEDIATE: a transaction that reads first and writes later could fail halfway.
            if patience > 1:
                driver.execute(f"PRAGMA busy_timeout = {patience * _BUSY_TIMEOUT_MS}")
            driver.execute("BEGIN IMMEDIATE")
            if patience > 1:
                driver.execute(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_MS}")
            yield self._writer
            driver.execute("COMMIT")
        finally:
            if driver.in_transaction:
                driver.execute("ROLLBACK")
            self._writing = False

    @contextmanager
    def _write_models(self) -> Iterator[Connection]:
        """Like `_write`, for changes of models: invalidates the cached models."""
        try:
            with self._write() as connection:
                yield connection
        finally:
            self._models_changed += 1

    def _engine_options(self, in_memory: bool) -> dict[str, Any]:
        if not self._sqlite:
            return {
                "pool_size": 10,
                "max_overflow": 20,
                "pool_timeout": WAIT_S,
                "connect_args": self._connect_arguments(),
            }
        options: dict[str, Any] = {"connect_args": {"check_same_thread": False}}
        if in_memory:
            options["poolclass"] = StaticPool
        else:
            # One connection per thread that is inside a query, however many. LIFO, because the connection
            # used last has the latest pages in its cache.
            options |= {"pool_size": 16, "max_overflow": -1, "pool_use_lifo": True}
        return options

    def _connect_arguments(self) -> dict[str, Any]:
        """Timeouts for a network that drops packets silently, unless the URL sets them."""
        if not self._url.drivername.startswith("postgresql+psycopg"):
            return {}
        limits = {"connect_timeout": int(WAIT_S), "tcp_user_timeout": _STATEMENT_TIMEOUT_MS}
        return {name: limit for name, limit in limits.items() if name not in self._url.query}

    def _prepare(self, prepare: Callable[[Connection], None]) -> None:
        try:
            if self._sqlite and self._url.database and not self._url.database.startswith("file:"):
                Path(self._url.database).parent.mkdir(parents=True, exist_ok=True)
            with self._begin(patience=_PATIENCE) as connection:
                self._take_time(connection)
                prepare(connection)
                if not self._sqlite:
                    connection.execute(migrations.MARK)
        except migrations.SchemaMismatch as error:
            self.close()
            raise self._unusable(f"{error}; {self._other()}") from error
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
        return self._other()

    def _other(self) -> str:
        if not self._sqlite:
            return "name another database"
        return "move the file away to start with an empty database, or name another one"


@contextmanager
def _savepoint(connection: Connection) -> Iterator[None]:
    connection.exec_driver_sql("SAVEPOINT inside")
    try:
        yield
    except BaseException:
        connection.exec_driver_sql("ROLLBACK TO SAVEPOINT inside")
        raise
    finally:
        connection.exec_driver_sql("RELEASE SAVEPOINT inside")


def parse_url(url: str) -> URL:
    """Read a database URL. Raises DatabaseUnusable."""
    try:
        return make_url(url)
    except ArgumentError:
        raise DatabaseUnusable(
            f"{url!r} is not a database URL; write one as in sqlite:////data/emulator.db or"
            " postgresql+psycopg://user@host/name."
        ) from None


def _set_timeouts(connection: Any, _record: object) -> None:
    cursor = connection.cursor()
    cursor.execute(f"SET lock_timeout = {_BUSY_TIMEOUT_MS}")
    cursor.execute(f"SET statement_timeout = {_STATEMENT_TIMEOUT_MS}")
    cursor.close()
    connection.commit()


def _mark(connection: Any, _record: object) -> None:
    """Show other servers that this version uses the tables, as long as the connection lasts.

    Raises:
        DatabaseUnavailable: a newer version has changed the tables while no connection was open.
    """
    cursor = connection.cursor()
    cursor.execute(str(migrations.MARK))
    cursor.execute(f"SELECT version FROM {schema_versions.name}")
    (found,) = cursor.fetchone()
    cursor.close()
    connection.commit()
    if found != migrations.SCHEMA_VERSION:
        raise DatabaseUnavailable(
            f"A newer version of the emulator has brought the database to schema version {found}; this one"
            f" knows {migrations.SCHEMA_VERSION}. Install the newer version here too, and start it."
        )


def _set_pragmas(connection: Any, _record: object) -> None:
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_MS}")
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = NORMAL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()
