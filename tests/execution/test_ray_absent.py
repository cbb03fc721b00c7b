"""Ray is imported only by processes that need it, and asked for with words where it is missing."""

import subprocess
import sys
from pathlib import Path

import pytest

from emulator.app import CannotStart, Emulator
from emulator.config import Settings
from tests.execution.ray_cluster import has_ray

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "module", ["emulator", "emulator.app", "emulator.cli", "emulator.execution.ray_executor"]
)
def test_no_module_of_the_server_imports_ray(module: str) -> None:
    script = f"import sys, {module}; print([name for name in sys.modules if name.partition('.')[0] == 'ray'])"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.strip() == "[]"


def test_a_server_with_another_executor_imports_no_ray(tmp_path: Path) -> None:
    script = (
        "import sys\nfrom pathlib import Path\n"
        "from emulator.app import Emulator\nfrom emulator.config import Settings\n"
        "with Emulator(Settings(port=0, data_dir=Path(sys.argv[1]))) as emulator:\n"
        "    emulator.wait_until_ready()\n"
        "    print([name for name in sys.modules if name.partition('.')[0] == 'ray'])\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "data")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


@pytest.mark.skipif(has_ray, reason="Ray is installed")
def test_without_ray_the_server_says_what_to_install(tmp_path: Path) -> None:
    emulator = Emulator(Settings(port=0, data_dir=tmp_path / "data", executor="ray"))
    with pytest.raises(CannotStart, match=r"pip install 'vertex-batch-emulator\[ray\]'"):
        emulator.start()
    assert list((tmp_path / "data" / "buckets").iterdir()) == []
