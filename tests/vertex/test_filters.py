"""Filters of list requests."""

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from emulator.vertex.errors import InvalidArgument
from emulator.vertex.filters import (
    JOB_FILTER_FIELDS,
    MODEL_FILTER_FIELDS,
    FieldKind,
    parse_filter,
)

# 2021-05-18T00:00:00Z
DAY_US = 1_621_296_000_000_000

ROWS: dict[str, dict[str, Any]] = {
    "a": {"display_name": "my_job_1", "state": "JOB_STATE_SUCCEEDED", "create_time": DAY_US,
          "labels": {"env": "prod", "team-x": "1"}, "model_display_name": "cats"},
    "b": {"display_name": "my_job_2", "state": "JOB_STATE_FAILED", "create_time": DAY_US + 1,
          "labels": {"env": "dev"}, "model_display_name": "dogs"},
    "c": {"display_name": "other job", "state": "JOB_STATE_RUNNING", "create_time": DAY_US - 1,
          "labels": {}, "model_display_name": "cats"},
}  # fmt: skip


def _found(text: str) -> str:
    parsed = parse_filter(text, JOB_FILTER_FIELDS)
    return "".join(name for name, row in ROWS.items() if parsed.matches(row))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "abc"),
        ("  ", "abc"),
        # The documented examples.
        ('state="JOB_STATE_SUCCEEDED" AND display_name:"my_job_*"', "a"),
        ('state!="JOB_STATE_FAILED" OR display_name="my_job_2"', "abc"),
        ('NOT display_name="my_job_1"', "bc"),
        ('create_time>"2021-05-18T00:00:00Z"', "b"),
        ("labels.env=prod", "a"),
        ("labels.env:*", "ab"),
        ("labels:env", "ab"),
        # Strings and wildcards.
        ("display_name=my_job_1", "a"),
        ("display_name='other job'", "c"),
        ('display_name = "other job"', "c"),
        ('display_name:"*job*"', "abc"),
        ('display_name:"*_1"', "a"),
        ('display_name:"my*b_*"', "ab"),
        ('display_name:"my_job_1"', "a"),
        ('display_name:"my_job"', ""),
        ('display_name="my_job_*"', ""),
        ('display_name:"m*my_job_1"', ""),
        (r'display_name="a\"b"', ""),
        ('model_display_name="cats"', "ac"),
        ('modelDisplayName!="cats"', "b"),
        # States and times.
        ("state=JOB_STATE_RUNNING", "c"),
        ("state=RUNNING", "c"),
        ("state!=JOB_STATE_RUNNING", "ab"),
        ('create_time="2021-05-18T00:00:00Z"', "a"),
        ('create_time!="2021-05-18T00:00:00Z"', "bc"),
        ('create_time>="2021-05-18T00:00:00.000000Z"', "ab"),
        ('create_time<"2021-05-18T00:00:00.000000001Z"', "ac"),
        ('create_time<="2021-05-18T02:00:00+02:00"', "ac"),
        ("createTime>2021-05-18T00:00:00.0000005Z", "b"),
        # Labels.
        ("labels.team-x:*", "a"),
        ("labels.team-x=1", "a"),
        ('labels."env"="dev"', "b"),
        ("labels.env:d*", "b"),
        ("labels.nothing:*", ""),
        ("NOT labels.env:*", "c"),
        ("-labels.env=prod", "bc"),
        # Combination: OR binds tighter than AND, juxtaposition is AND.
        ('state="JOB_STATE_RUNNING" AND labels.env=prod OR labels.env=dev', ""),
        ('labels.env=prod OR labels.env=dev AND state="JOB_STATE_FAILED"', "b"),
        ("labels.env:* state=FAILED", "b"),
        ("(labels.env=prod) OR (state=RUNNING)", "ac"),
        ("NOT (labels.env=prod OR state=RUNNING)", "b"),
        ("-(labels.env=prod)", "bc"),
        ("NOT NOT labels.env=prod", "a"),
        ("( ( labels.env = prod ) )", "a"),
    ],
)
def test_filter_finds(text: str, expected: str) -> None:
    assert _found(text) == expected


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("name=x", "Unknown field 'name'. Known fields: create_time, display_name, labels"),
        ("display_name.x=y", "Unknown field 'display_name.x'"),
        ('display_name>"a"', "'display_name' does not take '>', only = != :"),
        ("state:RUNNING", "'state' does not take ':', only = !="),
        ("state=LOST", "Unknown state 'LOST'. Known states: JOB_STATE_CANCELLED, "),
        ("labels.a!=b", "'labels' does not take '!=', only = :"),
        ("labels=b", "Write labels.KEY=VALUE, labels.KEY:* or labels:KEY"),
        ("labels.a.b=c", "A label key has no dots"),
        ("create_time>yesterday", "'yesterday' is not a time in RFC 3339 form, such as 2021-"),
        ('create_time>"2021-13-18T00:00:00Z"', "is not a time in RFC 3339 form"),
        ('create_time>"2021-05-18"', "is not a time in RFC 3339 form"),
        ("display_name", "Expected one of = != : after 'display_name', but the filter ends at character 13"),
        ("display_name=", "Expected a value after display_name=, but the filter ends"),
        ("display_name=(a OR b)", "Expected a value after display_name=, but there is '('"),
        ('"just text"', "Expected a field name, but there is 'just text' at character 1"),
        ("labels.env=a AND", "Expected a field name, but the filter ends at character 17"),
        ("AND", "Unknown field 'AND'"),
        ("(labels.env=a", "Expected \")\", but the filter ends"),
        ("labels.env=a)", "Expected the end of the filter, but there is ')'"),
        ("()", "Expected a field name, but there is ')'"),
        ("display_name=\"a", "Unexpected '\"a' at character 14"),
        ("labels.=a", "Expected a key after 'labels'., but there is '='"),
    ],
)  # fmt: skip
def test_bad_filter_is_an_invalid_argument(text: str, problem: str) -> None:
    with pytest.raises(InvalidArgument) as raised:
        parse_filter(text, JOB_FILTER_FIELDS)
    assert raised.value.message.startswith("List of found errors:\t1.Field: filter; Message: ")
    assert problem in raised.value.message


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("(" * 10_000, "nested more than 50 deep"),
        ("NOT " * 2_400 + "(" * 400, "nested more than 50 deep"),
        ("a" * 1_000_000, "has 1000000 characters, more than 10000"),
    ],
)
def test_hostile_filter_is_refused_at_once(text: str, problem: str) -> None:
    with pytest.raises(InvalidArgument, match=problem):
        parse_filter(text, JOB_FILTER_FIELDS)


def test_parentheses_side_by_side_are_not_nested() -> None:
    assert _found(" AND ".join(["(labels.env=prod)"] * 100)) == "a"


def test_pieces_of_a_wildcard_do_not_overlap() -> None:
    parsed = parse_filter('display_name:"a*b*b"', JOB_FILTER_FIELDS)
    assert [parsed.matches({"display_name": name}) for name in ("ab", "abb", "a-b-b")] == [False, True, True]


def test_many_wildcards_match_in_linear_time() -> None:
    pattern = "*a" * 2_000 + "*b"
    parsed = parse_filter(f'display_name:"{pattern}"', JOB_FILTER_FIELDS)
    assert not parsed.matches({"display_name": "a" * 100_000})


def test_model_fields_are_filtered_by_id_and_base_model() -> None:
    parsed = parse_filter('model="cats" AND baseModelName!="x"', MODEL_FILTER_FIELDS)
    assert parsed.matches({"model": "cats", "base_model_name": ""})
    assert not parsed.matches({"model": "dogs"})


def test_numbers_compare_as_numbers() -> None:
    fields = {"count": FieldKind.NUMBER}
    assert parse_filter("count>=-1.5 AND count<10", fields).matches({"count": 9})
    assert not parse_filter("count>9", fields).matches({"count": None})
    with pytest.raises(InvalidArgument, match="'many' is not"):
        parse_filter("count=many", fields)


def test_list_without_fields_says_so() -> None:
    with pytest.raises(InvalidArgument, match="This list takes none"):
        parse_filter("a=b", {})


def test_row_without_a_time_matches_no_time() -> None:
    parsed = parse_filter('create_time!="2021-05-18T00:00:00Z"', JOB_FILTER_FIELDS)
    assert not parsed.matches({"create_time": None})


_PIECES = st.sampled_from(
    [*JOB_FILTER_FIELDS, *"()=:.-<>!*\"'\\ ", "AND", "OR", "NOT", "!=", ">=", "2021-05-18T00:00Z", "FAILED"]
)  # fmt: skip


@given(st.one_of(st.text(), st.lists(_PIECES).map("".join), st.lists(_PIECES).map(" ".join)))
@example("create_time=9999-12-31T23:59:59-23:59 OR create_time=0001-01-01T00:00:00+23:59")
def test_parser_either_parses_or_refuses(text: str) -> None:
    try:
        parsed = parse_filter(text, JOB_FILTER_FIELDS)
    except InvalidArgument:
        return
    for row in (*ROWS.values(), {}):
        assert parsed.matches(row) in (True, False)


@given(st.text(), st.text())
def test_quoted_string_finds_itself(wanted: str, other: str) -> None:
    quoted = wanted.replace("\\", "\\\\").replace('"', '\\"')
    parsed = parse_filter(f'display_name="{quoted}"', JOB_FILTER_FIELDS)
    assert parsed.matches({"display_name": wanted})
    assert parsed.matches({"display_name": other}) is (other == wanted)
