"""Where the emulator is, what is in its bucket, and what comes back from it."""

import json
import os
import time
import uuid
from collections.abc import Callable
from typing import Any

from google.cloud import storage

HTTP = os.environ["EMULATOR_HTTP"]
GRPC = os.environ["EMULATOR_GRPC"]
TLS = os.environ["EMULATOR_TLS"]
# Lists are to show the jobs of this run only.
PROJECT = f"{os.environ['EMULATOR_PROJECT']}-{uuid.uuid4().hex[:8]}"
BUCKET = os.environ["EMULATOR_BUCKET"]
LOCATION = "us-central1"
PARENT = f"projects/{PROJECT}/locations/{LOCATION}"
OBJECT_TRACKING, ACTION_RECOGNITION = "video-object-tracking", "video-action-recognition"
TRACKING_INPUT = f"gs://{BUCKET}/object-tracking.jsonl"
ACTION_INPUT = f"gs://{BUCKET}/action-recognition.jsonl"
LONG_INPUT = f"gs://{BUCKET}/long.jsonl"
OUTPUT = f"gs://{BUCKET}/out/python"
MODEL_FOLDER = f"gs://{BUCKET}/model"
# What is to be seen in the clips, from the documentation.
PETS, MOVES = {"cat", "dog"}, {"swing", "jump"}
TERMINAL = ("JOB_STATE_SUCCEEDED", "JOB_STATE_FAILED", "JOB_STATE_CANCELLED")
PATIENCE_S = 300


def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition; fails after five minutes."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def output_lines(directory: str) -> list[dict[str, Any]]:
    """Read the results of a job with Google's storage client, which the environment points here."""
    bucket, _, prefix = directory.removeprefix("gs://").partition("/")
    blobs = storage.Client().list_blobs(bucket, prefix=f"{prefix}/predictions_")
    return [json.loads(line) for blob in blobs for line in blob.download_as_text().splitlines()]


def labels(lines: list[dict[str, Any]]) -> set[str]:
    """Return the labels of all predictions, each of which must be complete."""
    predictions = [prediction for line in lines for prediction in line["prediction"]]
    assert all(0 < one["confidence"] <= 1 and one["timeSegmentStart"].endswith("s") for one in predictions)
    return {one["displayName"] for one in predictions}
