"""Calls that a surface may answer without a thread: a row or two of the database, and nobody to wait for."""

from collections.abc import Callable

from emulator.service import Service
from tests.service.service_client import PARENT, Client

CREATE, GET = "JobService/CreateBatchPredictionJob", "JobService/GetBatchPredictionJob"


def create(client: Client) -> str:
    uri = {"uris": ["gs://bucket/in.jsonl"]}
    job = {
        "displayName": "job",
        "model": f"{PARENT}/models/tracker",
        "inputConfig": {"instancesFormat": "jsonl", "gcsSource": uri},
        "outputConfig": {"predictionsFormat": "jsonl", "gcsDestination": {"outputUriPrefix": "gs://bucket"}},
    }
    return str(client.call(CREATE, {"parent": PARENT, "batchPredictionJob": job})["name"])


def test_only_reading_and_creating_a_job_are_brief(client: Client) -> None:
    create(client)
    assert {key for key in client.service.methods() if client.service.is_brief(key)} == {CREATE, GET}


def test_creating_is_not_brief_where_the_model_folders_are_looked_at(client: Client) -> None:
    assert client.service.is_brief(GET)
    assert not client.service.is_brief(CREATE)


def test_nothing_is_brief_while_a_transaction_is_open(client: Client) -> None:
    create(client)
    with client.database._write():
        assert not client.service.is_brief(CREATE)
        assert not client.service.is_brief(GET)
    assert client.service.is_brief(GET)


def test_calls_may_be_held_again_by_the_paces_of_jobs_from_before(
    make_client: Callable[..., Client],
) -> None:
    client = make_client()
    name = create(client)
    assert not Service(client.context).paces.may_hold
    client.service.paces.set_of_job(client.service.paces.row(int(name.rpartition("/")[2])), "immediate")
    assert Service(client.context).paces.may_hold
