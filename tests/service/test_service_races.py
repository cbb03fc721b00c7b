"""Calls from many threads at once: nothing is lost, nothing is doubled."""

from concurrent.futures import ThreadPoolExecutor

from emulator.service import Call
from emulator.vertex.errors import Aborted, ApiError, FailedPrecondition, NotFound
from tests.service.service_client import PARENT, Client, request_types

LIST = "JobService/ListBatchPredictionJobs"


def test_jobs_created_at_once_are_all_there(client: Client) -> None:
    with ThreadPoolExecutor(8) as pool:
        names = [job["name"] for job in pool.map(lambda n: client.create(displayName=f"{n}"), range(64))]
    listed = client.call(LIST, {"parent": PARENT, "pageSize": 1000})["batchPredictionJobs"]
    assert sorted(job["name"] for job in listed) == sorted(set(names))
    assert {job["displayName"] for job in listed} == {f"{n}" for n in range(64)}


def test_job_is_deleted_once(client: Client) -> None:
    def attempt(name: str) -> str:
        try:
            return str(client.call("JobService/DeleteBatchPredictionJob", {"name": name})["done"])
        except (NotFound, FailedPrecondition) as error:
            return error.status

    for _ in range(5):
        name = client.create()["name"]
        client.call("JobService/CancelBatchPredictionJob", {"name": name})
        with ThreadPoolExecutor(4) as pool:
            outcomes = sorted(pool.map(attempt, [name] * 4))
        assert outcomes == ["NOT_FOUND"] * 3 + ["True"]
    assert len(client.call("Operations/ListOperations", {"name": PARENT})["operations"]) == 5


def test_first_use_of_a_location_by_many_sees_all_models(client: Client) -> None:
    def count(_: int) -> int:
        return len(client.call("ModelService/ListModels", {"parent": PARENT})["models"])

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(count, range(16))) == {2}


def test_updates_with_one_etag_have_one_winner(client: Client) -> None:
    tracker = f"{PARENT}/models/tracker"
    names = [tracker, tracker, f"{tracker}@1", f"{tracker}@1"]

    def attempt(name: str, etag: str) -> str:
        field = "versionDescription" if "@" in name else "displayName"
        body = {"name": name, field: etag, "etag": etag}
        try:
            client.call("ModelService/UpdateModel", {"model": body, "updateMask": field})
        except Aborted as error:
            return error.status
        return "updated"

    for _ in range(30):
        etag = client.call("ModelService/GetModel", {"name": tracker})["etag"]
        with ThreadPoolExecutor(4) as pool:
            outcomes = sorted(pool.map(attempt, names, [etag] * 4))
        assert outcomes == ["ABORTED"] * 3 + ["updated"]


def test_uploads_to_one_id_have_one_winner(client: Client) -> None:
    uri = client.put_model("model-bucket", "exported")
    request = {"parent": PARENT, "modelId": "mine", "model": {"displayName": "x", "artifactUri": uri}}

    def attempt(_: int) -> str:
        try:
            operation = client.call("ModelService/UploadModel", request)
        except ApiError as error:
            return error.status
        done = client.call("Operations/WaitOperation", {"name": operation["name"]})
        return "ALREADY_EXISTS" if done.get("error", {}).get("code") == 6 else "uploaded"

    with ThreadPoolExecutor(4) as pool:
        outcomes = sorted(pool.map(attempt, range(4)))
    assert outcomes == ["ALREADY_EXISTS"] * 3 + ["uploaded"]
    client.service.recover()
    assert len(client.registry.uploads()) == 1, "the losers' files are swept"


def test_every_method_survives_an_empty_request_from_any_thread(client: Client) -> None:
    methods = client.service.methods()

    def attempt(rpc: str) -> str:
        try:
            methods[rpc](request_types()[rpc](), Call())
        except ApiError as error:
            return error.status
        return "OK"

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(attempt, list(methods) * 3)) == {"INVALID_ARGUMENT"}
