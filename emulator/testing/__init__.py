"""The emulator in tests: a server in its own process, and helpers for what a test asserts about it.

With pytest, only the expectations need an import: the plugin (`emulator.testing.plugin`) provides the
fixtures. With unittest, use `VertexEmulatorMixin`. Without either, `serve()` starts a server and
`VertexEmulator` provides the rest. Heavy modules are imported only when they are used.
"""

from emulator.comparison.matching import Action, Label, Track
from emulator.testing.cases import VertexEmulatorMixin
from emulator.testing.control import Canned, Control, ControlError, Fault, Faults, Pace
from emulator.testing.expectations import Predictions, action, label, track
from emulator.testing.server import Server, ServerDied, serve
from emulator.testing.vertex import VertexEmulator
from emulator.testing.videos import Video, Videos

__all__ = [
    "serve",
    "Server",
    "ServerDied",
    "VertexEmulator",
    "VertexEmulatorMixin",
    "Video",
    "Videos",
    "track",
    "action",
    "label",
    "Track",
    "Action",
    "Label",
    "Predictions",
    "Control",
    "ControlError",
    "Pace",
    "Canned",
    "Faults",
    "Fault",
]
