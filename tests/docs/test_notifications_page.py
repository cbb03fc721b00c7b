"""docs/notifications.md: its receiver gets what a server with its setting sends, in the form it shows."""

import base64
import json
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from emulator.service.notifications import MOST_ATTEMPTS, delay_s
from tests.control.receiver import notes, notifying, receiving
from tests.docs.options import serve_options
from tests.docs.pages import blocks, prose, runs

PAGE = "docs/notifications.md"
(SERVE,) = blocks(PAGE, "sh")
(RECEIVER,) = blocks(PAGE, "python")
WEBHOOK, PUBSUB = blocks(PAGE, "json")
(STEP,) = blocks(PAGE, "text")


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@runs(SERVE, RECEIVER, STEP)
def test_documented_receiver(tmp_path: Path) -> None:
    port = {"9000": str(free_port())}
    (url,) = serve_options(SERVE.at(port))[0]["notify_url"]
    program = [sys.executable, "-c", RECEIVER.at(port)]
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as receiver:
        try:
            with notifying(tmp_path, url) as project:
                job = project.finish(project.create())
                assert receiver.stdout is not None
                directory = job["outputInfo"]["gcsOutputDirectory"]
                assert receiver.stdout.readline() == f"JOB_STATE_SUCCEEDED {directory}\n"
                # The receiver may have started after the first attempts.
                step = re.sub(r"\d+$", r"\\d+", re.escape(STEP.at(port).strip()))
                assert re.fullmatch(step, notes(project, job["name"])[-1])
        finally:
            receiver.kill()


@pytest.mark.parametrize(("style", "block"), [("webhook", WEBHOOK), ("pubsub-push", PUBSUB)])
def test_documented_form(tmp_path: Path, style: str, block: Any) -> None:
    with receiving() as receiver, notifying(tmp_path, receiver.url, notify_format=style) as project:
        project.finish(project.create())
        (received,) = receiver.wait()
    assert is_like(json.loads(block.text), received.body)


def is_like(shown: Any, found: Any) -> bool:
    """Return whether an object has the members that the page shows, with texts of that form."""
    if isinstance(shown, dict):
        partial = "..." in shown
        names = shown.keys() - {"..."}
        return (names <= found.keys() if partial else names == found.keys()) and all(
            is_like(shown[name], found[name]) for name in names
        )
    if isinstance(shown, str) and re.match(r"\d{4}-\d\d-", shown):
        return re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", found) is not None
    if isinstance(shown, str):
        return re.fullmatch(re.escape(shown).replace("…", ".+"), found) is not None
    return bool(shown == found)


def test_data_begins_as_shown() -> None:
    assert base64.b64encode(b'{"name":"').decode() == "eyJuYW1lIjoi"


def test_numbers_of_the_page() -> None:
    text = " ".join(prose(PAGE).split())
    delays = [delay_s(attempt) for attempt in range(1, MOST_ATTEMPTS)]
    assert f"After {MOST_ATTEMPTS} attempts, about an hour," in text
    assert delays[:3] == [1, 2, 4]
    assert max(delays) == 600
    assert 60 <= sum(delays) / 60 < 75
