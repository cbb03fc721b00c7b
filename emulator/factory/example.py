"""`python -m emulator.factory.example NAME FILE` renders a documented clip that browsers can play."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from emulator.factory.documentation import documentation_clip
from emulator.factory.figures import action_documentation_clip
from emulator.factory.scene import Clip, render

CLIPS: Mapping[str, Callable[[], Clip]] = {
    "object-tracking": documentation_clip,
    "action-recognition": action_documentation_clip,
}
# Browsers play VP8 in WebM. They do not play mp4v, and VP9 takes more than ten times as long to write.
SUFFIX = ".webm"
CODEC = "VP80"


def main(name: str, path: str) -> None:
    """Render a clip into a file, and write its truth next to it."""
    render(CLIPS[name](), Path(path), codec=CODEC).write(path)


if __name__ == "__main__":
    main(*sys.argv[1:])
