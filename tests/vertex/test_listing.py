"""Page sizes and tokens, orders, field masks."""

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.vertex.errors import InvalidArgument
from emulator.vertex.listing import (
    MODEL_ORDER_FIELDS,
    OrderKey,
    apply_mask,
    decode_page_token,
    encode_page_token,
    mask_paths,
    page_size,
    parse_order_by,
    query_digest,
)
from emulator.vertex.messages import load, to_json

V1 = load().v1
POSITION = (1_621_296_000_000_000, "8123")


@pytest.mark.parametrize(
    ("requested", "expected"), [(0, 100), (1, 1), (1000, 1000), (1001, 1000), (2**31 - 1, 1000)]
)
def test_page_size_has_a_default_and_a_maximum(requested: int, expected: int) -> None:
    assert page_size(requested) == expected


def test_negative_page_size_is_an_invalid_argument() -> None:
    with pytest.raises(
        InvalidArgument, match="Field: page_size; Message: The page size must not be negative"
    ):
        page_size(-1)


@given(st.lists(st.one_of(st.integers(), st.text())).map(tuple), st.text())
def test_page_token_round_trips(position: tuple[int | str, ...], query: str) -> None:
    token = encode_page_token(position, query_digest(query))
    assert decode_page_token(token, query_digest(query)) == position
    # It goes into a URL as it is.
    assert all(character.isalnum() or character in "-_" for character in token)


def test_empty_page_token_is_the_first_page() -> None:
    assert decode_page_token("", query_digest("q")) is None


def test_page_token_of_another_query_is_refused() -> None:
    token = encode_page_token(POSITION, query_digest("state=RUNNING"))
    with pytest.raises(InvalidArgument, match=r"Field: page_token; .*belongs to another list request"):
        decode_page_token(token, query_digest("state=FAILED"))


def test_query_digest_keeps_its_parts_apart() -> None:
    assert query_digest("a", "bc") != query_digest("ab", "c")


_TOKEN = encode_page_token(POSITION, query_digest("q"))


@pytest.mark.parametrize(
    "token",
    [
        "x", "?", "é", "====", _TOKEN + "A", _TOKEN[:-2], _TOKEN.lower(), "A" * 100_000,
        base64.urlsafe_b64encode(b"[1,2]").decode(),
    ],
)  # fmt: skip
def test_foreign_page_token_is_refused(token: str) -> None:
    with pytest.raises(InvalidArgument, match="The page token is not one that this list returned"):
        decode_page_token(token, query_digest("q"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ()),
        (" ", ()),
        ("display_name", (OrderKey("display_name", descending=False),)),
        ("createTime desc", (OrderKey("create_time", descending=True),)),
        ("display_name asc,  update_time desc",
         (OrderKey("display_name", descending=False), OrderKey("update_time", descending=True))),
    ],
)  # fmt: skip
def test_order_parses(text: str, expected: tuple[OrderKey, ...]) -> None:
    assert parse_order_by(text, MODEL_ORDER_FIELDS) == expected


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("name", "Cannot order by 'name'. Known fields: display_name, create_time, update_time"),
        ("display_name,", "Cannot order by ''"),
        ("display_name down", "Expected asc or desc after 'display_name', got 'down'"),
        ("display_name desc desc", "Expected asc or desc"),
    ],
)
def test_bad_order_is_an_invalid_argument(text: str, problem: str) -> None:
    with pytest.raises(InvalidArgument, match=problem):
        parse_order_by(text, MODEL_ORDER_FIELDS)


def _job() -> Any:
    return V1.BatchPredictionJob(
        name="n",
        display_name="d",
        labels={"a": "b"},
        input_config={"instances_format": "jsonl", "gcs_source": {"uris": ["gs://b/i"]}},
        partial_failures=[{"code": 3}],
        create_time={"seconds": 1},
    )


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        ([], None),
        (["*"], None),
        (["name", "createTime"], {"name": "n", "createTime": "1970-01-01T00:00:01Z"}),
        (["name", "create_time"], {"name": "n", "createTime": "1970-01-01T00:00:01Z"}),
        (["input_config.gcs_source.uris"], {"inputConfig": {"gcsSource": {"uris": ["gs://b/i"]}}}),
        (["inputConfig.instancesFormat", "inputConfig"], to_json(_job())["inputConfig"]),
        (["labels", "partial_failures"], {"labels": {"a": "b"}, "partialFailures": [{"code": 3}]}),
        (["error"], {}),
    ],
)
def test_mask_keeps_what_it_names(paths: list[str], expected: Any) -> None:
    job = _job()
    if expected is not None and "instancesFormat" in expected:
        expected = {"inputConfig": expected}
    assert to_json(apply_mask(job, paths)) == (to_json(job) if expected is None else expected)
    assert job == _job()


def test_mask_keeps_a_value_without_a_kind() -> None:
    job = V1.BatchPredictionJob(name="n")
    job.model_parameters.SetInParent()
    kept = apply_mask(job, ["modelParameters"])
    assert kept.HasField("model_parameters")
    assert not kept.name


@pytest.mark.parametrize(
    "path",
    ["nope", "", "name.x", "labels.a", "partial_failures.code", "model_parameters.number_value",
     "create_time.seconds", "input_config.nope", "input_config."],
)  # fmt: skip
def test_unknown_mask_path_is_an_invalid_argument(path: str) -> None:
    with pytest.raises(InvalidArgument, match="Field: update_mask; Message: BatchPredictionJob has no field"):
        mask_paths(V1.BatchPredictionJob, [path], field="update_mask")


def test_mask_paths_are_snake_case() -> None:
    assert mask_paths(V1.Model, [" versionAliases ", "display_name"]) == ("version_aliases", "display_name")
