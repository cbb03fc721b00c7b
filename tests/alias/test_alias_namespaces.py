"""Alias mode for real: the client's host resolves Google's names to the emulator's, and nothing else is set.

`make test-namespaces` runs it: it needs Linux, root and iproute2.
"""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.alias.client import ASKED, HOSTS, Client, hosts_on_one_cable, served
from tests.alias.network import SERVER_ADDRESS
from tests.docs.pages import blocks, runs

(PROGRAM,) = blocks("docs/alias-mode.md", "python")
CLIENTS = Path(__file__).parents[1] / "clients"
CACHE = Path(os.environ.get("CLIENTS_CACHE", Path(__file__).parents[2] / ".clients-cache"))
COLLECTION = "projects/my-project/locations/us-central1/models"

pytestmark = [
    pytest.mark.namespaces,
    pytest.mark.skipif(
        not os.environ.get(ASKED),
        reason="changes the system's network namespaces: run `make test-namespaces`",
    ),
]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with hosts_on_one_cable() as network, served(network, tmp_path_factory.mktemp("alias")) as client:
        yield client


@runs(PROGRAM)
def test_documented_program_runs_with_nothing_but_its_environment_set(client: Client) -> None:
    known = ("emulator", "endpoint", "credentials", "transport", "localhost", "127.", "192.", "environ")
    assert not [word for word in known if word in PROGRAM.text.lower()]
    assert not [value for value in client.environment.values() if "://" in value or SERVER_ADDRESS in value]
    printed = client.python(PROGRAM.text)
    assert re.search(r"^(4|JobState\.JOB_STATE_SUCCEEDED)$", printed, re.MULTILINE)
    name, line = printed.strip().splitlines()[-1].split(" ", 1)
    assert name.startswith("output/prediction-Pets-")
    assert json.loads(line)["prediction"][0]["displayName"] == "cat"


def test_rest_needs_no_endpoint_either(client: Client) -> None:
    listing = (
        "from google.cloud import aiplatform\n"
        "aiplatform.init(project='my-project', location='us-central1', api_transport='rest')\n"
        "print([model.display_name for model in aiplatform.Model.list()])"
    )
    assert client.python(listing) == "['Pets']\n"


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl_reaches_both_names(client: Client) -> None:
    models = client.run("curl", "-sS", f"https://{HOSTS[0]}/v1/{COLLECTION}")
    assert [model["displayName"] for model in json.loads(models)["models"]] == ["Pets"]
    found = json.loads(client.run("curl", "-sS", f"https://{HOSTS[1]}/storage/v1/b/my-bucket/o/input.jsonl"))
    assert found["mediaLink"].startswith(f"https://{HOSTS[1]}/")


def test_account_with_scopes_gets_a_token_at_googles_address(client: Client) -> None:
    """As gcsfs and Airflow ask for their credentials."""
    listing = (
        "import google.auth, google.auth.transport.requests\n"
        "from google.cloud import storage\n"
        "credentials, project = google.auth.default(['https://www.googleapis.com/auth/cloud-platform'])\n"
        "client = storage.Client(project=project, credentials=credentials)\n"
        "print([blob.name for blob in client.list_blobs('my-bucket', prefix='input')], credentials.token)"
    )
    assert client.python(listing) == "['input.jsonl'] vertex-emulator-token\n"


def test_bucket_in_the_host_name(client: Client) -> None:
    """A signed URL of that style, over TLS."""
    reading = (
        "import datetime, google.auth, requests\n"
        "from google.cloud import storage\n"
        "blob = storage.Client().bucket('my-bucket').blob('input.jsonl')\n"
        "lasts = datetime.timedelta(minutes=5)\n"
        "url = blob.generate_signed_url(lasts, version='v4', virtual_hosted_style=True)\n"
        "print(url.split('?')[0], requests.get(url).status_code)"
    )
    assert client.python(reading) == f"https://{HOSTS[4]}/input.jsonl 200\n"


NODE = """
const {ModelServiceClient} = require('@google-cloud/aiplatform');

async function main() {
  for (const fallback of [false, true]) {
    const client = new ModelServiceClient({apiEndpoint: 'us-central1-aiplatform.googleapis.com', fallback});
    const [models] = await client.listModels({parent: 'projects/my-project/locations/us-central1'});
    console.log(models.map(model => model.displayName).join());
  }
}

main();
"""


def is_installed(language: str) -> bool:
    """Whether the suites in tests/clients have put a language's packages where they keep them."""
    if language != "go":
        return (CACHE / language).is_dir()
    if shutil.which("go") is None:
        return False
    cache = subprocess.check_output(["go", "env", "GOMODCACHE"], text=True).strip()
    return any(Path(cache, "cloud.google.com", "go").glob("aiplatform@*"))


def with_googles_endpoint(fence: str) -> str:
    """The page's program for TLS, with the endpoint that Google's documentation has."""
    there = blocks(f"docs/clients/{fence}.md", fence)
    (program,) = (block.text for block in there if 'Endpoint("localhost:8443")' in block.text)
    return program.replace("localhost:8443", f"{HOSTS[0]}:443")


@pytest.mark.parametrize(
    ("language", "suffix", "program", "printed"),
    [
        ("node", "js", NODE, "Pets\nPets\n"),
        ("java", "java", with_googles_endpoint("java"), "Pets\n"),
        ("go", "go", with_googles_endpoint("go"), "Pets\n"),
    ],
)
def test_other_languages_need_nothing_but_their_environment(
    client: Client, tmp_path: Path, language: str, suffix: str, program: str, printed: str
) -> None:
    if not is_installed(language):
        pytest.skip(f"the client's host reaches no registry: run `make test-clients` first, for {language}")
    file = tmp_path / f"Program.{suffix}"
    file.write_text(program, encoding="utf-8")
    home, cache = os.environ["HOME"], str(CACHE.absolute())
    assert client.run(CLIENTS / language / "run-snippet", file, HOME=home, CLIENTS_CACHE=cache) == printed
