"""Every snippet of docs/clients.md, run as it stands but for the ports, with what `env` prints."""

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
from typer.testing import CliRunner

from emulator.app import Emulator
from emulator.cli import build
from emulator.config import Settings
from tests.docs.clients_page import Snippet, ports, snippets
from tests.sdk.conftest import write_input, write_model


@dataclass(frozen=True)
class Place:
    """A running emulator with the page's model and input, and the environment for its clients."""

    emulator: Emulator
    environment: dict[str, str]
    folder: Path

    def run(self, snippet: Snippet, program: list[str]) -> str:
        emulator = self.emulator
        addresses = ports(emulator.url, str(emulator.grpc_address), str(emulator.tls_address))
        done = subprocess.run(
            [*program, snippet.at(addresses)],
            env=self.environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("clients")
    write_model(folder / "models" / "video-object-tracking")
    settings = Settings(
        port=0,
        tls=True,
        data_dir=folder / "data",
        models_dirs=[folder / "models"],
        bundled_models=False,
        provider="cpu",
        workers=1,
        worker_threads=1,
    )
    bucket = settings.buckets / "bucket"
    bucket.mkdir(parents=True)
    write_input(bucket, "input", seconds=1)
    (settings.buckets / "my-bucket").mkdir()
    shutil.copy(bucket / "input.jsonl", settings.buckets / "my-bucket")
    with Emulator(settings) as emulator:
        port = emulator.url.rpartition(":")[2]
        arguments = ["env", "--shell", "json", "--port", port, "--data-dir", str(settings.data_dir)]
        printed = CliRunner().invoke(build(), arguments, catch_exceptions=False).output
        kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        environment = {**kept, **json.loads(printed), "CLOUDSDK_CONFIG": str(folder / "gcloud")}
        yield Place(emulator, environment, folder)


def python(place: Place, section: str) -> str:
    (snippet,) = snippets(section, "python")
    return place.run(snippet, [sys.executable, "-W", "ignore", "-c"])


def test_unchanged_python_program_runs_over_grpc_and_tls(place: Place) -> None:
    printed = python(place, "Python: unchanged, over gRPC and TLS")
    assert re.search(r"^(4|JobState\.JOB_STATE_SUCCEEDED)$", printed, re.MULTILINE)
    name, line = printed.strip().splitlines()[-1].split(" ", 1)
    assert name.startswith("output/prediction-Pets-")
    assert json.loads(line)["prediction"][0]["displayName"] == "cat"


def test_python_over_rest(place: Place) -> None:
    assert python(place, "Python: REST, in plain text") == "['Pets']\n"


def test_generated_client_over_plain_grpc(place: Place) -> None:
    printed = python(place, "Python: the generated clients, gRPC in plain text")
    assert re.fullmatch(
        r"projects/\d+/locations/us-central1/batchPredictionJobs/\d+ JOB_STATE_PENDING\n", printed
    )


def test_asynchronous_client(place: Place) -> None:
    assert python(place, "Python: asyncio") == "['Pets']\n"


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl(place: Place) -> None:
    *lists, create = snippets("curl", "sh")
    for snippet in lists:
        answer = place.run(snippet, ["bash", "-euc"])
        assert [model["displayName"] for model in json.loads(answer)["models"]] == ["Pets"]
    # The command is to run where there is no gcloud, too: it sends an empty token there.
    answer = place.run(create, ["bash", "-uc"])
    assert json.loads(answer)["state"] == "JOB_STATE_PENDING"


@pytest.mark.skipif(shutil.which("gcloud") is None, reason="gcloud is not installed")
def test_gcloud(place: Place) -> None:
    (snippet,) = snippets("gcloud", "sh")
    models, instance, token = place.run(snippet, ["bash", "-euc"]).splitlines()
    assert models == "Pets"
    assert json.loads(instance)["content"] == "gs://bucket/input.mp4"
    assert token == "vertex-emulator-token"


def test_page_has_no_snippet_that_nothing_runs() -> None:
    here = {
        ("Python: unchanged, over gRPC and TLS", "python"),
        ("Python: REST, in plain text", "python"),
        ("Python: the generated clients, gRPC in plain text", "python"),
        ("Python: asyncio", "python"),
        ("curl", "sh"),
        ("gcloud", "sh"),
        ("PowerShell", "powershell"),  # says itself that it is not run
    }
    # tests/clients runs these, whatever their section.
    elsewhere = {"js", "java", "go"}
    assert {(found.section, found.fence) for found in snippets() if found.fence not in elsewhere} == here
