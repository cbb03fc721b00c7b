"""The built wheel in fresh environments, outside the repository: it is complete and docs/testing.md runs.

Needs a package registry and minutes, so `make test-wheel` asks for it.
"""

import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from tests.docs.test_testing import blocks, run_page

ROOT = Path(__file__).parents[2]
# The newest SDK, and one from 2024.
SDKS = ("google-cloud-aiplatform", "google-cloud-aiplatform==1.71.1")

pytestmark = pytest.mark.skipif(not os.environ.get("EMULATOR_TEST_WHEEL"), reason="run by `make test-wheel`")


def run(*command: object, timeout: int = 540) -> str:
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, timeout=timeout, check=False, cwd="/"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", folder, ROOT)
    (built,) = folder.glob("*.whl")
    return built


def test_wheel_holds_all_that_is_no_python(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        held = set(archive.namelist())
    tracked = run("git", "-C", ROOT, "ls-files", "emulator").split()
    assert set(tracked) <= held
    for model in ("video-object-tracking", "video-action-recognition", "video-classification"):
        files = {f"emulator/_models/{model}/{name}" for name in ("model.toml", "model.onnx", "labels.txt")}
        assert files <= held
    outside = {name.partition("/")[0] for name in held if not name.startswith("emulator/")}
    assert [folder for folder in outside if not folder.endswith(".dist-info")] == []


@pytest.mark.parametrize("sdk", SDKS)
def test_recipes_run_with_what_is_installed(wheel: Path, sdk: str, tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", wheel, sdk, "pytest", "pytest-xdist")
    work = tmp_path / "work"
    work.mkdir()
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PYTEST"))
    }
    passed = run_page(python, work, environment)
    assert {name for name, text in blocks().items() if "def test_" in text} <= set(passed)
    place = run(python, "-c", "import emulator; print(emulator.__file__)")
    assert Path(place.strip()).is_relative_to(tmp_path)
