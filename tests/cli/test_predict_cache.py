"""`vertex-emulator predict` and the prediction cache of a data folder."""

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from emulator.cli import build
from tests.execution.workplace import write_tiny_model, write_video


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_tiny_model(tmp_path / "models" / "tiny")
    write_video(tmp_path / "clip.mp4")
    return tmp_path / "data"


def predict(data: Path, *more: str) -> Result:
    models, clip = data.parent / "models", data.parent / "clip.mp4"
    arguments = ["predict", "tiny", str(clip), "--models-dirs", str(models), "--data-dir", str(data), *more]
    result = CliRunner().invoke(build(), arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result


def test_a_data_folder_that_is_there_has_a_cache(data: Path) -> None:
    data.mkdir()
    first = predict(data)
    second = predict(data, "--confidence-threshold", "0.5")
    assert first.stdout == second.stdout
    assert "from the cache" not in first.stderr
    assert "10 of 10 grid points from the cache." in second.stderr
    without = predict(data, "--prediction-cache-mb", "0")
    assert (without.stdout, without.stderr) == (first.stdout, first.stderr)


def test_no_data_folder_is_made_for_it(data: Path) -> None:
    for _ in range(2):
        assert "from the cache" not in predict(data).stderr
    assert not (data / "cache").exists()
