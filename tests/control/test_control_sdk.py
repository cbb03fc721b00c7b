"""The official SDK with an immediate pace: it never comes to its sleep of five seconds between two GETs."""

from typing import Any

import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import aiplatform
from google.cloud.aiplatform import jobs as sdk_jobs

from tests.control.project import LOCATION, Project


def test_sdk_waits_without_sleeping(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    class Sleepless:
        """The SDK's clock, in which nobody may sleep."""

        def __getattr__(self, name: str) -> Any:
            assert name != "sleep", "the SDK has to wait for another GET"
            return getattr(__import__("time"), name)

    monkeypatch.setattr(sdk_jobs, "time", Sleepless())
    project.pace("immediate")
    aiplatform.init(
        project=project.id,
        location=LOCATION,
        api_endpoint=project.emulator.url,
        api_transport="rest",
        credentials=AnonymousCredentials(),
    )
    body = project.body()
    job = aiplatform.BatchPredictionJob.create(
        job_display_name="job",
        model_name=body["model"],
        gcs_source=body["inputConfig"]["gcsSource"]["uris"],
        gcs_destination_prefix=body["outputConfig"]["gcsDestination"]["outputUriPrefix"],
        sync=True,
    )
    assert job.state.name == "JOB_STATE_SUCCEEDED"
