"""The commands of docs/deploy.md, in the order of the page: two servers, one killed, a backup, a restore."""

import json
import os
import re
import shutil
import socket
import subprocess
import uuid
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from tests.docs.conftest import BIN
from tests.docs.pages import Block, blocks, runs
from tests.postgresql import POSTGRESQL_VARIABLE, on_postgresql

SECTIONS = ("Share the work among servers", "Back up and restore", "Remove what is old")
BLOCKS = [block for section in SECTIONS for block in blocks("docs/deploy.md", "sh", section)]
# What the page leaves running; whatever happens, nothing of it stays.
BEFORE = "trap 'kill -9 $(jobs -p) 2>/dev/null || true' EXIT\n"
AFTER = """
vertex-emulator jobs list --server http://127.0.0.1:8080 --location us-central1 --json > jobs.json
kill "$first"; wait
"""


def two_free_ports() -> int:
    """A free port whose successor, which gRPC takes, is free too."""
    while True:
        with socket.create_server(("127.0.0.1", 0)) as first:
            port = int(first.getsockname()[1])
            try:
                socket.create_server(("127.0.0.1", port + 1)).close()
            except OSError:
                continue
            return port


def as_here(text: str, database: str) -> str:
    """The commands with this server of PostgreSQL, a database of the test's own, and free ports."""
    url = make_url(os.environ[POSTGRESQL_VARIABLE])
    text = text.replace("emulator@127.0.0.1/emulator", f"{url.username}@{url.host}:{url.port}/{database}")
    text = text.replace(
        "createdb --host 127.0.0.1 --username emulator emulator",
        f"createdb --host {url.host} --port {url.port} --username {url.username} {database}",
    )
    ports = {"8080": str(two_free_ports()), "9080": str(two_free_ports())}
    return re.sub("|".join(rf"\b{port}\b" for port in ports), lambda found: ports[found[0]], text)


@pytest.mark.skipif(not on_postgresql(), reason=f"{POSTGRESQL_VARIABLE} names no server")
@pytest.mark.skipif(
    shutil.which("pg_dump") is None, reason="PostgreSQL's client programs are not on the path"
)
@runs(*BLOCKS)
def test_page_leads_to_two_servers_and_back_from_a_backup(tmp_path: Path) -> None:
    script = BEFORE + "\n".join(block.text for block in BLOCKS) + AFTER
    done = subprocess.run(
        ["bash", "-eu", "-o", "pipefail", "-c", as_here(script, f"page_{uuid.uuid4().hex}")],
        cwd=tmp_path,
        env={
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(tmp_path),
            "no_proxy": "127.0.0.1,localhost",
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("Nothing is wrong.") == 2
    assert "0 jobs, 0 operations, 0 output files would be removed." in done.stdout
    jobs = json.loads((tmp_path / "jobs.json").read_text())
    assert [job["state"] for job in jobs] == ["JOB_STATE_SUCCEEDED"] * 4
    folders = [job["outputInfo"]["gcsOutputDirectory"].removeprefix("gs://") for job in jobs]
    assert all(list((tmp_path / "shared" / "buckets" / folder).glob("predictions_*")) for folder in folders)


def test_every_section_has_its_commands() -> None:
    assert all(isinstance(block, Block) and block.text for block in BLOCKS)
    assert len(BLOCKS) == 7
