"""Log lines of the emulator's own processes: nobody forges one."""

import io
import json
import logging
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from emulator.logs import JsonFormatter, LineFormatter, escaped
from emulator.testing.server import Server, serve
from emulator.vertex.messages import load

FORGED = "name\n2026-01-01 00:00:00,000 ERROR   forged: \x1b[31mred\r\x00\x85\u2028\u202e\x9b\udc80 é漢"


@pytest.fixture
def written() -> tuple[logging.Logger, io.StringIO]:
    """A logger as the emulator's processes have it, and what it has written."""
    text = io.StringIO()
    handler = logging.StreamHandler(text)
    handler.setFormatter(LineFormatter("%(levelname)s %(name)s: %(message)s"))
    logger = logging.Logger("test")
    logger.addHandler(handler)
    return logger, text


def test_message_is_one_line_of_printable_text(written: tuple[logging.Logger, io.StringIO]) -> None:
    logger, text = written
    logger.warning("%s was called", FORGED)
    line, end = text.getvalue().split("\n")
    assert end == ""
    assert line.isprintable()
    assert line.startswith("WARNING test: name\\n2026")
    assert "\\x1b[31mred\\r\\x00\\x85\\u2028\\u202e\\x9b\\udc80" in line
    assert line.endswith("é漢 was called")


def test_traceback_keeps_its_lines_and_no_more(written: tuple[logging.Logger, io.StringIO]) -> None:
    logger, text = written
    try:
        raise ValueError(FORGED)
    except ValueError:
        logger.exception("failed")
    first, *others = text.getvalue().removesuffix("\n").split("\n")
    assert first == "ERROR test: failed"
    assert all(line.startswith("  ") and line.isprintable() for line in others)
    assert any("Traceback" in line for line in others)


def test_text_without_controls_stays() -> None:
    assert escaped("gs://bucket/ünïcode 漢字 'x'\\n") == "gs://bucket/ünïcode 漢字 'x'\\n"


def test_server_s_log_holds_no_controls(tmp_path: Path) -> None:
    """What a client names in a request, and what lies in a folder."""
    with serve({"bundled_models": False, "workers": 1}, folder=tmp_path) as server:
        bucket = server.settings.buckets / "bucket"
        (bucket / "closed\x1b[2Jfolder").mkdir(parents=True)
        outside = tmp_path / "outside"
        outside.mkdir()
        httpx.get(f"{server.url}/storage/v1/b/bucket/o", trust_env=False)
        for path in ("%0AERROR%20forged", "%1b%5b2J"):
            httpx.get(f"{server.url}/v1/projects/p/locations/l/{path}", trust_env=False)
        httpx.post(
            f"{server.url}/v1/{'projects/p/locations/us-central1'}/batchPredictionJobs",
            json={},
            trust_env=False,
        )
        log = server.log.read_text()
    assert all(line.isprintable() for line in log.split("\n"))


def test_worker_s_log_is_escaped_too() -> None:
    code = (
        "import sys, logging; from emulator.execution import worker; from emulator import logs\n"
        "logs.set_up('info', '%(message)s'); logging.getLogger('x').info('a\\nb\\x1b')"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stderr == "a\\nb\\x1b\n"


GATHERED = "import logging; from emulator import logs; logs.set_up('info', '%(message)s', gathered=True)\n"


def test_gathered_lines_keep_their_order_and_the_end_writes_the_last_ones() -> None:
    code = f"{GATHERED}log = logging.getLogger('x'); log.info('1'); log.warning('2'); log.info('3')"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stderr == "1\n2\n3\n"


def test_nobody_waits_for_a_pipe_that_is_not_read() -> None:
    lines = 5000
    told = f"for number in range({lines}): logging.info('%0100d', number)\nprint('all told', flush=True)"
    code = f"{GATHERED}{told}"
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "all told\n"
        assert [int(line) for line in process.stderr] == list(range(lines))


PARENT = "projects/p/locations/us-central1"
JOB = {
    "displayName": "nightly",
    "model": f"{PARENT}/models/video-object-tracking",
    "inputConfig": {"instancesFormat": "jsonl", "gcsSource": {"uris": ["gs://bucket/in.jsonl"]}},
    "outputConfig": {"predictionsFormat": "jsonl", "gcsDestination": {"outputUriPrefix": "gs://bucket/out"}},
}


@pytest.fixture(scope="module")
def logging_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that tells everything, as JSON."""
    settings = {"workers": 1, "log_level": "debug", "log_format": "json", "pace": "pending=hold"}
    with serve(settings, folder=tmp_path_factory.mktemp("logs")) as server:
        yield server


def ask(server: Server, method: str, path: str, body: Any = None, **headers: str) -> httpx.Response:
    return httpx.request(method, f"{server.url}{path}", json=body, headers=headers, trust_env=False)


def told(server: Server, **wanted: Any) -> list[dict[str, Any]]:
    """The lines of the log that have these members; waits for the first, which comes behind the answer."""
    deadline = time.monotonic() + 60
    while True:
        lines = [
            json.loads(line) for line in server.log.read_text().splitlines(keepends=True) if line[-1] == "\n"
        ]
        found = [line for line in lines if wanted.items() <= line.items()]
        if found or time.monotonic() > deadline:
            return found
        time.sleep(0.01)


def test_each_call_is_one_line_with_the_id_of_its_answer(logging_server: Server) -> None:
    buckets = ask(logging_server, "POST", "/storage/v1/b?project=p", {"name": "calls"})
    stored = httpx.post(
        f"{logging_server.url}/upload/storage/v1/b/calls/o?uploadType=media&name=a",
        content=b"abc",
        trust_env=False,
    )
    xml = httpx.get(f"{logging_server.url}/calls/a", trust_env=False)
    listed = ask(logging_server, "GET", f"/v1/{PARENT}/models")
    for answer, call in (
        (buckets, "POST /storage/v1/b"),
        (stored, "POST /upload/storage/v1/b/calls/o"),
        (xml, "GET /calls/a"),
        (listed, f"GET /v1/{PARENT}/models"),
    ):
        assert answer.status_code == 200, answer.text
        [line] = told(logging_server, request_id=answer.headers["x-emulator-request-id"])
        assert (line["call"], line["status"], line["severity"]) == (call, 200, "INFO")
        assert line["bytes_sent"] == len(answer.content)
        assert "reason" not in line


def test_id_of_the_client_is_kept_and_a_forged_one_is_not(logging_server: Server) -> None:
    kept = ask(logging_server, "GET", f"/v1/{PARENT}/models", **{"x-request-id": "my-test.1"})
    assert kept.headers["x-emulator-request-id"] == "my-test.1"
    assert told(logging_server, request_id="my-test.1")
    other = ask(logging_server, "GET", f"/v1/{PARENT}/models", **{"x-request-id": "a b] forged"})
    assert re.fullmatch("[0-9a-f]{12}", other.headers["x-emulator-request-id"])


@pytest.mark.parametrize(
    ("method", "path", "headers", "reason"),
    [
        ("GET", f"/v1/{PARENT}/batchPredictionJobs/1", {}, "does not exist"),
        ("GET", "/storage/v1/b/missing/o/a", {}, "bucket does not exist"),
        ("GET", "/calls-missing?uploads", {}, "bucket does not exist"),
        ("GET", f"/v1/{PARENT}/models", {"origin": "http://evil.example"}, "http://evil.example"),
        ("POST", f"/v1/{PARENT}/batchPredictionJobs", {}, "display_name"),
    ],
)
def test_debug_level_tells_why_a_call_was_refused(
    logging_server: Server, method: str, path: str, headers: dict[str, str], reason: str
) -> None:
    answer = ask(logging_server, method, path, {} if method == "POST" else None, **headers)
    assert answer.status_code >= 400
    [line] = told(logging_server, request_id=answer.headers["x-emulator-request-id"])
    assert line["status"] == answer.status_code
    assert reason in line["reason"]
    assert reason in line["message"]


def test_reads_of_the_emulator_s_own_pages_are_told_at_debug_level(logging_server: Server) -> None:
    for method, path, severity in (
        ("GET", "/_emulator/health", "DEBUG"),
        ("GET", "/console", "DEBUG"),
        ("DELETE", "/_emulator/requests", "INFO"),
    ):
        answer = ask(logging_server, method, path)
        [line] = told(logging_server, request_id=answer.headers["x-emulator-request-id"])
        assert line["severity"] == severity


def test_created_and_cancelled_jobs_are_told(logging_server: Server) -> None:
    name = ask(logging_server, "POST", f"/v1/{PARENT}/batchPredictionJobs", JOB).json()["name"]
    assert ask(logging_server, "POST", f"/v1/{name}:cancel").status_code == 200
    assert told(logging_server, message=f"{name} created: 'nightly' with model video-object-tracking")
    assert told(logging_server, message=f"{name} is cancelled: it was JOB_STATE_PENDING.")


def test_grpc_calls_are_told(logging_server: Server) -> None:
    method = "google.cloud.aiplatform.v1.JobService/GetBatchPredictionJob"
    request = load().v1.GetBatchPredictionJobRequest(name=f"{PARENT}/batchPredictionJobs/1")
    with grpc.insecure_channel(str(logging_server.grpc_address)) as channel:
        call = channel.unary_unary(
            f"/{method}", request_serializer=lambda message: message.SerializeToString()
        )
        with pytest.raises(grpc.RpcError) as refused:
            call(request, metadata=[("x-request-id", "by-grpc")], timeout=60)
        other = channel.unary_unary("/google.cloud.aiplatform.v1.DatasetService/ListDatasets")
        with pytest.raises(grpc.RpcError):
            other(b"", metadata=[("x-request-id", "not-here")], timeout=60)
    trailing = dict(refused.value.trailing_metadata())
    assert trailing["x-emulator-request-id"] == "by-grpc"
    [line] = told(logging_server, request_id="by-grpc")
    assert (line["surface"], line["call"], line["status"]) == ("grpc", method, "NOT_FOUND")
    assert "does not exist" in line["reason"]
    [line] = told(logging_server, request_id="not-here")
    assert line["status"] == "UNIMPLEMENTED"


def test_json_lines_cannot_be_forged() -> None:
    text = io.StringIO()
    handler = logging.StreamHandler(text)
    handler.setFormatter(JsonFormatter())
    logger = logging.Logger("test")
    logger.addHandler(handler)
    try:
        raise ValueError(FORGED)
    except ValueError:
        logger.exception("%s failed", FORGED)
    line, end = text.getvalue().split("\n")
    assert end == ""
    assert line.isascii()
    written = json.loads(line)
    assert written["message"] == f"{FORGED} failed"
    assert written["severity"] == "ERROR"
    assert FORGED in written["exception"]
