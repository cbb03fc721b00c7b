"""Each language's own program and its blocks in docs/clients/, run against one emulator."""

import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

import pytest

from tests.clients.conftest import Served
from tests.docs.pages import Block, blocks, ports, runs

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
# The suite that runs the blocks of a page, and the mark of their fences.
RUNNERS = {
    "docs/clients/node.md": ("node", "js"),
    "docs/clients/java.md": ("java", "java"),
    "docs/clients/go.md": ("go", "go"),
}
TOOLS = ("gcsfs and pandas", "PyArrow")
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


BLOCKS = [
    *((suite, block) for page, (suite, fence) in RUNNERS.items() for block in blocks(page, fence)),
    *(("data", block) for tool in TOOLS for block in blocks("docs/clients/data-tools.md", "python", tool)),
]


@runs(*(block for _, block in BLOCKS))
@pytest.mark.parametrize(("suite", "block"), BLOCKS, ids=str)
def test_documented_block(suite: str, block: Block, served: Served, tmp_path: Path) -> None:
    require(suite)
    file = tmp_path / f"Snippet.{block.fence}"
    file.write_text(block.at(ports(served.http, served.grpc, served.tls)))
    assert run([HERE / suite / "run-snippet", file], served.environment(suite)).strip()
