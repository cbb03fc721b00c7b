"""The gRPC surface over real sockets: the vendor's GAPIC clients, and frames that are none of theirs."""

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.api_core import exceptions
from google.cloud import aiplatform_v1, aiplatform_v1beta1
from google.cloud.aiplatform_v1.services.job_service.transports import JobServiceGrpcTransport
from google.cloud.aiplatform_v1.services.model_service.transports import ModelServiceGrpcTransport
from google.cloud.aiplatform_v1beta1.services.job_service import transports as beta_transports
from google.protobuf import struct_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from emulator.app import CannotStart, Emulator
from emulator.config import Settings

PARENT = "projects/my-project/locations/us-central1"


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    with Emulator(Settings(port=0, data_dir=tmp_path_factory.mktemp("data"), workers=1)) as emulator:
        yield emulator


@pytest.fixture(scope="module")
def channel(emulator: Emulator) -> Iterator[Any]:
    with grpc.insecure_channel(emulator.grpc_address) as channel:
        yield channel


@pytest.fixture(scope="module")
def jobs(channel: Any) -> aiplatform_v1.JobServiceClient:
    return aiplatform_v1.JobServiceClient(transport=JobServiceGrpcTransport(channel=channel))


def job(**fields: Any) -> aiplatform_v1.BatchPredictionJob:
    """The job of the documentation's samples."""
    values: dict[str, Any] = {
        "display_name": "sample",
        "model": f"{PARENT}/models/video-action-recognition",
        "input_config": {"instances_format": "jsonl", "gcs_source": {"uris": ["gs://bucket/missing.jsonl"]}},
        "output_config": {
            "predictions_format": "jsonl",
            "gcs_destination": {"output_uri_prefix": "gs://bucket/output"},
        },
    }
    return aiplatform_v1.BatchPredictionJob(values | fields)


def test_create_get_list_and_delete(jobs: aiplatform_v1.JobServiceClient) -> None:
    created = jobs.create_batch_prediction_job(parent=PARENT, batch_prediction_job=job())
    assert created.state == aiplatform_v1.JobState.JOB_STATE_PENDING
    assert created.completion_stats.incomplete_count == -1
    assert jobs.get_batch_prediction_job(name=created.name).display_name == "sample"
    listed = jobs.list_batch_prediction_jobs(
        request={"parent": PARENT, "filter": 'display_name="sample"', "page_size": 1}
    )
    assert created.name in [found.name for found in listed]


def test_other_parts_of_vertex_are_unimplemented_by_name(channel: Any) -> None:
    method = "/google.cloud.aiplatform.v1.EndpointService/ListEndpoints"
    for call in (channel.unary_unary(method), lambda data: next(channel.stream_stream(method)(iter([data])))):
        with pytest.raises(grpc.RpcError) as raised:
            call(b"")
        assert raised.value.code() is grpc.StatusCode.UNIMPLEMENTED
        assert (
            "google.cloud.aiplatform.v1.EndpointService.ListEndpoints is not emulated"
            in raised.value.details()
        )


def test_value_without_a_kind_means_no_parameters(jobs: aiplatform_v1.JobServiceClient) -> None:
    # What Java's sample of action recognition sends: ValueConverter.EMPTY_VALUE.
    request = aiplatform_v1.CreateBatchPredictionJobRequest(
        parent=PARENT, batch_prediction_job=job(model_parameters=struct_pb2.Value())
    )
    sent = type(request).pb(request).batch_prediction_job
    assert sent.HasField("model_parameters")
    assert sent.model_parameters.WhichOneof("kind") is None
    created = jobs.create_batch_prediction_job(request=request)
    stored = type(created).pb(jobs.get_batch_prediction_job(name=created.name))
    assert stored.model_parameters.WhichOneof("kind") is None
    # A value of another kind is none that parameters can be.
    with pytest.raises(exceptions.InvalidArgument, match="model_parameters"):
        jobs.create_batch_prediction_job(
            parent=PARENT, batch_prediction_job=job(model_parameters=struct_pb2.Value(number_value=1))
        )


def test_errors_are_the_clients_own_with_details(jobs: aiplatform_v1.JobServiceClient) -> None:
    with pytest.raises(exceptions.NotFound):
        jobs.get_batch_prediction_job(name=f"{PARENT}/batchPredictionJobs/1")
    with pytest.raises(exceptions.InvalidArgument) as caught:
        jobs.create_batch_prediction_job(parent=PARENT, batch_prediction_job=job(display_name=""))
    assert "List of found errors" in caught.value.message
    violations = caught.value.details[0].field_violations
    assert violations[0].field == "batch_prediction_job.display_name"


def test_other_calls_say_that_they_are_not_emulated(jobs: aiplatform_v1.JobServiceClient) -> None:
    with pytest.raises(exceptions.MethodNotImplemented, match="ListCustomJobs is not emulated"):
        jobs.list_custom_jobs(parent=PARENT)


def test_v1beta1_sees_the_same_jobs(channel: Any, jobs: aiplatform_v1.JobServiceClient) -> None:
    created = jobs.create_batch_prediction_job(parent=PARENT, batch_prediction_job=job())
    transport = beta_transports.JobServiceGrpcTransport(channel=channel)
    beta = aiplatform_v1beta1.JobServiceClient(transport=transport)
    assert beta.get_batch_prediction_job(name=created.name).name == created.name


def test_models_and_their_versions(channel: Any) -> None:
    models = aiplatform_v1.ModelServiceClient(transport=ModelServiceGrpcTransport(channel=channel))
    model = models.get_model(name=f"{PARENT}/models/video-object-tracking@default")
    assert model.version_id == "1"
    assert len(list(models.list_models(parent=PARENT))) == 3


def test_health_and_reflection_answer(channel: Any) -> None:
    health = health_pb2_grpc.HealthStub(channel)
    request = health_pb2.HealthCheckRequest(service="google.cloud.aiplatform.v1.JobService")
    assert health.Check(request).status == health_pb2.HealthCheckResponse.SERVING
    services = ProtoReflectionDescriptorDatabase(channel).get_services()
    assert "google.cloud.aiplatform.v1.JobService" in services
    assert "google.longrunning.Operations" in services


def test_bytes_that_are_no_message_are_an_invalid_argument(channel: Any) -> None:
    call = channel.unary_unary("/google.cloud.aiplatform.v1.JobService/GetBatchPredictionJob")
    with pytest.raises(grpc.RpcError) as caught:
        call(b"\xff\xff\xff")
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_message_over_the_limit_is_refused_and_the_server_goes_on(
    channel: Any, jobs: aiplatform_v1.JobServiceClient
) -> None:
    call = channel.unary_unary("/google.cloud.aiplatform.v1.JobService/GetBatchPredictionJob")
    with pytest.raises(grpc.RpcError) as caught:
        call(b"\0" * 11_000_000)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    list(jobs.list_batch_prediction_jobs(parent=PARENT))


def test_http_1_and_half_open_connections_do_no_harm(
    emulator: Emulator, jobs: aiplatform_v1.JobServiceClient
) -> None:
    assert emulator.grpc_address is not None
    host, port = emulator.grpc_address.split(":")
    connections = [socket.create_connection((host, int(port))) for _ in range(200)]
    connections[0].sendall(b"GET /v1/projects HTTP/1.1\r\nHost: x\r\n\r\n")
    list(jobs.list_batch_prediction_jobs(parent=PARENT))
    for connection in connections:
        connection.close()


def test_taken_port_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(CannotStart, match=f"gRPC port {port} of 127.0.0.1 cannot be had"):
            Emulator(Settings(port=0, grpc_port=port, data_dir=tmp_path)).start()
