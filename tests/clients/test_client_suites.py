"""Each language's own program and its snippets in docs/clients.md, run against one emulator."""

import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

import pytest

from tests.clients.conftest import Served
from tests.docs.clients_page import Snippet, ports, snippets

pytestmark = pytest.mark.clients

HERE = Path(__file__).parent
SUITES = sorted(program.parent.name for program in HERE.glob("*/run"))
# What each suite needs on the machine, and how to come by it (on Debian).
TOOLCHAINS = {
    "python": (["python3"], "apt-get install python3 python3-venv"),
    "node": (["node", "npm"], "apt-get install nodejs npm; Node 18 or newer"),
    "java": (["java", "mvn"], "apt-get install default-jdk-headless maven"),
    "go": (["go"], "apt-get install golang, or a newer one from Go's own archive"),
    "curl": (["curl", "jq"], "apt-get install curl jq"),
    "gcloud": (["gcloud"], "the Google Cloud SDK"),
}
OPTIONAL = {"gcloud"}
TIMEOUT_S = 1500
# The suite that runs a fenced block of docs/clients.md, by the block's mark.
RUNNERS = {"js": "node", "java": "java", "go": "go"}
_SHOWN = 12_000


def run(command: list[Path | str], environment: dict[str, str]) -> str:
    """Run a program to its end, with all that it starts; its output. Fails unless it ends with 0."""
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(
            command, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            status: int | str = process.wait(TIMEOUT_S)
        except subprocess.TimeoutExpired:
            status = f"none after {TIMEOUT_S} s"
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        output.seek(0)
        printed = output.read()
    assert status == 0, f"{command[0]}: exit status {status}\n{printed[-_SHOWN:]}"
    return printed


def require(language: str) -> None:
    """Fail where a toolchain is missing; skip where it is one that nobody must have."""
    commands, remedy = TOOLCHAINS.get(language, ([], ""))
    missing = [command for command in commands if shutil.which(command) is None]
    if missing:
        end = pytest.skip if language in OPTIONAL else pytest.fail
        end(f"{', '.join(missing)} not found, which the {language} suite needs: {remedy}.")


@pytest.mark.parametrize("language", SUITES)
def test_suite(language: str, served: Served) -> None:
    require(language)
    logged_before = served.log.stat().st_size
    run([HERE / language / "run"], served.environment(language))
    logged = served.log.read_bytes()[logged_before:].decode()
    assert " ERROR " not in logged, logged[-_SHOWN:]
    assert "Traceback" not in logged, logged[-_SHOWN:]


SNIPPETS = [
    pytest.param(RUNNERS[snippet.fence], snippet, id=snippet.section)
    for snippet in snippets()
    if snippet.fence in RUNNERS
]


@pytest.mark.parametrize(("language", "snippet"), SNIPPETS)
def test_documented_snippet(language: str, snippet: Snippet, served: Served, tmp_path: Path) -> None:
    require(language)
    file = tmp_path / f"Snippet.{snippet.fence}"
    file.write_text(snippet.at(ports(served.http, served.grpc, served.tls)))
    assert run([HERE / language / "run-snippet", file], served.environment(language)).strip()
