"""The server process must stay free of native code; only workers load it."""

import subprocess
import sys
from pathlib import Path

SERVER_MODULES = (
    "dispatcher",
    "runner",
    "executor",
    "queues",
    "processes",
    "inline",
    "channel",
    "workbench",
    "shards",
    "inputs",
    "output",
    "owner",
    "local",
)


def test_server_modules_import_no_native_inference() -> None:
    imports = ", ".join(f"emulator.execution.{module}" for module in SERVER_MODULES)
    script = f"import sys, {imports}; print(*{{'cv2', 'numpy', 'onnxruntime', 'lap'}} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    assert done.stdout.split() == []
