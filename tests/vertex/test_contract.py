"""The exported descriptor set: what is in it, and that it still is what the SDK says."""

import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import descriptor_pb2

from emulator.vertex import contract as contract_module
from emulator.vertex.contract import HttpBinding, Rpc, load

CONTRACT = load()
RPCS = {rpc.full_name: rpc for rpc in CONTRACT.methods()}
VERTEX_FOLDER = Path(contract_module.__file__).parent


def test_services_are_those_the_emulator_serves() -> None:
    assert sorted(CONTRACT.services) == [
        "google.cloud.aiplatform.v1.JobService",
        "google.cloud.aiplatform.v1.ModelService",
        "google.cloud.aiplatform.v1beta1.JobService",
        "google.cloud.aiplatform.v1beta1.ModelService",
        "google.cloud.location.Locations",
        "google.longrunning.Operations",
    ]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("CreateBatchPredictionJob", ("POST", "/{parent=P}/batchPredictionJobs", "batch_prediction_job")),
        ("GetBatchPredictionJob", ("GET", "/{name=P/batchPredictionJobs/*}", "")),
        ("ListBatchPredictionJobs", ("GET", "/{parent=P}/batchPredictionJobs", "")),
        ("DeleteBatchPredictionJob", ("DELETE", "/{name=P/batchPredictionJobs/*}", "")),
        ("CancelBatchPredictionJob", ("POST", "/{name=P/batchPredictionJobs/*}:cancel", "*")),
    ],
)
@pytest.mark.parametrize("api", ["v1", "v1beta1"])
def test_job_rpcs_have_their_documented_bindings(api: str, name: str, expected: tuple[str, str, str]) -> None:
    rpc = RPCS[f"google.cloud.aiplatform.{api}.JobService/{name}"]
    method, template, body = expected
    template = f"/{api}{template.replace('P', 'projects/*/locations/*', 1)}"
    assert rpc.bindings == (HttpBinding(method, template, body),)
    assert (rpc.service, rpc.name, rpc.version) == ("JobService", name, api)
    assert rpc.input is CONTRACT.message(f"google.cloud.aiplatform.{api}.{name}Request")


def test_update_model_binds_a_nested_field() -> None:
    rpc = RPCS["google.cloud.aiplatform.v1.ModelService/UpdateModel"]
    assert rpc.bindings == (
        HttpBinding("PATCH", "/v1/{model.name=projects/*/locations/*/models/*}", "model"),
    )
    assert rpc.output is CONTRACT.v1.Model


def test_get_operation_is_bound_under_ui_and_both_versions() -> None:
    rpc = RPCS["google.longrunning.Operations/GetOperation"]
    parents = ("projects/*/locations/*", "projects/*/locations/*/models/*")
    assert [binding.path_template for binding in rpc.bindings] == [
        f"/{prefix}/{{name={parent}/operations/*}}"
        for prefix in ("ui", "v1", "v1beta1")
        for parent in parents
    ]


@pytest.mark.parametrize("rpc", RPCS.values(), ids=RPCS)
def test_every_rpc_has_messages_and_a_binding(rpc: Rpc) -> None:
    assert rpc.bindings
    assert rpc.input.DESCRIPTOR.full_name.endswith("Request")
    assert rpc.output.DESCRIPTOR.file.pool is CONTRACT.pool


def test_field_names_are_googles_own() -> None:
    """proto-plus renames `type` to `type_`; REST, gRPC reflection and error paths must not."""
    for descriptor in _descriptors():
        assert not [field.name for field in descriptor.fields if field.name.endswith("_")]


def test_output_only_fields_are_marked() -> None:
    fields = CONTRACT.v1.BatchPredictionJob.DESCRIPTOR.fields
    assert {field.name for field in fields if CONTRACT.is_output_only(field)} == {
        "name", "model_version_id", "output_info", "state", "error", "partial_failures", "resources_consumed",
        "completion_stats", "create_time", "start_time", "end_time", "update_time",
        "satisfies_pzs", "satisfies_pzi",
    }  # fmt: skip


@pytest.mark.parametrize("group", ["instance.{}PredictionInstance", "params.{}PredictionParams"])
@pytest.mark.parametrize("kind", ["VideoObjectTracking", "VideoActionRecognition", "VideoClassification"])
def test_prediction_schemas_are_included(kind: str, group: str) -> None:
    name = f"google.cloud.aiplatform.v1.schema.predict.{group.format(kind)}"
    assert CONTRACT.message(name).DESCRIPTOR.fields


def test_unknown_names_are_key_and_attribute_errors() -> None:
    with pytest.raises(KeyError):
        CONTRACT.message("google.cloud.aiplatform.v1.Nothing")
    with pytest.raises(AttributeError, match="has no message Nothing"):
        _ = CONTRACT.v1.Nothing


def test_private_pool_lives_beside_the_default_one() -> None:
    from google.protobuf import timestamp_pb2

    assert CONTRACT.protobuf.Timestamp is not timestamp_pb2.Timestamp
    assert CONTRACT.protobuf.Timestamp(seconds=1).ToJsonString() == "1970-01-01T00:00:01Z"


def test_descriptors_are_those_of_the_installed_sdk(tmp_path: Path) -> None:
    """A newer SDK may add to what the emulator has; the release that was exported must match exactly."""
    try:
        installed = version("google-cloud-aiplatform")
    except PackageNotFoundError:
        pytest.skip("google-cloud-aiplatform is not installed")
    exported = tmp_path / "descriptors.binpb"
    command = [sys.executable, "-m", "tools.export_descriptors", str(exported)]
    subprocess.run(command, check=True, cwd=VERTEX_FOLDER.parents[1], timeout=120)
    ours = set(_facts((VERTEX_FOLDER / "descriptors.binpb").read_bytes()))
    theirs = set(_facts(exported.read_bytes()))
    assert not ours - theirs
    if installed == (VERTEX_FOLDER / "descriptors.release").read_text().strip():
        assert not theirs - ours


def _facts(serialized: bytes) -> Iterator[str]:
    """Yield one line for each field, enum value and RPC."""
    for file in descriptor_pb2.FileDescriptorSet.FromString(serialized).file:
        for service in file.service:
            for method in service.method:
                yield f"{file.package}.{service.name} {method.SerializePartialToString(deterministic=True)!r}"
        yield from _enum_facts(file.package, file.enum_type)
        yield from _message_facts(file.package, file.message_type)


def _message_facts(prefix: str, messages: Any) -> Iterator[str]:
    for message in messages:
        name = f"{prefix}.{message.name}"
        for field in message.field:
            options = field.options.SerializeToString(deterministic=True)
            kind = f"{field.type} {field.label} {field.type_name}"
            yield f"{name}.{field.name} {field.number} {kind} {options!r}"
        yield from _enum_facts(name, message.enum_type)
        yield from _message_facts(name, message.nested_type)


def _enum_facts(prefix: str, enums: Any) -> Iterator[str]:
    for enum in enums:
        for value in enum.value:
            yield f"{prefix}.{enum.name}.{value.name} {value.number}"


def _descriptors() -> Iterator[Any]:
    for rpc in RPCS.values():
        yield from _reachable(rpc.input.DESCRIPTOR, set())
        yield from _reachable(rpc.output.DESCRIPTOR, set())


def _reachable(descriptor: Any, seen: set[str]) -> Iterator[Any]:
    if descriptor.full_name not in seen:
        seen.add(descriptor.full_name)
        yield descriptor
        for field in descriptor.fields:
            if field.message_type is not None:
                yield from _reachable(field.message_type, seen)
