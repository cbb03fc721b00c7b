"""Answers: JSON rules, headers, what a job's JSON carries beside the message, errors."""

import json
import logging
from typing import Any

import pytest

from emulator.api.transcoding import dump_json

PARENT = "projects/p/locations/us-central1"
JOBS = f"/v1/{PARENT}/batchPredictionJobs"


def test_job_is_written_as_vertex_writes_it(surface: Any) -> None:
    response = surface.send("POST", JOBS, {"displayName": "é", "modelParameters": {"maxPredictions": 3}})
    assert response.body.decode() == (
        "{\n"
        f'  "name": "{PARENT}/batchPredictionJobs/1",\n'
        '  "displayName": "é",\n'
        '  "modelParameters": {\n'
        '    "maxPredictions": 3.0\n'
        "  },\n"
        '  "state": "JOB_STATE_PENDING",\n'
        '  "completionStats": {\n'
        '    "incompleteCount": "-1"\n'
        "  },\n"
        '  "createTime": "2026-01-02T03:04:05.123456Z",\n'
        '  "modelDisplayName": "model of 1",\n'
        '  "modelObjective": "OBJECT_TRACKING"\n'
        "}\n"
    )
    assert response.headers == {
        "content-type": "application/json; charset=UTF-8",
        "vary": "Origin, X-Origin, Referer",
        "x-content-type-options": "nosniff",
    }


@pytest.mark.parametrize(
    "value",
    [
        {},
        [],
        None,
        {"a": [], "b": {}, "c": [{}, [], 'é\x00\u2028"\\', 1, 1.5, -1e-7, True, False, None]},
        {"nested": {"deeper": [[1, 2], {"k": [{"x": 10**17}]}]}},
    ],
)
def test_pretty_json_is_that_of_the_standard_library(value: object) -> None:
    expected = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
    assert dump_json(value, pretty=True).decode() == expected


@pytest.mark.parametrize("pretty", [True, False])
@pytest.mark.parametrize(
    "number",
    [1e-5, 1.5e-7, 9.9e-5, 1e-4, 1e-10, 5e-324, 1e15, 1e16, 1.5e300, -0.0, 0.1, 2**63, 10**30, float("nan")],
)
def test_numbers_are_those_of_the_standard_library(number: float, pretty: bool) -> None:
    value = {"a": [number], "é": "e-1 0.00001 null"}
    expected = (
        json.dumps(value, indent=2, ensure_ascii=False) + "\n"
        if pretty
        else json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    )
    assert dump_json(value, pretty=pretty).decode() == expected


def test_lone_surrogates_are_never_written() -> None:
    with pytest.raises(UnicodeEncodeError):
        dump_json({"a": "\ud800"}, pretty=True)


@pytest.mark.parametrize("query", ["", "?alt=json;enum-encoding=int"])
def test_list_is_indented_as_every_answer(surface: Any, query: str) -> None:
    for _ in range(2):
        text = surface.send("GET", f"{JOBS}{query}").body.decode()
        assert text == json.dumps(json.loads(text), indent=2, ensure_ascii=False) + "\n"
        assert [job["modelDisplayName"][-1] for job in json.loads(text)["batchPredictionJobs"]] == ["1", "2"]


@pytest.mark.parametrize("query", ["prettyPrint=false", "$prettyPrint=False", "prettyPrint=0"])
def test_compact_json_on_request(surface: Any, query: str) -> None:
    body = surface.send("GET", f"{JOBS}/1?{query}").body
    assert b"\n" not in body
    assert b'"state":"JOB_STATE_SUCCEEDED"' in body


@pytest.mark.parametrize(
    "query",
    [
        "$alt=json;enum-encoding=int",
        "%24alt=json%3Benum-encoding%3Dint",
        "$alt=json%3Benum-encoding=int",
        "alt=json;enum-encoding=int",
    ],
)
def test_enums_are_numbers_on_request(surface: Any, query: str) -> None:
    assert surface.json("GET", f"{JOBS}/1?{query}")["state"] == 4


def test_other_encodings_are_refused(surface: Any) -> None:
    assert "alt=proto is not emulated" in surface.error("GET", f"{JOBS}/1?alt=proto")["message"]


def test_listed_jobs_carry_model_name_and_objective(surface: Any) -> None:
    answer = surface.json("GET", JOBS)
    assert [job["modelDisplayName"] for job in answer["batchPredictionJobs"]] == ["model of 1", "model of 2"]
    assert answer["nextPageToken"] == "more"


def test_masked_list_has_nothing_beside_the_mask(surface: Any) -> None:
    answer = surface.json("GET", f"{JOBS}?readMask=name")
    assert [list(job) for job in answer["batchPredictionJobs"]] == [["name"], ["name"]]


def test_service_error_becomes_an_envelope(surface: Any) -> None:
    assert surface.error("GET", f"{JOBS}/404") == {
        "code": 404,
        "message": "The BatchPredictionJob does not exist.",
        "status": "NOT_FOUND",
    }


def test_bug_is_told_with_its_class_and_logged(surface: Any, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        error = surface.error("GET", f"/v1/{PARENT}/models")
    assert (error["code"], error["status"]) == (500, "INTERNAL")
    assert "KeyError in ListModels: 'no such key'" in error["message"]
    assert "Traceback" in caplog.text


def test_details_keep_their_type(surface: Any) -> None:
    error = surface.error("POST", JOBS, {"x": 1})
    (detail,) = error["details"]
    assert detail["@type"] == "type.googleapis.com/google.rpc.BadRequest"
    assert detail["fieldViolations"][0]["description"] == error["message"]


def test_compact_error_is_not_promised(surface: Any) -> None:
    assert json.loads(surface.send("GET", f"{JOBS}/404?prettyPrint=false").body)["error"]["code"] == 404


def test_list_is_written_like_any_answer_however_often_it_is_asked_for(surface: Any) -> None:
    url = JOBS
    texts = [surface.send("GET", url).body.decode() for _ in range(2)]
    assert texts[0] == texts[1] == json.dumps(json.loads(texts[0]), indent=2) + "\n"
    compact = surface.send("GET", f"{url}?prettyPrint=false").body.decode()
    assert compact == json.dumps(json.loads(texts[0]), separators=(",", ":"))


def test_list_shows_what_has_changed_and_enums_as_asked(surface: Any) -> None:
    def states(query: str = "", version: str = "v1") -> list[Any]:
        url = f"/{version}/{PARENT}/batchPredictionJobs{query}"
        return [job.get("state") for job in surface.json("GET", url)["batchPredictionJobs"]]

    assert states() == [None, None]
    surface.service.listed_state = 3
    assert states() == states(version="v1beta1") == ["JOB_STATE_RUNNING"] * 2
    assert states("?$alt=json;enum-encoding=int") == [3, 3]
    surface.service.listed_state = 4
    assert states() == ["JOB_STATE_SUCCEEDED"] * 2
