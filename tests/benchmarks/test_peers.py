"""What happens with a system that does not run here: it is left out, and the others are measured."""

import sys
from pathlib import Path

import bench_peers
import pytest
from bench_peers import PeerFailed, installed, running
from peers import PeerJob, Took, timed

JOB = PeerJob(
    video="clip.mp4",
    every=1,
    model_folder="model",
    columns_graph="columns.onnx",
    image_size=416,
    least_score=0.1,
    nms_iou=0.5,
)


@pytest.fixture(autouse=True)
def this_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """That of the tests, which has neither ultralytics nor trackers."""
    monkeypatch.setattr(bench_peers, "ENVIRONMENT", Path(sys.prefix))


def test_a_peer_that_cannot_start_is_told_from_one_that_runs() -> None:
    with pytest.raises(PeerFailed, match="ultralytics did not get ready"), running("ultralytics", JOB):
        pass


def test_what_cannot_be_installed_is_left_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench_peers, "PACKAGES", {"not_a_module": [str(tmp_path / "missing.whl")]})

    assert not installed("not_a_module")

    assert "not_a_module is left out" in capsys.readouterr().err


def test_a_run_is_timed_and_its_boxes_counted() -> None:
    took = timed(lambda: sum(range(200_000)) * 0 + 7)

    assert isinstance(took, Took)
    assert took.boxes == 7
    assert 0 < took.cpu_s < took.wall_s + 1
