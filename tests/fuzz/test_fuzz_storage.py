"""The Cloud Storage surface: requests, uploads and batches that are nearly right."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.fuzzing import ODD_TEXTS, damaged, encoded, examples, mostly, nearly, queries, written
from tests.fuzz.wire import Wire

pytestmark = pytest.mark.fuzz

_BUCKET = "fuzzed-bucket"
_CALLS = [
    "GET b", "POST b", "GET b/{}", "PUT b/{}", "PATCH b/{}", "PATCH b/{}", "DELETE b/{}", "GET b/{}/iam",
    "GET b/{}/iam/testPermissions", "GET b/{}/acl", "GET b/{}/storageLayout", "GET b/{}/o", "GET b/{}/o",
    "GET b/{}/o/{}", "GET b/{}/o/{}", "HEAD b/{}/o/{}", "PUT b/{}/o/{}", "PATCH b/{}/o/{}", "PATCH b/{}/o/{}",
    "DELETE b/{}/o/{}", "GET b/{}/o/{}/acl", "POST b/{}/o/{}/compose", "POST b/{}/o/{}/copyTo/b/{}/o/{}",
    "POST b/{}/o/{}/rewriteTo/b/{}/o/{}", "POST b/{}/o/{}/moveTo/o/{}", "GET b/{}/notificationConfigs",
    "GET projects/p/serviceAccount", "GET projects/p/hmacKeys",
]  # fmt: skip
_QUERY_NAMES = [
    "prefix", "delimiter", "pageToken", "maxResults", "startOffset", "endOffset", "matchGlob", "versions",
    "projection", "fields", "alt", "generation", "ifGenerationMatch", "ifGenerationNotMatch",
    "ifMetagenerationMatch", "project", "userProject", "includeTrailingDelimiter", "rewriteToken", "name",
    "uploadType", "upload_id", "contentEncoding", "predefinedAcl", "kmsKeyName", "sourceGeneration",
    "softDeleted",
]  # fmt: skip
_VALUES = st.one_of(
    ODD_TEXTS,
    st.sampled_from(
        ["media", "json", "full", "noAcl", "1", "0", "2", "resumable", "multipart", "items(name)"]
    ),
)
_BODIES: list[dict[str, Any]] = [
    {"name": _BUCKET},
    {
        "name": "o",
        "contentType": "text/plain",
        "metadata": {"a": "b"},
        "md5Hash": "AAAA",
        "crc32c": "AAAAAA==",
    },
    {
        "sourceObjects": [{"name": "there", "generation": "1"}],
        "destination": {"contentType": "x"},
        "kind": "k",
    },
    {"cacheControl": None, "temporaryHold": True, "customTime": "2026-01-01T00:00:00Z", "acl": []},
    {"labels": {"a": "b"}, "versioning": {"enabled": True}, "lifecycle": {"rule": []}, "cors": []},
    {},
]
_NAMES = sorted(
    {name for body in _BODIES for name in body} | {"id", "size", "generation", "storageClass", "etag"}
)
_HEADERS = st.dictionaries(
    st.sampled_from(
        [
            "Range", "Content-Range", "Content-Type", "Content-Encoding", "x-goog-hash", "If-Match",
            "If-None-Match", "x-upload-content-type", "x-upload-content-length", "X-Goog-Upload-Command",
            "X-HTTP-Method-Override", "x-goog-if-generation-match", "Accept-Encoding", "X-Forwarded-Host",
            "If-Modified-Since",
        ]
    ),
    st.sampled_from(
        [
            "", "bytes=0-", "bytes=5-1", "bytes=-3", "bytes=0-0,2-3", "bytes */*", "bytes 0-4/5",
            "bytes 3-1/2", "bytes 0-*/*", "multipart/related; boundary=x", "multipart/related", "text/plain",
            "gzip", "multipart/form-data; boundary=x", "crc32c=AAAAAA==", "md5=x", "*", '"1"', "9" * 30,
            "-1", "PATCH", "DELETE", "start",
        ]
    ),
    max_size=3,
)  # fmt: skip


def put_objects(wire: Wire) -> None:
    """Put a bucket with an object there, which an example may have deleted."""
    made = wire.ask("POST", "/storage/v1/b?project=p", {}, json.dumps({"name": _BUCKET}).encode())
    assert made.status in (200, 409)
    target = f"/upload/storage/v1/b/{_BUCKET}/o?uploadType=media&name=there"
    wire.ask("POST", target, {}, b"content of it")


@pytest.fixture(scope="module", autouse=True)
def objects(wire: Wire) -> None:
    put_objects(wire)


_METHODS = st.sampled_from(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
_OBJECTS = mostly(st.sampled_from(["there", "there", "other"]), encoded(ODD_TEXTS))
_BUCKETS = mostly(st.just(_BUCKET), st.sampled_from(["no-such-bucket", "Bad_Bucket", "%00"]))


@st.composite
def _requests(draw: st.DrawFn) -> tuple[str, str, dict[str, str], bytes]:
    prefix = draw(st.sampled_from(["/storage/v1/", "/storage/v1/", "/download/storage/v1/", "/"]))
    method, _, path = draw(st.sampled_from(_CALLS)).partition(" ")
    if prefix == "/":
        path = "{}/{}"
    # Of the braces every second one is an object; the last of a copy's are a bucket and an object.
    names = [draw(_BUCKETS), draw(_OBJECTS), draw(_BUCKETS if "To/b" in path else _OBJECTS), draw(_OBJECTS)]
    target = f"{prefix}{path.format(*names)}?{draw(queries(_QUERY_NAMES, _VALUES))}"
    method = draw(mostly(st.just(method), _METHODS))
    return method, target, draw(_HEADERS), draw(written(nearly(_BODIES, _NAMES)))


@examples(80)
@given(request=_requests())
def test_requests(wire: Wire, request: tuple[str, str, dict[str, str], bytes]) -> None:
    put_objects(wire)
    wire.check(wire.ask(*request), request[0])


@st.composite
def _parts(draw: st.DrawFn) -> bytes:
    """A body of two parts, as uploads have it, or what is nearly one."""
    metadata = draw(written(nearly(_BODIES, _NAMES)))
    line = draw(st.sampled_from([b"\r\n", b"\n"]))
    kinds = [draw(st.sampled_from([b"application/json", b"text/plain", b"", b"\xff"])) for _ in range(2)]
    parts = [b"--x", b"Content-Type: " + kinds[0], b"", metadata, b"--x", b"Content-Type: " + kinds[1], b""]
    whole = line.join([*parts, draw(st.binary(max_size=40)), b"--x--"])
    return draw(damaged(whole))


@st.composite
def _uploads(draw: st.DrawFn) -> tuple[str, str, dict[str, str], bytes]:
    kind = draw(st.sampled_from(["media", "multipart", "multipart", "resumable", "resumable", "", "odd"]))
    prefix = draw(st.sampled_from(["/upload/storage/v1", "/resumable/upload/storage/v1"]))
    bucket = draw(st.sampled_from([_BUCKET, _BUCKET, "no-such-bucket"]))
    query = draw(queries(_QUERY_NAMES, _VALUES))
    target = f"{prefix}/b/{bucket}/o?uploadType={kind}&name={draw(encoded(ODD_TEXTS))}&{query}"
    headers = {
        **({"Content-Type": "multipart/related; boundary=x"} if kind == "multipart" else {}),
        **draw(_HEADERS),
    }
    body = draw(_parts()) if kind == "multipart" else draw(written(nearly(_BODIES, _NAMES)))
    return draw(st.sampled_from(["POST", "POST", "POST", "PUT", "DELETE"])), target, headers, body


@examples(60)
@given(request=_uploads(), pieces=st.lists(st.tuples(_HEADERS, st.binary(max_size=30)), max_size=3))
def test_uploads(
    wire: Wire, request: tuple[str, str, dict[str, str], bytes], pieces: list[tuple[dict[str, str], bytes]]
) -> None:
    answer = wire.ask(*request)
    wire.check(answer, request[0])
    location = answer.headers.get("location", "").removeprefix(wire.emulator.url)
    for headers, body in pieces if location else ():
        wire.check(wire.ask("PUT", location, headers, body), "PUT")


@st.composite
def _batches(draw: st.DrawFn) -> bytes:
    parts = []
    for number in range(draw(st.integers(0, 3))):
        method, target, headers, body = draw(_requests())
        lines = [
            f"{method} {target} HTTP/1.1",
            *(f"{name}: {value}" for name, value in headers.items()),
            "",
            "",
        ]
        inner = "\r\n".join(lines).encode("utf-8", "surrogatepass") + body
        identity = draw(st.sampled_from([f"<a+{number}>", "", "\u00fc", "<" * 300]))
        outer = f"--x\r\nContent-Type: application/http\r\nContent-ID: {identity}\r\n\r\n".encode()
        parts.append(outer + inner)
    return draw(damaged(b"\r\n".join([*parts, b"--x--"])))


@examples(40)
@given(body=_batches())
def test_batches(wire: Wire, body: bytes) -> None:
    headers = {"Content-Type": "multipart/mixed; boundary=x"}
    wire.check(wire.ask("POST", "/batch/storage/v1", headers, body), "POST")
