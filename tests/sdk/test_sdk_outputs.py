"""`iter_outputs()` reads a finished job's lines with nothing else running than the emulator."""

import json
from typing import Any

import pytest

INPUT, OUTPUT = "gs://bucket/short.jsonl", "gs://bucket/out"


def finished_job(vertex: Any, source: str = INPUT) -> Any:
    return vertex.Model("pets").batch_predict(
        job_display_name="outputs", gcs_source=source, gcs_destination_prefix=OUTPUT
    )


def test_iter_outputs_returns_the_job_s_lines(
    vertex: Any, server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.url)
    job = finished_job(vertex)
    (blob,) = job.iter_outputs()
    assert blob.name.startswith("out/prediction-Pets-")
    assert blob.name.endswith("/predictions_00001.jsonl")
    (line,) = blob.download_as_text().splitlines()
    assert json.loads(line)["prediction"][0]["displayName"] == "cat"
    assert blob.generation
    assert blob.crc32c


def test_each_job_has_its_own_outputs(vertex: Any, server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.url)
    outputs = [{blob.name for blob in finished_job(vertex).iter_outputs()} for _ in range(2)]
    assert [len(names) for names in outputs] == [1, 1]
    assert outputs[0].isdisjoint(outputs[1])
