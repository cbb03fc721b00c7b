"""A database that cannot answer: errors with words, and no queue of callers that wait in vain."""

import logging
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import exc

from emulator.vertex.errors import ApiError, ResourceExhausted, Unavailable

#: How long a transaction waits for its turn, for a connection, and for locks of other programs, each.
WAIT_S = 4.0
# How often one caller finds out whether the database answers again; the others are refused meanwhile.
_RETRY_S = 1.0
# Deadlock and serialization failure: one transaction has lost against another, and nothing is out of order.
_LOST = ("40001", "40P01")
_LOCKED, _DISK_FULL = "55P03", "53100"
# A failure that came sooner keeps no queue waiting.
_SLOW_S = 0.5

_log = logging.getLogger(__name__)


class DatabaseUnavailable(Unavailable):
    """The database is locked by another program, unreachable, or gone; the message says which."""


class DatabaseFull(ResourceExhausted):
    """The database's disk is full."""


#: What queries raise when the database cannot answer now.
DATABASE_OUTAGES = (DatabaseUnavailable, DatabaseFull)


class Outages:
    """Whether a kind of transaction works. After one that has waited in vain, one caller a second tries; the
    others get the same error at once, so that no queue of them waits longer than one of them would."""

    def __init__(self, told: set[str]) -> None:
        """Prepare; `told` holds the outages that the log has, and is shared with other kinds."""
        self._told = told
        self._lock = threading.Lock()
        self._error: ApiError | None = None
        self._refusing = False
        self._retry_at = 0.0
        #: How many attempts have waited in vain so far.
        self.failures = 0

    @property
    def problem(self) -> str:
        """Why the last attempt failed; empty when it worked."""
        error = self._error
        return "" if error is None else error.message

    def check(self, seen: int | None = None) -> None:
        """Raise the last outage, unless it is time to try again; with `seen`, if more attempts failed."""
        if not self._refusing:
            return
        with self._lock:
            now = time.monotonic()
            failed = now < self._retry_at if seen is None else self.failures != seen
            if self._error is not None and failed:
                raise _copy(self._error)
            if seen is None:
                # The others are refused until this caller has found out, which takes it no longer.
                self._retry_at = now + 2 * WAIT_S

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """Try a transaction. What it raises because the database cannot answer becomes a DATABASE_OUTAGE."""
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
        """Remember an outage, and log it once."""
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
    """An error of its own for each caller: a traceback grows with every raise."""
    return type(error)(error.message)


def _outage(error: Exception) -> ApiError | None:
    """The outage that an error of a driver means; None for an error of the statement."""
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
    """The SQLSTATE of an error; empty where the driver tells none."""
    cause: Any = getattr(error, "orig", None)
    return str(getattr(cause, "sqlstate", None) or "")
