"""The blocks of docs/clients.md and docs/clients/ run as they stand, but for the ports."""

import json
import re
import shutil

import pytest

from tests.docs.conftest import Place, job_of
from tests.docs.options import serve_options
from tests.docs.pages import Block, blocks, runs

CLIENTS, PYTHON, COMMANDS = "docs/clients.md", "docs/clients/python.md", "docs/clients/command-line.md"
TOOLS = "docs/clients/data-tools.md"


def one(page: str, fence: str, section: str) -> Block:
    (block,) = blocks(page, fence, section)
    return block


REST = one(PYTHON, "python", "Use the SDK over REST in plain text")
TLS = one(PYTHON, "python", "Use the SDK over gRPC and TLS")
GENERATED = one(PYTHON, "python", "Use the generated clients over gRPC in plain text")
ASYNC = one(PYTHON, "python", "Use the asynchronous clients")
CURL = blocks(COMMANDS, "sh", "curl")
GCLOUD = one(COMMANDS, "sh", "gcloud")
SERVE, ENV = blocks(CLIENTS, "sh")
TOOLS_ENV = one(TOOLS, "sh", "")
TOOLS_CURL = one(TOOLS, "sh", "curl")
OBSTORE = one(TOOLS, "python", "obstore")


@runs(TLS)
def test_unchanged_python_program_runs_over_grpc_and_tls(place: Place) -> None:
    printed = place.python(TLS)
    assert re.search(r"^(4|JobState\.JOB_STATE_SUCCEEDED)$", printed, re.MULTILINE)
    name, line = printed.strip().splitlines()[-1].split(" ", 1)
    assert name.startswith("output/prediction-Pets-")
    assert json.loads(line)["prediction"][0]["displayName"] == "cat"


@runs(REST)
def test_python_over_rest(place: Place) -> None:
    assert place.python(REST) == "['Pets']\n"


@runs(GENERATED)
def test_generated_client_over_plain_grpc(place: Place) -> None:
    printed = place.python(GENERATED)
    assert re.fullmatch(
        r"projects/\d+/locations/us-central1/batchPredictionJobs/\d+ JOB_STATE_PENDING\n", printed
    )


@runs(ASYNC)
def test_asynchronous_client(place: Place) -> None:
    assert place.python(ASYNC) == "['Pets']\n"


@runs(*CURL)
@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl(place: Place) -> None:
    *lists, create = CURL
    for block in lists:
        assert [model["displayName"] for model in json.loads(place.bash(block))["models"]] == ["Pets"]
    # The command is to run where there is no gcloud, too: it sends an empty token there.
    assert job_of(place.run(create, ["bash", "-uc"]))


@runs(GCLOUD)
@pytest.mark.skipif(shutil.which("gcloud") is None, reason="gcloud is not installed")
def test_gcloud(place: Place) -> None:
    models, instance, token = place.bash(GCLOUD).splitlines()
    assert models == "Pets"
    assert json.loads(instance)["content"] == "gs://bucket/input.mp4"
    assert token == "vertex-emulator-token"


@runs(SERVE)
def test_server_is_started_with_tls() -> None:
    (options,) = serve_options(SERVE.text)
    assert options["tls"]


@runs(ENV, TOOLS_ENV, *blocks("docs/cloud-storage.md", "sh"))
def test_environment_is_set(place: Place) -> None:
    asked = 'echo "$STORAGE_EMULATOR_HOST"'
    bare = {name: value for name, value in place.environment.items() if "STORAGE" not in name}
    there = Place(place.emulator, bare, place.folder)
    for block in (ENV, TOOLS_ENV, *blocks("docs/cloud-storage.md", "sh")):
        assert there.run_text(f"{block.text}\n{asked}", ["bash", "-euc"]) == f"{place.emulator.url}\n"


@runs(TOOLS_CURL)
@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl_uploads_and_reads(place: Place) -> None:
    assert place.bash(TOOLS_CURL).endswith('{"content": "gs://my-bucket/a.mp4"}\n')


@runs(OBSTORE)
def test_obstore(place: Place) -> None:
    assert place.python(OBSTORE) == "hello\n"
