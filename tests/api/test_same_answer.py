"""The same 50 requests over REST, plain gRPC and gRPC over TLS get the same answer, in both API versions.

Requests are written and answers read by the vendor's own messages.
"""

import json
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
import requests
from google.cloud import aiplatform_v1, aiplatform_v1beta1
from google.cloud.location import locations_pb2
from google.longrunning import operations_pb2
from google.protobuf import descriptor_pool, empty_pb2, json_format, message_factory
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2

from emulator.app import Emulator
from emulator.config import Settings
from tests.sdk.conftest import write_input, write_model

PARENT = "projects/my-project/locations/us-central1"
JOBS, MODELS = f"{PARENT}/batchPredictionJobs", f"{PARENT}/models"
VERSIONS = {"v1": aiplatform_v1, "v1beta1": aiplatform_v1beta1}
SURFACES = ("rest", "grpc", "tls")


def job(**changes: Any) -> dict[str, Any]:
    """A job that is right but for `changes`; None leaves a field out."""
    fields: dict[str, Any] = {
        "displayName": "created é",
        "model": f"{MODELS}/pets",
        "inputConfig": {"instancesFormat": "jsonl", "gcsSource": {"uris": ["gs://bucket/short.jsonl"]}},
        "outputConfig": {
            "predictionsFormat": "jsonl",
            "gcsDestination": {"outputUriPrefix": "gs://bucket/out"},
        },
        "modelParameters": {"confidenceThreshold": 0.5, "maxPredictions": 3},
        "labels": {"made-by": "test"},
    }
    return {name: value for name, value in (fields | changes).items() if value is not None}


@dataclass(frozen=True)
class Case:
    """One request: the RPC with its message as JSON, and how REST writes it.

    Words in capitals stand for ids of the place. `fresh` says that times, etags and names in the answer
    differ from call to call.
    """

    name: str
    rpc: str
    request: dict[str, Any]
    http: str  # method and URL below the version
    body: dict[str, Any] | None = None
    fresh: bool = False


def create(name: str, message: dict[str, Any], parent: str = PARENT, *, fresh: bool = False) -> Case:
    request = {"parent": parent, "batchPredictionJob": message}
    http = f"POST {parent}/batchPredictionJobs"
    return Case(name, "JobService/CreateBatchPredictionJob", request, http, message, fresh)


def get_job(name: str, resource: str) -> Case:
    return Case(name, "JobService/GetBatchPredictionJob", {"name": resource}, f"GET {resource}")


def list_jobs(name: str, query: str = "", parent: str = PARENT, **fields: Any) -> Case:
    request = {"parent": parent, **fields}
    return Case(
        name, "JobService/ListBatchPredictionJobs", request, f"GET {parent}/batchPredictionJobs{query}"
    )


def change(name: str, rpc: str, resource: str, http: str, body: dict[str, Any] | None = None) -> Case:
    return Case(name, rpc, {"name": resource}, http, body, fresh=True)


def get_model(name: str, resource: str) -> Case:
    return Case(name, "ModelService/GetModel", {"name": resource}, f"GET {resource}")


def update_model(name: str, model: dict[str, Any], mask: str) -> Case:
    request = {"model": {"name": f"{MODELS}/pets", **model}, "updateMask": mask}
    http = f"PATCH {MODELS}/pets?updateMask={mask}"
    return Case(name, "ModelService/UpdateModel", request, http, model, fresh=True)


SOURCE_OF_BIGQUERY = {"instancesFormat": "bigquery", "bigquerySource": {"inputUri": "bq://p.d.t"}}
CASES = [
    create("a job", job(), fresh=True),
    create("a job without parameters", job(modelParameters=None), fresh=True),
    create("a job with a version", job(model=f"{MODELS}/pets@default"), fresh=True),
    create("a job that names its model without models/", job(model=f"{PARENT}/pets"), fresh=True),
    create("no display name", job(displayName=None)),
    create("a long display name", job(displayName="é" * 129)),
    create("nothing at all", {}),
    create("a model that is not there", job(model=f"{MODELS}/unicorns")),
    create("a version that is not there", job(model=f"{MODELS}/pets@7")),
    create("a model's name that is none", job(model="pets")),
    create(
        "a source that is no gs:// URI",
        job(inputConfig={"instancesFormat": "jsonl", "gcsSource": {"uris": ["/a", "gs://"]}}),
    ),
    create("a source in BigQuery", job(inputConfig=SOURCE_OF_BIGQUERY)),
    create("no destination", job(outputConfig={"predictionsFormat": "csv"})),
    create("labels that are none", job(labels={"Ä": "b", "": "c"})),
    create("parameters out of range", job(modelParameters={"confidenceThreshold": 2, "maxPredictions": "x"})),
    create("parameters that are no object", job(modelParameters=[1])),
    create("an explanation", job(generateExplanation=True)),
    create("an unmanaged model", job(unmanagedContainerModel={"artifactUri": "gs://a/b"})),
    create(
        "many things wrong", job(displayName="", model="", labels={"A": "B"}, inputConfig={}, outputConfig={})
    ),
    create("a parent that is none", job(), "projects/UPPER/locations/x"),
    get_job("a finished job", f"{JOBS}/DONE"),
    get_job("a failed job", f"{JOBS}/FAILED"),
    get_job("a job that is not there", f"{JOBS}/1"),
    get_job("a job of another location", f"{JOBS.replace('us-central1', 'europe-west4')}/DONE"),
    get_job("a job whose id is no number", f"{JOBS}/über"),
    list_jobs("some jobs", "?filter=display_name%3D%22done%22", filter='display_name="done"'),
    list_jobs("no jobs", parent="projects/other/locations/us-central1"),
    list_jobs(
        "one job of two, masked",
        "?filter=labels.kept:*&pageSize=1&readMask=name,createTime",
        filter="labels.kept:*",
        pageSize=1,
        readMask="name,createTime",
    ),
    list_jobs("a filter that is none", "?filter=display_name%3D%3D", filter="display_name=="),
    list_jobs("a filter over what is no field", "?filter=colour%3Dred", filter="colour=red"),
    list_jobs("a page size below nothing", "?pageSize=-1", pageSize=-1),
    list_jobs("a page token that is none", "?pageToken=x%C3%A9", pageToken="xé"),
    list_jobs("a mask over what is no field", "?readMask=colour", readMask="colour"),
    change(
        "cancel a pending job",
        "JobService/CancelBatchPredictionJob",
        f"{JOBS}/OWN_PENDING",
        f"POST {JOBS}/OWN_PENDING:cancel",
        {},
    ),
    change(
        "cancel a finished job",
        "JobService/CancelBatchPredictionJob",
        f"{JOBS}/DONE",
        f"POST {JOBS}/DONE:cancel",
        {},
    ),
    change(
        "delete a finished job",
        "JobService/DeleteBatchPredictionJob",
        f"{JOBS}/OWN_FAILED",
        f"DELETE {JOBS}/OWN_FAILED",
    ),
    change(
        "delete a running job",
        "JobService/DeleteBatchPredictionJob",
        f"{JOBS}/RUNNING",
        f"DELETE {JOBS}/RUNNING",
    ),
    Case("custom jobs", "JobService/ListCustomJobs", {"parent": PARENT}, f"GET {PARENT}/customJobs"),
    get_model("a model", f"{MODELS}/pets"),
    get_model("a model's version", f"{MODELS}/pets@1"),
    get_model("a model that is not there", f"{MODELS}/unicorns"),
    Case("models", "ModelService/ListModels", {"parent": PARENT, "pageSize": 1}, f"GET {MODELS}?pageSize=1"),
    Case(
        "versions",
        "ModelService/ListModelVersions",
        {"name": f"{MODELS}/pets"},
        f"GET {MODELS}/pets:listVersions",
    ),
    update_model("a new description", {"description": "soft"}, "description"),
    update_model("an update of what cannot be", {"createTime": "2026-01-01T00:00:00Z"}, "createTime"),
    Case(
        "an upload without a container",
        "ModelService/UploadModel",
        {"parent": PARENT, "model": {"displayName": "x"}},
        f"POST {MODELS}:upload",
        {"model": {"displayName": "x"}},
    ),
    Case(
        "evaluations",
        "ModelService/ListModelEvaluations",
        {"parent": f"{MODELS}/pets"},
        f"GET {MODELS}/pets/evaluations",
    ),
    Case(
        "an operation",
        "Operations/GetOperation",
        {"name": f"{PARENT}/operations/OPERATION"},
        f"GET {PARENT}/operations/OPERATION",
    ),
    Case(
        "an operation that is not there",
        "Operations/GetOperation",
        {"name": f"{PARENT}/operations/1"},
        f"GET {PARENT}/operations/1",
    ),
    Case(
        "cancel an operation",
        "Operations/CancelOperation",
        {"name": f"{PARENT}/operations/OPERATION"},
        f"POST {PARENT}/operations/OPERATION:cancel",
        {},
    ),
    Case("a location", "Locations/GetLocation", {"name": PARENT}, f"GET {PARENT}"),
    Case(
        "locations",
        "Locations/ListLocations",
        {"name": "projects/my-project", "pageSize": 3},
        "GET projects/my-project/locations?pageSize=3",
    ),
]


def message_types(version: str, rpc: str) -> tuple[type[Message], type[Message]]:
    """The vendor's request and response classes of an RPC."""
    service, _, method = rpc.partition("/")
    if service in ("Operations", "Locations"):
        module: Any = operations_pb2 if service == "Operations" else locations_pb2
        responses = {
            "GetOperation": operations_pb2.Operation,
            "CancelOperation": empty_pb2.Empty,
            "GetLocation": locations_pb2.Location,
        }
        return getattr(module, f"{method}Request"), responses.get(method) or module.ListLocationsResponse
    types: Any = VERSIONS[version].types
    request = getattr(types, f"{method}Request").pb()
    if method.startswith(("Delete", "Upload")):
        return request, operations_pb2.Operation
    if method.startswith("Cancel"):
        return request, empty_pb2.Empty
    name = f"{method}Response" if method.startswith("List") else re.sub("^(Create|Get|Update)", "", method)
    return request, getattr(types, name).pb()


@dataclass(frozen=True)
class Place:
    """A running emulator, its channels by surface, and the ids of what the requests speak of.

    Ids that begin with OWN are of what a request changes: each surface has its own, for each version.
    """

    emulator: Emulator
    channels: Mapping[str, Any]
    ids: Mapping[str, str]

    def send(self, case: Case, version: str, surface: str) -> Message:
        """The answer: the RPC's response, or a google.rpc.Status."""
        own = {name: self.ids[f"{name} {version} {surface}"] for name in ("OWN_PENDING", "OWN_FAILED")}
        ids = {**self.ids, **own}
        if surface == "rest":
            return self._rest(case, version, ids)
        return self._grpc(case, version, self.channels[surface], ids)

    def _rest(self, case: Case, version: str, ids: Mapping[str, str]) -> Message:
        method, _, path = filled(case.http, ids).partition(" ")
        url = f"{self.emulator.url}/{version}/{path}"
        answer = requests.request(method, url, json=case.body, timeout=30)
        value = answer.json()
        if answer.status_code == 200:
            _, response = message_types(version, case.rpc)
            return json_format.ParseDict(value, response(), ignore_unknown_fields=True)
        error = value["error"]
        assert error["code"] == answer.status_code
        status = {"code": code_pb2.Code.Value(error["status"]), "details": error.get("details", [])}
        return json_format.ParseDict({**status, "message": error["message"]}, status_pb2.Status())

    def _grpc(self, case: Case, version: str, channel: Any, ids: Mapping[str, str]) -> Message:
        request, response = message_types(version, case.rpc)
        call = channel.unary_unary(grpc_path(version, case.rpc), response_deserializer=response.FromString)
        message = json_format.Parse(filled(json.dumps(case.request), ids), request())
        try:
            answer: Message = call(message.SerializeToString(), timeout=30)
        except grpc.RpcError as error:
            trailers = dict(error.trailing_metadata())
            status = status_pb2.Status.FromString(trailers["grpc-status-details-bin"])
            return status if said(error) == (status.code, status.message) else status_pb2.Status()
        return answer


def said(error: Any) -> tuple[int, str]:
    """What a call says without its details."""
    return error.code().value[0], error.details()


def filled(text: str, ids: Mapping[str, str]) -> str:
    return re.sub(r"\b[A-Z_]{4,}\b", lambda word: ids.get(word[0], word[0]), text)


def grpc_path(version: str, rpc: str) -> str:
    service = rpc.partition("/")[0]
    packages = {"Operations": "google.longrunning", "Locations": "google.cloud.location"}
    return f"/{packages.get(service, f'google.cloud.aiplatform.{version}')}.{rpc}"


def wait_for(emulator: Emulator, name: str, states: set[str]) -> None:
    deadline = time.monotonic() + 120
    while (found := requests.get(f"{emulator.url}/v1/{name}", timeout=30).json())["state"] not in states:
        assert time.monotonic() < deadline, found
        time.sleep(0.02)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("same")
    write_model(folder / "models" / "pets")
    settings = Settings(
        port=0,
        tls=True,
        data_dir=folder / "data",
        models_dirs=[folder / "models"],
        bundled_models=False,
        workers=1,
        worker_threads=1,
        max_running_jobs=1,
        prediction_cache_mb=0,  # the many videos of the job that keeps running are one
    )
    bucket = settings.buckets / "bucket"
    bucket.mkdir(parents=True)
    write_input(bucket, "short", seconds=1)
    write_much_input(bucket)
    with Emulator(settings) as emulator:
        ids = prepare(emulator)
        ca = (settings.tls_folder / "ca.pem").read_bytes()
        with (
            grpc.insecure_channel(emulator.grpc_address) as plain,
            grpc.secure_channel(emulator.tls_address, grpc.ssl_channel_credentials(ca)) as tls,
        ):
            yield Place(emulator, {"grpc": plain, "tls": tls}, ids)


def write_much_input(bucket: Path) -> None:
    """More than is predicted while the tests run: one job keeps running, and so all others stay pending."""
    write_input(bucket, "much", seconds=120)
    for number in range(200):
        (bucket / f"much-{number}.mp4").hardlink_to(bucket / "much.mp4")
    instance = json.loads((bucket / "much.jsonl").read_text())
    lines = [json.dumps({**instance, "content": f"gs://bucket/much-{number}.mp4"}) for number in range(200)]
    (bucket / "much.jsonl").write_text("\n".join(lines))


def prepare(emulator: Emulator) -> dict[str, str]:
    """Make what the requests speak of; returns the ids."""

    def made(name: str, uri: str) -> str:
        message = job(displayName=name, labels={"kept": name} if name in ("done", "failed") else {})
        message["inputConfig"]["gcsSource"]["uris"] = [uri]
        answer = requests.post(f"{emulator.url}/v1/{JOBS}", json=message, timeout=30)
        return str(answer.json()["name"].rpartition("/")[2])

    own = [f"{version} {surface}" for version in VERSIONS for surface in SURFACES]
    ids = {f"OWN_FAILED {whose}": made("own", "gs://bucket/missing.jsonl") for whose in own}
    ids |= {
        "DONE": made("done", "gs://bucket/short.jsonl"),
        "FAILED": made("failed", "gs://bucket/none.jsonl"),
    }
    for number in ids.values():
        wait_for(emulator, f"{JOBS}/{number}", {"JOB_STATE_SUCCEEDED", "JOB_STATE_FAILED"})
    ids["RUNNING"] = made("running", "gs://bucket/much.jsonl")
    wait_for(emulator, f"{JOBS}/{ids['RUNNING']}", {"JOB_STATE_RUNNING"})
    deleted = made("deleted", "gs://bucket/short.jsonl")
    requests.post(f"{emulator.url}/v1/{JOBS}/{deleted}:cancel", timeout=30).raise_for_status()
    operation = requests.delete(f"{emulator.url}/v1/{JOBS}/{deleted}", timeout=30).json()
    ids["OPERATION"] = operation["name"].rpartition("/")[2]
    return ids | {f"OWN_PENDING {whose}": made("own", "gs://bucket/short.jsonl") for whose in own}


def without_chance(message: Message) -> Message:
    """A copy in which what differs from call to call only says that it is there."""
    kept = type(message)()
    kept.CopyFrom(message)
    for field, value in kept.ListFields():
        kind = field.message_type.full_name if field.message_type else ""
        if field.name == "name":
            kept.name = re.sub(r"\d{19}", "ID", value)
        elif field.name == "etag":
            kept.etag = "ETAG"
        elif kind == "google.protobuf.Timestamp":
            value.FromSeconds(1)
        elif kind == "google.protobuf.Any" and isinstance(value, Message):
            value.Pack(without_chance(packed_message(value)))
        elif isinstance(value, Message):
            value.CopyFrom(without_chance(value))
    return kept


def packed_message(value: Any) -> Message:
    descriptor = descriptor_pool.Default().FindMessageTypeByName(value.TypeName())
    message: Message = message_factory.GetMessageClass(descriptor)()
    value.Unpack(message)
    return message


@pytest.mark.parametrize("version", VERSIONS)
def test_every_surface_gives_the_same_answer(place: Place, version: str) -> None:
    codes: list[int] = []
    for case in CASES:
        answers = {surface: place.send(case, version, surface) for surface in SURFACES}
        if case.fresh:
            answers = {surface: without_chance(answer) for surface, answer in answers.items()}
        assert answers["grpc"] == answers["rest"], case.name
        assert answers["tls"] == answers["rest"], case.name
        codes.append(answers["rest"].code if isinstance(answers["rest"], status_pb2.Status) else 0)
    assert len(CASES) >= 50
    # Good and bad: else the comparison would say nothing.
    assert set(codes) == {
        0,
        code_pb2.INVALID_ARGUMENT,
        code_pb2.NOT_FOUND,
        code_pb2.FAILED_PRECONDITION,
        code_pb2.UNIMPLEMENTED,
    }
    assert codes.count(0) > 15


def test_details_are_compared(place: Place) -> None:
    nameless = next(case for case in CASES if case.name == "no display name")
    answer: Any = place.send(nameless, "v1", "rest")
    (detail,) = answer.details
    assert isinstance(packed_message(detail), error_details_pb2.BadRequest)


UPPER = "projects/UPPER/locations/us-central1"
LOW_LINE = "projects/my-project/locations/us_central1"
EXPECTED_LOCATION = "Invalid Location resource name. Expected projects/PROJECT/locations/LOCATION"
PROJECT_RULE = "a project id or number has a-z, 0-9, '-', '.' and ':' alone, at most 128 of them"
LOCATION_RULE = "a location has a-z, 0-9 and '-' alone, at most 128 of them, as us-central1"
NO_JOB_FIELD = "BatchPredictionJob has no field 'colour'"
# What is wrong with one field: a request, the field as the protocol names it, and what is said of it.
VIOLATIONS = [
    (
        create("the parent of a new job", job(), UPPER),
        "parent",
        f'{EXPECTED_LOCATION}, got "{UPPER}"; {PROJECT_RULE}',
    ),
    (
        list_jobs("the parent of jobs", parent=LOW_LINE),
        "parent",
        f'{EXPECTED_LOCATION}, got "{LOW_LINE}"; {LOCATION_RULE}',
    ),
    (
        Case("the parent of models", "ModelService/ListModels", {"parent": UPPER}, f"GET {UPPER}/models"),
        "parent",
        f'{EXPECTED_LOCATION}, got "{UPPER}"; {PROJECT_RULE}',
    ),
    (
        Case("a location", "Locations/GetLocation", {"name": LOW_LINE}, f"GET {LOW_LINE}"),
        "name",
        f'{EXPECTED_LOCATION}, got "{LOW_LINE}"; {LOCATION_RULE}',
    ),
    (
        get_job("the name of a job", f"{JOBS}/one"),
        "name",
        "Invalid BatchPredictionJob resource name. Expected"
        f' projects/PROJECT/locations/LOCATION/batchPredictionJobs/NUMBER, got "{JOBS}/one"',
    ),
    (list_jobs("a mask over jobs", "?readMask=colour", readMask="colour"), "read_mask", NO_JOB_FIELD),
    (
        list_jobs("a mask with one good path", "?readMask=name,colour", readMask="name,colour"),
        "read_mask",
        NO_JOB_FIELD,
    ),
    (
        Case(
            "a mask over models",
            "ModelService/ListModels",
            {"parent": PARENT, "readMask": "versionId,colour"},
            f"GET {MODELS}?readMask=versionId,colour",
        ),
        "read_mask",
        "Model has no field 'colour'",
    ),
    (
        update_model("a mask of what cannot be", {"createTime": "2026-01-01T00:00:00Z"}, "createTime"),
        "update_mask",
        "create_time cannot be updated; display_name, description, labels can.",
    ),
    (list_jobs("a page size", "?pageSize=-1", pageSize=-1), "page_size", "got -1"),
    (list_jobs("a page token", "?pageToken=x", pageToken="x"), "page_token", "is not one that this list"),
]


@pytest.mark.parametrize("surface", SURFACES)
@pytest.mark.parametrize(("case", "field", "text"), VIOLATIONS, ids=[case.name for case, _, _ in VIOLATIONS])
def test_the_field_that_is_wrong_is_named(
    place: Place, surface: str, case: Case, field: str, text: str
) -> None:
    answer: Any = place.send(case, "v1", surface)
    assert answer.code == code_pb2.INVALID_ARGUMENT
    (detail,) = answer.details
    bad_request: Any = packed_message(detail)
    (violation,) = bad_request.field_violations
    assert violation.field == field
    assert text in violation.description
    assert text in answer.message


@pytest.mark.parametrize("uri", ["/bad", "/" + "ü" * 30, "/" + "%" * 90])
@pytest.mark.parametrize("count", [1, 10, 20, 40, 2000])
@pytest.mark.parametrize("surface", ["grpc", "tls"])
def test_long_error_is_cut_to_what_grpc_can_carry(place: Place, surface: str, uri: str, count: int) -> None:
    source = {"instancesFormat": "jsonl", "gcsSource": {"uris": [uri] * count}}
    long = create("many bad URIs", job(inputConfig=source))
    whole: Any = place.send(long, "v1", "rest")
    carried: Any = place.send(long, "v1", surface)
    if carried != whole:
        assert carried.code == whole.code == code_pb2.INVALID_ARGUMENT
        text, cut, rest = carried.message.partition("... The rest is too long for gRPC")
        assert cut
        assert rest
        assert len(text) > 400
        assert whole.message.startswith(text)
        assert not carried.details
    assert (carried == whole) == (count in (1, 10) if uri == "/bad" else count == 1)
