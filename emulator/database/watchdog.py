"""Ends waits for a database server that has stopped answering; drivers would wait forever."""

import os
import socket
import threading
import time
from contextlib import suppress
from typing import Any


class Watchdog:
    """Shuts down the sockets of connections that have been in use for too long; their users get an error."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._in_use: dict[int, tuple[Any, float]] = {}
        self._closed = False
        self._thread = threading.Thread(target=self._watch, name="database-watchdog", daemon=True)
        self._thread.start()

    def limit(self, connection: Any, seconds: float) -> None:
        """Set the deadline of a driver's connection, in seconds from now."""
        with self._changed:
            self._in_use[id(connection)] = connection, time.monotonic() + seconds
            self._changed.notify()

    def leave(self, connection: Any) -> None:
        """Remove a connection's deadline; harmless if it has none."""
        with self._changed:
            self._in_use.pop(id(connection), None)

    def close(self) -> None:
        """Stop watching."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _watch(self) -> None:
        with self._changed:
            while not self._closed:
                now = time.monotonic()
                for key, (connection, end) in list(self._in_use.items()):
                    if end <= now:
                        del self._in_use[key]
                        _shut(connection)
                ends = [end for _, end in self._in_use.values()]
                self._changed.wait(max(0.0, min(ends) - time.monotonic()) if ends else None)


def _shut(connection: Any) -> None:
    # Another thread may just have closed the connection.
    with suppress(Exception), socket.socket(fileno=os.dup(connection.fileno())) as link:
        link.shutdown(socket.SHUT_RDWR)
