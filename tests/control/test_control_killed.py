"""A server that is killed while it loads, seeds or resets: the next start has all of it or nothing.

Children of this process do the work on real folders and a real SQLite file, and kill themselves at the nth
change of the file system; an audit hook counts these.
"""

import io
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import traceback
import urllib.request
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from emulator.database import Database
from emulator.registry import Registry
from emulator.service import Context, Service
from emulator.service.control.state import Folders
from emulator.service.identities import seed_database
from emulator.storage import LocalStore
from emulator.vertex.errors import FailedPrecondition
from tests.database.job_rows import all_rows
from tests.execution.servers import call, serving

_CHANGES = ("os.rename", "os.mkdir", "os.rmdir", "os.remove", "os.utime", "open")
PARENT = "projects/my-project/locations/us-central1"


def kill_at(number: int, marks: str, events: Collection[str] = _CHANGES) -> None:
    """Kill this process at the nth change whose paths have these marks."""
    count = 0

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal count
        if event in events and any(marks in path for path in _paths(event, arguments)):
            count += 1
            if count == number:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def _paths(event: str, arguments: tuple[Any, ...]) -> list[str]:
    """The paths of a change, those too that are relative to an open folder."""
    paths, folders = (2, 2) if event == "os.rename" else (1, 1)
    opened = [_folder(number) for number in arguments[-folders:]] if event.startswith("os.") else [""]
    return [os.path.join(*both) for both in zip(opened, map(str, arguments[:paths]), strict=True)]  # noqa: PTH118


def _folder(descriptor: Any) -> str:
    if not isinstance(descriptor, int) or descriptor < 0:
        return ""
    return os.readlink(f"/proc/self/fd/{descriptor}")  # noqa: PTH115


def make_service(data: Path, seed: Path | None = None) -> Service:
    """The use cases over a data folder, as a server that starts has them."""
    buckets = data / "buckets"
    buckets.mkdir(parents=True, exist_ok=True)
    kept = {"uploads": data / "uploads", "models": data / "models"}
    context = Context(
        Database(f"sqlite:///{data / 'emulator.db'}"),
        Registry([kept["models"]], kept["uploads"]),
        LocalStore(buckets),
    )
    seed_database(context.database)
    service = Service(context, Folders(data, buckets, kept, seed))
    service.recover()
    return service


def close(service: Service) -> None:
    service.close()
    service._context.database.close()


def add_job(service: Service, number: int, name: str) -> None:
    job = service._context.v1.BatchPredictionJob(
        name=f"{PARENT}/batchPredictionJobs/{number}",
        display_name=name,
        model=f"{PARENT}/models/pets",
        state=5,
    )
    service.jobs.keep(PARENT, job)


def write(folder: Path, **files: str) -> None:
    for name, text in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def content(data: Path, seed: Path | None = None) -> Any:
    """What a data folder holds, as a server that starts on it finds it: its files and its rows."""
    service = make_service(data, seed)
    rows = dict(all_rows(service._context.database))
    # Which replacement counts, and where the folder is, differ from folder to folder.
    own = ("replacement", "data_folder")
    rows["control_notes"] = [row for row in rows["control_notes"] if row["name"] not in own]
    close(service)
    files = {
        str(path.relative_to(data)): path.read_bytes() if path.is_file() else None
        for name in ("buckets", "models", "uploads")
        for path in sorted((data / name).rglob("*"))
    }
    assert not list(data.rglob(".vbe-swap-*"))
    assert not (data / "replacement.json").exists()
    return files, rows


def run_killed(number: int, data: Path, work: Callable[[], None]) -> bool:
    """Work in a child that is killed at its nth change; whether it was."""
    child = os.fork()
    if child == 0:
        try:
            kill_at(number, str(data))
            work()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)


def kill_everywhere(
    make: Callable[[Path], None], work: Callable[[Path], None], folder: Path, step: int
) -> None:
    """Kill the work at each of its changes, or at every nth; the next start finds all of it or nothing."""
    make(folder / "before")
    shutil.copytree(folder / "before", folder / "undisturbed")
    before = content(folder / "undisturbed")
    assert not run_killed(1_000_000, folder / "undisturbed", lambda: work(folder / "undisturbed"))
    after = content(folder / "undisturbed")
    assert after != before
    outcomes = []
    for number in itertools.count(1, step):
        data = folder / str(number)
        shutil.copytree(folder / "before", data)
        killed = run_killed(number, data, partial(work, data))
        found = content(data)
        assert found in (before, after), number
        outcomes.append(found == after)
        if not killed:
            break
    # Nothing up to the commit, everything from then on; both happened.
    assert outcomes == sorted(outcomes)
    assert outcomes.count(False) > 1
    assert outcomes.count(True) > (step == 1)


STEPS = pytest.mark.parametrize("step", [5, pytest.param(1, marks=pytest.mark.slow)])


@pytest.fixture
def snapshot(tmp_path: Path) -> bytes:
    service = make_service(tmp_path / "origin")
    add_job(service, 11, "saved")
    write(tmp_path / "origin", buckets__both__a="saved", buckets__new__b="saved", models__m__x="saved")
    file = io.BytesIO()
    service.state.save(file)
    close(service)
    return file.getvalue()


def make_old(data: Path) -> None:
    service = make_service(data)
    add_job(service, 7, "old")
    write(data, buckets__both__a="old", buckets__both__c="old", buckets__gone__d="old", models__n__y="old")
    close(service)


@STEPS
def test_snapshot_is_loaded_or_not(tmp_path: Path, snapshot: bytes, step: int) -> None:
    def load(data: Path) -> None:
        make_service(data).state.load(io.BytesIO(snapshot))

    kill_everywhere(make_old, load, tmp_path, step)


@STEPS
def test_seed_is_loaded_or_not(tmp_path: Path, step: int) -> None:
    seed = tmp_path / "seed"
    write(seed, buckets__both__a="seed", buckets__both__deep__e="seed", buckets__new__b="seed")
    job = {
        "name": f"{PARENT}/batchPredictionJobs/77",
        "state": "JOB_STATE_FAILED",
        "model": f"{PARENT}/models/pets",
    }
    other = {**job, "name": f"{PARENT}/batchPredictionJobs/78"}
    lines = [
        json.dumps({"parent": PARENT, "batchPredictionJob": one | {"createTime": "2024-01-02T03:04:05Z"}})
        for one in (job, other)
    ]
    (seed / "jobs.jsonl").write_text("\n".join(lines))
    (seed / "control.json").write_text(
        '{"projects": {"p": {"pace": "immediate"}}, "faults": [{"on": "rpc", "code": 7}]}'
    )

    def start(data: Path) -> None:
        make_service(data, seed).state.seed_if_new()

    kill_everywhere(make_old, start, tmp_path, step)


@STEPS
def test_reset_is_done_or_not(tmp_path: Path, step: int) -> None:
    def reset(data: Path) -> None:
        make_service(data).state.reset(None, to_seed=False, buckets=None)

    kill_everywhere(make_old, reset, tmp_path, step)


def test_a_start_leaves_alone_what_a_living_server_replaces(tmp_path: Path) -> None:
    make_old(tmp_path)
    service = make_service(tmp_path)
    with service.state._replacements.begin() as replacement:
        write(replacement.stage("buckets"), both__a="new")
        replacement.swap(["buckets"])
        other = make_service(tmp_path)
        assert (tmp_path / "buckets" / "both" / "a").read_text() == "new"
        with pytest.raises(FailedPrecondition, match="Another server on this data folder"):
            other.state.reset(None, to_seed=False, buckets=None)
        replacement.undo()
    close(other)
    close(service)
    assert (tmp_path / "buckets" / "both" / "a").read_text() == "old"


# A server that is killed at the nth of some changes.
KILLED_SERVER = """
import sys
from emulator.cli import main
from tests.control.test_control_killed import kill_at
kill_at(int(sys.argv.pop(1)), sys.argv.pop(1), sys.argv.pop(1).split())
main()
"""


@contextmanager
def serving_until_killed(data: Path, number: int, marks: str, events: str) -> Iterator[str]:
    command = [sys.executable, "-c", KILLED_SERVER, str(number), marks, events]
    command += ["serve", "--port", "0", "--no-grpc", "--no-bundled-models", "--data-dir", str(data)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])
    assert server.stdout is not None
    with server:
        try:
            yield server.stdout.readline().split()[-1]
            assert server.wait(timeout=60) == -signal.SIGKILL
        finally:
            server.kill()


@pytest.mark.parametrize(
    ("number", "marks", "events", "counts"),
    [
        (2, ".vbe-swap-", "os.rename", False),
        pytest.param(1, "replacement.json", "os.rename", False, marks=pytest.mark.slow),
        pytest.param(5, ".vbe-swap-", "os.rename", False, marks=pytest.mark.slow),
        pytest.param(1, ".vbe-swap-old", "os.rmdir", True, marks=pytest.mark.slow),
        pytest.param(1, "replacement.json", "os.remove", True, marks=pytest.mark.slow),
    ],
)
def test_server_that_is_killed_while_it_loads(
    tmp_path: Path, snapshot: bytes, number: int, marks: str, events: str, counts: bool
) -> None:
    """A real server, over HTTP: after the restart the old state is there, or the snapshot's."""
    data = tmp_path / "data"
    make_old(data)
    with serving_until_killed(data, number, marks, events) as url:
        request = urllib.request.Request(f"{url}/_emulator/snapshot", snapshot, method="PUT")
        with pytest.raises(OSError):
            urllib.request.urlopen(request, timeout=60)
    with serving(tmp_path) as (_, url):
        jobs = call(f"{url}/v1/{PARENT}/batchPredictionJobs")["batchPredictionJobs"]
        assert [job["displayName"] for job in jobs] == ["saved" if counts else "old"]
        buckets = call(f"{url}/storage/v1/b?project=p")["items"]
        assert [bucket["name"] for bucket in buckets] == (["both", "new"] if counts else ["both", "gone"])
        with urllib.request.urlopen(f"{url}/both/a", timeout=60) as answer:
            assert answer.read() == (b"saved" if counts else b"old")
    assert not list(data.rglob(".vbe-swap-*"))
    assert (data / "models" / ("m" if counts else "n")).is_dir()
