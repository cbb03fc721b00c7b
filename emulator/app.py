"""Builds every part of the emulator from its settings, starts and stops them. The only wiring."""

from __future__ import annotations

import logging
import signal
import socket
import threading
from collections.abc import Callable
from contextlib import ExitStack
from types import TracebackType
from typing import Self

import uvicorn

from emulator import __version__
from emulator.api import gcs
from emulator.api.rest import create_app
from emulator.config import Settings
from emulator.database import Database, DatabaseUnusable
from emulator.execution.dispatcher import Dispatcher
from emulator.execution.runner import RunnerSettings
from emulator.execution.shards import ModelUse
from emulator.execution.workers import WorkerPool
from emulator.registry import open_registry
from emulator.service import Context, Service
from emulator.storage import LocalStore

log = logging.getLogger(__name__)

# Clients reuse idle connections; Node's reports ECONNRESET when the server closes one after 5 s.
_KEEP_ALIVE_S = 75
_OPEN_REQUESTS_GRACE_S = 3
_RUNNING_JOBS_GRACE_S = 1.0
_START_TIMEOUT_S = 30
_BACKLOG = 2048


class CannotStart(Exception):
    """The emulator cannot start; the message names the cause and the remedy."""


class Emulator:
    """One emulator: rows, bytes, models, workers and the REST surface over them.

    `with Emulator(settings) as emulator:` serves at `emulator.url` from a thread of this process; the models
    run in worker processes. Nothing is taken or started before `start`.
    """

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or Settings()
        self._stopped = threading.Event()
        self._running: _Running | None = None

    @property
    def url(self) -> str:
        """Where the REST surface answers, once started: `http://127.0.0.1:8080`."""
        return self._started.url

    @property
    def grpc_address(self) -> str | None:
        """Where gRPC answers in plain text, once started: `127.0.0.1:8081`; None when it is off."""
        return self._started.grpc_address

    @property
    def _started(self) -> _Running:
        if self._running is None:
            raise RuntimeError("The emulator has no address before it is started.")
        return self._running

    def start(self) -> None:
        """Take the port, serve, and warm up the workers in the background.

        Raises:
            CannotStart: the port is taken, the data folder or the database cannot be used.
        """
        if self._running is not None:
            raise RuntimeError("The emulator has been started already.")
        self._running = _Running(self.settings)
        log.info("Emulator %s at %s, data in %s", __version__, self.url, self.settings.data_dir.absolute())

    def stop(self) -> None:
        """Finish the requests under way, hand back unfinished jobs, end the workers."""
        running, self._running = self._running, None
        if running is not None:
            running.stop()
        self._stopped.set()

    def run(self, on_ready: Callable[[], None] = lambda: None) -> None:
        """Serve until SIGINT or SIGTERM; main thread only."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: self._stopped.set())
        self.start()
        try:
            on_ready()
            self._stopped.wait()
            log.info("Stopping.")
        finally:
            self.stop()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class _Running:
    """Everything that lives between start and stop."""

    def __init__(self, settings: Settings) -> None:
        self.url = ""
        self.grpc_address: str | None = None
        with ExitStack() as parts:
            listener = _listen(settings.host, settings.port)
            parts.callback(listener.close)
            try:
                self._build(settings, parts)
            except (OSError, DatabaseUnusable) as error:
                raise CannotStart(_sentence(error, settings)) from error
            self._start_http(settings, listener, parts)
            # The rest starts once the socket is open, so that nothing delays the first answer.
            if settings.grpc:
                self._start_grpc(settings, listener.getsockname()[1], parts)
            self._pool.start()
            self._dispatcher.start()
            # Everything is there; from now on `stop` ends the parts, the last one first.
            self._parts = parts.pop_all()

    def stop(self) -> None:
        self._parts.close()

    def _build(self, settings: Settings, parts: ExitStack) -> None:
        settings.buckets.mkdir(parents=True, exist_ok=True)
        registry = open_registry(settings)
        self._store = store = LocalStore(settings.buckets)
        store.remove_leftovers()
        self._database = Database(settings.database)
        parts.callback(self._database.close)
        self._pool = WorkerPool(
            settings.workers,
            timeout_s=settings.worker_timeout,
            warm=[
                ModelUse(source.folder, settings.provider, settings.worker_threads)
                for source in registry.catalogue().sources
            ],
            log_level=settings.log_level,
        )
        parts.callback(self._pool.stop)
        self._dispatcher = Dispatcher(
            self._database,
            store,
            self._pool,
            owners=settings.data_dir / "owners",
            max_running_jobs=settings.max_running_jobs,
            settings=RunnerSettings(settings.provider, settings.worker_threads, settings.strict),
        )
        parts.callback(self._dispatcher.stop, _RUNNING_JOBS_GRACE_S)
        self._service = Service(
            Context(
                self._database,
                registry,
                store,
                project_numbers=settings.project_numbers,
                strict=settings.strict,
                on_work=self._dispatcher.wake,
            )
        )
        parts.callback(self._service.close)
        self._service.recover()

    def _start_http(self, settings: Settings, listener: socket.socket, parts: ExitStack) -> None:
        app = create_app(self._service, settings)
        parts.callback(gcs.mount(app, self._store).close)
        server = _Server(app)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="http", daemon=True)
        thread.start()
        parts.callback(server.end, thread)
        if not server.is_up.wait(_START_TIMEOUT_S) or not thread.is_alive():
            raise CannotStart("The HTTP server did not come up; the log says why.")
        host, port = listener.getsockname()[:2]
        self.url = f"http://{_reachable(host)}:{port}"

    def _start_grpc(self, settings: Settings, http_port: int, parts: ExitStack) -> None:
        from emulator.api.grpc_server import GrpcServer

        server = GrpcServer(self._service)
        parts.callback(server.stop, _OPEN_REQUESTS_GRACE_S)
        port = settings.grpc_port
        if port is None:
            port = http_port + 1 if settings.port else 0
        try:
            port = server.listen(settings.host, port)
        except OSError as error:
            raise CannotStart(_port_taken("gRPC port", port, settings.host, error, "--grpc-port")) from error
        server.start()
        self.grpc_address = f"{_reachable(settings.host)}:{port}"


class _Server(uvicorn.Server):
    """uvicorn, telling when its socket is open."""

    def __init__(self, app: object) -> None:
        super().__init__(
            uvicorn.Config(
                app,  # type: ignore[arg-type]
                log_config=None,
                access_log=False,
                timeout_keep_alive=_KEEP_ALIVE_S,
                timeout_graceful_shutdown=_OPEN_REQUESTS_GRACE_S,
                server_header=False,
            )
        )
        self.is_up = threading.Event()

    def end(self, thread: threading.Thread) -> None:
        """Finish the requests under way and wait for the thread that runs the server."""
        self.should_exit = True
        thread.join()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self.is_up.set()


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise CannotStart(_port_taken("Port", port, host, error, "--port")) from error
    return listener


def _port_taken(what: str, port: int, host: str, error: OSError, flag: str) -> str:
    return (
        f"{what} {port} of {host} cannot be had ({error.strerror or error}). Stop what uses it, or choose"
        f" another with {flag} (0 takes a free one) or --host."
    )


def _reachable(host: str) -> str:
    """An address under which a client on this machine finds the server."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"[{host}]" if ":" in host else host


def _sentence(error: Exception, settings: Settings) -> str:
    if isinstance(error, DatabaseUnusable):
        return str(error)
    return f"The data folder {settings.data_dir} cannot be used: {error}. Name another with --data-dir."
