"""The asynchronous generated clients, v1 and v1beta1, in plain text and over TLS."""

import asyncio
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from google.api_core import exceptions
from google.cloud import aiplatform_v1, aiplatform_v1beta1
from suite import (
    GRPC,
    LONG_INPUT,
    OBJECT_TRACKING,
    OUTPUT,
    PARENT,
    PATIENCE_S,
    PETS,
    TERMINAL,
    TLS,
    TRACKING_INPUT,
    labels,
    output_lines,
)


def over_plain_text(api: Any) -> Any:
    kind = api.JobServiceAsyncClient
    transport = kind.get_transport_class("grpc_asyncio")
    return kind(transport=transport(channel=grpc.aio.insecure_channel(GRPC)))


def over_tls(api: Any) -> Any:
    return api.JobServiceAsyncClient(client_options={"api_endpoint": TLS})


def job_of(api: Any, source: str, name: str) -> Any:
    return api.BatchPredictionJob(
        display_name=name,
        model=f"{PARENT}/models/{OBJECT_TRACKING}",
        input_config={"instances_format": "jsonl", "gcs_source": {"uris": [source]}},
        output_config={
            "predictions_format": "jsonl",
            "gcs_destination": {"output_uri_prefix": OUTPUT},
        },
    )


async def state_after(jobs: Any, name: str, states: tuple[str, ...]) -> str:
    """Wait until a job is in one of some states; the state."""
    async with asyncio.timeout(PATIENCE_S):
        while (state := (await jobs.get_batch_prediction_job(name=name)).state.name) not in states:
            await asyncio.sleep(0.2)
    return str(state)


async def use(api: Any, connect: Callable[[Any], Any], display_name: str) -> None:
    jobs = connect(api)
    created = await asyncio.gather(
        *(
            jobs.create_batch_prediction_job(
                parent=PARENT, batch_prediction_job=job_of(api, source, display_name)
            )
            for source in (TRACKING_INPUT, LONG_INPUT)
        )
    )
    short, long = (job.name for job in created)
    listed = await jobs.list_batch_prediction_jobs(
        request={"parent": PARENT, "filter": f'display_name="{display_name}"', "page_size": 1}
    )
    assert {job.name async for job in listed} == {short, long}
    await state_after(jobs, long, ("JOB_STATE_RUNNING",))
    await jobs.cancel_batch_prediction_job(name=long)
    assert await state_after(jobs, long, TERMINAL) == "JOB_STATE_CANCELLED"
    assert await state_after(jobs, short, TERMINAL) == "JOB_STATE_SUCCEEDED"
    done = await jobs.get_batch_prediction_job(name=short)
    assert labels(output_lines(done.output_info.gcs_output_directory)) == PETS
    operation = await jobs.delete_batch_prediction_job(name=short)
    await operation.result()
    assert isinstance(operation.metadata, api.DeleteOperationMetadata)
    with pytest.raises(exceptions.NotFound):
        await jobs.get_batch_prediction_job(name=short)
    with pytest.raises(exceptions.InvalidArgument):
        await jobs.create_batch_prediction_job(
            parent=PARENT, batch_prediction_job=job_of(api, TRACKING_INPUT, "")
        )


@pytest.mark.parametrize("connect", [over_plain_text, over_tls])
@pytest.mark.parametrize("api", [aiplatform_v1, aiplatform_v1beta1], ids=["v1", "v1beta1"])
def test_job_lives(api: Any, connect: Callable[[Any], Any], request: pytest.FixtureRequest) -> None:
    asyncio.run(use(api, connect, request.node.name))
