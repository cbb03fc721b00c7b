"""The examples of the pages about Cloud Storage run as they stand, but for the port."""

import re
import tomllib
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage
from google.oauth2 import service_account

from emulator.app import Emulator
from emulator.config import Settings, load_settings
from emulator.gcs.attributes import BUCKET_FIELDS, OBJECT_FIELDS, Fate, Field
from emulator.gcs.xml_surface import NOT_EMULATED
from emulator.trust import prepare
from tests.docs.options import serve_options
from tests.docs.pages import blocks, read, runs

EXAMPLE, *_ = blocks("docs/cloud-storage.md", "python")
SIGNING, *_ = blocks("docs/xml-api.md", "python")
ENDPOINT, *_ = blocks("docs/storage-endpoints.md", "sh")


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An emulator without models."""
    settings = Settings(port=0, data_dir=tmp_path_factory.mktemp("docs"), bundled_models=False, workers=1)
    with Emulator(settings) as emulator:
        yield emulator.url


@runs(EXAMPLE)
def test_example_runs(url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", url)
    exec(compile(EXAMPLE.text, str(EXAMPLE), "exec"), {})
    assert capsys.readouterr().out == "['videos/a.txt']\n"


@runs(SIGNING)
def test_url_is_signed_as_shown(url: str, tmp_path: Path) -> None:
    files = prepare(tmp_path / "tls")
    made: Any = service_account.Credentials
    account = made.from_service_account_file(str(files.account))
    client = storage.Client(
        project="p", credentials=AnonymousCredentials(), client_options={"api_endpoint": url}
    )
    client._http.trust_env = False
    names = {"bucket": client.create_bucket("signed-urls"), "account": account, "timedelta": timedelta}
    text = SIGNING.text.replace("http://127.0.0.1:8080", url)
    exec(compile(text, str(SIGNING), "exec"), names)
    assert httpx.put(names["url"], content=b"video", trust_env=False).status_code == 200
    assert names["bucket"].blob("videos/a.mp4").download_as_bytes() == b"video"


def test_calls_that_are_not_emulated_are_listed() -> None:
    (listed,) = re.findall(
        r"\*\*Not emulated\*\*, 501 with the reason: (.*?)\.\n", read("docs/xml-api.md"), re.DOTALL
    )
    assert re.findall(r"`([^`]+)`", listed) == list(NOT_EMULATED)


@pytest.mark.parametrize(
    ("heading", "fields"), [("Of a bucket:", BUCKET_FIELDS), ("Of an object:", OBJECT_FIELDS)]
)
def test_tables_of_fields_are_those_of_the_code(heading: str, fields: Mapping[str, Field]) -> None:
    _, _, rest = read("docs/cloud-storage-fields.md").partition(
        f"\n{heading}\n\n| field | what becomes of it |\n|---|---|\n"
    )
    rows = rest.partition("\n\n")[0].splitlines()
    settable = {name: field for name, field in fields.items() if field.fate is not Fate.OUTPUT}
    assert rows == [f"| `{name}` | {field.fate.value}: {field.words} |" for name, field in settable.items()]


@runs(ENDPOINT)
def test_endpoint_is_what_the_server_of_others_listens_at() -> None:
    (options,) = serve_options(ENDPOINT.text)
    assert f"-external-url {options['gcs_endpoint']} " in ENDPOINT.text
    assert "gcs" in tomllib.loads(read("pyproject.toml"))["project"]["optional-dependencies"]


def test_places_of_buckets_can_be_read(tmp_path: Path) -> None:
    (example,) = blocks("docs/storage-endpoints.md", "toml")
    file = tmp_path / "emulator.toml"
    file.write_text(example.text)
    assert load_settings(environ={}, config_file=file).settings.gcs_buckets["results"] == "local"
