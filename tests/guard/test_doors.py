"""Ways around the token and the guard: paths that need none, addresses that are proof, headers sent twice."""

import base64
import hashlib
import json
import socket
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from google.cloud import storage
from google.oauth2 import service_account

from emulator.api.auth import Auth
from emulator.app import Emulator
from emulator.config import Settings
from emulator.trust import prepare
from emulator.vertex.errors import Unauthenticated

TOKEN = "a-token-of-the-tests"
BEARER = {"authorization": f"Bearer {TOKEN}"}
OTHER_HOST = "other.storage.googleapis.com"
OPEN = ("token", "_emulator/health", "_emulator/session")


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Buckets with objects whose names are paths that need no token."""
    settings = Settings(
        port=0, data_dir=tmp_path_factory.mktemp("doors"), bundled_models=False, workers=1, auth_token=TOKEN
    )
    for name in ("bucket/a.txt", "token/a.txt", "other/bucket/a.txt", *(f"other/{path}" for path in OPEN)):
        path = settings.buckets / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"content of {name}")
    return settings


@pytest.fixture(scope="module")
def emulator(settings: Settings) -> Iterator[Emulator]:
    with Emulator(settings) as emulator:
        yield emulator


@pytest.fixture(scope="module")
def account(settings: Settings) -> Any:
    made: Any = service_account.Credentials
    return made.from_service_account_file(str(prepare(settings.tls_folder, []).account))


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "POST", "DELETE"])
@pytest.mark.parametrize("path", OPEN)
def test_object_with_the_name_of_an_open_path_needs_the_token(
    http: httpx.Client, settings: Settings, path: str, method: str
) -> None:
    answer = http.request(method, f"/{path}", headers={"host": OTHER_HOST})
    assert answer.status_code == 401, answer.text
    assert (settings.buckets / "other" / path).read_text() == f"content of other/{path}"


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_bucket_with_the_name_of_an_open_path_needs_the_token(
    http: httpx.Client, settings: Settings, method: str
) -> None:
    assert http.request(method, "/token?list-type=2").status_code == 401
    assert (settings.buckets / "token" / "a.txt").exists()


def test_host_that_names_a_bucket_has_all_paths(http: httpx.Client) -> None:
    host = {**BEARER, "host": OTHER_HOST}
    for path in OPEN:
        assert http.get(f"/{path}", headers=host).text == f"content of other/{path}"
    assert http.get("/console/", headers=host).status_code == 404


def test_address_of_an_upload_opens_that_upload_only(http: httpx.Client, settings: Settings) -> None:
    begin = "/upload/storage/v1/b/bucket/o?uploadType=resumable&name=up"
    location = http.post(begin, headers=BEARER).headers["location"]
    proof = f"upload_id={httpx.URL(location).params['upload_id']}"
    for method, path in (
        ("GET", f"/storage/v1/b/bucket/o/a.txt?alt=media&{proof}"),
        ("GET", f"/bucket/a.txt?{proof}"),
        ("PUT", f"/bucket/a.txt?{proof}"),
        ("PUT", f"/bucket/up?partNumber=1&{proof}"),
        ("POST", f"/bucket/up?uploads&{proof}"),
        ("PUT", f"/new-bucket?{proof}"),
        ("GET", f"/_emulator/info?{proof}"),
        ("POST", f"/_emulator/reset?{proof}"),
        ("GET", f"/v1/projects/p/locations/us-central1/batchPredictionJobs?{proof}"),
        ("POST", f"/batch/storage/v1?{proof}"),
    ):
        assert http.request(method, path).status_code == 401, path
    assert http.put(location, content=b"data").status_code == 200
    assert (settings.buckets / "bucket" / "up").read_bytes() == b"data"
    assert not (settings.buckets / "new-bucket").exists()


def test_upload_goes_on_at_its_own_object_only(http: httpx.Client, settings: Settings) -> None:
    start = {**BEARER, "x-goog-resumable": "start"}
    location = http.post("/bucket/xml-up", headers=start).headers["location"]
    elsewhere = location.replace("/bucket/xml-up", "/bucket/a.txt")
    for method in ("PUT", "DELETE"):
        refused = http.request(method, elsewhere, headers=BEARER)
        assert refused.status_code == 400
        assert "bucket/a.txt" in refused.text
    assert http.put(location, content=b"data").status_code == 200
    assert (settings.buckets / "bucket" / "xml-up").read_bytes() == b"data"


@pytest.mark.parametrize("version", ["v2", "v4"])
def test_signed_url_opens_no_other_object(
    emulator: Emulator, http: httpx.Client, settings: Settings, account: Any, version: Any
) -> None:
    def url(name: str, method: str) -> str:
        blob = storage.Client(project="p", credentials=account).bucket("bucket").blob(name)
        in_time = timedelta(minutes=5)
        return str(
            blob.generate_signed_url(
                in_time, method=method, version=version, api_access_endpoint=emulator.url
            )
        )

    new = f"put-{version}.txt"
    assert http.get(url("a.txt", "GET")).text == "content of bucket/a.txt"
    assert http.get(url("a.txt", "GET"), headers={"host": OTHER_HOST}).status_code == 401
    for own in ({"x-goog-copy-source": "/token/a.txt"}, {"x-goog-meta-a": "b"}, {"x-goog-acl": "private"}):
        assert http.put(url(new, "PUT"), headers=own).status_code == 401
    assert not (settings.buckets / "bucket" / new).exists()
    assert http.put(url(new, "PUT"), content=b"data").status_code == 200


def test_signature_that_leaves_out_the_host_opens_nothing(http: httpx.Client, account: Any) -> None:
    """It would do for the same path of every bucket that has a host of its own."""
    query = {
        "X-Goog-Algorithm": "GOOG4-RSA-SHA256",
        "X-Goog-Credential": "a/20260101/auto/storage/goog4_request",
        "X-Goog-Date": "20260101T000000Z",
        "X-Goog-Expires": "60",
        "X-Goog-SignedHeaders": "accept",
    }
    canonical = f"GET\n/bucket/a.txt\n{httpx.QueryParams(query)}\naccept:*/*\n\naccept\nUNSIGNED-PAYLOAD"
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    text = "\n".join(
        ("GOOG4-RSA-SHA256", query["X-Goog-Date"], "20260101/auto/storage/goog4_request", digest)
    )
    signature = account.sign_bytes(text.encode()).hex()
    assert http.get("/bucket/a.txt", params={**query, "X-Goog-Signature": signature}).status_code == 401


@pytest.mark.parametrize("number", ["1" * 400, "1" * 5000, "1e999", "[]", "null", '"x"'])
def test_claims_that_are_no_times_are_refused_in_words(settings: Settings, number: str) -> None:
    claims = f'{{"iat": {number}, "exp": {number}}}'.encode()
    assertion = f"e30.{base64.urlsafe_b64encode(claims).decode().rstrip('=')}.AAAA"
    auth = Auth(TOKEN, prepare(settings.tls_folder, []).account)
    with pytest.raises(Unauthenticated):
        auth.check(f"Bearer {assertion}")
    with pytest.raises(Unauthenticated):
        auth.exchange(assertion)


@pytest.mark.parametrize("content", [[], {"private_key": 5}, {"private_key": "no key"}, {}])
def test_account_that_somebody_edited_signs_nothing(tmp_path: Path, content: object) -> None:
    account = tmp_path / "account.json"
    account.write_text(json.dumps(content))
    assert not Auth(TOKEN, account).verifies(b"text", b"signature")


@pytest.mark.parametrize("name", ["Host", "Origin", "Sec-Fetch-Site", "Authorization"])
def test_header_that_decides_must_not_come_twice(emulator: Emulator, name: str) -> None:
    """What the guard looks at could be another than what the rest of the server does."""
    own = {
        "Host": emulator.url.removeprefix("http://"),
        "Origin": emulator.url,
        "Sec-Fetch-Site": "same-origin",
        "Authorization": BEARER["authorization"],
    }
    evil = {**own, name: "evil.example"}[name]
    head = "".join(f"{known}: {value}\r\n" for known, value in own.items())
    for twice in (f"{name}: {evil}\r\n{head}", f"{head}{name}: {evil}\r\n"):
        answer = answer_to(emulator, f"GET /storage/v1/b HTTP/1.1\r\n{twice}Connection: close\r\n\r\n")
        assert answer.startswith("HTTP/1.1 400 ")
        assert f"{name.lower()} 2 times" in answer
    assert answer_to(emulator, f"GET /storage/v1/b HTTP/1.1\r\n{head}Connection: close\r\n\r\n").startswith(
        "HTTP/1.1 200 "
    )


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example@localhost", "localhost#.evil.example", "localhost/evil.example", "localhost?evil"),
        *("evil.example%00.localhost", "evil\t.localhost", "[", "::1", ":", "localhost,evil.example"),
    ],
)
def test_host_that_is_no_host_is_refused(emulator: Emulator, host: str) -> None:
    head = f"GET /_emulator/health HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
    assert answer_to(emulator, head).startswith("HTTP/1.1 403 ")


def answer_to(emulator: Emulator, head: str) -> str:
    host, _, port = emulator.url.removeprefix("http://").rpartition(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(head.encode())
        return b"".join(iter(lambda: connection.recv(65536), b"")).decode()
