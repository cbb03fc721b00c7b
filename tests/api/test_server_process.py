"""What the server process loads: models and pixels are the workers' business."""

import subprocess
import sys
from pathlib import Path

PROGRAM = """
import sys, urllib.request
from pathlib import Path
from emulator.app import Emulator
from emulator.config import Settings

settings = Settings(port=0, data_dir=Path(sys.argv[1]), bundled_models=False, workers=1)
with Emulator(settings) as emulator:
    for path in ("v1/projects/p/locations/us-central1/models", "openapi.json", "docs"):
        assert urllib.request.urlopen(f"{emulator.url}/{path}", timeout=30).status == 200
    print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""


def test_server_process_loads_neither_numpy_nor_decoder_nor_models(tmp_path: Path) -> None:
    finished = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    loaded = set(finished.stdout.split())
    assert "fastapi" in loaded
    assert not loaded & {"numpy", "cv2", "onnxruntime", "lap", "typer", "rich"}
