"""Twenty clients at once over both transports: each job exists once, and has an output of its own.

The clients are the vendor's generated ones, each with a connection of its own.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import aiplatform_v1
from google.cloud.aiplatform_v1.services.job_service.transports import JobServiceGrpcTransport

from emulator.app import Emulator
from emulator.config import Settings
from tests.sdk.conftest import LOCATION, PROJECT, write_input, write_model

PARENT = f"projects/{PROJECT}/locations/{LOCATION}"
CLIENTS, JOBS_EACH = 20, 10
SUCCEEDED = aiplatform_v1.JobState.JOB_STATE_SUCCEEDED


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    folder = tmp_path_factory.mktemp("many")
    write_model(folder / "models" / "pets")
    settings = Settings(
        port=0,
        data_dir=folder / "data",
        models_dirs=[folder / "models"],
        bundled_models=False,
        provider="cpu",
        worker_threads=1,
    )
    (settings.buckets / "bucket").mkdir(parents=True)
    write_input(settings.buckets / "bucket", "short", seconds=0.2)
    with Emulator(settings) as emulator:
        yield emulator


def rest_client(emulator: Emulator) -> Any:
    return aiplatform_v1.JobServiceClient(
        transport="rest",
        client_options={"api_endpoint": emulator.url},
        credentials=AnonymousCredentials(),
    )


def grpc_client(emulator: Emulator) -> Any:
    # Channels of one process share a connection unless told otherwise.
    options = [("grpc.use_local_subchannel_pool", 1)]
    channel = grpc.insecure_channel(emulator.grpc_address, options)
    return aiplatform_v1.JobServiceClient(transport=JobServiceGrpcTransport(channel=channel))


def job(display_name: str) -> aiplatform_v1.BatchPredictionJob:
    return aiplatform_v1.BatchPredictionJob(
        display_name=display_name,
        model=f"{PARENT}/models/pets",
        input_config={"instances_format": "jsonl", "gcs_source": {"uris": ["gs://bucket/short.jsonl"]}},
        output_config={
            "predictions_format": "jsonl",
            "gcs_destination": {"output_uri_prefix": "gs://bucket/out"},
        },
    )


def create_all(emulator: Emulator) -> list[str]:
    """Create the jobs, from all clients at the same moment; returns the names that the clients were given."""
    begin = threading.Barrier(CLIENTS)

    def work(number: int, connect: Callable[[Emulator], Any]) -> list[str]:
        client = connect(emulator)
        begin.wait()
        wanted = [f"client {number}, job {count}" for count in range(JOBS_EACH)]
        made = (
            client.create_batch_prediction_job(parent=PARENT, batch_prediction_job=job(name))
            for name in wanted
        )
        return [created.name for created in made]

    with ThreadPoolExecutor(CLIENTS) as threads:
        transports = [(rest_client, grpc_client)[number % 2] for number in range(CLIENTS)]
        return [name for names in threads.map(work, range(CLIENTS), transports) for name in names]


def test_no_job_is_lost_or_doubled_and_each_has_its_own_output(emulator: Emulator) -> None:
    created = create_all(emulator)
    assert len(set(created)) == CLIENTS * JOBS_EACH
    client = grpc_client(emulator)

    def listed() -> list[Any]:
        return list(client.list_batch_prediction_jobs(parent=PARENT))

    deadline = time.monotonic() + 240
    found = listed()
    while not all(one.end_time for one in found):
        assert time.monotonic() < deadline, Counter(one.state.name for one in found)
        time.sleep(0.2)
        found = listed()
    assert Counter(one.name for one in found) == Counter(created)
    names = {f"client {number}, job {count}" for number in range(CLIENTS) for count in range(JOBS_EACH)}
    assert {one.display_name for one in found} == names
    assert {one.state for one in found} == {SUCCEEDED}
    directories = {one.output_info.gcs_output_directory for one in found}
    assert len(directories) == CLIENTS * JOBS_EACH
    assert directories == on_disk(emulator.settings.buckets / "bucket" / "out")


def on_disk(folder: Path) -> set[str]:
    """The directories with exactly one file of exactly one line."""
    good = set()
    for directory in folder.iterdir():
        (file,) = directory.iterdir()
        assert len(file.read_text().splitlines()) == 1
        good.add(f"gs://bucket/out/{directory.name}")
    return good
