"""Builds, starts and stops every part of the emulator. No other module wires parts together."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import os
import platform
import shutil
import signal
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import uvicorn

from emulator import __version__, gcs
from emulator.api import admin, console, token
from emulator.api.access import AccessLog
from emulator.api.auth import Auth
from emulator.api.front import MAX_HEAD, Addresses, Front, GrpcFront, LazyGrpc, TlsFront, http_protocol_of
from emulator.api.guard import Guard
from emulator.api.origin import OriginGuard
from emulator.api.rest import create_app
from emulator.api.results import Reading
from emulator.config import LOCAL, SettingError, Settings, shown_settings
from emulator.database import Database, DatabaseUnusable
from emulator.execution.comparing import Comparing
from emulator.execution.dispatcher import Dispatcher
from emulator.execution.executor import Executor
from emulator.execution.inline import InlineExecutor
from emulator.execution.input_check import check_input
from emulator.execution.looker import Looker
from emulator.execution.owner import living_servers
from emulator.execution.processes import ProcessExecutor
from emulator.execution.results import Results
from emulator.execution.runner import RunnerSettings
from emulator.execution.shards import ModelUse
from emulator.inference.decoding import VideoOptions
from emulator.inference.prediction_cache import CachePlace
from emulator.registry import ModelSource, open_registry
from emulator.service import Context, Service
from emulator.service.control.paces import check_pace
from emulator.service.control.seed import SeedError
from emulator.service.control.state import Folders
from emulator.service.identities import SeededIds, random_id, seed_database
from emulator.storage import LocalStore, open_store
from emulator.trust import CertificateError, ClientFiles, prepare, server_context
from emulator.upkeep.retention import Retention
from emulator.vertex.errors import ApiError
from emulator.vertex.names import console_path

log = logging.getLogger(__name__)

# Clients reuse idle connections: Node's client reports ECONNRESET if the server closes one after 5 s.
_KEEP_ALIVE_S = 75
_OPEN_REQUESTS_GRACE_S = 3
_TLS_GOODBYE_S = 0.3
_RUNNING_JOBS_GRACE_S = 1.0
_START_TIMEOUT_S = 30
_BACKLOG = 2048
_TLS_PORT = 8443


class CannotStart(Exception):
    """The emulator cannot start; the message names the cause and the remedy."""


class Emulator:
    """One emulator: database, storage, models, workers and the surfaces over them.

    `with Emulator(settings) as emulator:` serves at `emulator.url` from a thread of this process. The models
    run in worker processes. Before `start`, no port is open and nothing runs.
    """

    def __init__(self, settings: Settings | None = None, sources: Mapping[str, str] | None = None) -> None:
        """Keep the settings. `sources`: where each one came from, by name, shown by `GET /_emulator/info`."""
        self.settings = settings or Settings()
        self._sources = sources or {}
        self._running: _Running | None = None

    @property
    def url(self) -> str:
        """The URL of the REST surface, as in `http://127.0.0.1:8080`. RuntimeError before `start`."""
        return f"http://{self._started.addresses.http}"

    @property
    def grpc_address(self) -> str | None:
        """The address of plain-text gRPC, as in `127.0.0.1:8081`; None if off. RuntimeError before
        `start`."""
        return self._started.addresses.grpc

    @property
    def tls_address(self) -> str | None:
        """The address of REST and gRPC over TLS, as in `127.0.0.1:8443`; None if off."""
        return self._started.addresses.tls

    @property
    def _started(self) -> _Running:
        if self._running is None:
            raise RuntimeError("The emulator has no address before it is started.")
        return self._running

    def start(self) -> None:
        """Open the ports, serve, and load the models into the workers in the background.

        Raises:
            CannotStart: a port is in use, or the data folder, the database or a certificate cannot be used.
            RuntimeError: the emulator runs already.
        """
        if self._running is not None:
            raise RuntimeError("The emulator has been started already.")
        self._running = _Running(self.settings, self._sources)
        if self.settings.auth_token is None and not _is_loopback(self.settings.host):
            log.warning(
                "Anybody who reaches %s may use this emulator, and read and write its buckets. Give it a"
                " token with --auth-token, or listen on loopback with --host 127.0.0.1.",
                self.settings.host,
            )
        log.info("Emulator %s at %s, data in %s", __version__, self.url, self.settings.data_dir.absolute())

    def stop(self) -> None:
        """Finish open requests, release unfinished jobs for the next start, end the workers."""
        running, self._running = self._running, None
        if running is not None:
            running.stop()

    def wait_until_ready(self) -> str | None:
        """Wait until a worker can take a job or no model can run. There is no timeout.

        Returns:
            "" if a worker can take a job, else the reason why none can; None if the emulator stops first.
        """
        return self._started.wait_until_ready()

    def run(self, on_ready: Callable[[], None] = lambda: None) -> None:
        """Serve until SIGINT or SIGTERM; main thread only. Calls `on_ready` once the ports are open."""
        with _EndSignals() as signals:
            self.start()
            try:
                on_ready()
                signals.wait()
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


class _EndSignals:
    """Catches SIGINT and SIGTERM from entry until the process ends."""

    def __enter__(self) -> Self:
        # The operating system may deliver a signal to any thread, and a main thread that waits for a lock
        # would not wake. Python writes the signal's number to this socket, in whichever thread.
        self._told, tell = socket.socketpair()
        tell.setblocking(False)
        self._tell = tell
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: None)
        signal.set_wakeup_fd(tell.fileno(), warn_on_full_buffer=False)
        return self

    def wait(self) -> None:
        """Return once a signal has arrived; one that arrived before this call counts."""
        ends = {signal.SIGINT, signal.SIGTERM}
        while not ends.intersection(self._told.recv(64)):
            pass

    def __exit__(self, *_: object) -> None:
        # The handlers without effect stay installed: the process is ending already.
        signal.set_wakeup_fd(-1)
        self._told.close()
        self._tell.close()


class _Running:
    """Everything that lives between start and stop."""

    def __init__(self, settings: Settings, sources: Mapping[str, str]) -> None:
        self._settings = settings
        self._sources = sources
        self._started_at = time.monotonic()
        with ExitStack() as parts:
            ports = _Ports(settings, parts)
            self.addresses = ports.addresses
            try:
                self._build(settings, parts)
                context = _tls_context(settings) if ports.tls else None
            except (CertificateError, SettingError) as error:
                raise CannotStart(str(error)) from error
            except ApiError as error:
                raise CannotStart(error.message) from error
            except SeedError as error:
                raise CannotStart(str(error)) from error
            except (OSError, DatabaseUnusable) as error:
                raise CannotStart(_sentence(error, settings)) from error
            self._start_surfaces(settings, ports, context, parts)
            # Workers and dispatcher start once the sockets are open, so they do not delay the first answer.
            self._executor.start()
            self._dispatcher.start()
            if self._retention is not None:
                self._retention.start()
            # Every part has started. From now on `stop` ends them, in reverse order.
            self._parts = parts.pop_all()

    def stop(self) -> None:
        self._parts.close()

    def _build(self, settings: Settings, parts: ExitStack) -> None:
        _make_buckets(settings)
        self._registry = registry = open_registry(settings)
        self._store = store = open_store(settings)
        # The Cloud Storage surface always serves the local folder, even if jobs use buckets at an endpoint.
        self._buckets = LocalStore(settings.buckets)
        self._buckets.remove_leftovers()
        self._database = Database(settings.database)
        parts.callback(self._database.close)
        first = registry.catalogue().sources
        #: The digest of each model's folder when a worker was last told to load it.
        self._loaded = {source.folder: source.digest for source in first}
        self._executor = _executor_of(settings, [self._use_of(source) for source in first])
        parts.callback(self._executor.stop)
        owners = settings.data_dir / "owners"
        if not self._database.is_shared:
            _warn_of_others(living_servers(owners), settings)
        self._dispatcher = Dispatcher(
            self._database,
            store,
            self._executor,
            owners=owners,
            max_running_jobs=settings.max_running_jobs,
            settings=RunnerSettings(
                settings.provider,
                settings.worker_threads,
                settings.strict,
                settings.decoder,
                CachePlace.below(settings.data_dir, settings.prediction_cache_mb),
            ),
        )
        parts.callback(self._dispatcher.stop, _RUNNING_JOBS_GRACE_S)
        ids: Callable[[str], int] = random_id
        if settings.seed is not None:
            seed_database(self._database)
            ids = SeededIds(settings.seed, self._database.has_id)
        self._service = Service(
            Context(
                self._database,
                registry,
                store,
                project_numbers=settings.project_numbers,
                strict=settings.strict,
                on_work=self._dispatcher.wake,
                on_change=self._dispatcher.look_after_all,
                on_created=self._tell_console if settings.console else None,
                pace=check_pace(settings.pace),
                hold_timeout_s=settings.hold_timeout,
                new_id=ids,
            ),
            _folders(settings),
        )
        parts.callback(self._service.close)
        self._service.recover()
        self._service.state.seed_if_new()
        self._retention = _retention(settings, self._database)
        if self._retention is not None:
            parts.callback(self._retention.close)

    def _start_surfaces(
        self, settings: Settings, ports: _Ports, context: ssl.SSLContext | None, parts: ExitStack
    ) -> None:
        app = create_app(self._service, settings)
        probe = admin.Probe(
            self._ready,
            lambda: self._info(settings),
            self._gauges,
            partial(check_input, self._store, strict=settings.strict),
        )
        looker = Looker(self._store, decoder=settings.decoder, log_level=settings.log_level)
        parts.callback(looker.close)
        results = Results(self._store, settings.data_dir / "results", strict=settings.strict)
        reading = Reading(results, Comparing(results, self._store), looker, self._store)
        parts.callback(admin.mount(app, self._service, probe, reading).close)
        auth = Auth(settings.auth_token, ClientFiles(settings.tls_folder).account)
        token.mount(app, auth.exchange)
        if settings.console:
            console.mount(app)
        # Mounted last, because it puts its route for bucket host names in front of all other routes.
        storage = gcs.mount(app, self._buckets, self._service.storage_gate)
        parts.callback(storage.close)
        signatures = gcs.Signatures(auth.verifies)
        guard = Guard(
            app,
            _origins(settings),
            auth,
            grants=storage.cors.grants,
            is_open_to=lambda scope: storage.continues_upload(scope) or signatures.is_signed(scope),
        )
        server = _Server(AccessLog(guard), ports.addresses)
        grpc = LazyGrpc(self._service, auth)
        if ports.grpc:
            server.fronts.append(GrpcFront(ports.grpc, grpc.path, ports.addresses))
        if ports.tls and context:
            server.fronts.append(TlsFront(ports.tls, grpc.path, ports.addresses, context, server.protocol))
        thread = threading.Thread(
            target=server.run, kwargs={"sockets": [ports.http]}, name="http", daemon=True
        )
        thread.start()
        parts.callback(server.end, thread)
        # gRPC stops before the HTTP server: its connections run in that server's loop.
        parts.callback(grpc.stop, _OPEN_REQUESTS_GRACE_S)
        # Held calls and event streams end first: they would keep the servers from ending.
        parts.callback(self._service.watch.close)
        if not server.is_up.wait(_START_TIMEOUT_S) or not thread.is_alive():
            raise CannotStart("The HTTP server did not come up; the log says why.")

    def _tell_console(self, job: str) -> None:
        # The SDK prints a link to the real console, which does not know the job.
        log.info("Console: http://%s%s", self.addresses.http, console_path(job))

    def _ready(self) -> tuple[bool, dict[str, Any]]:
        """Return whether a worker can take a job now, and the state of workers, models and database."""
        sources = self._registry.catalogue(max_age_s=1.0).sources
        self._reload(sources)
        status = self._executor.status()
        models = [
            {
                "id": source.id,
                "canned": source.manifest.is_canned,
                "problem": status.problems.get(source.folder, ""),
            }
            for source in sources
        ]
        problem = self._database.problem or self._missing_folder() or _no_model(models)
        details: dict[str, Any] = {
            "workers": status.ready,
            "modelsLoaded": status.is_warm,
            "models": models,
        }
        if problem:
            details["problem"] = problem
        return status.is_warm and not problem, details

    def wait_until_ready(self) -> str | None:
        """Implement `Emulator.wait_until_ready`."""
        if not self._executor.wait_until_warm():
            return None
        ready, details = self._ready()
        return "" if ready else str(details.get("problem", ""))

    def _reload(self, sources: Sequence[ModelSource]) -> None:
        """Load each model whose folder has changed since its last load: someone may have repaired it."""
        for source in sources:
            changed = self._loaded.get(source.folder) != source.digest
            if changed and self._executor.status().is_warm and self._executor.reload(self._use_of(source)):
                self._loaded[source.folder] = source.digest

    def _missing_folder(self) -> str:
        for folder in (self._settings.data_dir, self._settings.buckets):
            if not folder.is_dir():
                return f"The folder {folder.absolute()} is gone. Restart the server."
        return ""

    def _use_of(self, source: ModelSource) -> ModelUse:
        settings = self._settings
        video = VideoOptions(settings.decoder, settings.strict)
        place = CachePlace.below(settings.data_dir, settings.prediction_cache_mb)
        return ModelUse(source.folder, settings.provider, settings.worker_threads, video, place)

    def _gauges(self) -> dict[str, float]:
        status = self._executor.status()
        return {
            "running_jobs": self._dispatcher.running_jobs,
            "calls_held": self._service.paces.calls_held,
            "workers_ready": status.ready,
            "prediction_cache_hits_total": status.points_recalled,
            "prediction_cache_misses_total": status.points_computed,
            "database_bytes": self._database.size_bytes(),
            **_disk("data", self._settings.data_dir),
            **_disk("buckets", self._settings.buckets),
            "uptime_seconds": time.monotonic() - self._started_at,
        }

    def _info(self, settings: Settings) -> dict[str, Any]:
        """Return version, addresses, workers, models, and every setting with its source."""
        ready, details = self._ready()
        status = self._executor.status()
        return {
            "version": __version__,
            "ready": ready,
            "addresses": {
                "rest": f"http://{self.addresses.http}",
                "grpc": self.addresses.grpc,
                "tls": self.addresses.tls,
            },
            "uptimeSeconds": round(time.monotonic() - self._started_at, 3),
            "python": platform.python_version(),
            "processId": os.getpid(),
            "models": [
                {
                    "id": source.id,
                    "canned": source.manifest.is_canned,
                    "executionProvider": status.providers.get(source.folder, ""),
                }
                for source in self._registry.catalogue(max_age_s=1.0).sources
            ],
            "problems": [model for model in details["models"] if model["problem"]],
            "runningJobs": self._dispatcher.running_jobs,
            "workers": {
                "executor": settings.executor,
                "ready": status.ready,
                "processIds": list(status.process_ids),
            },
            "settings": {
                name: {"value": value, "from": self._sources.get(name, "code")}
                for name, value in shown_settings(settings).items()
            },
        }


def _executor_of(settings: Settings, warm: Sequence[ModelUse]) -> Executor:
    """Return the executor that the settings name, not started. `warm`: the models to load first."""
    if settings.executor == "inline":
        return InlineExecutor(settings.workers, timeout_s=settings.worker_timeout, warm=warm)
    return ProcessExecutor(
        settings.workers, timeout_s=settings.worker_timeout, warm=warm, log_level=settings.log_level
    )


def _no_model(models: Sequence[Mapping[str, Any]]) -> str:
    """Return why no model can run, each distinct reason once; "" if one can or there are no models."""
    reasons: dict[str, list[str]] = {}
    for model in models:
        reasons.setdefault(model["problem"], []).append(model["id"])
    if not models or "" in reasons:
        return ""
    told = ". ".join(f"{', '.join(ids)}: {problem.rstrip('.')}" for problem, ids in reasons.items())
    return f"No model can be run. {told}."


class _Ports:
    """Opens every port, before any other part starts."""

    def __init__(self, settings: Settings, parts: ExitStack) -> None:
        self._settings = settings
        self._parts = parts
        self.grpc: socket.socket | None = None
        self.tls: socket.socket | None = None
        _refuse_ports_without_use(settings)
        self.http = self._listen("Port", settings.port, "choose another with --port (0 takes a free one)")
        if settings.grpc:
            next_port = self.http.getsockname()[1] + 1 if settings.port else 0
            port = next_port if settings.grpc_port is None else settings.grpc_port
            self.grpc = self._listen("gRPC port", port, "choose another with --grpc-port, or use --no-grpc")
        if settings.tls:
            usual = _TLS_PORT if settings.port else 0
            port = usual if settings.tls_port is None else settings.tls_port
            self.tls = self._listen("TLS port", port, "choose another with --tls-port")
        self.addresses = Addresses(
            self._address(self.http),
            self._address(self.grpc) if self.grpc else None,
            self._address(self.tls) if self.tls else None,
        )

    def _listen(self, what: str, port: int, remedy: str) -> socket.socket:
        host = self._settings.host
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM)
        self._parts.callback(listener.close)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((host, port))
            listener.listen(_BACKLOG)
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            raise CannotStart(
                f"{what} {port} of {host} cannot be had ({reason}). Stop what uses it, {remedy}, or"
                " listen on another address with --host."
            ) from error
        return listener

    def _address(self, listener: socket.socket) -> str:
        return f"{self._settings.client_host}:{listener.getsockname()[1]}"


def _refuse_ports_without_use(settings: Settings) -> None:
    if settings.tls_port is not None and not settings.tls:
        raise CannotStart(f"tls_port is {settings.tls_port}, but TLS is off. Add --tls, or leave it out.")
    if settings.grpc_port is not None and not settings.grpc:
        raise CannotStart(f"grpc_port is {settings.grpc_port}, but gRPC is off. Leave one of the two out.")


class _Server(uvicorn.Server):
    """uvicorn, with an event `is_up` that is set once its socket is open, and with the fronts in its loop."""

    def __init__(self, app: object, addresses: Addresses) -> None:
        super().__init__(
            uvicorn.Config(
                app,  # type: ignore[arg-type]
                http=http_protocol_of(addresses),
                h11_max_incomplete_event_size=MAX_HEAD,
                log_config=None,
                access_log=False,
                timeout_keep_alive=_KEEP_ALIVE_S,
                timeout_graceful_shutdown=_OPEN_REQUESTS_GRACE_S,
                server_header=False,
            )
        )
        self.fronts: list[Front] = []
        self.is_up = threading.Event()

    def protocol(self) -> asyncio.Protocol:
        """Return a new protocol for one HTTP connection. Call it once the server is up."""
        return self.config.http_protocol_class(  # type: ignore[call-arg]
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )

    def end(self, thread: threading.Thread) -> None:
        """Finish open requests and wait for the thread that runs the server."""
        self.should_exit = True
        thread.join()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        for front in self.fronts:
            front.start()
        self.is_up.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for front in self.fronts:
            front.close()
        asyncio.get_running_loop().call_later(_TLS_GOODBYE_S, self._drop_silent)
        await super().shutdown(sockets=sockets)

    def _drop_silent(self) -> None:
        """Abort closing connections that have sent everything: an idle TLS client may never confirm."""
        for connection in list(self.server_state.connections):
            transport: Any = connection.transport
            if transport.is_closing() and not transport.get_write_buffer_size():
                transport.abort()


def _disk(name: str, folder: Path) -> dict[str, float]:
    """The gauges of the disk that holds a folder; none if the folder is gone."""
    try:
        usage = shutil.disk_usage(folder)
    except OSError:
        return {}
    return {f"{name}_disk_used_bytes": usage.used, f"{name}_disk_free_bytes": usage.free}


def _retention(settings: Settings, database: Database) -> Retention | None:
    if settings.retention_days is None:
        return None
    if settings.seed is not None:
        raise SettingError(
            "retention_days goes by the times of jobs, which are made up in deterministic mode. Leave out"
            " retention_days or seed."
        )
    return Retention(database, settings.retention_days)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _origins(settings: Settings) -> OriginGuard:
    """Return the rule for web pages: which origins may call, and by which host names."""
    aliases = ["*.googleapis.com"] if settings.tls else []
    names = [*settings.certified_names, *settings.allowed_hosts, *aliases]
    return OriginGuard.of(names, settings.allowed_origins)


def _folders(settings: Settings) -> Folders:
    """Return the folders of the state. A reset does not empty a bucket folder that the user has named."""
    return Folders(
        settings.data_dir,
        settings.buckets if settings.storage_dir is None else None,
        {"uploads": settings.data_dir / "uploads", "models": settings.own_models},
        settings.seed_dir,
        elsewhere=_buckets_elsewhere(settings),
    )


def _buckets_elsewhere(settings: Settings) -> tuple[str, ...]:
    """Return the Cloud Storage endpoints that hold buckets outside the local folder."""
    named = (settings.gcs_endpoint, *settings.gcs_buckets.values())
    return tuple(sorted({where for where in named if where != LOCAL}))


def _tls_context(settings: Settings) -> ssl.SSLContext:
    return server_context(prepare(settings.tls_folder, settings.certified_names))


def _make_buckets(settings: Settings) -> None:
    try:
        settings.buckets.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if settings.storage_dir is None:
            raise
        raise CannotStart(
            f"The folder of buckets {settings.storage_dir} cannot be used: {error}. Name another with"
            " --storage-dir."
        ) from error


def _warn_of_others(servers: Sequence[str], settings: Settings) -> None:
    if servers:
        log.warning(
            "Another server (%s) works on the data folder %s. With SQLite they do not hear of each other: who"
            " waits for a job at one misses what the other does with it, paces and faults that are set at one"
            " may not reach the other, and a start fails the uploads that are under way. Give this one a"
            " folder of its own with --data-dir, or both a PostgreSQL database with --database-url.",
            ", ".join(servers),
            settings.data_dir.absolute(),
        )


def _sentence(error: Exception, settings: Settings) -> str:
    if isinstance(error, DatabaseUnusable):
        return str(error)
    return f"The data folder {settings.data_dir} cannot be used: {error}. Name another with --data-dir."
