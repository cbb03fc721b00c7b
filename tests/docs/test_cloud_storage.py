"""The examples of docs/cloud-storage.md run as they stand, but for the port."""

import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from emulator.app import Emulator
from emulator.config import Settings

TEXT = (Path(__file__).parents[2] / "docs" / "cloud-storage.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An emulator without models."""
    settings = Settings(port=0, data_dir=tmp_path_factory.mktemp("docs"), bundled_models=False, workers=1)
    with Emulator(settings) as emulator:
        yield emulator.url


def test_examples_run(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", url)
    (example,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    exec(compile(example, "docs/cloud-storage.md", "exec"), {})
    assert capsys.readouterr().out == "['videos/a.txt']\n"
    if shutil.which("curl") is None:
        pytest.skip("needs curl")
    (tmp_path / "input.jsonl").write_text("a line")
    up, down = re.findall(r"`(curl [^`]*)`", TEXT)
    for command in (up, down):
        words = shlex.split(command.replace("http://127.0.0.1:8080", url).replace("curl", "curl -sf", 1))
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "a line"
