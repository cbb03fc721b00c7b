"""The pytest plugin: fixtures over a server that starts with the first test that needs it.

Every pytest run loads it if the emulator is installed, so it imports next to nothing at first.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from emulator.testing import Canned, Faults, Pace, Server, VertexEmulator, Videos
    from emulator.testing.google_guard import Guard, Refusal

_GUARD_OPTION = "vertex_emulator_guard"
_GUARD_CHOICES = ("used", "always", "off")
_KEEP_OPTION = "vertex_emulator_keep"
_KEEP_CHOICES = ("never", "failed")
_TRANSPORT_OPTION = "vertex_emulator_transport"
_TRANSPORTS = ("grpc", "rest")
_PROJECT_OPTION = "vertex_emulator_project"
_XDIST_WORKERS = "PYTEST_XDIST_WORKER_COUNT"
_LOG_KEY = pytest.StashKey["_Log"]()
_GUARD_KEY = pytest.StashKey["Guard"]()
_CORNER_KEY = pytest.StashKey["VertexEmulator"]()
_FAILED_KEY = pytest.StashKey[bool]()
_KEPT_KEY = pytest.StashKey[str]()
_WIDE_GUARDS_KEY = pytest.StashKey["list[Guard]"]()
_SCOPE_HINT = (
    "`vertex_emulator` is one test's own. For a class, a module or a session open a corner with"
    " `vertex_emulator_factory`."
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addini(
        _GUARD_OPTION,
        "Refuse connections to real Google hosts: in tests that have used the emulator (used), in every test"
        " (always), or never (off).",
        default=_GUARD_CHOICES[0],
    )
    parser.addini(
        _KEEP_OPTION,
        "Keep the jobs of failed tests to be looked at in the console (failed), or of none (never).",
        default=_KEEP_CHOICES[0],
    )
    parser.getgroup("vertex-emulator").addoption(
        "--vertex-emulator-keep",
        action="store_const",
        const="failed",
        dest=_KEEP_OPTION,
        help="Keep the jobs of failed tests, and say how to look at them in the console.",
    )
    parser.addini(
        _TRANSPORT_OPTION,
        "What the SDK and the fixtures' clients speak: grpc, as in production, or rest.",
        default=_TRANSPORTS[0],
    )
    parser.addini(
        _PROJECT_OPTION,
        "The project id of vertex_emulator; by default each test has one of its own.",
        default="",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_WIDE_GUARDS_KEY] = []
    for option, choices in (
        (_GUARD_OPTION, _GUARD_CHOICES),
        (_KEEP_OPTION, _KEEP_CHOICES),
        (_TRANSPORT_OPTION, _TRANSPORTS),
    ):
        chosen = config.getini(option)
        if chosen not in choices:
            raise pytest.UsageError(f"{option} = {chosen}: choose one of {', '.join(choices)}.")
    if project := config.getini(_PROJECT_OPTION):
        from emulator.vertex.errors import ApiError
        from emulator.vertex.names import check_project

        try:
            check_project(project, field=_PROJECT_OPTION)
        except ApiError as error:
            raise pytest.UsageError(f"{_PROJECT_OPTION} = {project}: {error.message}") from None


def _keeps(config: pytest.Config) -> bool:
    """Whether the jobs of failed tests are kept."""
    return "failed" in (config.getoption(_KEEP_OPTION), config.getini(_KEEP_OPTION))


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
def vertex_emulator_project(pytestconfig: pytest.Config) -> str | None:
    """The project id of `vertex_emulator`. Override it to fix one; None gives each test its own."""
    return str(pytestconfig.getini(_PROJECT_OPTION)) or None


@pytest.fixture(scope="session")
def vertex_emulator_transport(pytestconfig: pytest.Config) -> str:
    """The transport of the SDK and the fixtures' clients, `grpc` or `rest`. Override it to choose."""
    return str(pytestconfig.getini(_TRANSPORT_OPTION))


@pytest.fixture(scope="session")
def _vertex_emulator_corners(
    vertex_emulator_server: Server, tmp_path_factory: pytest.TempPathFactory
) -> _Corners:
    from emulator.testing import Videos

    videos = Videos(_shared_folder(tmp_path_factory) / "vertex-emulator-videos")
    return _Corners(vertex_emulator_server, videos)


@pytest.fixture
def vertex_emulator(
    request: pytest.FixtureRequest,
    _vertex_emulator_corners: _Corners,
    vertex_emulator_project: str | None,
    vertex_emulator_transport: str,
    google_guard: Guard,  # noqa: ARG001
) -> Iterator[VertexEmulator]:
    """The test's own corner on the session's server, with environment and SDK pointed at it."""
    node = request.node
    node.stash[_LOG_KEY] = _Log(_vertex_emulator_corners.server.log)
    keeps = _keeps(request.config)
    with _vertex_emulator_corners.open(
        node.nodeid,
        vertex_emulator_project,
        vertex_emulator_transport,
        keep=lambda: keeps and node.stash.get(_FAILED_KEY, False),
    ) as emulator:
        node.stash[_CORNER_KEY] = emulator
        if keeps:
            node.stash[_KEPT_KEY] = _how_to_look(emulator)
        yield emulator
        never_fired = [] if node.stash.get(_FAILED_KEY, False) else emulator.faults.never_fired()
    _fail_for(never_fired)


@pytest.fixture(scope="session")
def vertex_emulator_factory(
    _vertex_emulator_corners: _Corners, vertex_emulator_transport: str, pytestconfig: pytest.Config
) -> Callable[..., AbstractContextManager[VertexEmulator]]:
    """Opens corners for fixtures of wider scopes: `with vertex_emulator_factory() as emulator:`.

    `project` fixes its project id.
    """

    @contextmanager
    def factory(project: str | None = None) -> Iterator[VertexEmulator]:
        current = os.environ.get("PYTEST_CURRENT_TEST", "").rpartition(" ")[0]
        chosen = project or str(pytestconfig.getini(_PROJECT_OPTION)) or None
        corner = _vertex_emulator_corners.open(f"{current} factory", chosen, vertex_emulator_transport)
        with _wide_guard(pytestconfig), corner as emulator:
            yield emulator
            never_fired = emulator.faults.never_fired()
        _fail_for(never_fired)

    return factory


class _Corners:
    """Opens corners on a server, each under its own name."""

    def __init__(self, server: Server, videos: Videos) -> None:
        self.server = server
        self._videos = videos
        # A test may be run again.
        self._runs: Counter[str] = Counter()

    @contextmanager
    def open(
        self, name: str, project: str | None, transport: str, *, keep: Callable[[], bool] = lambda: False
    ) -> Iterator[VertexEmulator]:
        """Open a corner. `keep` tells at the end whether its jobs, models and buckets stay."""
        from emulator.testing import VertexEmulator

        self._runs[name] += 1
        own = _own_name(name, self._runs[name])
        emulator = VertexEmulator(self.server, project or own, self._videos, bucket=own, transport=transport)
        try:
            emulator.point()
            yield emulator
        finally:
            emulator.close(keep=keep())


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
    """Fails a test that tries to reach a real Google host. `refused` lists hosts; `forget()` clears it."""
    from emulator.testing.google_guard import Guard, complaint

    guard = request.node.stash[_GUARD_KEY] = Guard(_fail_at_once)
    if request.config.getini(_GUARD_OPTION) == "off":
        yield guard
        return
    with guard.active():
        yield guard
    if guard.refusals:
        pytest.fail(complaint(guard.refusals), pytrace=False)


@contextmanager
def _wide_guard(config: pytest.Config) -> Iterator[None]:
    """A guard for longer than a test. It fails each test in which it refuses something."""
    from emulator.testing.google_guard import Guard

    if config.getini(_GUARD_OPTION) == "off":
        yield
        return
    guard = Guard(_fail_at_once)
    with guard.active():
        config.stash[_WIDE_GUARDS_KEY].append(guard)
        try:
            yield
        finally:
            config.stash[_WIDE_GUARDS_KEY].remove(guard)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, Any, Any]:
    """Tell the guards of wider scopes that another test begins."""
    for guard in item.config.stash[_WIDE_GUARDS_KEY]:
        guard.begin_test()
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    """Fail a test in which a guard of a wider scope has refused something."""
    result = yield
    refusals = [one for guard in item.config.stash[_WIDE_GUARDS_KEY] for one in guard.refusals]
    if refusals:
        from emulator.testing.google_guard import complaint

        for guard in item.config.stash[_WIDE_GUARDS_KEY]:
            guard.forget()
        pytest.fail(complaint(refusals), pytrace=False)
    return result


def pytest_itemcollected(item: pytest.Item) -> None:
    """Put every test under the guard if the option asks for it."""
    names = getattr(item, "fixturenames", None)
    if names is not None and item.config.getini(_GUARD_OPTION) == "always" and "google_guard" not in names:
        names.insert(0, "google_guard")


def _fail_at_once(refusal: Refusal) -> None:
    """Fail at once in the test's own thread, without waiting for the client's reaction to the refusal."""
    if threading.current_thread() is threading.main_thread():
        from emulator.testing.google_guard import complaint

        pytest.fail(complaint([refusal]))


def _fail_for(never_fired: Sequence[str]) -> None:
    if never_fired:
        from emulator.testing.control import complaint_of_faults

        pytest.fail(complaint_of_faults(never_fired), pytrace=False)


def _own_name(name: str, run: int) -> str:
    """A name for each run of a test, the same in every session, and valid for a project and a bucket."""
    return f"test-{hashlib.sha256(name.encode()).hexdigest()[:12]}-{run}"


def _shared_folder(factory: pytest.TempPathFactory) -> Path:
    """A folder of this run that xdist's workers share."""
    base = factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


class _Log:
    """Reads the server's log in pieces: each time what is new."""

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
    """Show with a failure, a fixture's too, which hosts were refused, which faults never fired, and what
    the server logged meanwhile."""
    report = yield
    if report.failed:
        item.stash[_FAILED_KEY] = True
        report.sections += _sections(item, report.longreprtext)
    return report


def _sections(item: pytest.Item, told: str) -> Iterator[tuple[str, str]]:
    if kept := item.stash.get(_KEPT_KEY, None):
        yield "Vertex emulator", kept
    own = item.stash.get(_GUARD_KEY, None)
    for guard in [*([own] if own else []), *item.config.stash[_WIDE_GUARDS_KEY]]:
        yield from _refused(guard, told)
    corner = item.stash.get(_CORNER_KEY, None)
    if corner is not None and (never_fired := _never_fired(corner)):
        yield "Faults that never fired", "\n".join(never_fired)
    if "ScopeMismatch" in told and "vertex_emulator" in told:
        yield "Vertex emulator", _SCOPE_HINT
    log = item.stash.get(_LOG_KEY, None)
    if log is not None and (text := log.news()):
        yield "Vertex emulator's log", text


def _how_to_look(emulator: VertexEmulator) -> str:
    """How to view the jobs of a test, which ended with the server."""
    server = emulator.server
    port = server.url.rpartition(":")[2]
    return (
        f"Jobs: {server.url}/console/{emulator.parent}/batch-predictions\n"
        "The server has ended with the tests. Start it again, and this link and those above work:\n"
        f"vertex-emulator serve --config {server.log.with_name('emulator.toml')} --port {port}"
    )


def _never_fired(corner: VertexEmulator) -> list[str]:
    from emulator.testing.control import ControlError

    try:
        return corner.faults.never_fired()
    except (OSError, ControlError):  # the server may be what failed, or the corner is closed
        return []


def _refused(guard: Guard, told: str) -> Iterator[tuple[str, str]]:
    """The guard's sections for a failed test, unless its own message has them; it does not fail twice."""
    from emulator.testing.google_guard import complaint

    refusals, strays = guard.refusals, guard.strays
    guard.forget()
    if any(f"tried to reach {one.host}" not in told for one in refusals):
        yield "Google guard", complaint(refusals)
    if strays:
        yield "Google guard, threads of earlier tests", "\n".join(map(str, strays))


def pytest_assertrepr_compare(
    config: pytest.Config, op: str, left: object, right: object
) -> list[str] | None:
    """Explain expectations that predictions do not meet, and link to them in the console."""
    import sys

    expectations = sys.modules.get("emulator.testing.expectations")
    if expectations is None:
        return None
    lines: list[str] | None = expectations.explain(op, left, right)
    if lines is not None and (link := expectations.link_to_difference(left, right)):
        lines.append(f"on the video: {link}")
        if not _keeps(config):
            lines.append("the page goes with the test; --vertex-emulator-keep keeps it")
    return lines
