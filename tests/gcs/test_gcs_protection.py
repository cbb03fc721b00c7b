"""Versions, soft delete, holds and retention, access control lists and policies, customers' keys."""

import base64
import hashlib
from pathlib import Path
from typing import Any

import httpx
import pytest
from google.api_core import exceptions

from emulator.gcs.bucket_store import Buckets
from emulator.gcs.retention import ObjectProtected
from emulator.storage import GcsUri, LocalStore
from emulator.storage.metadata import StoredObject


def make(http: httpx.Client, name: str, query: str = "", **fields: Any) -> str:
    """Make a bucket; returns its path."""
    response = http.post(f"/storage/v1/b?project=p{query}", json={"name": name, **fields})
    assert response.status_code == 200, response.text
    return f"/storage/v1/b/{name}"


def put(
    http: httpx.Client,
    bucket: str,
    data: bytes,
    name: str = "x",
    headers: dict[str, str] | None = None,
    query: str = "",
) -> httpx.Response:
    url = f"/upload{bucket}/o?uploadType=media&name={name}{query}"
    return http.post(url, content=data, headers=headers)


def items(http: httpx.Client, bucket: str, query: str = "") -> list[tuple[str, str]]:
    listed = http.get(f"{bucket}/o?{query}").json().get("items", [])
    return [(item["name"], item["generation"]) for item in listed]


def test_versions_stay_until_each_is_deleted(http: httpx.Client, name: str) -> None:
    bucket = make(http, name, versioning={"enabled": True})
    first, second = (put(http, bucket, data).json()["generation"] for data in (b"first", b"second"))
    other = put(http, bucket, b"other", "x/y").json()["generation"]
    assert items(http, bucket) == [("x", second), ("x/y", other)]
    everything = [("x", first), ("x", second), ("x/y", other)]
    assert items(http, bucket, "versions=true") == everything
    page = http.get(f"{bucket}/o?versions=true&maxResults=1").json()
    paged = [page["items"][0]["generation"]]
    while token := page.get("nextPageToken"):
        page = http.get(f"{bucket}/o?versions=true&maxResults=1&pageToken={token}").json()
        paged.append(page["items"][0]["generation"])
    assert paged == [generation for _, generation in everything]
    old = f"{bucket}/o/x?generation={first}"
    assert http.get(f"{old}&alt=media").content == b"first"
    assert "timeDeleted" in http.get(old).json()
    assert http.patch(old, json={"metadata": {"k": "v"}}).json()["metageneration"] == "2"
    assert http.get(old).json()["metadata"] == {"k": "v"}
    copied = http.post(f"{bucket}/o/x/copyTo/b/{name}/o/copy?sourceGeneration={first}", json={})
    assert http.get(copied.json()["mediaLink"]).content == b"first"
    composed = {"sourceObjects": [{"name": "x", "generation": first}, {"name": "x"}]}
    http.post(f"{bucket}/o/composed/compose", json=composed)
    assert http.get(f"{bucket}/o/composed?alt=media").content == b"firstsecond"
    # Without a generation the object becomes noncurrent, with one a version is gone.
    assert http.delete(f"{bucket}/o/x").status_code == 204
    assert http.get(f"{bucket}/o/x").status_code == 404
    assert items(http, bucket, "versions=true&prefix=x") == everything
    assert http.delete(bucket).status_code == 409
    assert http.delete(old).status_code == 204
    assert http.get(old).status_code == 404
    assert items(http, bucket, "versions=true&prefix=x") == everything[1:]
    for item in items(http, bucket, "versions=true"):
        assert (
            http.delete(f"{bucket}/o/{item[0].replace('/', '%2F')}?generation={item[1]}").status_code == 204
        )
    assert http.delete(bucket).status_code == 204


def test_without_versioning_what_is_replaced_is_gone(http: httpx.Client, name: str) -> None:
    bucket = make(http, name)
    first = put(http, bucket, b"first").json()["generation"]
    second = put(http, bucket, b"second").json()["generation"]
    assert items(http, bucket, "versions=true") == [("x", second)]
    assert http.get(f"{bucket}/o/x?generation={first}").status_code == 404
    assert http.delete(f"{bucket}/o/x?generation={second}").status_code == 204


def test_version_that_a_crash_left_beside_its_object_is_listed_once(http: httpx.Client, folder: Path) -> None:
    bucket = f"/storage/v1/b/{folder.name}"
    generation = put(http, bucket, b"data").json()["generation"]
    store = LocalStore(folder.parent)
    buckets = Buckets(store)
    uri = GcsUri(folder.name, "x")
    stored = buckets.find(uri)
    buckets._versions.keep(StoredObject(stored.info, attributes=stored.attributes, deleted_us=1))
    assert items(http, bucket, "versions=true") == [("x", generation)]


def test_soft_deleted_object_is_listed_and_restored(http: httpx.Client, name: str) -> None:
    bucket = make(http, name, softDeletePolicy={"retentionDurationSeconds": "604800"})
    generation = put(http, bucket, b"data").json()["generation"]
    assert http.delete(f"{bucket}/o/x").status_code == 204
    assert items(http, bucket) == items(http, bucket, "versions=true") == []
    assert items(http, bucket, "softDeleted=true") == [("x", generation)]
    assert http.get(f"{bucket}/o/x?generation={generation}").status_code == 404
    deleted = http.get(f"{bucket}/o/x?generation={generation}&softDeleted=true").json()
    assert deleted["softDeleteTime"] < deleted["hardDeleteTime"]
    restored = http.post(f"{bucket}/o/x/restore?generation={generation}").json()
    assert int(restored["generation"]) > int(generation)
    assert http.get(f"{bucket}/o/x?alt=media").content == b"data"
    assert items(http, bucket, "softDeleted=true") == []


def test_soft_deleted_object_is_gone_when_its_time_is_over(tmp_path: Path) -> None:
    now = 1_000_000_000_000_000
    buckets = Buckets(LocalStore(tmp_path), clock=lambda: now)
    buckets.create_bucket("bucket", {"softDeletePolicy": {"retentionDurationSeconds": "604800"}})
    uri = GcsUri("bucket", "x")
    buckets.publish(buckets.draft("bucket"), uri, {}, lambda _: None)
    buckets.delete(uri, lambda _: None)
    now += 604_799_999_999
    assert len(buckets.list_versions("bucket", soft_deleted=True)) == 1
    now += 1
    assert buckets.list_versions("bucket", soft_deleted=True) == []
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and "bucket.json" not in path.name]


@pytest.mark.parametrize("hold", ["temporaryHold", "eventBasedHold"])
@pytest.mark.parametrize("versioning", [False, True])
def test_held_object_is_neither_replaced_nor_deleted(
    http: httpx.Client, name: str, hold: str, versioning: bool
) -> None:
    bucket = make(http, name, versioning={"enabled": versioning})
    put(http, bucket, b"held")
    put(http, bucket, b"other", "y")
    http.patch(f"{bucket}/o/x", json={hold: True})
    tried = [
        put(http, bucket, b"new"),
        http.delete(f"{bucket}/o/x"),
        http.post(f"{bucket}/o/y/copyTo/b/{name}/o/x", json={}),
        http.post(f"{bucket}/o/x/moveTo/o/z"),
        http.post(f"{bucket}/o/x/compose", json={"sourceObjects": [{"name": "y"}]}),
    ]
    for response in tried:
        assert (response.status_code, "hold is removed" in response.text) == (403, True), response.request
    assert http.get(f"{bucket}/o/x?alt=media").content == b"held"
    assert [found for found, _ in items(http, bucket, "versions=true")] == ["x", "y"]
    http.patch(f"{bucket}/o/x", json={hold: False})
    assert http.delete(f"{bucket}/o/x").status_code == 204


def test_default_hold_is_on_new_objects(http: httpx.Client, name: str) -> None:
    bucket = make(http, name, defaultEventBasedHold=True, retentionPolicy={"retentionPeriod": "100"})
    resource = put(http, bucket, b"x").json()
    assert (resource["eventBasedHold"], "retentionExpirationTime" in resource) == (True, False)
    released = http.patch(f"{bucket}/o/x", json={"eventBasedHold": False}).json()
    assert released["retentionExpirationTime"] > released["updated"]
    assert http.delete(f"{bucket}/o/x").status_code == 403


def test_retention_ends(tmp_path: Path) -> None:
    now = 1_000_000_000_000_000
    buckets = Buckets(LocalStore(tmp_path), clock=lambda: now)
    buckets.create_bucket("bucket", {"retentionPolicy": {"retentionPeriod": "10"}})
    uri = GcsUri("bucket", "x")
    buckets.publish(buckets.draft("bucket"), uri, {}, lambda _: None)
    now += 9_999_999
    with pytest.raises(ObjectProtected, match="until 2001-09-09T01:46:50Z"):
        buckets.delete(uri, lambda _: None)
    with pytest.raises(ObjectProtected):
        buckets.publish(buckets.draft("bucket"), uri, {}, lambda _: None)
    now += 1
    buckets.delete(uri, lambda _: None)


def test_locked_policy_only_grows(http: httpx.Client, name: str) -> None:
    bucket = make(http, name, retentionPolicy={"retentionPeriod": "100"})
    assert http.post(f"{bucket}/lockRetentionPolicy").status_code == 400
    assert http.post(f"{bucket}/lockRetentionPolicy?ifMetagenerationMatch=9").status_code == 412
    locked = http.post(f"{bucket}/lockRetentionPolicy?ifMetagenerationMatch=1").json()
    assert locked["retentionPolicy"]["isLocked"] is True
    for policy in (None, {"retentionPeriod": "99"}, {"isLocked": False}):
        assert http.patch(bucket, json={"retentionPolicy": policy}).status_code == 403, policy
    assert http.put(bucket, json={}).status_code == 403
    grown = http.patch(bucket, json={"retentionPolicy": {"retentionPeriod": "101"}}).json()
    assert (grown["retentionPolicy"]["retentionPeriod"], grown["retentionPolicy"]["isLocked"]) == (
        "101",
        True,
    )


def test_retention_of_an_object_is_kept_by_its_mode(http: httpx.Client, name: str) -> None:
    bucket = make(http, name, "&enableObjectRetention=true")
    put(http, bucket, b"x")
    path, later = f"{bucket}/o/x", {"retainUntilTime": "2040-01-01T00:00:00Z"}
    until = {"mode": "Unlocked", "retainUntilTime": "2039-01-01T00:00:00Z"}
    assert http.patch(path, json={"retention": until}).status_code == 200
    assert http.delete(path).status_code == 403
    assert http.patch(path, json={"retention": None}).status_code == 403
    assert http.patch(path, json={"retention": later}).status_code == 200
    assert http.patch(f"{path}?overrideUnlockedRetention=true", json={"retention": until}).status_code == 200
    assert http.patch(path, json={"retention": {**until, "mode": "Locked"}}).status_code == 200
    assert http.patch(f"{path}?overrideUnlockedRetention=true", json={"retention": None}).status_code == 403
    other = make(http, f"{name}-other")
    put(http, other, b"x")
    refused = http.patch(f"{other}/o/x", json={"retention": until})
    assert (refused.status_code, "not enabled" in refused.text) == (400, True)


@pytest.mark.parametrize("place", ["acl", "defaultObjectAcl", "o/x/acl"])
def test_entries_of_a_list_are_read_and_changed(http: httpx.Client, name: str, place: str) -> None:
    bucket = make(http, name)
    put(http, bucket, b"x")
    path = f"{bucket}/{place}"
    entities = [entry["entity"] for entry in http.get(path).json()["items"]]
    assert "project-owners-0" in entities
    entry = http.post(path, json={"entity": "group-a@example.com", "role": "READER"}).json()
    assert (entry["email"], entry["role"]) == ("a@example.com", "READER")
    changed = http.patch(f"{path}/group-a@example.com", json={"role": "OWNER"}).json()
    assert changed["role"] == "OWNER"
    assert http.get(f"{path}/group-a@example.com").json() == changed
    assert len(http.get(path).json()["items"]) == len(entities) + 1
    assert http.delete(f"{path}/group-a@example.com").status_code == 204
    assert http.get(f"{path}/group-a@example.com").status_code == 404
    assert http.delete(f"{path}/group-a@example.com").status_code == 404
    assert http.post(path, json={"role": "READER"}).status_code == 400


def test_predefined_lists(http: httpx.Client, name: str) -> None:
    bucket = make(http, name, "&predefinedAcl=private&predefinedDefaultObjectAcl=publicRead")
    assert len(http.get(f"{bucket}/acl").json()["items"]) == 1
    assert "allUsers" in str(put(http, bucket, b"x", query="&projection=full").json()["acl"])
    private = put(http, bucket, b"x", query="&predefinedAcl=private&projection=full").json()
    assert len(private["acl"]) == 1
    assert put(http, bucket, b"x", query="&predefinedAcl=secret").status_code == 400


def test_uniform_access_leaves_no_lists(http: httpx.Client, name: str) -> None:
    bucket = make(http, name, iamConfiguration={"uniformBucketLevelAccess": {"enabled": True}})
    put(http, bucket, b"x")
    for path in (f"{bucket}/acl", f"{bucket}/o/x/acl", f"{bucket}/defaultObjectAcl"):
        assert http.get(path).status_code == 400
    assert put(http, bucket, b"x", query="&predefinedAcl=private").status_code == 400
    assert "acl" not in http.get(f"{bucket}/o/x?projection=full").json()


def test_prevented_public_access_is_refused(http: httpx.Client, name: str) -> None:
    bucket = make(http, name, iamConfiguration={"publicAccessPrevention": "enforced"})
    put(http, bucket, b"x")
    public = {"entity": "allUsers", "role": "READER"}
    policy = {"bindings": [{"role": "roles/storage.objectViewer", "members": ["allUsers"]}]}
    tried = [
        http.post(f"{bucket}/acl", json=public),
        http.post(f"{bucket}/o/x/acl", json=public),
        http.patch(f"{bucket}/o/x", json={"acl": [public]}),
        http.patch(bucket, json={"defaultObjectAcl": [public]}),
        http.put(f"{bucket}/iam", json=policy),
        put(http, bucket, b"x", query="&predefinedAcl=publicRead"),
    ]
    assert [response.status_code for response in tried] == [412] * len(tried)


def test_policy_is_kept_and_its_conditions_need_a_version(http: httpx.Client, name: str) -> None:
    bucket = make(http, name)
    policy = http.get(f"{bucket}/iam").json()
    binding = {"role": "roles/storage.objectViewer", "members": ["user:a@example.com"]}
    policy["bindings"].append(binding)
    kept = http.put(f"{bucket}/iam", json=policy).json()
    assert binding in kept["bindings"]
    assert http.get(f"{bucket}/iam").json() == kept
    assert http.put(f"{bucket}/iam", json=policy).status_code == 412  # the etag is an old one
    conditional = {"bindings": [{**binding, "condition": {"title": "t", "expression": "true"}}]}
    assert http.put(f"{bucket}/iam", json=conditional).status_code == 412
    http.patch(bucket, json={"iamConfiguration": {"uniformBucketLevelAccess": {"enabled": True}}})
    assert http.put(f"{bucket}/iam", json=conditional).status_code == 400
    assert http.put(f"{bucket}/iam", json={**conditional, "version": 3}).json()["version"] == 3


def key_headers(secret: bytes, prefix: str = "x-goog-encryption-") -> dict[str, str]:
    return {
        f"{prefix}algorithm": "AES256",
        f"{prefix}key": base64.b64encode(secret).decode(),
        f"{prefix}key-sha256": base64.b64encode(hashlib.sha256(secret).digest()).decode(),
    }


def test_object_with_a_customers_key_is_read_with_it_only(http: httpx.Client, name: str) -> None:
    bucket = make(http, name)
    key, other = key_headers(b"k" * 32), key_headers(b"o" * 32)
    assert put(http, bucket, b"secret", headers=key).json()["customerEncryption"]["keySha256"]
    media = f"{bucket}/o/x?alt=media"
    for headers, status in ((key, 200), (other, 400), ({}, 400)):
        assert http.get(media, headers=headers).status_code == status
        assert ("md5Hash" in http.get(f"{bucket}/o/x", headers=headers).json()) == (status == 200)
    put(http, bucket, b"plain", "y")
    assert http.get(f"{bucket}/o/y?alt=media", headers=key).status_code == 400
    rewrite = f"{bucket}/o/x/rewriteTo/b/{name}/o/x"
    assert http.post(rewrite, json={}).status_code == 400
    source = key_headers(b"k" * 32, "x-goog-copy-source-encryption-")
    assert http.post(rewrite, json={}, headers={**source, **other}).status_code == 200
    assert http.get(media, headers=other).content == b"secret"
    for broken in ({"x-goog-encryption-key": "AA"}, {"x-goog-encryption-key-sha256": "AA"}):
        assert put(http, bucket, b"x", headers={**key, **broken}).status_code == 400


def test_python_client_keeps_versions_and_holds(client: Any, name: str) -> None:
    bucket = client.bucket(name)
    bucket.versioning_enabled = True
    bucket.create()
    blob = bucket.blob("x")
    for text in ("one", "two"):
        blob.upload_from_string(text)
    old, new = client.list_blobs(name, versions=True)
    assert (old.download_as_text(), new.download_as_text()) == ("one", "two")
    new.temporary_hold = True
    new.patch()
    with pytest.raises(exceptions.Forbidden, match="Temporary hold"):
        bucket.blob("x").delete()
