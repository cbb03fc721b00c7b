"""The path that README.md describes, from a started server to the results of a first job, block by block."""

import json
import os
import re
import shutil
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from emulator.factory import documentation_clip, render
from emulator.vertex.instances import parse_instance_line
from tests.docs.conftest import BIN
from tests.docs.pages import ROOT, blocks, ports, runs

PAGE = "README.md"
(INSTALL,) = blocks(PAGE, "sh", "")
(SDK,) = blocks(PAGE, "sh", "Install it")
(START,) = blocks(PAGE, "sh", "Run your first job")
(JOB,) = blocks(PAGE, "python", "Run your first job")
INPUT, OUTPUT = blocks(PAGE, "json", "Run your first job")
TESTS = [block for block in blocks(PAGE, "python") if block.section == "Test your pipeline"]
(ADD,) = blocks(PAGE, "sh", "Bring your own model")
(UPLOAD,) = blocks(PAGE, "python", "Bring your own model")
MODEL = ROOT / "models" / "video-object-tracking"


def first_job(folder: Path, environment: Mapping[str, str]) -> str:
    """Run the blocks from the server's start to the uploaded model; what they print."""
    shutil.copytree(MODEL, folder / "vertex-emulator-data/buckets/my-bucket/model-folder")
    render(documentation_clip(), folder / "clip.mp4")
    shutil.copy(MODEL / "model.onnx", folder / "detector.onnx")
    shutil.copy(MODEL / "labels.txt", folder)
    here = ports(*([f"127.0.0.1:{_free_port()}"] * 3))
    (folder / "first_job.py").write_text(JOB.at(here))
    (folder / "upload.py").write_text(
        JOB.at(here).partition("job = ")[0] + UPLOAD.text + "print(model.display_name)\n"
    )
    script = "\n".join(
        ["trap 'kill $(jobs -p)' EXIT", START.text, "python first_job.py", "python upload.py", ADD.text]
    )
    environment = {**environment, "VERTEX_EMULATOR_PORT": here["8080"], "VERTEX_EMULATOR_GRPC": "false"}
    return run_script(script, folder, environment)


def write_tests(folder: Path) -> None:
    """Write the blocks about pytest, each into the file that its first line names."""
    (folder / "pytest.ini").write_text("[pytest]\n")
    for block in TESTS:
        named = re.match(r"# (\S+\.py)\n", block.text)
        assert named
        (folder / named[1]).write_text(block.text)


def run_script(script: str, folder: Path, environment: Mapping[str, str], timeout_s: int = 540) -> str:
    done = subprocess.run(
        ["bash", "-euc", script],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@runs(START, JOB, ADD, UPLOAD)
@pytest.mark.slow
def test_first_job_reads_its_results_and_a_model_is_added(tmp_path: Path) -> None:
    environment = {name: os.environ[name] for name in ("HOME",) if name in os.environ}
    printed = first_job(tmp_path, environment | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"})
    lines = printed.splitlines()
    assert "cat 1.200s 3.400s" in lines
    assert "dog 1.200s 3.400s" in lines
    assert "mine" in lines
    predicted = json.loads(lines[-1])
    assert {track["displayName"] for track in predicted["prediction"]} == {"cat", "dog"}


@runs(*TESTS)
@pytest.mark.slow
def test_plugin_s_test_passes(tmp_path: Path) -> None:
    write_tests(tmp_path)
    options = "-q -p no:schemathesis -p no:cacheprovider"
    environment = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    assert " passed" in run_script(f"python -m pytest {options}", tmp_path, environment)


def test_line_of_the_input_is_an_instance() -> None:
    assert parse_instance_line(INPUT.text.strip().encode(), 1, strict=True)
