"""Outages of the database: clear errors, and no queue of callers that wait for a database that is down."""

import logging
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import exc

from emulator.vertex.errors import ApiError, ResourceExhausted, Unavailable

#: Timeout of a transaction for its turn, for a connection, and for locks of other programs, each.
WAIT_S = 4.0
# Interval at which one caller tries whether the database answers again; the others are refused meanwhile.
_RETRY_S = 1.0
# Deadlock and serialization failure: the transaction lost against another one. This is no outage.
_LOST = ("40001", "40P01")
_LOCKED, _DISK_FULL = "55P03", "53100"
# A failure that takes less time than this does not make callers queue.
_SLOW_S = 0.5

_log = logging.getLogger(__name__)


class DatabaseUnavailable(Unavailable):
    """The database is locked by another program, unreachable, or gone; the message says which."""


class DatabaseFull(ResourceExhausted):
    """The disk of the database is full."""


#: The errors of queries if the database cannot answer now.
DATABASE_OUTAGES = (DatabaseUnavailable, DatabaseFull)


class Outages:
    """Whether one kind of transaction (reads or writes) works.

    After a transaction has failed by waiting, one caller per second tries again and the others get the same
    error at once. So no caller waits longer than one of them would.
    """

    def __init__(self, told: set[str]) -> None:
        """Start without an outage. All kinds of transaction share `told`, the outages already logged."""
        self._told = told
        self._lock = threading.Lock()
        self._error: ApiError | None = None
        self._refusing = False
        self._retry_at = 0.0
        #: How many attempts have failed by waiting so far.
        self.failures = 0

    @property
    def problem(self) -> str:
        """The reason of the last failure; empty if the last attempt worked."""
        error = self._error
        return "" if error is None else error.message

    def check(self, seen: int | None = None) -> None:
        """Raise the last outage unless it is time to retry; with `seen`, if more attempts have failed."""
        if not self._refusing:
            return
        with self._lock:
            now = time.monotonic()
            failed = now < self._retry_at if seen is None else self.failures != seen
            if self._error is not None and failed:
                raise _copy(self._error)
            if seen is None:
                # Refuse the others until this caller knows the result, which takes at most this long.
                self._retry_at = now + 2 * WAIT_S

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """Run a transaction; errors that mean an outage become one of `DATABASE_OUTAGES`."""
        began = time.monotonic()
        try:
            yield
        except (exc.DBAPIError, exc.TimeoutError, sqlite3.Error) as error:
            outage = _outage(error)
            if outage is None:
                self._works()
                raise
            if _state(error) not in _LOST:
                waited = _is_locked(error) or time.monotonic() - began > _SLOW_S
                self._fails(outage, refusing=waited)
            raise _copy(outage) from error
        except DATABASE_OUTAGES as outage:
            self._fails(outage, refusing=False)
            raise
        except BaseException:
            self._works()
            raise
        self._works()

    def _fails(self, outage: ApiError, *, refusing: bool) -> None:
        """Remember an outage; log it once."""
        with self._lock:
            if outage.message not in self._told:
                self._told.add(outage.message)
                _log.error("%s", outage.message)
            self._error, self._refusing = outage, refusing
            self._retry_at = time.monotonic() + _RETRY_S
            self.failures += refusing

    def _works(self) -> None:
        if self._error is None:
            return
        with self._lock:
            if self._error is not None:
                self._told.clear()
                _log.info("The database answers again.")
            self._error, self._refusing = None, False


def _copy(error: ApiError) -> ApiError:
    """A new error for each caller: a traceback grows with every raise."""
    return type(error)(error.message)


def _outage(error: Exception) -> ApiError | None:
    """The outage that a driver's error means; None if the statement itself is wrong."""
    cause = getattr(error, "orig", None) or error
    text = " ".join(str(cause).split()) or type(cause).__name__
    if isinstance(error, exc.TimeoutError):
        return DatabaseUnavailable("All connections to the database are in use. Try again.")
    if "disk is full" in text or "No space left" in text or _state(error) == _DISK_FULL:
        return DatabaseFull(f"The database's disk is full ({text}). Make room on it, then try again.")
    damaged = type(error) in (sqlite3.DatabaseError, exc.DatabaseError)
    if not damaged and not isinstance(
        error, (exc.OperationalError, exc.InterfaceError, exc.InternalError, sqlite3.OperationalError)
    ):
        return None
    if _is_locked(error):
        return DatabaseUnavailable(
            f"The database is locked by another program or server ({text}). Let it finish, then try again."
        )
    return DatabaseUnavailable(f"The database cannot be used now ({text}). Try again when that is mended.")


def _is_locked(error: Exception) -> bool:
    return "locked" in str(getattr(error, "orig", None) or error) or _state(error) == _LOCKED


def _state(error: Exception) -> str:
    """The SQLSTATE of an error; empty if the driver gives none."""
    cause: Any = getattr(error, "orig", None)
    return str(getattr(cause, "sqlstate", None) or "")
