"""A corner of the emulator: any project that code names, and nothing left behind when it is closed."""

import asyncio
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from google.api_core import exceptions
from google.cloud import aiplatform, storage
from google.cloud.aiplatform_v1 import JobServiceAsyncClient

from emulator.testing import ControlError, Server, VertexEmulator, Videos
from emulator.testing.google_guard import Guard, RealGoogle, Refusal

PROJECT = "acme-video-prod"


@pytest.fixture
def open_corner(vertex_emulator_server: Server, tmp_path: Path) -> Iterator[Callable[..., VertexEmulator]]:
    """Opens corners, and closes them again if the test does not."""
    with ExitStack() as opened:

        def open_one(project: str = "corner-of-a-test", **options: Any) -> VertexEmulator:
            made = VertexEmulator(vertex_emulator_server, project, Videos(tmp_path), **options)
            opened.callback(made.close)
            return made

        yield open_one


@pytest.fixture
def corner(open_corner: Callable[..., VertexEmulator]) -> VertexEmulator:
    return open_corner()


def submit(emulator: VertexEmulator, *, project: str | None = PROJECT, model: str | None = None) -> Any:
    """Start a job as code does that names a project of its own."""
    emulator.aiplatform.init(project=project, location="us-central1")
    return aiplatform.BatchPredictionJob.submit(
        job_display_name="nightly",
        model_name=model or emulator.canned({"*": []}),
        gcs_source=emulator.write_instances("gs://a-bucket/a.mp4"),
        gcs_destination_prefix=f"gs://{emulator.bucket}/out",
    )


def test_faults_pace_and_requests_hold_for_the_project_that_the_code_names(corner: VertexEmulator) -> None:
    corner.pace("running=hold")
    fault = corner.faults.rpc("CreateBatchPredictionJob", code="RESOURCE_EXHAUSTED", times=1)
    failing = corner.faults.job("fail-job", code="INTERNAL", message="boom")
    with pytest.raises(exceptions.ResourceExhausted):
        submit(corner)
    job = submit(corner)
    assert f"projects/{corner.project}/" not in job.resource_name
    corner.wait(job, "RUNNING")
    corner.pace.release(job)
    assert corner.wait(job).error.message == "boom"
    assert (fault.fired, failing.fired) == (1, 1)
    assert [call["status"] for call in corner.requests("CreateBatchPredictionJob")] == [
        "RESOURCE_EXHAUSTED",
        "OK",
    ]
    assert corner.requests("CreateBatchPredictionJob", project=corner.project) == []
    assert corner.faults.never_fired() == []


def test_nothing_is_left_when_a_corner_closes(
    vertex_emulator_server: Server, open_corner: Callable[..., VertexEmulator]
) -> None:
    control = vertex_emulator_server.control
    before = dict(os.environ), dict(aiplatform.initializer.global_config.__dict__), control.get("pace")
    corner = open_corner()
    corner.pace.hold()
    corner.faults.rpc("Get*", code="UNAVAILABLE", may_not_fire=True)
    submit(corner)
    with closing(storage.Client(project=PROJECT)) as client:
        client.create_bucket("made-by-the-code").blob("a.txt").upload_from_string("a")
    corner.close()

    assert before == (
        dict(os.environ),
        dict(aiplatform.initializer.global_config.__dict__),
        control.get("pace"),
    )
    assert control.get("faults")["faults"] == []
    assert not (vertex_emulator_server.settings.buckets / "made-by-the-code").exists()
    later = open_corner()
    assert (
        list(later.jobs.list_batch_prediction_jobs(parent=f"projects/{PROJECT}/locations/us-central1")) == []
    )
    assert later.requests("ListBatchPredictionJobs") != []
    assert later.requests("CreateBatchPredictionJob") == []


def test_a_corner_leaves_alone_what_was_there_before(open_corner: Callable[..., VertexEmulator]) -> None:
    outer = open_corner(PROJECT, bucket="outer-bucket")
    outer.pace("pending=1ms")
    done = outer.wait(submit(outer))
    inner = open_corner(PROJECT, bucket="inner-bucket")
    inner.pace("running=hold")
    inner.wait(submit(inner), "RUNNING")
    inner.close()
    assert outer.control.get("pace")["pace"] == "pending=1ms"
    assert [job.name for job in aiplatform.BatchPredictionJob.list()] == [done.name]
    assert outer.predictions(done) == []


def test_the_models_of_folders_are_there_for_each_test(open_corner: Callable[..., VertexEmulator]) -> None:
    for _ in range(2):
        corner = open_corner()
        corner.aiplatform.init(project="acme-new-prod", location="europe-west4")
        (model,) = aiplatform.Model.list(filter='display_name="video-object-tracking"')
        model.update(labels={"changed": "by-the-test"})
        corner.close()


def test_a_corner_can_be_about_its_own_project_alone(open_corner: Callable[..., VertexEmulator]) -> None:
    one, two = (open_corner(f"side-by-side-{n}", every_project=False) for n in (1, 2))
    one.faults.rpc("ListBatchPredictionJobs", code="UNAVAILABLE")
    with pytest.raises(exceptions.ServiceUnavailable):
        one.jobs.list_batch_prediction_jobs(parent=one.parent)
    job = submit(two, project=two.project)
    one.close()
    assert two.wait(job).state.name == "JOB_STATE_SUCCEEDED"
    assert one.requests("Create*") == []


def test_a_pace_that_a_project_has_does_not_outrank_the_tests(corner: VertexEmulator) -> None:
    corner.control.call("PUT", f"projects/{corner.project}/pace", {"pace": "immediate"})
    corner.pace("running=hold")
    job = submit(corner, project=corner.project)
    corner.wait(job, "RUNNING")
    corner.pace.restore()
    assert corner.control.get(f"projects/{corner.project}/pace")["pace"] == "immediate"
    corner.control.call("DELETE", f"projects/{corner.project}/pace")


def test_why_a_fault_never_fired(corner: VertexEmulator) -> None:
    corner.faults.rpc("CancelBatchPredictionJob", code="UNAVAILABLE", times=1)
    corner.faults.rpc("ListBatchPredictionJobs", code="UNAVAILABLE", skip=5)
    corner.faults.storage("storage.objects.get", code=503, object="videos/*")
    corner.faults.rpc("DeleteModel", code="UNAVAILABLE", may_not_fire=True)
    removed = corner.faults.job("fail-job")
    removed.remove()
    list(corner.jobs.list_batch_prediction_jobs(parent=corner.parent))
    assert [why.partition(": ")[2] for why in corner.faults.never_fired()] == [
        "rpc CancelBatchPredictionJob, code='UNAVAILABLE', times=1>: no call fitted",
        "rpc ListBatchPredictionJobs, code='UNAVAILABLE', skip=5>: it let the 1 calls that fitted pass"
        " (skip)",
        "storage storage.objects.get, code=503, object='videos/*'>: no call fitted",
        "job fail-job>: no job fitted",
    ]


def test_misspelt_questions_are_refused(corner: VertexEmulator) -> None:
    with pytest.raises(ControlError, match="did you mean CreateBatchPredictionJob"):
        corner.requests("CreateBatchPredictonJob")
    with pytest.raises(ValueError, match="transport is 'http'; use one of grpc, rest"):
        VertexEmulator(corner.server, "p-1", Videos(Path()), transport="http")


@pytest.mark.parametrize(("transport", "kind"), [("grpc", exceptions.Aborted), ("rest", exceptions.Conflict)])
def test_errors_have_the_class_of_their_transport(
    open_corner: Callable[..., VertexEmulator], transport: str, kind: type[Exception]
) -> None:
    corner = open_corner(transport=transport)
    corner.faults.rpc("CreateBatchPredictionJob", code="ABORTED")
    with pytest.raises(Exception, match="fault") as raised:
        submit(corner)
    assert type(raised.value) is kind
    assert {call["surface"] for call in corner.requests("Create*")} == {transport}


def test_a_text_is_no_answer_of_a_canned_model(corner: VertexEmulator) -> None:
    with pytest.raises(TypeError, match=r"canned\('gs://b/out'\): give a Video.*directory="):
        corner.canned("gs://b/out")  # type: ignore[arg-type]


def test_an_asynchronous_client_and_wait(corner: VertexEmulator) -> None:
    async def run() -> Any:
        client = corner.client(JobServiceAsyncClient)
        job = submit(corner, project=corner.project)
        done = await corner.wait_async(job)
        found = await client.get_batch_prediction_job(name=done.resource_name)
        await client.transport.close()
        return found

    assert asyncio.run(run()).state.name == "JOB_STATE_SUCCEEDED"


def test_things_print_as_what_they_are(corner: VertexEmulator) -> None:
    video = corner.upload_video()
    assert repr(video) == (
        f"<Video gs://{corner.bucket}/videos/clip.mp4: cat 1.2-3.4 s; dog 1.2-3.4 s; cat 4.8-4.8 s>"
    )
    fault = corner.faults.rpc("Get*", code="UNAVAILABLE", times=2, may_not_fire=True)
    assert repr(fault) == f"<Fault {fault.id}: rpc Get*, code='UNAVAILABLE', times=2>"
    fault.remove()
    corner.pace("running=hold")
    job = submit(corner)
    assert repr(corner.wait(job, "RUNNING")) == (
        f"<BatchPredictionJob {job.resource_name} 'nightly': JOB_STATE_RUNNING>"
    )
    with pytest.raises(ValueError, match="is JOB_STATE_RUNNING and has no output yet; wait for it first"):
        corner.predictions(job)
    corner.pace.release(job)
    corner.control.get(f"jobs/{job.name}/wait", state="ended")
    assert corner.predictions(job) == []  # the SDK's object still says RUNNING
    assert corner.project in repr(corner)


def test_waiting_is_no_call_of_the_test(corner: VertexEmulator) -> None:
    fault = corner.faults.rpc("GetBatchPredictionJob", code="UNAVAILABLE", may_not_fire=True)
    job = corner.wait(submit(corner))
    assert corner.predictions(job) == []
    assert fault.matched == 0
    assert corner.requests("GetBatchPredictionJob") == []


def reach() -> None:
    import socket

    with pytest.raises(RealGoogle):
        socket.getaddrinfo("storage.googleapis.com", 443)


def test_guard_tells_this_tests_threads_from_earlier_ones() -> None:
    go, gone = threading.Event(), threading.Event()
    pool = ThreadPoolExecutor(1)
    pool.submit(lambda: None).result()

    def earlier() -> None:
        go.wait()
        reach()
        child = threading.Thread(target=reach)  # what an earlier thread begins is earlier, too
        child.start()
        child.join()
        gone.set()

    threading.Thread(target=earlier, daemon=True).start()
    heard: list[Refusal] = []
    guard = Guard(heard.append)
    with guard.active():
        go.set()
        assert gone.wait(60)
        assert guard.refused == []
        assert [one.host for one in guard.strays] == ["storage.googleapis.com"] * 2
        assert heard == []
        # The pool's thread is earlier, its work is not.
        pool.submit(reach).result(60)
        (refusal,) = guard.refusals
    assert refusal.thread.startswith("thread 'ThreadPoolExecutor")
    assert "test_corners.py" in refusal.stack
    assert " in reach" in refusal.stack
    pool.shutdown()


def test_a_guard_that_outlives_a_test_blames_the_one_that_reached() -> None:
    go = threading.Event()

    def later() -> None:
        go.wait()
        reach()

    guard = Guard(lambda _: None)
    with guard.active():
        thread = threading.Thread(target=later)
        thread.start()
        guard.begin_test()
        go.set()
        thread.join(60)
        assert guard.refused == []
        assert len(guard.strays) == 1
