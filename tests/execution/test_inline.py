"""Jobs whose shards run in threads of the server: what a job sees is what it sees of worker processes."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from emulator.app import Emulator
from emulator.execution.executor import Executor, Finished
from emulator.execution.inline import InlineExecutor
from emulator.execution.shards import ModelUse
from emulator.instructions.faults import JobFault
from emulator.storage import GcsUri, LocalStore
from emulator.vertex.job_state import JobState
from tests.control.project import Project, client_of, make_settings
from tests.execution.executors import Bench, Job
from tests.execution.workplace import Workplace, error_of, line

SEGMENTS = [("0s", "0.2s"), ("0.2s", "0.4s"), ("0.4s", "0.6s"), ("0.6s", "0.8s")]
LINES = [line("a.mp4", *segment) for segment in SEGMENTS]


@pytest.fixture
def inline(workplace: Workplace, tiny_model: Path) -> Iterator[Workplace]:
    """The workplace with two threads in place of its worker processes."""
    executor: Executor = InlineExecutor(2, timeout_s=2, warm=[ModelUse(tiny_model, "cpu", 1)])
    executor.start()
    workplace.pool = executor
    yield workplace
    for dispatcher in workplace.dispatchers:
        dispatcher.stop()
    workplace.dispatchers.clear()
    executor.stop()


def test_a_job_writes_the_same_files(workplace: Workplace) -> None:
    for name in ("a.mp4", "b.mp4"):
        workplace.video(name)
    lines = [*LINES, line("missing.mp4"), line("b.mp4"), "{"]
    by_processes = workplace.files(workplace.run(lines))
    workplace.dispatchers.pop().stop()
    workplace.pool = InlineExecutor(2)
    workplace.pool.start()
    assert workplace.files(workplace.run(lines)) == by_processes
    assert sorted(by_processes) == [
        "errors_00001.jsonl",
        "predictions_00001.jsonl",
        "predictions_00002.jsonl",
    ]
    workplace.dispatchers.pop().stop()
    workplace.pool.stop()


def test_a_worker_that_is_made_to_die_costs_nothing(inline: Workplace) -> None:
    inline.video("a.mp4")
    inline.start(fault=JobFault("kill-worker", instance=3, attempts=1))
    row = inline.run(LINES)
    assert (row.state, row.successful, row.failed) == (JobState.SUCCEEDED, 4, 0)
    starts = [entry["instance"]["timeSegmentStart"] for entry in inline.predictions(row)]
    assert starts == [start for start, _ in SEGMENTS]


@pytest.mark.parametrize(
    ("kind", "cause"),
    [("kill-worker", "was ended by an injected fault"), ("hang-worker", "gave no sign of life for 2 s")],
)
def test_an_instance_that_always_ends_its_worker_is_an_error_line(
    inline: Workplace, kind: str, cause: str
) -> None:
    inline.video("a.mp4")
    inline.start(fault=JobFault(kind, instance=2, attempts=99))
    row = inline.run(LINES[:2])
    assert (row.state, row.successful, row.failed) == (JobState.SUCCEEDED, 1, 1)
    [entry] = inline.errors(row)
    assert entry["timeSegmentStart"] == "0.2s"
    assert f"{cause} each time it worked on this instance" in entry["error"]["message"]


def test_a_job_is_cancelled_in_the_middle_of_a_video(inline: Workplace) -> None:
    inline.video("short.mp4", 0.2)
    inline.video("long.mp4", 60)
    dispatcher = inline.start(fault=JobFault("slow-model", delay_s=0.05))
    job = inline.submit_lines([line("short.mp4"), line("long.mp4", "0s", "0.5s"), line("long.mp4")])
    inline.wait_until(job, lambda row: row.successful == 2, timeout_s=60)
    inline.database.request_cancel(job)
    dispatcher.look_after_all()
    row = inline.finish(job, timeout_s=60)
    assert (row.state, error_of(row)) == (JobState.CANCELLED, (1, "CANCELED"))
    assert (row.successful, row.incomplete) == (1, 2)
    inline.fault = None
    assert inline.run([line("short.mp4")]).successful == 1


@dataclass(frozen=True)
class WatchedStore(LocalStore):
    """A store that tells who opens a video. It cannot be pickled."""

    seen: list[tuple[int, str]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def local_path(self, uri: GcsUri) -> Iterator[Path]:
        self.seen.append((os.getpid(), threading.current_thread().name))
        with super().local_path(uri) as path:
            yield path


def test_a_shard_runs_in_this_process_and_is_not_pickled(inline: Workplace) -> None:
    inline.video("a.mp4")
    store = WatchedStore(inline.store.root)
    job = Job(inline.pool, {"a": Bench(inline.store, inline.model).shard(store=store)})
    assert isinstance(job.run("a")[0], Finished)
    assert store.seen in ([(os.getpid(), "inline-0")], [(os.getpid(), "inline-1")])
    job.queue.close()


def test_a_server_with_inline_workers(tmp_path: Path) -> None:
    settings = make_settings(tmp_path, executor="inline")
    with Emulator(settings) as emulator, client_of(emulator) as http:
        assert emulator.wait_until_ready() == ""
        project = Project(emulator, http, settings.buckets)
        job = project.finish(project.create("a.mp4", "b.mp4"))
        assert job["state"] == "JOB_STATE_SUCCEEDED"
        assert sorted(project.files(job)) == ["predictions_00001.jsonl", "predictions_00002.jsonl"]
        info = http.get("/_emulator/info").json()
        assert info["workers"] == {"executor": "inline", "ready": 1, "processIds": []}
        assert [model["executionProvider"] for model in info["models"]] == ["cpu"]
        assert info["settings"]["executor"]["value"] == "inline"
        ready = http.get("/_emulator/ready").json()
        assert (ready["workers"], ready["modelsLoaded"]) == (1, True)
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("inline-")]


IMPORTS = """
import sys
from pathlib import Path
from emulator.app import Emulator
from emulator.config import Settings
settings = Settings(port=0, data_dir=Path(sys.argv[1]), bundled_models=False, executor=sys.argv[2])
with Emulator(settings) as emulator:
    emulator.wait_until_ready()
    print(*{"cv2", "numpy", "onnxruntime"} & set(sys.modules))
"""


@pytest.mark.parametrize(("executor", "loads"), [("processes", False), ("inline", True)])
def test_a_server_loads_what_models_need_only_for_inline_workers(
    tmp_path: Path, executor: str, loads: bool
) -> None:
    command = [sys.executable, "-c", IMPORTS, str(tmp_path), executor]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert set(done.stdout.split()) == ({"cv2", "numpy", "onnxruntime"} if loads else set())
