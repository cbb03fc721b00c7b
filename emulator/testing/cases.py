"""A mixin for `unittest` that gives each test of a class its own corner on the class's server."""

from __future__ import annotations

import tempfile
import unittest
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from emulator.testing.control import complaint_of_faults
from emulator.testing.google_guard import Guard, Refusal, complaint
from emulator.testing.server import Server, serve
from emulator.testing.vertex import VertexEmulator
from emulator.testing.videos import Videos

if TYPE_CHECKING:
    _Base = unittest.TestCase
else:
    _Base = object


class VertexEmulatorMixin(_Base):
    """`class MyTest(VertexEmulatorMixin, unittest.TestCase)`: `self.emulator` is the test's own corner.

    The environment and the SDK point at it, and the guard is active. vertex_emulator_project fixes its
    project id, vertex_emulator_transport is `grpc` or `rest`, vertex_emulator_settings are the server's.
    """

    vertex_emulator_project: ClassVar[str | None] = None
    vertex_emulator_transport: ClassVar[str] = "grpc"
    vertex_emulator_settings: ClassVar[Mapping[str, Any]] = {"workers": 1}

    vertex_emulator_server: ClassVar[Server]
    _vertex_emulator_folder: ClassVar[Path]
    emulator: VertexEmulator

    @classmethod
    def setUpClass(cls) -> None:
        """Start the server of the class."""
        super().setUpClass()
        folder = cls.enterClassContext(tempfile.TemporaryDirectory(prefix="vertex-emulator-"))
        cls._vertex_emulator_folder = Path(folder)
        cls.vertex_emulator_server = cls.enterClassContext(
            serve(cls.vertex_emulator_settings, folder=Path(folder))
        )

    def setUp(self) -> None:
        """Open the test's corner; it is closed and checked after tearDown."""
        super().setUp()
        guard = Guard(_fail)
        self.enterContext(guard.active())
        self.addCleanup(self._check_guard, guard)
        bucket = f"test-{len(self.vertex_emulator_server.corner_buckets) + 1}"
        self.emulator = VertexEmulator(
            self.vertex_emulator_server,
            self.vertex_emulator_project or bucket,
            Videos(self._vertex_emulator_folder / "videos"),
            bucket=bucket,
            transport=self.vertex_emulator_transport,
        )
        self.addCleanup(self._close)
        self.emulator.point()

    def _close(self) -> None:
        never_fired = self.emulator.faults.never_fired()
        self.emulator.close()
        if never_fired:
            self.fail(complaint_of_faults(never_fired))

    def _check_guard(self, guard: Guard) -> None:
        if guard.refusals:
            self.fail(complaint(guard.refusals))


def _fail(refusal: Refusal) -> None:
    raise AssertionError(complaint([refusal]))
