"""The token endpoint: what `vertex-emulator env` prints is enough for Google's libraries."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from emulator.app import Emulator
from emulator.cli import build
from emulator.config import Settings

JWT_GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    folder = tmp_path_factory.mktemp("data")
    settings = Settings(port=0, data_dir=folder, bundled_models=False, workers=1, grpc=False, tls=True)
    with Emulator(settings) as running:
        yield running


def environment(emulator: Emulator, *arguments: str) -> dict[str, str]:
    """What `vertex-emulator env` prints for that server."""
    port = emulator.url.rpartition(":")[2]
    command = ["env", "--shell", "json", "--data-dir", str(emulator.settings.data_dir), "--port", port]
    values: dict[str, str] = json.loads(CliRunner().invoke(build(), [*command, *arguments]).stdout)
    return values


def test_default_credentials_with_scopes_reach_storage_and_vertex(emulator: Emulator) -> None:
    """As gcsfs and Airflow's hooks do it: with scopes google-auth asks for a token instead of signing one."""
    program = """
import google.auth, google.auth.transport.requests
from google.cloud import storage
credentials, project = google.auth.default(scopes=["https://www.googleapis.com/auth/cloud-platform"])
credentials.refresh(google.auth.transport.requests.Request())
client = storage.Client(project=project, credentials=credentials)
client.create_bucket("with-a-token").blob("a").upload_from_string("x")
print(project, credentials.token, [bucket.name for bucket in client.list_buckets(retry=None)])
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env=environment(emulator),
        timeout=120,
    )
    assert done.stdout.split() == ["my-project", "vertex-emulator-token", "['with-a-token']"], done.stderr


def grant(emulator: Emulator, **content: Any) -> tuple[int, dict[str, Any]]:
    response = httpx.post(f"{emulator.url}/token", trust_env=False, **content)
    assert response.headers["content-type"] == "application/json"
    assert response.headers["cache-control"] == "no-store"
    return response.status_code, response.json()


@pytest.mark.parametrize(
    "asked",
    [
        {"grant_type": JWT_GRANT, "assertion": "a.b.c"},
        {"grant_type": "refresh_token", "refresh_token": "x", "client_id": "y", "client_secret": "z"},
    ],
)
def test_grants_get_a_token(emulator: Emulator, asked: dict[str, str]) -> None:
    expected = {"access_token": "vertex-emulator-token", "expires_in": 3599, "token_type": "Bearer"}
    assert grant(emulator, data=asked) == (200, expected)
    assert grant(emulator, json=asked) == (200, expected)


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"", "unsupported_grant_type"),
        (b"grant_type=password&password=x", "unsupported_grant_type"),
        (f"grant_type={JWT_GRANT}".encode(), "invalid_request"),
        (f"grant_type={JWT_GRANT}&assertion=a.eyJ0YXJnZXRfYXVkaWVuY2UiOiJ4In0.c".encode(), "invalid_request"),
        (b"{", "unsupported_grant_type"),
        (b'{"grant_type": 5}', "unsupported_grant_type"),
        (b"{" + b'"a":[' * 100_000, "unsupported_grant_type"),
        (b"\xff\xfe", "unsupported_grant_type"),
        (b"a=b&" * 1000, "unsupported_grant_type"),
    ],
)
def test_other_grants_are_refused_with_words(emulator: Emulator, body: bytes, error: str) -> None:
    status, answer = grant(emulator, content=body)
    assert (status, answer["error"]) == (400, error)
    assert answer["error_description"]


def test_google_name_of_the_endpoint_leads_here_over_tls(emulator: Emulator) -> None:
    """In alias mode oauth2.googleapis.com is the emulator: same path, the certificate holds for the name."""
    values = environment(emulator, "--alias")
    uri = json.loads(Path(values["GOOGLE_APPLICATION_CREDENTIALS"]).read_text())["token_uri"]
    done = subprocess.run(
        [
            *("curl", "-sS", "--noproxy", "*", "--cacert", values["CURL_CA_BUNDLE"]),
            *("--connect-to", f"oauth2.googleapis.com:443:{emulator.tls_address}"),
            *("-d", f"grant_type={JWT_GRANT}&assertion=a.b.c", uri),
        ],
        capture_output=True,
        text=True,
    )
    assert json.loads(done.stdout)["access_token"] == "vertex-emulator-token", done.stderr
