"""The OpenAPI document, the page that shows it, and answers that keep to it."""

import re
from typing import Any

import httpx
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.specs.openapi import checks as openapi_checks

JOBS = "/v1/projects/{project}/locations/{location}/batchPredictionJobs"


@pytest.fixture(scope="module")
def document(http: httpx.Client) -> Any:
    return http.get("/openapi.json").json()


def test_every_emulated_route_is_described_once(document: Any, surface: Any) -> None:
    described = {
        (method.upper(), re.sub(r"\{\w+\}", "*", path))
        for path, operations in document["paths"].items()
        for method in operations
    }
    assert described == {tuple(str(route).split(" ")) for route in surface.rest.emulated}
    ids = [op["operationId"] for operations in document["paths"].values() for op in operations.values()]
    assert len(ids) == len(set(ids))
    tags = {op["tags"][0] for operations in document["paths"].values() for op in operations.values()}
    assert tags == {tag["name"] for tag in document["tags"]}


def test_every_reference_leads_somewhere(document: Any) -> None:
    references = set(re.findall(r"'\$ref': '#/components/schemas/([^']+)'", str(document)))
    assert references <= document["components"]["schemas"].keys()


def test_schemas_come_from_the_descriptors(document: Any) -> None:
    job = document["components"]["schemas"]["google.cloud.aiplatform.v1.BatchPredictionJob"]["properties"]
    assert job["displayName"] == {"type": "string"}
    assert job["createTime"] == {"type": "string", "format": "date-time", "readOnly": True}
    assert job["labels"] == {"type": "object", "additionalProperties": {"type": "string"}}
    assert job["partialFailures"]["items"] == {"$ref": "#/components/schemas/google.rpc.Status"}
    assert job["modelObjective"]["readOnly"] is True
    assert "endpoint" not in job
    beta = document["components"]["schemas"]["google.cloud.aiplatform.v1beta1.BatchPredictionJob"]
    assert "endpoint" in beta["properties"]


def test_required_fields_are_those_of_the_contract(document: Any) -> None:
    body = document["paths"][JOBS]["post"]["requestBody"]["content"]["application/json"]
    assert body["schema"]["required"] == ["displayName", "inputConfig", "outputConfig"]
    for example in body["examples"].values():
        assert set(body["schema"]["required"]) < set(example["value"])


def test_query_parameters_are_the_fields_left_over(document: Any) -> None:
    names = [p["name"] for p in document["paths"][JOBS]["get"]["parameters"]]
    assert names == ["project", "location", "filter", "pageSize", "pageToken", "readMask"]


def test_docs_page_needs_no_network(http: httpx.Client) -> None:
    page = http.get("/docs").text
    addresses = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert len(addresses) == 3
    for address in addresses:
        assert address.startswith("/docs/")
        assert len(http.get(address).content) > 500
    assert "https://" not in page


def _no_server_error(_context: Any, response: Any, _case: Any) -> None:
    """501 is an answer of the emulator's; 500 is a bug, and clients would retry it for minutes."""
    assert response.status_code in (200, 400, 404, 405, 409, 501), response.content


CHECKS = [
    _no_server_error,
    openapi_checks.status_code_conformance,
    openapi_checks.content_type_conformance,
    openapi_checks.response_schema_conformance,
    openapi_checks.response_headers_conformance,
]


def _conform(client: httpx.Client, mode: GenerationMode, examples: int, wanted: str) -> None:
    schema = schemathesis.openapi.from_dict(client.get("/openapi.json").json())
    with requests.Session() as session:
        session.trust_env = False
        for result in schema.include(path_regex=wanted).get_all_operations():
            operation = result.ok()
            if mode is GenerationMode.NEGATIVE and not (operation.body or operation.query):
                continue  # a request of free text only cannot be made wrong

            @settings(
                max_examples=examples,
                deadline=None,
                derandomize=True,
                database=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            @given(case=operation.as_strategy(generation_mode=mode))
            def check(case: Any) -> None:
                case.call_and_validate(base_url=str(client.base_url), session=session, checks=CHECKS)

            check()


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
def test_answers_keep_to_the_document(live: httpx.Client, mode: GenerationMode) -> None:
    _conform(live, mode, 3, wanted=r"^/v1/(?!.*/models/\{model\}/operations)")


@pytest.mark.slow
@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
def test_answers_keep_to_the_document_with_many_examples(live: httpx.Client, mode: GenerationMode) -> None:
    _conform(live, mode, 15, wanted="")
