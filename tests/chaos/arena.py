"""Servers that are struck, the jobs they run, and what is left of them."""

from __future__ import annotations

import contextlib
import http.client
import json
import multiprocessing
import os
import shutil
import signal
import threading
import time
import urllib.error
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from tests.chaos.served import ARENA_VARIABLE, Orders, serve
from tests.execution.servers import JOBS, call, job_body, options
from tests.execution.workplace import line, write_tiny_model, write_video
from tests.gcs_endpoint.servers import client_at

PATIENCE_S = 300.0
VIDEOS = 8
#: Input objects: one without errors, and one with three lines that fail.
CLEAN, WITH_ERRORS = "clean.jsonl", "errors.jsonl"
_SEGMENTS = (("0s", "inf"), ("0s", "0.5s"), ("0.3s", "0.9s"))
# What no call is answered with by a server that is killed or stopped meanwhile.
_NO_ANSWER = (OSError, http.client.HTTPException, ValueError)


class NotStarted(Exception):
    """A server ended before it could serve; the message is its log."""


@dataclass(frozen=True)
class Setup:
    """How many servers share which database and which storage."""

    servers: int
    database: str = "sqlite"
    storage: str = "folder"

    def __str__(self) -> str:
        return f"{self.servers} on {self.database}, {self.storage}"


@dataclass
class Server:
    """A place for a server, and the process that fills it at the moment."""

    number: int
    process: ForkServerProcess
    url: str
    wounded: bool = False  # one of its workers was killed

    @property
    def pid(self) -> int:
        assert self.process.pid is not None
        return self.process.pid

    @property
    def is_stopped(self) -> bool:
        """Whether its process stands still, so that it would not answer."""
        return _status(self.pid)[:1] == ["T"]


@dataclass
class Arena:
    """The servers of a setup in a folder of their own, with input for jobs; a context manager."""

    folder: Path
    setup: Setup
    database_url: str | None = None
    endpoint: str | None = None
    workers_each: tuple[int, ...] = (2, 2)
    servers: list[Server] = field(default_factory=list)
    starts: int = 0

    def __post_init__(self) -> None:
        self.orders = Orders(self.folder / "orders")
        self.orders.folder.mkdir(parents=True)
        self.name = str(self.folder)
        self._processes = multiprocessing.get_context("forkserver")
        self._processes.set_forkserver_preload(["tests.chaos.preload"])
        write_tiny_model(self.folder / "models" / "tiny")
        self._write_input()

    def __enter__(self) -> Arena:
        for number in range(self.setup.servers):
            self.servers.append(self._start(number))
        for server in self.servers:
            self._await_workers(server)
        return self

    def __exit__(self, *_: object) -> None:
        for server in self.servers:
            self.kill(server)
        self.wait_until(lambda: not self.workers() or None, "the workers to end")

    def _write_input(self) -> None:
        bucket = self.folder / "buckets" / "bucket"
        for number in range(VIDEOS):
            write_video(bucket / f"{number}.mp4", 1 + number % 3)
        (bucket / "broken.mp4").write_bytes(b"no video at all" * 100)
        lines = [
            line(f"{number}.mp4", *segment)
            for segment in _SEGMENTS
            for number in reversed(range(VIDEOS))
            if number % 3 or segment is _SEGMENTS[0]
        ]
        self.predicted = len(lines)
        (bucket / CLEAN).write_text("".join(f"{text}\n" for text in lines))
        lines[3:3] = ["{", line("missing.mp4"), line("broken.mp4")]
        (bucket / WITH_ERRORS).write_text("".join(f"{text}\n" for text in lines))
        if self.endpoint:
            client = client_at(self.endpoint)
            self._remote = client.create_bucket("bucket")
            for path in bucket.iterdir():
                self._remote.blob(path.name).upload_from_filename(path)
            shutil.rmtree(bucket)

    def _start(self, number: int) -> Server:
        self.starts += 1
        log = self.folder / f"server-{number}-{self.starts}.log"
        # Servers that share a SQLite file share its folder; others know of each other by leases only.
        data = f"data-{number}" if self.database_url else "data"
        arguments = [*options(self.folder, data), "--storage-dir", str(self.folder / "buckets"), "--no-grpc"]
        arguments += ["--workers", str(self.workers_each[number])]
        if self.database_url:
            arguments += ["--database-url", self.database_url]
        if self.endpoint:
            arguments += ["--gcs-endpoint", self.endpoint]
        process = self._processes.Process(target=serve, args=(arguments, self.name, self.orders, log))
        process.start()

        def announced() -> str | None:
            found = [
                text for text in _text(log).splitlines() if text.startswith("Vertex emulator listening at")
            ]
            if not found and process.exitcode is not None:
                raise NotStarted(f"{log}: {_text(log)}")
            return found[0].split()[-1] if found else None

        return Server(number, process, self.wait_until(announced, "a server to start"))

    def _await_workers(self, server: Server) -> None:
        def ready() -> bool | None:
            with contextlib.suppress(*_NO_ANSWER):
                return bool(call(f"{server.url}/_emulator/ready")["ready"]) or None
            return None

        self.wait_until(ready, "its workers")

    def restart(self, server: Server) -> bool:
        """Fill the place of a server that has been killed. False when that cannot be: another one, which is
        stopped, has SQLite's lock."""
        try:
            fresh = self._start(server.number)
        except NotStarted as error:
            if "database is locked" in str(error) and any(other.is_stopped for other in self.servers):
                return False
            raise
        self.servers[self.servers.index(server)] = fresh
        return True

    def kill(self, server: Server) -> None:
        """End a server as a lack of memory does."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(server.pid, signal.SIGKILL)
        server.process.join()

    def resume(self, server: Server) -> None:
        """Let a stopped server go on."""
        os.kill(server.pid, signal.SIGCONT)

    def pause(self, pid: int, seconds: float) -> None:
        """Stop a process for a while. Raises ProcessLookupError."""
        os.kill(pid, signal.SIGSTOP)
        time.sleep(seconds)
        os.kill(pid, signal.SIGCONT)

    def of_process(self, pid: int) -> Server:
        """The server that is this process."""
        return next(server for server in self.servers if server.pid == pid)

    def workers(self) -> dict[int, int]:
        """The worker processes of all servers, dead ones included, each with its parent's process id."""
        mark = f"{ARENA_VARIABLE}={self.name}\0".encode()
        found = {}
        for path in Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):
                if mark in path.read_bytes():
                    found[int(path.parent.name)] = _parent(int(path.parent.name))
        return found

    def await_no_strays(self) -> None:
        """Wait until the workers of servers that are dead are gone."""
        alive = {server.pid for server in self.servers}
        self.wait_until(
            lambda: set(self.workers().values()) <= alive or None, "a dead server's workers to end"
        )

    def submit(self, server: Server, prefix: str, source: str, delay_ms: int) -> None:
        """Create a job that takes that much longer for each frame. Its display name is its output prefix.

        The answer is not waited for: the server may be struck before it gives one.
        """
        faults = [{"kind": "slow-model", "delay": f"{delay_ms}ms"}] if delay_ms else []
        headers = {"x-goog-emulator-instructions": json.dumps({"faults": faults})} if faults else {}
        body = job_body(f"gs://bucket/{prefix}", source) | {"displayName": prefix}

        def is_over() -> bool | None:
            try:
                call(server.url + JOBS, body, headers)
            except urllib.error.HTTPError as error:
                # A server that finds its database away says so, and clients try again.
                return None if error.code == HTTPStatus.SERVICE_UNAVAILABLE and not self.job(prefix) else True
            except _NO_ANSWER:
                pass
            return True

        def create() -> None:
            self.wait_until(is_over, f"an answer to the creation of {prefix}")

        threading.Thread(target=create, daemon=True).start()

    def _ask(self, path: str) -> Any:
        """What a server answers to a GET; None when none does at the moment."""
        for server in self.servers:
            if not server.is_stopped:
                with contextlib.suppress(*_NO_ANSWER):
                    return call(server.url + path)
        return None

    def job(self, prefix: str) -> Mapping[str, Any] | None:
        """The job as clients see it; None when no server can tell at the moment."""
        found = self._ask(f"{JOBS}?filter=display_name%3D%22{prefix}%22")
        jobs = (found or {}).get("batchPredictionJobs", [])
        return dict(jobs[0]) if jobs else None

    def steps(self, prefix: str) -> list[str]:
        """What happened to a job, in words."""
        job = self.job(prefix)
        found = job and self._ask(f"/_emulator/jobs/{job['name'].rpartition('/')[2]}/explain")
        return [f"{step['step']}: {step['text']}" for step in (found or {}).get("steps", [])]

    def await_created(self, prefix: str) -> None:
        """Wait until a job is there."""
        self.wait_until(lambda: self.job(prefix), f"the creation of {prefix}")

    def ended(self, prefix: str) -> bool:
        """Whether a job has ended."""
        return "endTime" in (self.job(prefix) or {})

    def finish(self, prefix: str) -> Mapping[str, Any]:
        """Wait for the end of a job, and until no server works on it any more; the job."""
        self.wait_until(
            lambda: self.ended(prefix) or None, f"the end of {prefix}", lambda: self.steps(prefix)
        )
        self.wait_until(lambda: self.is_idle or None, "the runners to end")
        job: Mapping[str, Any] = self.wait_until(lambda: self.job(prefix), f"an answer on {prefix}")
        return job

    @property
    def is_idle(self) -> bool:
        """Whether no server runs a job; no, while one cannot tell."""
        if any(server.is_stopped for server in self.servers):
            return False
        with contextlib.suppress(*_NO_ANSWER):
            alive = [server for server in self.servers if server.process.is_alive()]
            infos = [call(f"{server.url}/_emulator/info") for server in alive]
            return not any(info["runningJobs"] for info in infos)
        return False

    def output(self, prefix: str) -> dict[str, bytes]:
        """Everything below an output prefix, however it is called, by its path from there."""
        if self.endpoint:
            blobs = self._remote.list_blobs(prefix=f"{prefix}/")
            return {blob.name.removeprefix(f"{prefix}/"): blob.download_as_bytes() for blob in blobs}
        top = self.folder / "buckets" / "bucket" / prefix
        files = (path for path in top.rglob("*") if path.is_file())
        return {str(path.relative_to(top)): path.read_bytes() for path in files}

    def staged(self) -> list[str]:
        """What is staged in the bucket and has not become a file."""
        if self.endpoint:
            return [blob.name for blob in self._remote.list_blobs(prefix=".vertex-emulator/")]
        hidden = self.folder / "buckets" / "bucket" / ".vbe-tmp"
        return sorted(path.name for path in hidden.glob("staged.*"))

    def wait_until(
        self, holds: Callable[[], Any], what: str, describe: Callable[[], object] = lambda: ""
    ) -> Any:
        """Wait for something that is not None; fail when it does not come."""
        deadline = time.monotonic() + PATIENCE_S
        while (found := holds()) is None:
            assert time.monotonic() < deadline, f"{self.setup}: waited in vain for {what}. {describe()}"
            time.sleep(0.02)
        return found


def _text(path: Path) -> str:
    return path.read_text(errors="replace") if path.exists() else ""


def _status(pid: int) -> list[str]:
    """What the kernel says of a process: state, parent and so on; nothing when it is gone."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return []


def _parent(pid: int) -> int:
    return int(_status(pid)[1]) if _status(pid) else 0
