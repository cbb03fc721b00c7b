"""Calls of Cloud Storage: in the journal, and failing on demand, as those of Vertex."""

import gc
import json
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import httpx
import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage
from google.cloud.exceptions import Forbidden, NotFound, PreconditionFailed, TooManyRequests

from emulator.instructions.faults import STORAGE_METHODS
from tests.control.project import Project


@pytest.fixture
def bucket(project: Project) -> Iterator[Any]:
    """A bucket of the test's own, through Google's client."""
    url = str(project.http.base_url)
    client = storage.Client(
        project="p-1", credentials=AnonymousCredentials(), client_options={"api_endpoint": url}
    )
    with closing(client):
        made = client.create_bucket(project.id)
        yield made
        project.control("DELETE", "faults")
        made.delete(force=True)


def calls(project: Project, after: int = 0) -> list[dict[str, Any]]:
    found = project.control("GET", "requests", params={"surface": "storage", "after": after})["requests"]
    return [one for one in found if one["request"].get("bucket") == project.id]


def fault(project: Project, **members: Any) -> str:
    return str(project.control("POST", "faults", {"on": "storage", "bucket": project.id, **members})["id"])


def told(one: Any) -> tuple[str, str, str, str]:
    return one["method"], one["version"], one["request"].get("object", ""), one["status"]


def test_each_kind_of_call_is_in_the_journal(project: Project, bucket: Any) -> None:
    bucket.blob("a/b.txt").upload_from_string("a")
    with bucket.blob("big.bin").open("w") as resumable:
        resumable.write("b")
    bucket.blob("a/b.txt").download_as_bytes()
    list(bucket.list_blobs(prefix="a/"))
    with pytest.raises(NotFound):
        bucket.blob("none").download_as_bytes()
    with bucket.client.batch():
        bucket.blob("a/b.txt").delete()
    project.http.put(f"/{project.id}/x.txt", content=b"xml")
    project.http.get(f"/{project.id}/x.txt")
    project.http.get(f"/storage/v1/b/{project.id}/nothing/of/the/kind")

    # Google's client looks at the bucket in a thread of its own.
    # Google's client looks at a bucket in a thread of its own.
    seen = [told(one) for one in calls(project) if one["method"] != "storage.buckets.get"]
    assert seen == [
        ("storage.buckets.insert", "json", "", "OK"),
        ("storage.objects.insert", "json", "a/b.txt", "OK"),
        ("storage.objects.insert", "json", "big.bin", "OK"),
        ("storage.objects.insert", "json", "big.bin", "OK"),
        ("storage.objects.get", "json", "a/b.txt", "OK"),
        ("storage.objects.list", "json", "", "OK"),
        ("storage.objects.get", "json", "none", "NOT_FOUND"),
        ("storage.objects.delete", "json", "a/b.txt", "OK"),
        ("storage.objects.insert", "xml", "x.txt", "OK"),
        ("storage.objects.get", "xml", "x.txt", "OK"),
        ("storage.unknown", "json", "", "NOT_FOUND"),
    ]
    (listed,) = [one for one in calls(project) if one["method"] == "storage.objects.list"]
    assert listed["request"]["prefix"] == "a/"
    assert listed["project"] == ""


def test_a_call_can_be_narrowed_and_a_misspelt_one_is_refused(project: Project, bucket: Any) -> None:
    bucket.blob("a.txt").upload_from_string("a")
    narrow = {"method": "storage.objects.*", "contains": project.id}
    found = project.control("GET", "requests", params=narrow)
    assert [one["method"] for one in found["requests"]] == ["storage.objects.insert"]
    for query, said in (
        ("method=storage.object.insert", "did you mean storage.objects.insert"),
        ("method=CreateBatchPredictonJob", "did you mean CreateBatchPredictionJob"),
        ("method=Nope", "which no call fits; such as GetBatchPredictionJob"),
        ("status=OKAY", "status is 'OKAY'; use one of OK, "),
        ("surface=gprc", "surface is 'gprc'; use one of rest, grpc, storage"),
    ):
        assert said in project.error("GET", f"/_emulator/requests?{query}")["message"]


def test_secrets_of_a_url_are_not_kept(project: Project, bucket: Any) -> None:
    signed = "X-Goog-Signature=s3cr3t&access_token=s3cr3t&key=s3cr3t&upload_id=s3cr3t"
    project.http.get(
        f"/storage/v1/b/{project.id}/o/a.txt?{signed}", headers={"authorization": "Bearer s3cr3t"}
    )
    assert "s3cr3t" not in json.dumps(calls(project))


def test_reads_of_the_console_leave_no_trace(project: Project, bucket: Any) -> None:
    bucket.reload()
    number, before = fault(project, code="UNAVAILABLE"), len(calls(project))
    observer = {"x-goog-emulator-observer": "console"}
    assert project.http.get(f"/storage/v1/b/{project.id}/o", headers=observer).status_code == 200
    assert len(calls(project)) == before
    assert project.control("GET", f"faults/{number}")["fired"] == 0


@pytest.mark.parametrize(
    ("code", "kind"),
    [("RESOURCE_EXHAUSTED", TooManyRequests), (403, Forbidden), (412, PreconditionFailed)],
)
def test_an_upload_fails_in_the_clients_own_words(
    project: Project, bucket: Any, code: Any, kind: type[Exception]
) -> None:
    number = fault(project, method="storage.objects.insert", object="videos/*", code=code, message="as asked")
    bucket.blob("other.txt").upload_from_string("a")
    with pytest.raises(kind, match="as asked"):
        bucket.blob("videos/a.mp4").upload_from_string("a", retry=None)
    with pytest.raises(kind, match="as asked"):
        bucket.blob("videos/b.mp4").create_resumable_upload_session(retry=None)
    account = project.control("GET", f"faults/{number}")
    assert (account["matched"], account["fired"]) == (2, 2)
    assert [one["faults"] for one in calls(project)] == [[], [], [number], [number]]
    assert not bucket.blob("videos/a.mp4").exists()


# Google's client leaves the socket that was reset to the collector, which may come at any moment.
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_client_retries_what_is_away_for_a_moment(project: Project, bucket: Any) -> None:
    bucket.blob("a.txt").upload_from_string("a")
    away = fault(project, method="storage.objects.get", code="UNAVAILABLE", times=1)
    reset = fault(project, method="storage.objects.get", reset=True, times=1)
    assert bucket.blob("a.txt").download_as_bytes() == b"a"
    for number in (away, reset):
        assert project.control("GET", f"faults/{number}")["fired"] == 1
    gc.collect()


def test_parts_of_a_batch_and_the_xml_api_fail_too(project: Project, bucket: Any) -> None:
    bucket.blob("a.txt").upload_from_string("a")
    fault(project, object="a.txt", code="PERMISSION_DENIED", message="as asked")
    with pytest.raises(Forbidden, match="as asked"), bucket.client.batch():
        bucket.blob("a.txt").delete()
    answer = project.http.get(f"/{project.id}/a.txt")
    assert answer.status_code == 403
    assert "<Details>as asked</Details>" in answer.text
    project.control("DELETE", "faults")


def test_a_plan_on_rpcs_does_not_touch_storage(project: Project, bucket: Any) -> None:
    project.control("POST", "faults", {"on": "rpc", "code": "UNAVAILABLE"})
    bucket.blob("a.txt").upload_from_string("a")
    assert project.http.get(f"/v1/{project.parent}/models").status_code == 503


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({"method": "objects.insert", "code": 503}, "which no call of Cloud Storage fits; did you mean"),
        ({"project": "p-1", "code": 503}, "A plan on Cloud Storage has no member 'project'"),
        ({"code": "QUOTA"}, "code is 'QUOTA'; write one of"),
        ({}, "The fault does nothing"),
    ],
)
def test_a_plan_that_could_never_act_is_refused(project: Project, members: Any, said: str) -> None:
    assert said in project.error("POST", "/_emulator/faults", {"on": "storage", **members})["message"]


def test_thousand_uploads_do_not_push_out_the_call_that_began_a_job(project: Project, bucket: Any) -> None:
    before = project.control("GET", "now")["request"]
    project.create(name="kept")
    with httpx.Client(base_url=project.http.base_url) as http:
        for _ in range(1001):
            http.get(f"/storage/v1/b/{project.id}")
    found = project.control("GET", "requests", params={"after": before, "contains": "kept"})
    assert [one["method"] for one in found["requests"]] == ["JobService/CreateBatchPredictionJob"]


def test_names_are_those_of_the_discovery_document() -> None:
    assert len(set(STORAGE_METHODS)) == len(STORAGE_METHODS)
    assert all(name.startswith("storage.") for name in STORAGE_METHODS)
