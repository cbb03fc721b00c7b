"""The emulator in tests: a server in a process of its own, and words for what a test says about it.

With pytest nothing needs importing but the expectations: the plugin (`emulator.testing.plugin`) provides the
fixtures. With unittest, `VertexEmulatorMixin` does. Without either, `serve()` gives a server and
`VertexEmulator` the rest. Nothing heavy is imported before it is used.
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
