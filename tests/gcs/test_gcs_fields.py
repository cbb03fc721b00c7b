"""Every field of a bucket and an object: kept as it was sent and given back, or refused with words."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from emulator.gcs.attributes import BUCKET_FIELDS, OBJECT_FIELDS, Fate, Field

KEY = "projects/p/locations/us/keyRings/r/cryptoKeys/k"
ENTRY = {"entity": "user-a@example.com", "role": "READER"}
# For each field a client may set: a value, and one that is refused with its status.
BUCKET_VALUES: dict[str, tuple[Any, Any, int]] = {
    "acl": ([ENTRY], [{"entity": "nobody", "role": "READER"}], 400),
    "autoclass": ({"enabled": True}, {"enabled": "yes"}, 400),
    "billing": ({"requesterPays": True}, {"payer": "me"}, 501),
    "cors": ([{"origin": ["*"], "method": ["GET"], "maxAgeSeconds": 5}], {"origin": "*"}, 400),
    "customPlacementConfig": ({"dataLocations": ["US-EAST1", "US-WEST1"]}, "US-EAST1", 400),
    "defaultEventBasedHold": (True, "true", 400),
    "defaultObjectAcl": ([ENTRY], [{"entity": "allUsers", "role": "KING"}], 400),
    "encryption": ({"defaultKmsKeyName": KEY}, {"key": KEY}, 501),
    "hierarchicalNamespace": ({"enabled": True}, {"enabled": 1}, 400),
    "iamConfiguration": ({"publicAccessPrevention": "enforced"}, {"publicAccessPrevention": "x"}, 400),
    "ipFilter": ({"mode": "Disabled"}, {"mode": "Enabled"}, 501),
    "labels": ({"a": "b"}, {"A": "B"}, 400),
    "lifecycle": ({"rule": [{"action": {"type": "Delete"}, "condition": {"age": 1}}]}, {"rules": []}, 501),
    "location": ("EU", 5, 400),
    "logging": ({"logBucket": "logs", "logObjectPrefix": "x"}, {"logBucket": 1}, 400),
    "retentionPolicy": ({"retentionPeriod": "10"}, {"retentionPeriod": "-1"}, 400),
    "rpo": ("ASYNC_TURBO", [], 400),
    "softDeletePolicy": ({"retentionDurationSeconds": "604800"}, {"retentionDurationSeconds": "60"}, 400),
    "storageClass": ("NEARLINE", "LUKEWARM", 400),
    "versioning": ({"enabled": True}, {"enabled": "on"}, 400),
    "website": ({"mainPageSuffix": "i.html", "notFoundPage": "n.html"}, {"mainPageSuffix": 404}, 400),
}
OBJECT_VALUES: dict[str, tuple[Any, Any, int]] = {
    "acl": ([ENTRY], [{"role": "READER"}], 400),
    "cacheControl": ("no-store", 5, 400),
    "contentDisposition": ("attachment", 5, 400),
    "contentEncoding": ("identity", 5, 400),
    "contentLanguage": ("de", 5, 400),
    "contentType": ("video/mp4", 5, 400),
    "contexts": ({"custom": {"k": {"value": "v"}}}, {"custom": {"k": {"value": 1}}}, 400),
    "customTime": ("2030-01-31T00:00:00.5Z", "tomorrow", 400),
    "eventBasedHold": (True, "true", 400),
    "kmsKeyName": (KEY, 5, 400),
    "metadata": ({"k": "v"}, {"k": 1}, 400),
    "retention": ({"mode": "Unlocked", "retainUntilTime": "2030-01-31T00:00:00Z"}, {"mode": "Unlocked"}, 400),
    "storageClass": ("NEARLINE", "LUKEWARM", 400),
    "temporaryHold": (True, 1, 400),
}


def settable(table: Any) -> set[str]:
    return {name for name, field in table.items() if field.fate is not Fate.OUTPUT}


def test_every_field_has_its_values_here() -> None:
    assert set(BUCKET_VALUES) == settable(BUCKET_FIELDS)
    # The checksums are those of the bytes; test_gcs_integrity.py has them.
    assert set(OBJECT_VALUES) | {"crc32c", "md5Hash"} == settable(OBJECT_FIELDS)


def assert_holds(found: Any, sent: Any) -> None:
    """`found` has everything that was sent, and perhaps more that the server says."""
    if isinstance(sent, dict):
        for name, value in sent.items():
            assert_holds(found[name], value)
    elif isinstance(sent, list):
        for one, other in zip(found, sent, strict=True):
            assert_holds(one, other)
    else:
        assert found == sent


@pytest.mark.parametrize("way", ["insert", "patch", "update"])
@pytest.mark.parametrize("field", BUCKET_VALUES)
def test_field_of_a_bucket_is_kept_or_refused(http: httpx.Client, name: str, field: str, way: str) -> None:
    value, wrong, status = BUCKET_VALUES[field]
    path = f"/storage/v1/b/{name}"

    def send(fields: dict[str, Any]) -> httpx.Response:
        if way == "insert":
            return http.post("/storage/v1/b?project=p&projection=full", json={"name": name, **fields})
        return http.request("PATCH" if way == "patch" else "PUT", path, json=fields)

    if way != "insert":
        assert http.post("/storage/v1/b?project=p", json={"name": name}).status_code == 200
    refused = send({field: wrong})
    assert refused.status_code == status, refused.text
    assert field in refused.json()["error"]["message"]
    if way != "insert":
        assert http.get(path).json()["metageneration"] == "1"
    assert_holds(send({field: value}).json()[field], value)
    found = http.get(f"{path}?projection=full").json()
    assert_holds(found[field], value)
    if way != "insert":
        cleared = http.patch(path, json={field: None}).json()
        assert cleared.get(field) != found[field]


@pytest.mark.parametrize("way", ["insert", "patch", "update"])
@pytest.mark.parametrize("field", OBJECT_VALUES)
def test_field_of_an_object_is_kept_or_refused(http: httpx.Client, name: str, field: str, way: str) -> None:
    value, wrong, status = OBJECT_VALUES[field]
    http.post("/storage/v1/b?project=p&enableObjectRetention=true", json={"name": name})
    path = f"/storage/v1/b/{name}/o/x"

    def send(fields: dict[str, Any]) -> httpx.Response:
        if way == "insert":
            url = f"/upload/storage/v1/b/{name}/o?uploadType=resumable&name=x"
            begun = http.post(url, json=fields)
            return http.put(begun.headers["location"], content=b"x") if begun.is_success else begun
        return http.request("PATCH" if way == "patch" else "PUT", path, json=fields)

    if way != "insert":
        http.post(f"/upload/storage/v1/b/{name}/o?uploadType=media&name=x", content=b"x")
    refused = send({field: wrong})
    assert refused.status_code == status, refused.text
    assert field in refused.json()["error"]["message"]
    assert_holds(send({field: value}).json()[field], value)
    found = http.get(f"{path}?projection=full").json()
    assert_holds(found[field], value)
    assert (found["metageneration"], found["size"]) == ("1" if way == "insert" else "2", "1")
    cleared = http.patch(f"{path}?overrideUnlockedRetention=true", json={field: None})
    if field == "customTime":
        assert cleared.status_code == 400
    else:
        assert cleared.json().get(field) != found[field]


@pytest.mark.parametrize(("table", "kind"), [(BUCKET_FIELDS, "b"), (OBJECT_FIELDS, "o")])
def test_what_the_server_says_is_ignored_and_what_nobody_knows_is_refused(
    http: httpx.Client, folder: Path, table: dict[str, Field], kind: str
) -> None:
    (folder / "x").write_bytes(b"x")
    path = f"/storage/v1/b/{folder.name}" + ("/o/x" if kind == "o" else "")
    before = http.get(path).json()
    outputs = {name: "17" for name, field in table.items() if field.fate is Fate.OUTPUT}
    after = http.patch(path, json=outputs).json()
    changes = ("etag", "metageneration", "updated", "acl", "defaultObjectAcl", "owner")
    assert {k: v for k, v in after.items() if k not in changes} == {
        k: v for k, v in before.items() if k not in changes
    }
    refused = http.patch(path, json={"colour": "red"})
    assert (refused.status_code, "'colour' is not emulated" in refused.text) == (501, True)
    assert http.patch(path, json={"colour": None}).status_code == 200
