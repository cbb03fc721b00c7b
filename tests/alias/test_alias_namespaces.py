"""Alias mode for real: the client's host resolves Google's names to the emulator's, and nothing else is set.

`make test-namespaces` runs it: it needs Linux, root and iproute2.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.alias.network import SERVER_ADDRESS, Network, network
from tests.docs.pages import blocks, runs
from tests.sdk.conftest import write_input, write_model

ASKED = "EMULATOR_TEST_NAMESPACES"
(PROGRAM,) = blocks("docs/alias-mode.md", "python")
CLIENTS = Path(__file__).parents[1] / "clients"
CACHE = Path(os.environ.get("CLIENTS_CACHE", Path(__file__).parents[2] / ".clients-cache"))
HOSTS = tuple(
    f"{name}.googleapis.com"
    for name in ("us-central1-aiplatform", "storage", "aiplatform", "oauth2", "my-bucket.storage")
)
COLLECTION = "projects/my-project/locations/us-central1/models"

pytestmark = [
    pytest.mark.namespaces,
    pytest.mark.skipif(
        not os.environ.get(ASKED),
        reason="changes the system's network namespaces: run `make test-namespaces`",
    ),
]


@dataclass(frozen=True)
class Client:
    """The client's host: its names, and the variables that `env --alias` prints."""

    network: Network
    hosts: Path
    environment: dict[str, str]

    def run(self, *command: str | Path, **environment: str) -> str:
        done = subprocess.run(
            self.network.on_client(self.hosts, *command),
            env=self.environment | environment,
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def python(self, program: str) -> str:
        return self.run(sys.executable, "-W", "ignore", "-c", program)


@pytest.fixture(scope="module")
def hosts_on_one_cable() -> Iterator[Network]:
    try:
        with network() as made:
            yield made
    except FileNotFoundError:
        pytest.fail("`ip` was not found; install iproute2 (on Debian: apt-get install iproute2).")
    except subprocess.CalledProcessError as error:
        pytest.fail(f"`{' '.join(error.cmd)}` is not possible here, it needs root: {error.stderr.strip()}")


@pytest.fixture(scope="module")
def client(hosts_on_one_cable: Network, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A client of an emulator that is served by its own command on the other host, on port 443."""
    folder = tmp_path_factory.mktemp("alias")
    write_model(folder / "models" / "video-object-tracking")
    buckets = folder / "data" / "buckets"
    (buckets / "bucket").mkdir(parents=True)
    write_input(buckets / "bucket", "input", seconds=1)
    (buckets / "my-bucket").mkdir()
    shutil.copy(buckets / "bucket" / "input.jsonl", buckets / "my-bucket")
    program = [sys.executable, "-m", "emulator", "serve", "--data-dir", str(folder / "data")]
    listening = ["--host", "0.0.0.0", "--tls", "--tls-port", "443"]
    options = ["--models-dirs", str(folder / "models"), "--no-bundled-models", "--provider", "cpu"]
    command = hosts_on_one_cable.on_server(*program, *listening, *options, "--workers", "1")
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        assert server.stdout.readline().startswith("Vertex emulator listening")
        yield Client(hosts_on_one_cable, *_client_side(folder))
    finally:
        server.terminate()
        server.communicate(timeout=60)


def _client_side(folder: Path) -> tuple[Path, dict[str, str]]:
    hosts = folder / "hosts"
    hosts.write_text("127.0.0.1 localhost\n" + "".join(f"{SERVER_ADDRESS} {name}\n" for name in HOSTS))
    env = [sys.executable, "-m", "emulator", "env", "--alias", "--shell", "json"]
    files = ["--data-dir", str(folder / "data"), "--copy-to", str(folder / "client")]
    printed = json.loads(subprocess.check_output([*env, *files], timeout=60))
    return hosts, {"PATH": os.environ["PATH"], "HOME": str(folder), **printed}


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
