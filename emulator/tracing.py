"""OpenTelemetry spans: of calls, of jobs and of shards. Imported only if the setting `otel` is on.

A job's span begins with its creation and ends with the job, maybe in another process. So its id is chosen
when the job is created and kept as a step of the job, with the span of the call that created it. Shards refer
to that id before the job's span exists.
"""

import os
import re
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from opentelemetry import context as contexts
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import (
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    format_span_id,
    format_trace_id,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from emulator import __version__
from emulator.config import SettingError
from emulator.database import Database, JobRow, ShardRow
from emulator.vertex.job_state import JobState

STEP = "trace"
"""The step of a job that holds its place in a trace: `00-TRACE-SPAN-FLAGS`, then the parent's span."""

_STEP = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?: from ([0-9a-f]{16}))?")
# The step is written with the job.
_FIRST_STEPS = 20
_REMEMBERED = 10_000
_FLUSH_S = 3.0
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_BAD_STATES = (JobState.FAILED, JobState.EXPIRED)


@dataclass(frozen=True)
class _JobTrace:
    """Where a job is in a trace. `parent` is the span that created it, 0 for none."""

    trace: int
    span: int
    flags: int
    parent: int

    def context(self, span: int) -> contexts.Context:
        """Return the context below one of its spans."""
        remote = SpanContext(self.trace, span, is_remote=True, trace_flags=TraceFlags(self.flags))
        return set_span_in_context(NonRecordingSpan(remote), contexts.Context())


@dataclass(frozen=True)
class CallSpan:
    """The span of a call in progress, and what ends its being the current one."""

    span: Span
    token: Any


class _Ids(RandomIdGenerator):
    """Random ids, or those that this thread has chosen for its next span."""

    def __init__(self) -> None:
        self.next = threading.local()

    def generate_span_id(self) -> int:
        chosen: int | None = self.next.__dict__.pop("span", None)
        return super().generate_span_id() if chosen is None else chosen

    def generate_trace_id(self) -> int:
        chosen: int | None = self.next.__dict__.pop("trace", None)
        return super().generate_trace_id() if chosen is None else chosen


class Tracing:
    """Makes the spans of one server and exports them over OTLP. Thread-safe."""

    def __init__(self, database: Database) -> None:
        """Read the OTEL_* variables.

        Raises:
            SettingError: they name a protocol that does not exist.
        """
        self._database = database
        self._ids = _Ids()
        self._provider = TracerProvider(resource=_resource(), id_generator=self._ids, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(_exporter()))
        self._tracer = self._provider.get_tracer("emulator", __version__)
        self._propagator = TraceContextTextMapPropagator()
        self._jobs: dict[int, _JobTrace | None] = {}
        self._began: dict[tuple[int, int], tuple[int, str]] = {}

    def close(self) -> None:
        """Export what is left. A collector that does not answer delays the end by few seconds at most."""
        ending = threading.Thread(target=self._provider.shutdown, name="otel-end", daemon=True)
        ending.start()
        ending.join(_FLUSH_S)

    def begin_call(self, key: str, surface: str, headers: Mapping[str, str]) -> CallSpan:
        """Begin the span of a call of Vertex AI, below the span that its `traceparent` header names."""
        service, _, method = key.partition("/")
        attributes = {"rpc.service": service, "rpc.method": method, "emulator.surface": surface}
        span = self._tracer.start_span(key, self._propagator.extract(headers), SpanKind.SERVER, attributes)
        return CallSpan(span, contexts.attach(set_span_in_context(span)))

    def end_call(self, call: CallSpan, status: str | None, project: str = "") -> None:
        """End the span of a call. Without a status it is dropped: the call is repeated or leaves no trace."""
        contexts.detach(call.token)
        if status is None:
            return
        call.span.set_attributes({"emulator.status": status, "emulator.project": project})
        if status != "OK":
            call.span.set_status(Status(StatusCode.ERROR, status))
        call.span.end()

    def storage_call(
        self, method: str, headers: Mapping[str, str], status: str, seconds: float, named: Mapping[str, str]
    ) -> None:
        """Export the span of a call of Cloud Storage that has just been answered."""
        end_ns = time.time_ns()
        attributes = {"emulator.surface": "storage", "emulator.status": status, **named}
        span = self._tracer.start_span(
            method,
            self._propagator.extract(headers),
            SpanKind.SERVER,
            attributes,
            start_time=end_ns - int(seconds * 1e9),
        )
        if status != "OK":
            span.set_status(Status(StatusCode.ERROR, status))
        span.end(end_ns)

    def of_new_job(self) -> tuple[tuple[str, str], ...]:
        """Return the step that gives a new job its place in the trace of the call in progress."""
        parent = get_current_span().get_span_context()
        # Never ended: the span with this id is made once the job has ended.
        chosen = self._tracer.start_span("job").get_span_context()
        if not chosen.is_valid:
            return ()
        text = (
            f"00-{format_trace_id(chosen.trace_id)}-{format_span_id(chosen.span_id)}-{chosen.trace_flags:02x}"
        )
        return ((STEP, f"{text} from {format_span_id(parent.span_id)}" if parent.is_valid else text),)

    def shard_began(self, job: JobRow, index: int, video: str) -> None:
        """Note that a worker begins with a video of a job, for the first time or again."""
        if self._trace_of(job.id) is not None:
            self._began.setdefault((job.id, index), (time.time_ns(), video))

    def shard_ended(self, job: JobRow, shard: ShardRow) -> None:
        """Export the span of a video whose results are recorded."""
        began, trace = self._began.pop((job.id, shard.index), None), self._trace_of(job.id)
        if began is None or trace is None:
            return
        began_ns, video = began
        attributes: dict[str, str | int] = {
            "emulator.job": job.name,
            "emulator.video": video,
            "emulator.shard": shard.index,
            "emulator.successful": shard.successful,
            "emulator.failed": shard.failed,
        }
        context = trace.context(trace.span)
        span = self._tracer.start_span("shard", context, attributes=attributes, start_time=began_ns)
        span.end()

    def job_ended(self, job: JobRow) -> None:
        """Export the span of a job, from its creation to its end."""
        trace = self._trace_of(job.id)
        self._jobs.pop(job.id, None)
        # Videos that a worker had begun with when the job was cancelled or failed.
        for key in [key for key in self._began.copy() if key[0] == job.id]:
            self._began.pop(key, None)
        if trace is None:
            return
        self._ids.next.span, self._ids.next.trace = trace.span, trace.trace
        context = trace.context(trace.parent) if trace.parent else contexts.Context()
        start_ns, end_ns = job.create_time_us * 1000, (job.end_time_us or job.update_time_us) * 1000
        span = self._tracer.start_span("job", context, attributes=_described(job), start_time=start_ns)
        self._ids.next.__dict__.clear()
        if job.start_time_us is not None:
            span.add_event("started", timestamp=job.start_time_us * 1000)
        if job.state in _BAD_STATES:
            span.set_status(Status(StatusCode.ERROR, job.state.proto_name))
        span.end(end_ns)

    def _trace_of(self, job_id: int) -> _JobTrace | None:
        """Return a job's place in a trace; None if it was created without one."""
        if job_id not in self._jobs:
            if len(self._jobs) >= _REMEMBERED:
                self._jobs.clear()
            steps = self._database.steps(job_id=job_id, limit=_FIRST_STEPS)
            found = next((_STEP.fullmatch(step.text) for step in steps if step.step == STEP), None)
            self._jobs[job_id] = found and _JobTrace(*(int(part or "0", 16) for part in found.groups()))
        return self._jobs[job_id]


def _described(job: JobRow) -> dict[str, str | int]:
    return {
        "emulator.job": job.name,
        "emulator.display_name": job.display_name,
        "emulator.model": job.model_id,
        "emulator.state": job.state.proto_name,
        "emulator.successful": job.successful,
        "emulator.failed": job.failed,
    }


def _resource() -> Resource:
    """Describe this server; OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES override it."""
    ours = {"service.name": "vertex-emulator", "service.version": __version__}
    return Resource.create({**ours, **OTELResourceDetector().detect().attributes})


def _exporter() -> SpanExporter:
    protocol = next(filter(None, map(os.environ.get, _PROTOCOLS)), "http/protobuf")
    if protocol == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as OverGrpc

        return OverGrpc()
    if protocol != "http/protobuf":
        raise SettingError(f"The OTLP protocol is {protocol!r}; use grpc or http/protobuf.")
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as OverHttp

    return OverHttp()
