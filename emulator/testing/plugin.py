"""The pytest plugin: fixtures over a server that starts with the first test that needs it.

It is loaded with every pytest of an environment that has the emulator, so it imports next to nothing before.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from emulator.testing import Canned, Faults, Pace, Server, VertexEmulator
    from emulator.testing.guard import Guard

_GUARD_OPTION = "vertex_emulator_guard"
_GUARD_CHOICES = ("used", "always", "off")
_XDIST_WORKERS = "PYTEST_XDIST_WORKER_COUNT"
_LOG_KEY = pytest.StashKey["_Log"]()
_GUARD_KEY = pytest.StashKey["Guard"]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addini(
        _GUARD_OPTION,
        "Refuse connections to real Google hosts: in tests that have used the emulator (used), in every test"
        " (always), or never (off).",
        default=_GUARD_CHOICES[0],
    )


def pytest_configure(config: pytest.Config) -> None:
    chosen = config.getini(_GUARD_OPTION)
    if chosen not in _GUARD_CHOICES:
        raise pytest.UsageError(f"{_GUARD_OPTION} = {chosen}: choose one of {', '.join(_GUARD_CHOICES)}.")


@pytest.fixture(scope="session")
def vertex_emulator_settings() -> dict[str, Any]:
    """Override it to give the server settings, by their keys in docs/settings.md."""
    return {}


@pytest.fixture(scope="session")
def vertex_emulator_server(
    vertex_emulator_settings: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """The server of this session, in a process of its own; with xdist, one for each of its workers."""
    from emulator.testing import serve

    parallel = int(os.environ.get(_XDIST_WORKERS, "1"))
    usual: dict[str, Any] = {"workers": 1} if parallel > 1 else {}
    folder = tmp_path_factory.mktemp("vertex-emulator")
    with serve({**usual, **vertex_emulator_settings}, folder=folder) as server:
        yield server


@pytest.fixture(scope="session")
def _vertex_emulator_runs() -> Counter[str]:
    """How often each test was run, for those that are run again."""
    return Counter()


@pytest.fixture
def vertex_emulator(
    request: pytest.FixtureRequest,
    vertex_emulator_server: Server,
    _vertex_emulator_runs: Counter[str],
    tmp_path_factory: pytest.TempPathFactory,
    google_guard: Guard,  # noqa: ARG001
) -> Iterator[VertexEmulator]:
    """A project of the test's own on the session's server, with environment and SDK pointed at it."""
    from emulator.testing import VertexEmulator, Videos
    from emulator.testing.vertex import pointed_here

    request.node.stash[_LOG_KEY] = _Log(vertex_emulator_server.log)
    videos = Videos(_shared_folder(tmp_path_factory) / "vertex-emulator-videos")
    _vertex_emulator_runs[request.node.nodeid] += 1
    project = _project(request.node.nodeid, _vertex_emulator_runs[request.node.nodeid])
    emulator = VertexEmulator(vertex_emulator_server, project, videos)
    try:
        with pointed_here(emulator):
            yield emulator
    finally:
        emulator.close()


@pytest.fixture
def pace(vertex_emulator: VertexEmulator) -> Pace:
    """How fast the test's jobs go: `pace("pending=2,running=3")`, `pace.hold()`, `pace.release(job)`."""
    return vertex_emulator.pace


@pytest.fixture
def canned(vertex_emulator: VertexEmulator) -> Canned:
    """Models that answer what the test says: `model = canned(video)`."""
    return vertex_emulator.canned


@pytest.fixture
def faults(vertex_emulator: VertexEmulator) -> Faults:
    """Failures on demand: `fault = faults.rpc("Get*", code="UNAVAILABLE", times=2)`, then `fault.fired`."""
    return vertex_emulator.faults


@pytest.fixture
def google_guard(request: pytest.FixtureRequest) -> Iterator[Guard]:
    """Fails a test that tries to reach a real Google host. It knows who was `refused`, and can `forget()`."""
    from emulator.testing.guard import Guard

    guard = request.node.stash[_GUARD_KEY] = Guard(_fail_at_once)
    if request.config.getini(_GUARD_OPTION) == "off":
        yield guard
        return
    with guard.active():
        yield guard
    if guard.refused:
        pytest.fail(_complaint(guard.refused), pytrace=False)


def pytest_itemcollected(item: pytest.Item) -> None:
    """Put every test under the guard when that was asked for."""
    names = getattr(item, "fixturenames", None)
    if names is not None and item.config.getini(_GUARD_OPTION) == "always" and "google_guard" not in names:
        names.insert(0, "google_guard")


def _fail_at_once(host: str) -> None:
    """In the test's own thread there is no need to wait for what the client makes of a refusal."""
    if threading.current_thread() is threading.main_thread():
        pytest.fail(_complaint([host]))


def _complaint(hosts: Sequence[str]) -> str:
    from emulator.testing.guard import REMEDY

    return f"The test tried to reach {', '.join(hosts)}. {REMEDY}"


def _project(node_id: str, run: int) -> str:
    """A project id of its own for each run of a test, the same every day, of the form that Google's have."""
    return f"test-{hashlib.sha256(node_id.encode()).hexdigest()[:12]}-{run}"


def _shared_folder(factory: pytest.TempPathFactory) -> Path:
    """A folder of this run that xdist's workers share."""
    base = factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


class _Log:
    """What the server writes from now on, a piece at a time."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._read = file.stat().st_size

    def news(self) -> str:
        with self._file.open("rb") as log:
            log.seek(self._read)
            text = log.read()
            self._read = log.tell()
        return text.decode(errors="replace").strip()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, Any]:
    """Show with a failure, be it a fixture's, who was refused and what the server wrote meanwhile."""
    report = yield
    if report.failed:
        report.sections += _refused(item.stash.get(_GUARD_KEY, None), report.longreprtext)
        log = item.stash.get(_LOG_KEY, None)
        if log is not None and (text := log.news()):
            report.sections.append(("Vertex emulator's log", text))
    return report


def _refused(guard: Guard | None, told: str) -> list[tuple[str, str]]:
    """What a failed test has to say of the guard, unless it is told already; it need not fail once more."""
    if guard is None or not guard.refused:
        return []
    complaint = _complaint(guard.refused)
    guard.forget()
    return [] if complaint in told else [("Google guard", complaint)]


def pytest_assertrepr_compare(op: str, left: object, right: object) -> list[str] | None:
    """Explain expectations that predictions do not meet."""
    import sys

    expectations = sys.modules.get("emulator.testing.expectations")
    if expectations is None:
        return None
    lines: list[str] | None = expectations.explain(op, left, right)
    return lines
