"""Prediction without a server."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from emulator.execution.inputs import InputError
from emulator.execution.local import LocalRun
from emulator.execution.shards import ModelUse
from emulator.inference.manifest import ModelUnusable
from emulator.storage import GcsUri, LocalStore, StorageUnavailable
from emulator.vertex.parameters import ModelParameters
from tests.execution.executors import GoneStore
from tests.execution.workplace import line, write_video


class LeavingStore(LocalStore):
    """A store with code in it that ends its thread."""

    @contextmanager
    def local_path(self, uri: GcsUri) -> Iterator[Path]:
        with super().local_path(uri) as path:
            if path:
                sys.exit(f"{uri} is too much")
            yield path


@pytest.fixture
def local(tmp_path: Path, tiny_model: Path) -> LocalRun:
    return LocalRun(ModelUse(tiny_model, "cpu", 1), ModelParameters(), LocalStore(tmp_path / "buckets"))


def test_video_file_is_predicted_as_one_instance(local: LocalRun, tmp_path: Path) -> None:
    video = write_video(tmp_path / "a b.mp4")
    [outcome] = local.predict(str(video), (200_000, 400_000))
    found = json.loads(outcome.line)
    assert found["instance"] == {
        "content": str(video),
        "mimeType": "video/mp4",
        "timeSegmentStart": "0.200s",
        "timeSegmentEnd": "0.400s",
    }
    assert [frame["timeOffset"] for frame in found["prediction"][0]["frames"]] == ["0.200s", "0.300s"]


def test_instances_file_gives_what_a_job_gives(local: LocalRun, tmp_path: Path) -> None:
    write_video(tmp_path / "buckets" / "bucket" / "a.mp4")
    instances = tmp_path / "in.jsonl"
    instances.write_text("\n".join([line("a.mp4", "0.5s"), "{", line("missing.mp4"), line("a.mp4")]))
    outcomes = list(local.predict(str(instances)))
    assert [outcome.video for outcome in outcomes] == [None, 1, 1, 2]
    assert [outcome.failure is not None for outcome in outcomes] == [True, False, False, True]
    starts = [json.loads(outcome.line)["instance"]["timeSegmentStart"] for outcome in outcomes[1:3]]
    assert starts == ["0.5s", "0s"]
    assert json.loads(outcomes[3].line)["error"]["code"] == 5


def test_gcs_source_is_read_from_the_storage_folder(local: LocalRun, tmp_path: Path) -> None:
    write_video(tmp_path / "buckets" / "bucket" / "a.mp4")
    (tmp_path / "buckets" / "bucket" / "in.jsonl").write_text(line("a.mp4"))
    [from_list] = local.predict("gs://bucket/in.jsonl")
    [from_video] = local.predict("gs://bucket/a.mp4")
    assert json.loads(from_list.line)["prediction"] == json.loads(from_video.line)["prediction"]


def test_progress_is_told(local: LocalRun, tmp_path: Path) -> None:
    heard: list[tuple[int, int, int, int | None]] = []
    run = LocalRun(
        local.model, local.parameters, local.store, advance=lambda *progress: heard.append(progress)
    )
    list(run.predict(str(write_video(tmp_path / "a.mp4", 0.5))))
    assert heard == [(1, 1, done, 5) for done in range(1, 6)]


def test_missing_video_is_a_failed_outcome(local: LocalRun, tmp_path: Path) -> None:
    [outcome] = local.predict(str(tmp_path / "missing.mp4"))
    assert outcome.failure is not None
    assert "does not exist" in outcome.failure.message


def test_empty_instances_file_is_refused(local: LocalRun, tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").touch()
    with pytest.raises(InputError, match=r"in\.jsonl"):
        list(local.predict(str(tmp_path / "in.jsonl")))


def test_unusable_model_is_refused(local: LocalRun, tmp_path: Path) -> None:
    run = LocalRun(ModelUse(tmp_path / "nothing"), local.parameters, local.store)
    with pytest.raises(ModelUnusable, match=r"model\.toml"):
        list(run.predict(str(tmp_path / "a.mp4")))


def test_a_thread_that_is_ended_ends_the_run(local: LocalRun, tmp_path: Path) -> None:
    write_video(tmp_path / "buckets" / "bucket" / "a.mp4")
    run = LocalRun(local.model, local.parameters, LeavingStore(tmp_path / "buckets"))
    with pytest.raises(RuntimeError, match=r"a\.mp4: the worker raised SystemExit"):
        list(run.predict("gs://bucket/a.mp4"))


def test_a_store_that_does_not_answer_ends_the_run(local: LocalRun, tmp_path: Path) -> None:
    run = LocalRun(local.model, local.parameters, GoneStore(tmp_path / "buckets"))
    with pytest.raises(StorageUnavailable, match=r"a\.mp4: the endpoint does not answer"):
        list(run.predict("gs://bucket/a.mp4"))
