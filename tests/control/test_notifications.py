"""Notifications of ended jobs: POSTs that a real receiver gets, at least once, whatever happens between."""

import base64
import json
import logging
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from emulator.config import SettingError, load_settings, shown_settings
from emulator.database import Database
from emulator.service.notifications import MOST_ATTEMPTS
from tests.control.receiver import PATIENCE_S, Receiver, notes, notifying, receiving, status
from tests.execution.servers import call, job_body, options, wait_for
from tests.execution.workplace import line, write_tiny_model, write_video


def test_webhook(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with receiving() as receiver, notifying(tmp_path, f"{receiver.url}/hook/s3cret?key=t0ken") as project:
        job = project.finish(project.create())
        (received,) = receiver.wait()
        assert received.path == "/hook/s3cret?key=t0ken"
        assert received.headers["Content-Type"] == "application/json"
        assert received.body == {
            "id": "1",
            "type": "batchPredictionJob.ended",
            "time": received.body["time"],
            "state": "JOB_STATE_SUCCEEDED",
            "attempt": 1,
            "job": job,
        }
        assert received.body["time"][:23] == job["endTime"][:23]
        assert notes(project, job["name"]) == [f"delivered to {receiver.url}/… (HTTP 204), attempt 1"]
        info = project.control("GET", "info")
        assert info["settings"]["notify_url"]["value"] == [f"{receiver.url}/…"]
        everything = (
            caplog.text + json.dumps(info) + json.dumps(project.control("GET", f"jobs/{job['name']}/explain"))
        )
    assert "s3cret" not in everything
    assert "t0ken" not in everything


@pytest.mark.parametrize("end", ["JOB_STATE_FAILED", "JOB_STATE_CANCELLED", "JOB_STATE_EXPIRED"])
def test_every_final_state_is_told(tmp_path: Path, end: str) -> None:
    with receiving() as receiver, notifying(tmp_path, receiver.url) as project:
        if end == "JOB_STATE_CANCELLED":
            project.pace("pending=hold")
        if end == "JOB_STATE_EXPIRED":
            project.pace("expired")
        job = project.create("missing.mp4" if end == "JOB_STATE_FAILED" else "a.mp4")
        if end == "JOB_STATE_CANCELLED":
            project.call("POST", f"/v1/{job}:cancel")
        (received,) = receiver.wait()
        assert received.body["state"] == end
        assert received.body["job"] == project.get(job)


def test_a_running_job_that_is_cancelled_is_told_once(tmp_path: Path) -> None:
    with receiving() as receiver, notifying(tmp_path, receiver.url) as project:
        write_video(project.buckets / "bucket" / "long.mp4", 1800)
        job = project.create("long.mp4")
        project.wait(job, "RUNNING")
        project.call("POST", f"/v1/{job}:cancel")
        project.wait(job)
        assert len(notes(project, job)) == 1
        assert [each.body["state"] for each in receiver.received] == ["JOB_STATE_CANCELLED"]


def test_pubsub_push(tmp_path: Path) -> None:
    with receiving() as receiver, notifying(tmp_path, receiver.url, notify_format="pubsub-push") as project:
        job = project.finish(project.create())
        (received,) = receiver.wait()
        message = received.body["message"]
        number = job["name"].split("/")[1]
        assert received.body["subscription"] == f"projects/{number}/subscriptions/vertex-emulator"
        assert json.loads(base64.b64decode(message["data"])) == job
        assert message["attributes"] == {
            "eventType": "batchPredictionJob.ended",
            "jobName": job["name"],
            "state": "JOB_STATE_SUCCEEDED",
        }
        assert message["messageId"] == message["message_id"] == "1"
        assert message["publishTime"] == message["publish_time"]
        assert notes(project, job["name"])


def test_pubsub_push_takes_only_the_answers_that_pubsub_takes(tmp_path: Path) -> None:
    with (
        receiving(status(206)) as receiver,
        notifying(tmp_path, receiver.url, notify_format="pubsub-push") as project,
    ):
        job = project.create()
        first, second = receiver.wait(2)
        assert first.body == second.body
        assert notes(project, job)[0].startswith(
            f"attempt 1 to {receiver.url} failed: HTTP 206 Partial Content;"
        )


def test_a_receiver_that_fails_twice_gets_it_at_the_third_attempt(tmp_path: Path) -> None:
    with receiving(status(500), status(503)) as receiver, notifying(tmp_path, receiver.url) as project:
        job = project.create()
        received = receiver.wait(3)
        assert [each.body["attempt"] for each in received] == [1, 2, 3]
        assert {each.body["id"] for each in received} == {"1"}
        assert notes(project, job) == [
            f"attempt 1 to {receiver.url} failed: HTTP 500 Internal Server Error; the next one in 1 s",
            f"attempt 2 to {receiver.url} failed: HTTP 503 Service Unavailable; the next one in 2 s",
            f"delivered to {receiver.url} (HTTP 204), attempt 3",
        ]


def test_redirects_are_not_followed(tmp_path: Path) -> None:
    with receiving() as elsewhere, receiving(status(302, Location=f"{elsewhere.url}/there")) as receiver:
        with notifying(tmp_path, receiver.url) as project:
            job = project.create()
            receiver.wait(2)
            assert "HTTP 302 Found (redirects are not followed)" in notes(project, job)[0]
        assert elsewhere.received == []


@pytest.mark.parametrize("how", ["hang", "drip"])
def test_a_receiver_that_hangs_blocks_neither_jobs_nor_others(tmp_path: Path, how: str) -> None:
    with receiving() as slow, receiving() as quick:
        slow.answers = [getattr(slow, how)]
        with notifying(tmp_path, slow.url, quick.url, notify_timeout=1) as project:
            jobs = [project.finish(project.create())["name"] for _ in range(3)]
            assert {each.body["job"]["name"] for each in quick.wait(3)} == set(jobs)
            received = slow.wait(4)
            assert {each.body["job"]["name"] for each in received} == set(jobs)
            late = f"attempt 1 to {slow.url} failed: no answer within 1 s; the next one in 1 s"
            assert late in notes(project, jobs[0])


def test_a_name_and_password_in_the_url_become_a_header(tmp_path: Path) -> None:
    with receiving() as receiver:
        url = receiver.url.replace("//", "//user:pass%20word@")
        with notifying(tmp_path, url) as project:
            job = project.create()
            (received,) = receiver.wait()
            assert base64.b64decode(received.headers["Authorization"].split()[1]) == b"user:pass word"
            assert notes(project, job) == [f"delivered to {receiver.url} (HTTP 204), attempt 1"]


def test_a_deleted_job_is_told_all_the_same(tmp_path: Path) -> None:
    with receiving(status(500)) as receiver, notifying(tmp_path, receiver.url) as project:
        job = project.finish(project.create())
        receiver.wait()
        project.call("DELETE", f"/v1/{job['name']}")
        assert [each.body["job"] for each in receiver.wait(2)] == [job, job]


def test_a_reset_leaves_nothing_to_send(tmp_path: Path) -> None:
    with receiving(*[status(500)] * 3) as receiver, notifying(tmp_path, receiver.url) as project:
        project.finish(project.create())
        receiver.wait()
        project.control("POST", "reset", {"project": project.id, "to": "empty"})
        other = project.finish(project.create())
        received = receiver.wait(len(receiver.received) + 1)
        assert received[-1].body["job"] == other


def test_nothing_is_sent_by_default(tmp_path: Path) -> None:
    program = f"""
import sys
import time
from pathlib import Path
from tests.control.receiver import notifying
with notifying(Path({str(tmp_path)!r})) as project:
    project.finish(project.create())
    assert project.emulator._running._database.outbox is None
loaded = [name for name in ("emulator.service.notifications",) if name in sys.modules]
assert not loaded, loaded
"""
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-W", "ignore", "-c", program], cwd=root, check=True, timeout=300)


def test_what_a_stopped_server_owes_is_sent_by_the_next_start(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    url = f"http://127.0.0.1:{port}/corrected"
    with notifying(tmp_path, f"http://127.0.0.1:{port}/mistaken") as project:
        job = project.finish(project.create())
        waiting = f"{project.emulator.url}/_emulator/jobs/{job['name']}/explain"
        explained = wait_for(waiting, lambda told: told["notificationsWaiting"][0]["attempts"] == 1)
        assert explained["notificationsWaiting"][0]["id"] == "1"
    with receiving(port=port) as receiver, notifying(tmp_path, url):
        (received,) = receiver.wait()
        assert (received.path, received.body["job"]) == ("/corrected", job)


def test_the_last_attempt_gives_up(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    with notifying(tmp_path, url) as project:
        job = project.finish(project.create())["name"]
        database = project.emulator.settings.database
    with closing(Database(database)) as rows:
        use_attempts(rows, MOST_ATTEMPTS - 1)
    with receiving(status(500), port=port) as receiver, notifying(tmp_path, url) as project:
        last = f"given up: attempt {MOST_ATTEMPTS} to {url} failed: HTTP 500 Internal Server Error"
        assert notes(project, job)[-1] == last
        assert len(receiver.received) == 1


def use_attempts(rows: Database, count: int) -> None:
    """Claim the notification as a sender does, and let the attempts fail, until so many were made."""
    made, deadline = 0, time.monotonic() + PATIENCE_S
    while made < count:
        assert time.monotonic() < deadline
        if row := rows.claim_notification(0, 0):
            rows.retry_notification(row, 0, "failed")
            made = row.attempts


def test_a_server_that_is_killed_before_it_delivers_loses_nothing(tmp_path: Path) -> None:
    """It dies with the POST under way: whether that arrived is unknown, so the next server sends it again."""
    write_tiny_model(tmp_path / "models" / "tiny")
    bucket = tmp_path / "data" / "buckets" / "bucket"
    write_video(bucket / "a.mp4")
    (bucket / "in.jsonl").write_text(f"{line('a.mp4')}\n")
    with receiving() as receiver:
        receiver.answers = [receiver.hang]
        with served(tmp_path, receiver) as (server, url):
            job = call(f"{url}/v1/projects/p/locations/us-central1/batchPredictionJobs", job_body())
            (first,) = receiver.wait()
            server.send_signal(signal.SIGKILL)
            server.wait(60)
        with served(tmp_path, receiver) as (_, url):
            first, second = receiver.wait(2)
            assert [each.body["attempt"] for each in (first, second)] == [1, 2]
            assert first.body["id"] == second.body["id"]
            assert first.body["job"] == second.body["job"] == call(f"{url}/v1/{job['name']}")
            explain = f"{url}/_emulator/jobs/{job['name']}/explain"
            wait_for(explain, lambda told: "notificationsWaiting" not in told)


@contextmanager
def served(folder: Path, receiver: Receiver) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server process that notifies a receiver."""
    notify = ["--notify-url", receiver.url, "--notify-timeout", "1"]
    command = [sys.executable, "-m", "emulator", "serve", *options(folder), *notify]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield server, server.stdout.readline().split()[-1]
        finally:
            server.kill()


@pytest.mark.parametrize(
    "url",
    [
        "hooks.example/secret",
        "ftp://host/secret",
        "http:///secret",
        "http://a b/secret",
        "http://host:secret/",
    ],
)
def test_an_invalid_url_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(SettingError) as refused:
        load_settings({}, {"VERTEX_EMULATOR_NOTIFY_URL": url})
    assert "secret" not in str(refused.value)
    assert "begins with http:// or https://" in str(refused.value)


def test_several_urls_by_variable_and_by_flag() -> None:
    urls = ["http://a:1/x", "https://user:word@b/y?z"]
    for loaded in (
        load_settings({}, {"VERTEX_EMULATOR_NOTIFY_URL": ",".join(urls)}),
        load_settings({"notify_url": urls}, {}),
    ):
        assert loaded.settings.notify_url == urls
        assert shown_settings(loaded.settings)["notify_url"] == ["http://a:1/…", "https://b/…"]
