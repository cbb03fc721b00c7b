"""Two server processes on one PostgreSQL and one data folder: each sees and continues what the other does."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.execution.servers import JOBS, call, job_body, options, wait_for
from tests.execution.workplace import line, write_tiny_model, write_video
from tests.postgresql import postgresql_schema

ROOT = Path(__file__).parents[2]
VIDEOS = 6
# A server of a version with one more migration, which only opens the database.
NEXT_VERSION = """
import sys
from emulator.database import migrations

def add_table(connection):
    connection.exec_driver_sql("CREATE TABLE of_the_next_version (id INTEGER)")

migrations.MIGRATIONS = (*migrations.MIGRATIONS, add_table)
migrations.SCHEMA_VERSION += 1
from emulator.database import Database, DatabaseUnusable
try:
    Database(sys.argv[1]).close()
except DatabaseUnusable as error:
    sys.exit(str(error))
"""


@dataclass
class Served:
    """A server process."""

    process: subprocess.Popen[str]
    url: str

    def __call__(self, path: str, body: Any = None) -> Any:
        return call(f"{self.url}{path}", body)

    def status(self, path: str, method: str = "GET") -> int:
        request = urllib.request.Request(f"{self.url}{path}", method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code

    def send(self, method: str, path: str, body: Any) -> Any:
        request = urllib.request.Request(f"{self.url}{path}", json.dumps(body).encode(), method=method)
        request.add_header("Content-Type", "application/json")
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    def wait(self, path: str, holds: Callable[[Any], bool]) -> Any:
        return wait_for(f"{self.url}{path}", holds)


@contextmanager
def serving(folder: Path, database: str) -> Iterator[Served]:
    command = [sys.executable, "-m", "emulator", "serve", *options(folder), "--workers", "1", "--no-grpc"]
    command += ["--database-url", database]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdout is not None
    with process:
        try:
            yield Served(process, process.stdout.readline().split()[-1])
        finally:
            process.kill()


@pytest.fixture
def database() -> Iterator[str]:
    with postgresql_schema() as url:
        yield url


@pytest.fixture
def servers(tmp_path: Path, database: str) -> Iterator[list[Served]]:
    write_tiny_model(tmp_path / "models" / "tiny")
    bucket = tmp_path / "data" / "buckets" / "bucket"
    for number in range(VIDEOS):
        write_video(bucket / f"{number}.mp4", 1)
    lines = [line(f"{number}.mp4", start) for number in range(VIDEOS) for start in ("0s", "0.5s")]
    (bucket / "in.jsonl").write_text("\n".join(lines))
    with ExitStack() as stack:
        yield [stack.enter_context(serving(tmp_path, database)) for _ in range(2)]


def owner_of(servers: list[Served], explained: Any) -> tuple[Served, Served]:
    """The server that runs a job, as its steps say, and the other one."""
    text = next(
        step["text"] for step in explained["steps"] if step["text"].startswith("JOB_STATE_RUNNING by")
    )
    process = int(re.findall(r"-(\d+)-[0-9a-f]+", text)[0])
    [owner] = [server for server in servers if server.process.pid == process]
    return owner, next(server for server in servers if server is not owner)


def hold_at(server: Served, other: Served) -> None:
    """Let all new jobs be held while they run, whichever server is asked."""
    server.send("PUT", "/_emulator/pace", {"pace": "running=hold"})
    other.wait("/_emulator/pace", lambda pace: pace["pace"] == "running=hold")


def test_other_server_sees_explains_cancels_and_deletes(servers: list[Served]) -> None:
    first, second = servers
    hold_at(first, second)
    name = first(JOBS, job_body())["name"]
    job, number = f"/v1/{name}", name.rpartition("/")[2]
    explain = f"/_emulator/jobs/{number}/explain"
    second(f"/_emulator/jobs/{number}/wait?state=RUNNING&held=true&timeout=30")
    assert second(job) == first(job)
    assert second(job)["state"] == "JOB_STATE_RUNNING"
    assert [each["name"] for each in second(JOBS)["batchPredictionJobs"]] == [name]
    assert second(explain) == first(explain)
    assert {"state", "input", "output"} <= {step["step"] for step in second(explain)["steps"]}
    # The journal is of one server: what was called there.
    calls = "/_emulator/requests?method=CreateBatchPredictionJob"
    assert (first(calls)["count"], second(calls)["count"]) == (1, 0)
    second(f"{job}:cancel", {})
    second.send("PUT", f"/_emulator/jobs/{number}/pace", {"pace": "real"})
    ended = first.wait(job, lambda found: "endTime" in found)
    assert ended["state"] == "JOB_STATE_CANCELLED"
    assert second(job) == ended
    states = [step["state"] for step in first(explain)["steps"] if step["step"] == "state"]
    assert states[-2:] == ["JOB_STATE_CANCELLING", "JOB_STATE_CANCELLED"]
    operation = second.send("DELETE", job, {})
    assert operation["done"]
    assert first(f"/v1/{operation['name']}") == operation
    assert (first.status(job), first.status(explain)) == (404, 404)


def test_events_of_one_server_reach_the_stream_of_the_other(servers: list[Served]) -> None:
    first, second = servers
    with urllib.request.urlopen(f"{second.url}/_emulator/events", timeout=60) as stream:
        name = first(JOBS, job_body())["name"]
        seen: list[str] = []
        while not seen or seen[-1] != "JOB_STATE_SUCCEEDED":
            text = stream.readline().decode()
            assert text, "the stream has ended"
            if text.startswith("data: "):
                event = json.loads(text.removeprefix("data: "))
                assert event["job"] == name
                seen += [event["state"]] if "state" in event else []
    assert seen == ["JOB_STATE_PENDING", "JOB_STATE_RUNNING", "JOB_STATE_SUCCEEDED"]


def test_other_server_finishes_what_a_killed_one_has_begun(servers: list[Served], tmp_path: Path) -> None:
    first, second = servers
    first("/_emulator/faults", {"on": "job", "kind": "slow-model", "delay": "1s"})
    second.wait("/_emulator/faults", lambda found: len(found["faults"]) == 1)
    name = first(JOBS, job_body())["name"]
    job, explain = f"/v1/{name}", f"/_emulator/jobs/{name.rpartition('/')[2]}/explain"
    explained = second.wait(explain, lambda found: any(step["step"] == "video" for step in found["steps"]))
    owner, other = owner_of(servers, explained)
    assert other(explain)["progress"]["framesDone"] > 0
    os.kill(owner.process.pid, signal.SIGKILL)
    owner.process.wait(60)
    assert other(job)["state"] == "JOB_STATE_RUNNING"
    ended = other.wait(job, lambda found: "endTime" in found)
    assert ended["state"] == "JOB_STATE_SUCCEEDED"
    assert ended["completionStats"] == {"successfulCount": str(2 * VIDEOS)}
    steps = other(explain)["steps"]
    assert [step["step"] for step in steps].count("resumed") == 1
    assert other(explain)["attempts"] == 2
    output = tmp_path / "data" / "buckets" / ended["outputInfo"]["gcsOutputDirectory"].removeprefix("gs://")
    files = sorted(output.iterdir())
    assert [file.name for file in files] == [f"predictions_{n:05d}.jsonl" for n in range(1, VIDEOS + 1)]
    lines = [json.loads(text)["instance"] for file in files for text in file.read_text().splitlines()]
    assert [(each["content"], each["timeSegmentStart"]) for each in lines] == [
        (f"gs://bucket/{number}.mp4", start) for number in range(VIDEOS) for start in ("0s", "0.5s")
    ]


def test_model_that_one_server_got_runs_at_the_other(servers: list[Served], tmp_path: Path) -> None:
    first, second = servers
    shutil.copytree(tmp_path / "models" / "tiny", tmp_path / "data" / "buckets" / "bucket" / "model")
    parent = JOBS.rpartition("/")[0]
    model = {"displayName": "mine", "artifactUri": "gs://bucket/model"}
    operation = first(f"{parent}/models:upload", {"model": model, "modelId": "mine"})
    first.wait(f"/v1/{operation['name']}", lambda found: found.get("done"))
    assert second(f"{parent}/models/mine")["displayName"] == "mine"
    # So that only the second one can run it.
    first.process.terminate()
    first.process.wait(60)
    name = second(JOBS, {**job_body(), "model": f"{parent[4:]}/models/mine"})["name"]
    ended = second.wait(f"/v1/{name}", lambda found: "endTime" in found)
    assert ended["state"] == "JOB_STATE_SUCCEEDED"


def opened_by_next_version(database: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", NEXT_VERSION, database]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)


def test_newer_schema_waits_until_older_servers_are_gone(tmp_path: Path, database: str) -> None:
    write_tiny_model(tmp_path / "models" / "tiny")
    with serving(tmp_path, database) as killed, serving(tmp_path, database) as stopped:
        for server, blow in ((killed, signal.SIGKILL), (stopped, signal.SIGTERM)):
            refused = opened_by_next_version(database)
            assert refused.returncode == 1
            assert "servers of an older version are using it with schema version" in refused.stderr
            assert "stop them first" in refused.stderr
            assert server("/_emulator/health") == {"status": "ok"}
            server.process.send_signal(blow)
            server.process.wait(60)
    deadline = time.monotonic() + 60
    while (opened := opened_by_next_version(database)).returncode != 0:
        assert time.monotonic() < deadline, opened.stderr
    command = [sys.executable, "-m", "emulator", "serve", *options(tmp_path), "--database-url", database]
    older = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert older.returncode == 1
    assert "start the emulator that made it" in " ".join(older.stderr.split())
