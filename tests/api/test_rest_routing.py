"""Paths, verbs and API versions: which RPC a URL reaches, and with which request."""

from typing import Any

import pytest

from emulator.api.routing import RouteTable
from emulator.http import HttpRequest
from emulator.vertex.contract import HttpBinding, Rpc
from emulator.vertex.messages import load

PARENT = "projects/p/locations/us-central1"
JOB = f"{PARENT}/batchPredictionJobs/1"


def test_every_binding_of_the_contract_is_reached(surface: Any) -> None:
    for rpc in load().methods():
        for binding in rpc.bindings:
            path = binding.path_template.replace("{", "").replace("}", "")
            concrete = "/".join(part.split("=")[-1] for part in path.split("/")).replace("*", "x")
            match = surface.rest.table.match(concrete)
            assert match is not None, binding
            assert match.routes[binding.method].rpc == rpc, binding


def test_names_are_taken_from_the_path(surface: Any) -> None:
    surface.json("GET", f"/v1/{JOB}")
    assert surface.service.request == load().v1.GetBatchPredictionJobRequest(name=JOB)
    assert surface.service.call.api_version == "v1"


def test_nested_field_is_taken_from_the_path(surface: Any) -> None:
    surface.json(
        "PATCH", f"/v1/{PARENT}/models/m?updateMask=displayName", {"displayName": "d", "name": "other"}
    )
    assert surface.service.request.model == load().v1.Model(name=f"{PARENT}/models/m", display_name="d")


@pytest.mark.parametrize(
    ("sent", "received"),
    [
        ("models/m%401", "models/m@1"),
        ("models/m@default", "models/m@default"),
        ("models/m%20n%C3%A9", "models/m né"),
        ("models/a%2Fb", "models/a%2Fb"),
        ("models/a%2fb%25", "models/a%2Fb%"),
        ("models/m:1", "models/m:1"),
    ],
)
def test_path_is_decoded_except_for_slashes(surface: Any, sent: str, received: str) -> None:
    surface.json("GET", f"/v1/{PARENT}/{sent}")
    assert surface.service.request.name == f"{PARENT}/{received}"


@pytest.mark.parametrize("colon", [":", "%3A", "%3a"])
@pytest.mark.parametrize("body", [b"", b"{}", b"  "])
def test_custom_verb_is_found_however_the_colon_is_written(surface: Any, colon: str, body: bytes) -> None:
    assert surface.json("POST", f"/v1/{JOB}{colon}cancel", body=body) == {}
    assert surface.service.request == load().v1.CancelBatchPredictionJobRequest(name=JOB)


def test_project_may_hold_a_colon(surface: Any) -> None:
    surface.json("GET", "/v1/projects/example.com:p/locations/l/batchPredictionJobs")
    assert surface.service.request.parent == "projects/example.com:p/locations/l"


@pytest.mark.parametrize("prefix", ["ui", "v1", "v1beta1"])
@pytest.mark.parametrize("owner", ["", "/models/m"])
def test_operations_are_reached_below_every_prefix(surface: Any, prefix: str, owner: str) -> None:
    operation = surface.json("GET", f"/{prefix}/{PARENT}{owner}/operations/7")
    assert operation == {
        "name": f"{PARENT}{owner}/operations/7",
        "done": True,
        "response": {"@type": "type.googleapis.com/google.protobuf.Empty"},
    }


def test_beta_request_is_converted_and_its_own_fields_are_named(surface: Any) -> None:
    body = {"displayName": "d", "endpoint": "e", "modelMonitoringConfig": {"statsAnomaliesBaseDirectory": {}}}
    answer = surface.json("POST", f"/v1beta1/{PARENT}/batchPredictionJobs", body)
    assert surface.service.request.DESCRIPTOR.full_name.startswith("google.cloud.aiplatform.v1.")
    assert surface.service.call.api_version == "v1beta1"
    assert set(surface.service.call.beta_only_fields) == {
        "batch_prediction_job.endpoint",
        "batch_prediction_job.model_monitoring_config",
    }
    assert answer["displayName"] == "d"
    assert answer["modelDisplayName"] == "model of 1"


def test_every_method_that_the_service_lacks_is_unimplemented(surface: Any) -> None:
    known = surface.service.methods()
    for rpc in load().methods():
        if rpc.full_name.rpartition(".")[2] in known:
            continue
        for binding in rpc.bindings:
            path = "/".join(part.strip("{}").split("=")[-1] for part in binding.path_template.split("/"))
            path = path.replace("*}", "x").replace("*", "x")
            error = surface.error(binding.method, path, body=b"not even JSON")
            assert (error["code"], error["status"]) == (501, "UNIMPLEMENTED")
            assert rpc.full_name.replace("/", ".") in error["message"]


@pytest.mark.parametrize(
    ("method", "path", "hint"),
    [
        ("GET", f"/v1/{PARENT}/batchPredictionJob", "GET /v1/projects/*/locations/*/batchPredictionJobs?"),
        ("POST", f"/v1/{JOB}:cancle", "POST /v1/projects/*/locations/*/batchPredictionJobs/*:cancel?"),
        ("GET", f"/v1/{PARENT}/batchPredictionJobs/", "GET /v1/projects/*/locations/*/batchPredictionJobs?"),
        ("GET", "/v1/nonsense", "/docs"),
        ("GET", "/v1/" + "a/" * 5000, "/docs"),
    ],
)
def test_unknown_path_is_a_404_that_names_the_nearest_route(
    surface: Any, method: str, path: str, hint: str
) -> None:
    error = surface.error(method, path)
    assert (error["code"], error["status"]) == (404, "NOT_FOUND")
    assert f"{method} {path}" in error["message"]
    assert hint in error["message"]


@pytest.mark.parametrize("path", ["endpoints", "datasets/1", "endpoints/1:predict", "pipelineJobs"])
def test_other_parts_of_vertex_are_unimplemented_by_name(surface: Any, path: str) -> None:
    error = surface.error("GET", f"/v1/{PARENT}/{path}")
    assert (error["code"], error["status"]) == (501, "UNIMPLEMENTED")
    assert f"{PARENT}/{path} ({path.partition('/')[0]} of Vertex AI) is not emulated." in error["message"]


def test_path_that_is_no_utf8_is_an_invalid_argument(surface: Any) -> None:
    request = HttpRequest("GET", f"/v1/{PARENT}/batchPredictionJobs/%ff", "", {}, b"")
    assert not surface.rest.is_brief(surface.rest.route(request))
    assert surface.error("GET", request.path)["status"] == "INVALID_ARGUMENT"


def test_wrong_method_is_a_405_that_names_the_right_ones(surface: Any) -> None:
    response = surface.send("PUT", f"/v1/{PARENT}/batchPredictionJobs")
    assert response.status == 405
    assert response.headers["allow"] == "GET, HEAD, OPTIONS, POST"
    assert b"use GET or POST" in response.body


def test_options_lists_the_methods(surface: Any) -> None:
    response = surface.send("OPTIONS", f"/v1/{JOB}")
    assert (response.status, response.body) == (204, b"")
    assert response.headers["allow"] == "DELETE, GET, HEAD, OPTIONS"


def test_path_that_is_not_utf8_is_an_invalid_argument(surface: Any) -> None:
    error = surface.error("GET", f"/v1/{PARENT}/batchPredictionJobs/%FF")
    assert (error["code"], error["status"]) == (400, "INVALID_ARGUMENT")
    assert "'%FF'" in error["message"]


def test_template_with_two_stars_is_refused_at_start() -> None:
    empty = load().protobuf.Empty
    rpc = Rpc("a.B/C", "C", "B", "v1", empty, empty, (HttpBinding("GET", "/v1/{name=a/**}", ""),))
    with pytest.raises(ValueError, match=r"\*\*"):
        RouteTable([rpc])


def test_simple_variables_and_literals_share_a_position() -> None:
    empty = load().protobuf.Empty

    def rpc(name: str, template: str) -> Rpc:
        return Rpc(f"a.B/{name}", name, "B", "v1", empty, empty, (HttpBinding("GET", template, ""),))

    table = RouteTable([rpc("Any", "/v1/{first}/{second}/end"), rpc("Fixed", "/v1/fixed/{second}")])
    found = table.match("/v1/fixed/x/end")
    assert found is not None
    route = found.routes["GET"]
    assert (route.rpc.name, dict(found.values(route))) == ("Any", {("first",): "fixed", ("second",): "x"})
    found = table.match("/v1/fixed/x")
    assert found is not None
    assert found.routes["GET"].rpc.name == "Fixed"
