"""The setting auth_token: who gets in on which surface, and how."""

import json
import logging
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import google.auth.jwt
import grpc
import httpx
import pytest
from google.cloud import storage
from google.cloud.aiplatform_v1 import JobServiceClient
from google.cloud.aiplatform_v1.services.job_service.transports import JobServiceGrpcTransport
from google.oauth2 import service_account
from typer.testing import CliRunner

from emulator.api.auth import Auth
from emulator.app import Emulator
from emulator.cli import build
from emulator.config import SettingError, Settings, load_settings, shown_settings
from emulator.testing.grpc_token import with_token
from emulator.testing.server import serve
from emulator.trust import Certificates, prepare
from emulator.vertex.errors import Unauthenticated
from tests.guard.test_origin import SURFACES

TOKEN = "a-token-of-the-tests"
BEARER = {"authorization": f"Bearer {TOKEN}"}
PARENT = "projects/p/locations/us-central1"
HEALTH = "/_emulator/health"
SESSION = "/_emulator/session"


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    settings = Settings(
        port=0, data_dir=tmp_path_factory.mktemp("auth"), bundled_models=False, workers=1, auth_token=TOKEN
    )
    (settings.buckets / "bucket").mkdir(parents=True)
    (settings.buckets / "bucket" / "page.html").write_text("content")
    return settings


@pytest.fixture(scope="module")
def emulator(settings: Settings) -> Iterator[Emulator]:
    with Emulator(settings) as emulator:
        yield emulator


@pytest.fixture(scope="module")
def files(settings: Settings) -> Certificates:
    """What `vertex-emulator env` makes for clients."""
    return prepare(settings.tls_folder, [])


def unauthenticated(response: httpx.Response) -> None:
    assert response.status_code == 401, response.text
    assert response.json()["error"]["status"] == "UNAUTHENTICATED"
    assert response.headers["www-authenticate"] == "Bearer"
    assert TOKEN not in response.text


@pytest.mark.parametrize(("method", "path"), SURFACES)
def test_every_surface_but_health_asks_for_the_token(http: httpx.Client, method: str, path: str) -> None:
    if path == HEALTH:
        assert http.get(path).status_code == 200
        return
    for headers in ({}, {"authorization": "Bearer another-token"}, {"authorization": f"Basic {TOKEN}"}):
        unauthenticated(http.request(method, path, headers=headers))
    if path not in ("/_emulator/events", "/_emulator/reset"):
        assert http.request(method, path, headers=BEARER).status_code not in (401, 403)


def test_token_does_not_open_the_door_to_other_sites(http: httpx.Client) -> None:
    for foreign in ({"origin": "http://evil.example"}, {"host": "evil.example"}):
        assert http.get("/_emulator/info", headers={**BEARER, **foreign}).status_code == 403


def test_listed_page_reads_why_it_is_refused(tmp_path: Path) -> None:
    origin = "http://localhost:3000"
    settings = Settings(
        port=0, data_dir=tmp_path, bundled_models=False, workers=1, auth_token=TOKEN, allowed_origins=[origin]
    )
    with Emulator(settings) as emulator:
        answer = httpx.get(f"{emulator.url}/_emulator/info", headers={"origin": origin}, trust_env=False)
        unauthenticated(answer)
        assert answer.headers["access-control-allow-origin"] == origin
        asked = {"origin": origin, "access-control-request-method": "PUT"}
        asked["access-control-request-headers"] = "authorization"
        answer = httpx.options(f"{emulator.url}/_emulator/pace", headers=asked, trust_env=False)
        assert answer.headers["access-control-allow-headers"] == "authorization"


def test_grpc_asks_for_the_token(emulator: Emulator) -> None:
    assert emulator.grpc_address
    with grpc.insecure_channel(emulator.grpc_address) as channel:
        with pytest.raises(Exception, match="401"):
            JobServiceClient(transport=JobServiceGrpcTransport(channel=channel)).list_batch_prediction_jobs(
                parent=PARENT
            )
        transport = JobServiceGrpcTransport(channel=with_token(channel, TOKEN))
        assert list(JobServiceClient(transport=transport).list_batch_prediction_jobs(parent=PARENT)) == []
        health = channel.unary_unary("/grpc.health.v1.Health/Check")
        assert health(b"", timeout=30) == b"\x08\x01"
        with pytest.raises(grpc.RpcError) as caught:
            channel.stream_stream("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo")(
                iter([b""]), timeout=30
            ).next()
        assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED


def test_clients_get_in_with_the_account_s_own_token(emulator: Emulator, files: Certificates) -> None:
    """Google's libraries sign a token with the account's key where they ask for none."""
    credentials = service_account.Credentials.from_service_account_file(
        files.account, always_use_jwt_access=True, scopes=["https://www.googleapis.com/auth/cloud-platform"]
    )
    client = storage.Client(
        project="p", credentials=credentials, client_options={"api_endpoint": emulator.url}
    )
    client._http.trust_env = False
    assert [bucket.name for bucket in client.list_buckets()] == ["bucket"]


def assertion(account: dict[str, Any], **changes: Any) -> str:
    claims = {
        "iat": int(time.time()),
        "exp": int(time.time()) + 3600,
        "iss": account["client_email"],
        **changes,
    }
    signer = google.auth.crypt.RSASigner.from_service_account_info(account)
    return str(google.auth.jwt.encode(signer, claims).decode())


def test_signed_assertion_is_exchanged_for_the_token(files: Certificates, tmp_path: Path) -> None:
    account = json.loads(files.account.read_bytes())
    auth = Auth(TOKEN, files.account)
    good = assertion(account)
    assert auth.exchange(good) == TOKEN
    other = json.loads(prepare(tmp_path, []).account.read_bytes())
    head, claims, signature = good.split(".")
    unsigned = "eyJhbGciOiJub25lIn0"
    for bad in (
        assertion(other),
        assertion(account, exp=1_000),
        assertion(account, iat=4_000_000_000),
        f"{head}.{claims}.",
        f"{unsigned}.{claims}.",
        f"{head}.{claims}x.{signature}",
        "not a token",
        "",
    ):
        with pytest.raises(Unauthenticated):
            auth.exchange(bad)
    assert Auth(None, files.account).exchange("anything") not in (TOKEN, "")


@pytest.mark.parametrize("version", ["v2", "v4"])
def test_signed_url_gets_in_by_its_signature(
    emulator: Emulator, http: httpx.Client, files: Certificates, tmp_path: Path, version: Any
) -> None:
    def url_of(account: Path) -> str:
        credentials = service_account.Credentials.from_service_account_file(account)
        blob = storage.Client(project="p", credentials=credentials).bucket("bucket").blob("page.html")
        return str(
            blob.generate_signed_url(
                timedelta(minutes=5),
                api_access_endpoint=emulator.url,
                version=version,
                response_disposition="attachment; filename=a b.html",
            )
        )

    url = url_of(files.account)
    assert http.get(url).text == "content"
    for other in (
        url_of(prepare(tmp_path, []).account),
        f"{url}&uploads=1",
        url.split("?")[0],
    ):
        unauthenticated(http.get(other))
    unauthenticated(http.delete(url))
    unauthenticated(http.get(url, headers={"x-http-method-override": "DELETE"}))
    unauthenticated(http.get(url.replace("page.html", "other.html")))


def test_token_endpoint_gives_the_token_to_the_account_alone(
    emulator: Emulator, files: Certificates, tmp_path: Path
) -> None:
    """Google's libraries ask for a token where they are given scopes, as gcsfs and Airflow do."""
    prepare(files.folder, token_uri=f"{emulator.url}/token")
    scopes = ["https://www.googleapis.com/auth/cloud-platform"]
    made = service_account.Credentials.from_service_account_file(files.account, scopes=scopes)
    client = storage.Client(project="p", credentials=made, client_options={"api_endpoint": emulator.url})
    client._http.trust_env = False
    assert [bucket.name for bucket in client.list_buckets()] == ["bucket"]
    assert made.token == TOKEN
    other = json.loads(prepare(tmp_path, []).account.read_bytes())
    grant = {"grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer", "assertion": assertion(other)}
    for asked in (grant, {"grant_type": "refresh_token", "refresh_token": "x"}):
        refused = httpx.post(f"{emulator.url}/token", data=asked, trust_env=False)
        assert (refused.status_code, refused.json()["error"]) == (400, "invalid_grant")
        assert TOKEN not in refused.text


def test_resumable_upload_goes_on_by_its_address(
    http: httpx.Client, emulator: Emulator, files: Certificates
) -> None:
    """Vertex: the address of a resumable upload is proof enough, for it came to who may begin one."""
    made: Any = service_account.Credentials
    account = made.from_service_account_file(str(files.account))
    blob = storage.Client(project="p", credentials=account).bucket("bucket").blob("resumed")
    url = blob.generate_signed_url(
        timedelta(minutes=5), method="RESUMABLE", version="v4", api_access_endpoint=emulator.url
    )
    unauthenticated(http.post(url.partition("?")[0], headers={"x-goog-resumable": "start"}))
    begun = http.post(url, headers={"x-goog-resumable": "start"})
    assert begun.status_code == 201, begun.text
    location = begun.headers["location"]
    unauthenticated(http.put(f"{location}x", content=b"data"))
    assert http.put(location, content=b"data").status_code == 200
    assert (emulator.settings.buckets / "bucket" / "resumed").read_bytes() == b"data"


def test_browser_signs_in_and_out(http: httpx.Client) -> None:
    assert http.get(SESSION).json() == {"required": True, "signedIn": False}
    unauthenticated(http.post(SESSION, json={"token": "another-token"}))
    assert http.post(SESSION, content=b"[").status_code == 400
    answer = http.post(SESSION, json={"token": TOKEN})
    cookie = answer.headers["set-cookie"]
    assert answer.status_code == 200
    assert TOKEN not in cookie
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert http.get(SESSION).json() == {"required": True, "signedIn": True}
    assert http.get("/_emulator/info").status_code == 200
    assert http.get("/bucket/page.html").text == "content"
    # The cookie gives a page of another site nothing.
    assert http.get("/_emulator/info", headers={"origin": "http://evil.example"}).status_code == 403
    name, _, value = cookie.partition(";")[0].partition("=")
    end, _, proof = value.partition(".")
    for other in (f"{int(end) + 1}.{proof}", f"{end}.", "9" * 30 + f".{proof}", TOKEN):
        unauthenticated(httpx.get(f"{http.base_url}/_emulator/info", headers={"cookie": f"{name}={other}"}))
    http.delete(SESSION)
    assert http.get(SESSION).json()["signedIn"] is False


def test_page_without_a_session_asks_for_the_token(http: httpx.Client) -> None:
    answer = http.get("/docs?x=1", headers={"accept": "text/html"})
    assert answer.status_code == 401
    assert 'name=next value="/docs?x=1"' in answer.text
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    for following, where in (
        ("/docs?x=1", "/docs?x=1"),
        ("//evil.example", "/"),
        ("http://evil.example", "/"),
    ):
        answer = http.post(SESSION, data={"token": TOKEN, "next": following})
        assert (answer.status_code, answer.headers["location"]) == (303, where)


def test_commands_and_the_plugin_send_the_token(
    emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["jobs", "list", "--project", "p", "--server", emulator.url]
    refused = CliRunner().invoke(build(), command).stderr
    assert "asks for a token" in refused
    assert "Set VERTEX_EMULATOR_AUTH_TOKEN to it" in refused
    # Waiting does not bring a token: an hour would pass here.
    waited = CliRunner().invoke(build(), ["wait", "--server", emulator.url, "--timeout", "3600"])
    assert waited.exit_code == 1
    assert "Set VERTEX_EMULATOR_AUTH_TOKEN to it" in waited.stderr
    monkeypatch.setenv("VERTEX_EMULATOR_AUTH_TOKEN", TOKEN)
    assert CliRunner().invoke(build(), command).exit_code == 0
    with serve({"auth_token": TOKEN, "bundled_models": False, "workers": 1}, folder=tmp_path) as server:
        assert server.control.get("info")["settings"]["auth_token"]["value"] == "***"


def test_token_is_shown_nowhere(settings: Settings) -> None:
    assert shown_settings(settings)["auth_token"] == "***"
    assert shown_settings(Settings())["auth_token"] is None
    for bad in ("short", "with a space", "nön-ascii-token", "new\nline-token"):
        with pytest.raises(SettingError) as caught:
            load_settings({"auth_token": bad}, {})
        assert bad not in str(caught.value)
        assert "8 or more" in str(caught.value)


@pytest.mark.parametrize(
    ("host", "token", "warns"),
    [("0.0.0.0", None, True), ("0.0.0.0", TOKEN, False), ("127.0.0.1", None, False)],
)
def test_listening_beyond_loopback_without_a_token_warns(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, host: str, token: str | None, warns: bool
) -> None:
    settings = Settings(
        host=host, port=0, data_dir=tmp_path, bundled_models=False, workers=1, auth_token=token
    )
    with caplog.at_level(logging.WARNING), Emulator(settings):
        pass
    assert any("--auth-token" in record.getMessage() for record in caplog.records) == warns
