"""Prunes by itself, in a running server: the setting `retention_days`."""

import logging
import threading

from emulator.database import DATABASE_OUTAGES, Database
from emulator.upkeep.prune import prune

_TURN = "retention"
_EVERY_S = 3600.0
_DAY_US = 86_400_000_000

_log = logging.getLogger(__name__)


class Retention:
    """A thread that removes jobs and operations which finished more than `days` days ago. Outputs stay.

    It looks once an hour, and at the start. Of several servers on one database, one does it at a time.
    """

    def __init__(self, database: Database, days: int) -> None:
        self._database = database
        self._days = days
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="retention", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def close(self) -> None:
        """End the thread."""
        self._ending.set()
        if self._thread.is_alive():
            self._thread.join()

    def _serve(self) -> None:
        while not self._ending.is_set():
            try:
                self._look()
            except DATABASE_OUTAGES:
                pass  # logged already; the next hour is soon enough
            except Exception:
                _log.exception("What is older than %d days could not be removed.", self._days)
            self._ending.wait(_EVERY_S)

    def _look(self) -> None:
        # A little less than the pause, so that the next look of the same server counts.
        if not self._database.take_turn(_TURN, int((_EVERY_S - 60) * 1_000_000)):
            return
        pruned = prune(self._database, self._database.now() - self._days * _DAY_US)
        if pruned.jobs or pruned.operations:
            _log.info(
                "Retention: removed %d jobs and %d operations that finished more than %d days ago.",
                pruned.jobs,
                pruned.operations,
                self._days,
            )
