"""Bodies and query parameters: what reaches the service, and what a malformed one is told."""

import gzip
import json
from typing import Any

import pytest

from emulator.http import MAX_BODY
from emulator.vertex.messages import load

PARENT = "projects/p/locations/us-central1"
JOBS = f"/v1/{PARENT}/batchPredictionJobs"


def test_body_becomes_the_resource(surface: Any) -> None:
    body = {
        "displayName": "j",
        "input_config": {"instances_format": "jsonl", "gcsSource": {"uris": ["gs://b/o"]}},
        "modelParameters": {"confidenceThreshold": 0.5},
        "labels": {},
    }
    surface.json("POST", JOBS, body)
    request = surface.service.request
    assert request.parent == PARENT
    assert request.batch_prediction_job.input_config.gcs_source.uris == ["gs://b/o"]
    assert request.batch_prediction_job.model_parameters.struct_value["confidenceThreshold"] == 0.5


def test_null_model_parameters_stay_a_null_value(surface: Any) -> None:
    surface.json("POST", JOBS, {"modelParameters": None})
    assert surface.service.request.batch_prediction_job.model_parameters.WhichOneof("kind") == "null_value"


def test_job_that_was_read_back_can_be_sent_again(surface: Any) -> None:
    job = surface.json("POST", JOBS, {"displayName": "j"})
    assert {"modelDisplayName", "modelObjective"} <= job.keys()
    assert surface.json("POST", JOBS, job) == job


@pytest.mark.parametrize(
    "content_type",
    [None, "application/json; charset=utf-8", "text/plain", "application/x-www-form-urlencoded", ";;=", ""],
)
def test_content_type_does_not_matter(surface: Any, content_type: str | None) -> None:
    headers = {} if content_type is None else {"content-type": content_type}
    surface.json("POST", JOBS, {"displayName": "j"}, headers=headers)
    assert surface.service.request.batch_prediction_job.display_name == "j"


def test_strict_takes_a_form_for_query_parameters(strict_surface: Any) -> None:
    headers = {"content-type": "application/x-www-form-urlencoded"}
    error = strict_surface.error("POST", JOBS, {"displayName": "j"}, headers=headers)
    assert error["message"].startswith('Invalid JSON payload received. Unknown name "{\\"displayName\\"')
    assert "Cannot bind query parameter." in error["message"]


@pytest.mark.parametrize("charset", ["utf-8", "UTF-8", '"utf-8"', "utf-16", "iso-8859-1"])
def test_charset_is_honoured(surface: Any, charset: str) -> None:
    body = '{"displayName":"é"}'.encode(charset.strip('"'))
    surface.json("POST", JOBS, body=body, headers={"content-type": f"application/json; charset={charset}"})
    assert surface.service.request.batch_prediction_job.display_name == "é"


def test_byte_order_mark_is_ignored(surface: Any) -> None:
    surface.json("POST", JOBS, body=b'\xef\xbb\xbf{"displayName":"j"}')
    assert surface.service.request.batch_prediction_job.display_name == "j"


def test_gzip_body_is_unpacked(surface: Any) -> None:
    body = gzip.compress(b'{"displayName":"j"}', mtime=0)
    surface.json("POST", JOBS, body=body, headers={"content-encoding": "gzip"})
    assert surface.service.request.batch_prediction_job.display_name == "j"


@pytest.mark.parametrize(
    ("body", "headers", "told"),
    [
        (b"{", {}, "line 1, column 2"),
        (b'{"a":1} {}', {}, "Extra data at line 1, column 9"),
        (b"[]", {}, "must be a JSON object, not an array"),
        (b'"text"', {}, "not a string"),
        (b"null", {}, "not null"),
        (b"3", {}, "not a number"),
        (b'{"displayName":"\xff"}', {}, "not valid utf-8"),
        (b'{"displayName":"\\ud800"}', {}, "surrogate"),
        (b'{"displayName":"a","displayName":"b"}', {}, 'The name "displayName" occurs twice'),
        (b'{"modelParameters":{"confidenceThreshold":NaN}}', {}, "NaN is not a JSON number"),
        (b'{"modelParameters":-Infinity}', {}, "-Infinity is not a JSON number"),
        (b'{"modelParameters":1e999}', {}, "1e999 is too large"),
        (b'{"modelParameters":1' + b"0" * 400 + b"}", {}, "too large"),
        (b'{"modelParameters":1' + b"0" * 9000 + b"}", {}, "too large"),
        (b"[" * 100_000, {}, "nested too deeply"),
        (b'{"modelParameters":' + b"[" * 500 + b"]" * 500 + b"}", {}, "model_parameters"),
        (b'{"x":1}', {}, "Unknown name \"x\" at 'batch_prediction_job': Cannot find field."),
        (b'{"inputConfig":{"x":1}}', {}, "Unknown name \"x\" at 'batch_prediction_job.input_config'"),
        (b'{"inputConfig":[1]}', {}, "batch_prediction_job"),
        (b'{"displayName":{}}', {}, "batch_prediction_job"),
        (None, {}, f"Request payload size exceeds the limit: {MAX_BODY} bytes."),
        (b"{}", {"content-encoding": "br"}, "Content-Encoding 'br' is not supported"),
        (b"{}", {"content-encoding": "gzip"}, "not valid gzip"),
        (gzip.compress(b"{}", mtime=0)[:-9], {"content-encoding": "gzip"}, "ends too early"),
        (gzip.compress(bytes(MAX_BODY + 1)), {"content-encoding": "gzip"}, "exceeds the limit"),
        (b"{}", {"content-type": "application/json; charset=klingon"}, "The charset 'klingon' is not known"),
        (b"{}", {"content-type": "application/json; charset=base64"}, "'base64' is not known"),
    ],
)
def test_bad_body_is_an_invalid_argument(
    surface: Any, body: bytes | None, headers: dict[str, str], told: str
) -> None:
    error = surface.error("POST", JOBS, body=body, headers=headers)
    assert (error["code"], error["status"]) == (400, "INVALID_ARGUMENT")
    assert told in error["message"]
    assert surface.service.request is None


def test_body_of_a_method_without_one_is_ignored(surface: Any) -> None:
    surface.json("GET", f"{JOBS}/1", body=b"\xff not JSON")


def test_query_parameters_become_fields(surface: Any) -> None:
    surface.json(
        "GET", f"{JOBS}?filter=state%3D%22x%22+y&page_size=5&pageToken=a%26b&readMask=name,createTime"
    )
    expected = load().v1.ListBatchPredictionJobsRequest(
        parent=PARENT, filter='state="x" y', page_size=5, page_token="a&b"
    )
    expected.read_mask.paths.extend(["name", "create_time"])
    assert surface.service.request == expected


@pytest.mark.parametrize(
    "query", ["readMask=name,create_time", "read_mask=name,createTime", "readMask=name&readMask=createTime"]
)
def test_mask_may_be_written_in_either_case(surface: Any, query: str) -> None:
    surface.json("GET", f"{JOBS}?{query}")
    assert list(surface.service.request.read_mask.paths) == ["name", "create_time"]


def test_duration_is_read_from_the_query(surface: Any) -> None:
    surface.json("POST", f"/ui/{PARENT}/operations/1:wait?timeout=0.001s", body=b"{}")
    assert surface.service.request.timeout.ToJsonString() == "0.001s"


@pytest.mark.parametrize(
    ("query", "field"), [("pageSize=abc", "page_size"), ("pageSize=99999999999", "page_size")]
)
def test_query_value_that_does_not_fit_names_the_field(surface: Any, query: str, field: str) -> None:
    error = surface.error("GET", f"{JOBS}?{query}")
    assert error["details"][0]["@type"] == "type.googleapis.com/google.rpc.BadRequest"
    assert error["details"][0]["fieldViolations"][0]["field"] == field


STANDARD = (
    "$.xgafv=2&access_token=t&alt=json&callback=f&fields=name&key=k&oauth_token=o&prettyPrint=true&quotaUser=q"
    "&uploadType=media&upload_protocol=raw&%24alt=json%3Benum-encoding%3Dint"
)


def test_standard_parameters_are_accepted_even_when_strict(strict_surface: Any) -> None:
    strict_surface.json("GET", f"{JOBS}?{STANDARD}")


@pytest.mark.parametrize(
    "query", ["pagesize=5", "x=1", "parent.x=1", "readMask.paths.x=1", "filter.x=1", "=1"]
)
def test_unknown_parameter_is_ignored_unless_strict(surface: Any, strict_surface: Any, query: str) -> None:
    surface.json("GET", f"{JOBS}?{query}")
    assert surface.service.request.page_size == 0
    error = strict_surface.error("GET", f"{JOBS}?{query}")
    name = query.partition("=")[0]
    assert error["message"] == (
        f'Invalid JSON payload received. Unknown name "{name}": Cannot bind query parameter.'
        f" Field '{name}' could not be found in request message."
    )


def test_whole_body_leaves_nothing_to_the_query(surface: Any, strict_surface: Any) -> None:
    surface.json("POST", f"{JOBS}/1:cancel?name=other")
    assert surface.service.request.name == f"{PARENT}/batchPredictionJobs/1"
    assert "Cannot bind" in strict_surface.error("POST", f"{JOBS}/1:cancel?x=1")["message"]


def test_path_wins_over_a_query_parameter_of_the_same_name(surface: Any) -> None:
    surface.json("GET", f"{JOBS}?parent=projects/other/locations/l")
    assert surface.service.request.parent == PARENT


def test_too_many_parameters_are_refused(surface: Any) -> None:
    error = surface.error("GET", f"{JOBS}?{'&'.join(f'x{i}=1' for i in range(2000))}")
    assert "1000 query parameters" in error["message"]


def test_masked_update_has_body_and_query(surface: Any) -> None:
    body = {"description": "text", "labels": {"a": "b"}}
    answer = surface.json("PATCH", f"/v1/{PARENT}/models/m?updateMask=description,labels", body)
    assert answer == {"name": f"{PARENT}/models/m", **body}
    assert list(surface.service.request.update_mask.paths) == ["description", "labels"]


def test_text_of_a_body_is_never_lost(surface: Any) -> None:
    name = "\u2028 <b> \U0001f600 \x00 '\""
    assert surface.json("POST", JOBS, {"displayName": name})["displayName"] == name
    assert json.dumps(name)
