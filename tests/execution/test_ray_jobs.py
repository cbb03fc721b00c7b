"""Jobs on a Ray cluster of two nodes: whatever happens to it, no line is missing, doubled or different.

EMULATOR_RAY_FREEZE_S says for how long a node is frozen: 10 s, 90 for the whole of what Ray takes to notice.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from emulator.execution.executor import Died, Executor, Finished, Waiting
from emulator.execution.ray_executor import RayExecutor, RaySettings
from emulator.instructions.faults import JobFault
from emulator.vertex.job_state import JobState
from tests.execution.executors import Bench, Job, wait_until
from tests.execution.ray_cluster import RayCluster, cluster, needs_ray
from tests.execution.servers import JOBS, call, job_body, serving, wait_for
from tests.execution.test_server_death import create
from tests.execution.workplace import Workplace, line, write_tiny_model

pytestmark = [*needs_ray, pytest.mark.slow]

VIDEOS = 100
FREEZE_S = float(os.environ.get("EMULATOR_RAY_FREEZE_S", "10"))
SEGMENTS = (("0s", "0.4s"), ("0.4s", "inf"), ("0s", "inf"))


@pytest.fixture(scope="module")
def head() -> Iterator[RayCluster]:
    with cluster(cpus=1) as started:
        yield started


@pytest.fixture
def node(head: RayCluster) -> Iterator[list[int]]:
    """A second node; its processes, once there are some."""
    added = head.add()
    processes = head.processes(added)
    yield processes
    for process in (*processes, *head.processes(added)):
        try_to_signal(process, signal.SIGCONT)
    head.kill(added)


@pytest.fixture
def ray(head: RayCluster, workplace: Workplace) -> Iterator[Executor]:
    settings = RaySettings(head.address, shared=workplace.store.root)
    executor = RayExecutor(2, timeout_s=5, log_level="warning", ray=settings)
    executor.connect()
    executor.start()
    yield executor
    executor.stop()


def try_to_signal(process: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, number)


def descendants(process: int) -> list[int]:
    """A process and all below it."""
    children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return [process, *(found for child in children for found in descendants(int(child)))]


def kill_actor(executor: Executor, node: list[int]) -> None:
    os.kill(executor.status().process_ids[0], signal.SIGKILL)


def kill_node(executor: Executor, node: list[int]) -> None:
    for process in descendants(node[0]):
        try_to_signal(process, signal.SIGKILL)


def freeze_node(executor: Executor, node: list[int]) -> None:
    """Stop a node and all on it, and let it go on much later: its actor then speaks again."""
    frozen = descendants(node[0])
    for process in frozen:
        try_to_signal(process, signal.SIGSTOP)
    time.sleep(FREEZE_S)
    for process in frozen:
        try_to_signal(process, signal.SIGCONT)


def freeze_raylet(executor: Executor, node: list[int]) -> None:
    """Stop a node's raylet alone: its actor goes on."""
    os.kill(node[0], signal.SIGSTOP)
    time.sleep(FREEZE_S)
    try_to_signal(node[0], signal.SIGCONT)


def lines(workplace: Workplace) -> list[str]:
    workplace.video("0.mp4")
    for number in range(1, VIDEOS):
        (workplace.bucket / f"{number}.mp4").hardlink_to(workplace.bucket / "0.mp4")
    return [line(f"{number}.mp4", *segment) for segment in SEGMENTS for number in range(VIDEOS)]


@pytest.mark.parametrize("blow", [kill_actor, kill_node, freeze_node, freeze_raylet])
def test_bytes_are_those_of_processes_whatever_happens(
    workplace: Workplace, ray: Executor, node: list[int], blow: Callable[[Executor, list[int]], None]
) -> None:
    instances = lines(workplace)
    expected = workplace.run(instances, prefix="gs://bucket/expected")
    workplace.dispatchers.pop().stop()
    workplace.pool = ray
    wait_until(lambda: ray.status().ready == 2)
    workplace.start(fault=JobFault("slow-model", delay_s=0.02))
    job = workplace.submit_lines(instances)
    workplace.wait_until(job, lambda row: row.successful >= 30, timeout_s=120)
    blow(ray, node)
    done = workplace.finish(job, timeout_s=240)
    assert (done.state, done.successful, done.failed) == (JobState.SUCCEEDED, len(instances), 0)
    assert workplace.files(done) == workplace.files(expected)
    assert len(workplace.files(done)) == VIDEOS


def test_a_job_waits_for_a_node_and_says_so(head: RayCluster, workplace: Workplace) -> None:
    settings = RaySettings(head.address, gpus=1, shared=workplace.store.root)
    workplace.pool = executor = RayExecutor(1, log_level="warning", ray=settings)
    executor.start()
    workplace.start()
    workplace.video("a.mp4")
    job = workplace.submit_lines([line("a.mp4")])
    wait_until(lambda: any("waits" in text for text in notes(workplace, job)))
    (waits,) = [text for text in notes(workplace, job) if "waits" in text]
    assert "Ray has no node with 1 CPU and 1 GPU free for a worker" in waits
    assert "0 of 0 GPU free" in waits
    node = head.add(num_gpus=1)
    assert workplace.finish(job, timeout_s=120).state is JobState.SUCCEEDED
    workplace.dispatchers.pop().stop()
    executor.stop()
    head.kill(node)


def notes(workplace: Workplace, job: int) -> list[str]:
    return [step.text for step in workplace.database.all_steps(job)]


def test_idle_actors_go_and_come_back(
    head: RayCluster, node: list[int], workplace: Workplace, tiny_model: Path
) -> None:
    settings = RaySettings(head.address, shared=workplace.store.root, idle_s=1)
    executor = RayExecutor(2, log_level="warning", ray=settings)
    executor.start()
    wait_until(lambda: executor.status().ready == 2)
    wait_until(lambda: executor.status().ready == 1)
    workplace.video("a.mp4")
    bench = Bench(workplace.store, tiny_model)
    job = Job(executor, {"endless": bench.endless(), "a": bench.shard()})
    job.queue.add(["endless", "a"])
    assert isinstance(job.ending("a"), Finished)
    executor.stop()


def test_a_server_outlives_its_cluster(workplace: Workplace, tiny_model: Path) -> None:
    """What ran is lost, what waits goes on waiting, and says for what."""
    workplace.video("a.mp4")
    with cluster(cpus=1) as started:
        settings = RaySettings(started.address, shared=workplace.store.root)
        executor = RayExecutor(1, log_level="warning", ray=settings)
        executor.start()
        bench = Bench(workplace.store, tiny_model)
        job = Job(executor, {"endless": bench.endless(), "a": bench.shard()})
        job.queue.add(["endless", "a"])
        job.wait_for(lambda: bool(job.built))
    died = job.ending("endless")
    assert isinstance(died, Died)
    assert died.cause.startswith(("was lost with", "ended unexpectedly"))
    job.wait_for(lambda: any(isinstance(event, Waiting) for _, event in job.heard))
    assert (job.ended(), executor.status().ready) == (["endless"], 0)
    executor.stop()


def test_jobs_survive_their_server_and_its_driver(
    head: RayCluster, node: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tiny_model(tmp_path / "models" / "tiny")
    monkeypatch.setenv("VERTEX_EMULATOR_EXECUTOR", "ray")
    monkeypatch.setenv("VERTEX_EMULATOR_RAY_ADDRESS", head.address)
    with serving(tmp_path) as (server, url):
        name = create(url, tmp_path)
        wait_for(f"{url}/v1/{name}", lambda job: "successfulCount" in job.get("completionStats", {}))
        os.kill(server.pid, signal.SIGKILL)
        server.wait(60)
    with serving(tmp_path) as (_, url):
        job = wait_for(f"{url}/v1/{name}", lambda job: "endTime" in job)
    monkeypatch.delenv("VERTEX_EMULATOR_EXECUTOR")
    with serving(tmp_path) as (_, url):
        other = call(url + JOBS, job_body("gs://bucket/expected"))["name"]
        expected = wait_for(f"{url}/v1/{other}", lambda job: "endTime" in job)
    assert job["state"] == expected["state"] == "JOB_STATE_SUCCEEDED"
    assert output(tmp_path, job) == output(tmp_path, expected)
    # Of the server that was killed first nothing is left; the second was killed just now.
    assert len(list((tmp_path / "data" / "buckets").glob(".vertex-emulator-probe-*"))) == 1


def output(folder: Path, job: dict[str, dict[str, str]]) -> dict[str, bytes]:
    """The files of a job's output folder."""
    name = job["outputInfo"]["gcsOutputDirectory"].removeprefix("gs://")
    return {path.name: path.read_bytes() for path in (folder / "data" / "buckets" / name).iterdir()}
