"""A job against the emulator's image, started by Testcontainers. Run it with `pytest`; it needs Docker.

Where the package can be installed, its own pytest plugin is quicker and needs no container: docs/testing.md.
"""

import json
import os
import urllib.request

import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import aiplatform, storage
from testcontainers.core.container import DockerContainer
from testcontainers.core.wait_strategies import HttpWaitStrategy

IMAGE = os.environ.get("EMULATOR_IMAGE", "vertex-batch-emulator:slim")
PARENT = "projects/my-project/locations/us-central1"
CAT = {
    "id": "1",
    "displayName": "cat",
    "timeSegmentStart": "1.200s",
    "timeSegmentEnd": "3.400s",
    "confidence": 0.9,
    "frames": [
        {"timeOffset": "1.200s", "xMin": 0.1, "xMax": 0.4, "yMin": 0.5, "yMax": 0.9},
        {"timeOffset": "3.400s", "xMin": 0.2, "xMax": 0.5, "yMin": 0.5, "yMax": 0.9},
    ],
}


@pytest.fixture(scope="session")
def url():
    """The emulator's address. Jobs are done when they are looked at: no polling pause is ever waited for."""
    container = DockerContainer(IMAGE).with_exposed_ports(8080).with_env("VERTEX_EMULATOR_PACE", "immediate")
    with container.waiting_for(HttpWaitStrategy(8080, "/_emulator/ready").with_startup_timeout(60)):
        yield f"http://{container.get_container_host_ip()}:{container.get_exposed_port(8080)}"


def can(url, answer):
    """Make a model that answers `answer` for every video; gives its resource name."""
    body = {
        "parent": PARENT,
        "modelId": "pets",
        "objective": "object_tracking",
        "lines": [{"video": "*", "prediction": answer}],
    }
    request = urllib.request.Request(
        f"{url}/_emulator/canned", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=10) as response:
        return json.load(response)["model"]


def test_predictions_come_back(url, monkeypatch):
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", url)
    credentials = AnonymousCredentials()
    aiplatform.init(
        project="my-project",
        location="us-central1",
        api_endpoint=url,
        api_transport="rest",
        credentials=credentials,
    )
    instance = {
        "content": "gs://my-bucket/cat.mp4",
        "mimeType": "video/mp4",
        "timeSegmentStart": "0s",
        "timeSegmentEnd": "Infinity",
    }
    bucket = storage.Client(project="my-project", credentials=credentials).create_bucket("my-bucket")
    bucket.blob("instances.jsonl").upload_from_string(json.dumps(instance) + "\n")

    job = aiplatform.Model(can(url, [CAT])).batch_predict(
        job_display_name="with Testcontainers",
        gcs_source="gs://my-bucket/instances.jsonl",
        gcs_destination_prefix="gs://my-bucket/output",
    )

    lines = [line for output in job.iter_outputs() for line in output.download_as_text().splitlines()]
    assert [json.loads(line)["prediction"][0]["displayName"] for line in lines] == ["cat"]
