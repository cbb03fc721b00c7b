"""OpenTelemetry: what a real OTLP receiver gets of calls, jobs and shards; nothing is loaded without it."""

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceResponse,
)

from emulator.app import CannotStart, Emulator
from emulator.vertex.contract import load
from tests.control.collector import Collector, attributes, collecting, traced
from tests.control.project import make_settings

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SENT = {"traceparent": f"00-{TRACE}-{SPAN}-01"}
_EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    """A receiver that the environment names."""
    with collecting() as found:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", found.endpoint)
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
        yield found


def test_a_job_is_part_of_the_trace_of_the_client_that_created_it(
    tmp_path: Path, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=test")
    with traced(tmp_path) as project:
        job = project.finish(project.create("a.mp4", "b.mp4", headers=SENT))
        (call,) = collector.wait("JobService/CreateBatchPredictionJob")
        (span,) = collector.wait("job")
        shards = collector.wait("shard", 2)
        explained = project.control("GET", f"jobs/{job['name']}/explain")
    assert {each.trace_id.hex() for each in (call, span, *shards)} == {TRACE}
    assert (call.parent_span_id.hex(), call.kind) == (SPAN, 2)
    assert attributes(call)["emulator.surface"] == "rest"
    assert attributes(call)["emulator.status"] == "OK"
    assert span.parent_span_id == call.span_id
    assert {each.parent_span_id for each in shards} == {span.span_id}
    assert attributes(span) == {
        "emulator.job": job["name"],
        "emulator.display_name": "job",
        "emulator.model": "tiny",
        "emulator.state": "JOB_STATE_SUCCEEDED",
        "emulator.successful": 2,
        "emulator.failed": 0,
    }
    videos = sorted(
        (attributes(each)["emulator.shard"], attributes(each)["emulator.video"]) for each in shards
    )
    assert videos == [(0, "gs://bucket/a.mp4"), (1, "gs://bucket/b.mp4")]
    assert all(span.start_time_unix_nano <= each.start_time_unix_nano for each in shards)
    assert all(each.end_time_unix_nano <= span.end_time_unix_nano for each in shards)
    resource = collector.resources[0]
    assert (resource["service.name"], resource["deployment.environment"]) == ("vertex-emulator", "test")
    (step,) = (each["text"] for each in explained["steps"] if each["step"] == "trace")
    assert step == f"00-{TRACE}-{span.span_id.hex()}-01 from {call.span_id.hex()}"


def test_grpc(tmp_path: Path, collector: Collector) -> None:
    v1 = load().v1
    with traced(tmp_path) as project:
        request = v1.GetModelRequest(name=f"{project.parent}/models/tiny")
        with grpc.insecure_channel(str(project.emulator.grpc_address)) as channel:
            get = channel.unary_unary("/google.cloud.aiplatform.v1.ModelService/GetModel")
            get(request.SerializeToString(), metadata=tuple(SENT.items()), timeout=60)
        (call,) = collector.wait("ModelService/GetModel")
    assert (call.trace_id.hex(), call.parent_span_id.hex()) == (TRACE, SPAN)
    assert attributes(call)["emulator.surface"] == "grpc"


def test_storage(tmp_path: Path, collector: Collector) -> None:
    with traced(tmp_path) as project:
        project.http.get("/storage/v1/b/bucket/o/a.mp4", headers=SENT)
        (call,) = collector.wait("storage.objects.get")
    assert (call.trace_id.hex(), call.parent_span_id.hex()) == (TRACE, SPAN)
    assert attributes(call) == {
        "emulator.surface": "storage",
        "emulator.status": "OK",
        "emulator.bucket": "bucket",
        "emulator.object": "a.mp4",
    }


def test_failures_are_marked_and_observers_leave_no_span(tmp_path: Path, collector: Collector) -> None:
    with traced(tmp_path) as project:
        job = project.finish(project.create("missing.mp4"))
        path = f"/v1/{job['name']}"
        seen = len(collector.wait("JobService/GetBatchPredictionJob"))
        project.http.get(path, headers={"x-goog-emulator-observer": "test"})
        project.error("GET", f"/v1/{project.parent}/batchPredictionJobs/1")
        *_, failed = collector.wait("JobService/GetBatchPredictionJob", seen + 1)
        (span,) = collector.wait("job")
    assert (failed.status.code, attributes(failed)["emulator.status"]) == (2, "NOT_FOUND")
    assert (span.status.code, attributes(span)["emulator.state"]) == (2, "JOB_STATE_FAILED")
    gets = [each for each in collector.spans if each.name == "JobService/GetBatchPredictionJob"]
    assert len(gets) == seen + 1


def test_a_job_that_another_server_ends_stays_in_its_trace(tmp_path: Path, collector: Collector) -> None:
    with traced(tmp_path) as project:
        project.pace("pending=hold")
        job = project.create(headers=SENT)
    with traced(tmp_path) as project:
        project.control("POST", f"jobs/{job}/release")
        project.finish(job)
        (call,) = collector.wait("JobService/CreateBatchPredictionJob")
        (span,) = collector.wait("job")
        (shard,) = collector.wait("shard")
    assert span.trace_id.hex() == shard.trace_id.hex() == TRACE
    assert span.parent_span_id == call.span_id
    assert shard.parent_span_id == span.span_id


def test_a_client_without_a_trace_begins_one(tmp_path: Path, collector: Collector) -> None:
    with traced(tmp_path) as project:
        project.finish(project.create())
        (call,) = collector.wait("JobService/CreateBatchPredictionJob")
        (span,) = collector.wait("job")
    assert call.parent_span_id == b""
    assert (span.trace_id, span.parent_span_id) == (call.trace_id, call.span_id)


def test_a_trace_that_is_not_sampled_is_not_exported(tmp_path: Path, collector: Collector) -> None:
    with traced(tmp_path) as project:
        project.finish(project.create(headers={"traceparent": f"00-{TRACE}-{SPAN}-00"}))
        project.finish(project.create())
        collector.wait("job")
    assert TRACE not in {span.trace_id.hex() for span in collector.spans}


def test_export_over_grpc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = Collector()

    def export(data: bytes, _context: Any) -> bytes:
        found.take(data)
        return bytes(ExportTraceServiceResponse().SerializeToString())

    handler = grpc.method_handlers_generic_handler(
        _EXPORT.split("/")[1], {"Export": grpc.unary_unary_rpc_method_handler(export)}
    )
    server = grpc.server(ThreadPoolExecutor(1), handlers=(handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{port}")
    try:
        with traced(tmp_path) as project:
            project.finish(project.create())
        assert found.wait("job")
    finally:
        server.stop(0).wait()


def test_a_collector_that_is_gone_disturbs_no_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    with traced(tmp_path) as project:
        assert project.finish(project.create())["state"] == "JOB_STATE_SUCCEEDED"


def test_an_unknown_protocol_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "carrier-pigeon")
    with pytest.raises(CannotStart, match="use grpc or http/protobuf"):
        Emulator(make_settings(tmp_path, otel=True)).start()


PROGRAM = """
import sys
from pathlib import Path
{before}
from emulator.app import CannotStart, Emulator
from tests.control.project import Project, client_of, make_settings
try:
    with Emulator(make_settings(Path({folder!r}), {settings})) as emulator, client_of(emulator) as http:
        project = Project(emulator, http, emulator.settings.buckets)
        print(project.finish(project.create())["state"])
except CannotStart as error:
    print(error)
# FastAPI imports the API by itself, where it is installed.
ours = ("opentelemetry.sdk", "opentelemetry.exporter", "emulator.tracing")
print(*(name for name in sys.modules if name.startswith(ours)))
"""


def run(folder: Path, before: str = "", settings: str = "") -> list[str]:
    program = PROGRAM.format(folder=str(folder), before=before, settings=settings)
    command = [sys.executable, "-W", "ignore", "-c", program]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, cwd=root, check=True, timeout=300, stdout=subprocess.PIPE, text=True)
    return done.stdout.splitlines()


def test_nothing_is_loaded_by_default(tmp_path: Path) -> None:
    assert run(tmp_path) == ["JOB_STATE_SUCCEEDED", ""]


def test_a_missing_extra_is_named(tmp_path: Path) -> None:
    told = run(tmp_path, "sys.modules['opentelemetry.sdk.resources'] = None", "otel=True")[0]
    assert "Install the extra `otel`" in told
