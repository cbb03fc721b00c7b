"""docs/ray.md: its cluster starts, and its server predicts on it."""

from __future__ import annotations

import contextlib
import itertools
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.pages import blocks, runs
from tests.execution.ray_cluster import needs_ray
from tests.execution.servers import JOBS, call, job_body, wait_for
from tests.execution.workplace import line, write_tiny_model, write_video

PAGE = "docs/ray.md"
START, SERVE = blocks(PAGE, "sh", "Start a cluster on one machine")
BIN = Path(sys.executable).parent

pytestmark = [*needs_ray, pytest.mark.slow]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@contextlib.contextmanager
def running(command: str, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A command of the page with the programs of this environment, ended as Ctrl-C does.

    Ray keeps a token in the home folder.
    """
    words = shlex.split(command)
    given = dict(word.split("=", 1) for word in itertools.takewhile(lambda word: "=" in word, words))
    name, *arguments = words[len(given) :]
    process = subprocess.Popen(
        [BIN / name, *arguments],
        env={**os.environ, **given, "HOME": str(folder), "PATH": f"{BIN}:{os.environ['PATH']}"},
        stdout=subprocess.PIPE,
        text=True,
        cwd=folder,
        start_new_session=True,
    )
    with process:
        try:
            yield process
        finally:
            process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(60)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def wait_for_port(port: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)


@runs(START, SERVE)
def test_a_job_runs_on_the_cluster_of_the_page(tmp_path: Path) -> None:
    port = free_port()
    bucket = tmp_path / "vertex-emulator-data" / "buckets" / "bucket"
    write_video(bucket / "a.mp4")
    (bucket / "in.jsonl").write_text(line("a.mp4"))
    write_tiny_model(tmp_path / "vertex-emulator-data" / "models" / "tiny")
    cluster = START.text.replace("6379", str(port))
    serve = SERVE.text.replace("6379", str(port)).strip() + " --port 0"
    with running(cluster, tmp_path) as head:
        wait_for_port(port, head)
        with running(serve, tmp_path) as server:
            assert server.stdout is not None
            url = next(word for text in server.stdout for word in text.split() if word.startswith("http://"))
            name = call(url + JOBS, job_body())["name"]
            job = wait_for(f"{url}/v1/{name}", lambda job: "endTime" in job)
            with urllib.request.urlopen(f"{url}/_emulator/info", timeout=60) as answer:
                assert b'"executor":"ray"' in answer.read().replace(b" ", b"")
    assert job["state"] == "JOB_STATE_SUCCEEDED"
