"""A database server that stops answering, refuses, and comes back."""

import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
from sqlalchemy.engine import make_url

from emulator.database import DATABASE_OUTAGES, Database
from tests.postgresql import postgresql_schema

BOUND_S = 10.0


class Relay:
    """Carries connections to a server; while it is stalled, it takes everything and passes on nothing."""

    def __init__(self, host: str, port: int) -> None:
        self._server = host, port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sockets = [self._listener]
        self.flows = threading.Event()
        self.flows.set()
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self.flows.set()
        for one in self._sockets:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._server)
                self._sockets += [client, server]
                for ends in ((client, server), (server, client)):
                    threading.Thread(target=self._pump, args=ends, daemon=True).start()

    def _pump(self, origin: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := origin.recv(65536):
                self.flows.wait()
                target.sendall(data)
            target.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def relayed(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Database, Relay]]:
    """A database behind a relay, with shorter limits than usual."""
    monkeypatch.setattr("emulator.database.connection.WAIT_S", 1.0)
    monkeypatch.setattr("emulator.database.connection._TRANSACTION_S", 2.0)
    with postgresql_schema() as url:
        parsed = make_url(url)
        relay = Relay(parsed.host or "127.0.0.1", parsed.port or 5432)
        database = Database(parsed.set(port=relay.port).render_as_string(hide_password=False))
        yield database, relay
        database.close()
        relay.close()


def outage(database: Database) -> str:
    with pytest.raises(DATABASE_OUTAGES) as caught:
        database.get_job(1)
    return str(caught.value)


def test_a_server_that_stops_answering_keeps_no_queue_waiting(relayed: tuple[Database, Relay]) -> None:
    database, relay = relayed
    assert database.get_job(1) is None
    relay.flows.clear()
    with ThreadPoolExecutor(4) as threads:
        waiting = [threads.submit(outage, database) for _ in range(40)]
        assert all("cannot be used now" in one.result(BOUND_S) for one in waiting)
    assert "cannot be used now" in database.problem
    relay.flows.set()
    while database.problem:
        pass
    assert database.get_job(1) is None


def test_a_server_that_stops_answering_in_a_transaction_ends_it(relayed: tuple[Database, Relay]) -> None:
    database, relay = relayed

    def read() -> None:
        with database._read() as connection:
            relay.flows.clear()
            connection.exec_driver_sql("SELECT 1")

    with ThreadPoolExecutor(1) as threads, pytest.raises(DATABASE_OUTAGES, match="cannot be used now"):
        threads.submit(read).result(BOUND_S)


def test_a_server_that_is_gone_is_unavailable_at_once(relayed: tuple[Database, Relay]) -> None:
    database, relay = relayed
    assert database.get_job(1) is None
    relay.close()
    assert "cannot be used now" in outage(database)
