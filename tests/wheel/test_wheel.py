"""The built wheel in fresh environments, outside the repository: it is complete, and pages run with it.

Needs a package registry and minutes, so `make test-wheel` asks for it.
"""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.docs import test_readme as readme
from tests.docs.pages import runs
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
    uv, python = Path(sys.executable).with_name("uv"), tmp_path / "venv" / "bin" / "python"
    run(uv, "venv", "--quiet", "--python", sys.executable, tmp_path / "venv")
    plugins = ("pytest-xdist", "pytest-asyncio", "freezegun", "time-machine")
    run(uv, "pip", "install", "--quiet", "--python", python, wheel, sdk, "pytest", *plugins)
    work = tmp_path / "work"
    work.mkdir()
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PYTEST"))
    }
    passed = run_page(python, work, environment)
    assert {name for name, text in blocks().items() if "def test_" in text} <= set(passed)
    place = run(python, "-c", "import emulator; print(emulator.__file__)")
    assert Path(place.strip()).is_relative_to(tmp_path)


@runs(readme.INSTALL, readme.SDK)
def test_readme_leads_from_a_checkout_to_a_test_of_one_s_own_pipeline(tmp_path: Path) -> None:
    checkout = tmp_path / "checkout"
    for file in run("git", "-C", ROOT, "ls-files", "--cached").splitlines():
        (checkout / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / file, checkout / file)
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTHON", "PYTEST", "VIRTUAL"))
    }
    environment["PIP_NO_COMPILE"] = "0"  # which pip reads as --no-compile
    installed = "pip install --quiet pytest"
    readme.run_script(
        f"{readme.INSTALL.text}{readme.SDK.text}{installed}", checkout, environment, timeout_s=1500
    )
    environment["PATH"] = f"{checkout / '.venv' / 'bin'}{os.pathsep}{environment['PATH']}"
    work = tmp_path / "work"
    work.mkdir()
    assert "cat 1.200s 3.400s" in readme.first_job(work, environment)
    readme.write_tests(work)
    assert " passed" in readme.run_script("python -m pytest -q", work, environment)
