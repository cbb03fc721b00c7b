"""Lines of the input file."""

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from emulator.vertex.instances import Instance, InstanceError, parse_instance_line
from emulator.vertex.predictions import duration_text, error_line

CONTENT = "gs://bucket/videos/a.mp4"
# The documentation's only sample line, on the pages of all three objectives.
DOCUMENTED = (
    "{'content': 'gs://sourcebucket/datasets/videos/source_video.mp4', 'mimeType': 'video/mp4', "
    "'timeSegmentStart': '0.0s', 'timeSegmentEnd': '2.366667s'}"
)


def _line(**members: Any) -> bytes:
    return json.dumps({"content": CONTENT, "mimeType": "video/mp4", **members}).encode()


def _segment(start: str | None = None, end: str | None = None) -> bytes:
    return _line(timeSegmentStart=start, timeSegmentEnd=end)


def test_instance_is_echoed_verbatim_and_compact() -> None:
    line = (
        '{ "timeSegmentEnd" : "inf" , "mimeType":"video/avi",\t"content":"gs://b/\\u00e9 \\"x\\" é.mp4",'
        ' "timeSegmentStart": "0.0s"} '
    )
    assert parse_instance_line(line.encode(), 1, strict=True) == Instance(
        content='gs://b/é "x" é.mp4',
        mime_type="video/avi",
        start_us=0,
        end_us=None,
        raw='{"timeSegmentEnd":"inf","mimeType":"video/avi","content":"gs://b/\\u00e9 \\"x\\" é.mp4",'
        '"timeSegmentStart":"0.0s"}',
    )


@given(
    st.dictionaries(st.text(), st.text() | st.integers() | st.lists(st.text() | st.none()), max_size=4),
    st.booleans(),
    st.sampled_from([(", ", ": "), (" ,\t", " : "), (",", ":"), ("  ,  ", ":\r\n")]),
)
def test_line_is_echoed_without_its_blanks_whatever_its_strings_hold(
    others: dict[str, Any], ascii_only: bool, separators: tuple[str, str]
) -> None:
    members = {**others, "content": CONTENT, "mimeType": "video/mp4"}
    members = {name: value for name, value in members.items() if not name.startswith("timeSegment")}
    line = json.dumps(members, ensure_ascii=ascii_only, separators=separators)
    compact = json.dumps(members, ensure_ascii=ascii_only, separators=(",", ":"))
    assert parse_instance_line(line.encode(), 1).raw == compact


def test_documented_single_quoted_line_is_accepted_with_a_warning() -> None:
    instance = parse_instance_line(DOCUMENTED.encode(), 7)
    assert instance.content == "gs://sourcebucket/datasets/videos/source_video.mp4"
    assert (instance.start_us, instance.end_us) == (0, 2_366_667)
    assert instance.raw == DOCUMENTED.replace("'", '"').replace(": ", ":").replace(", ", ",")
    assert instance.warnings == ("Line 7: The line is a Python dict, not JSON. Use double quotes.",)


def test_single_quoted_line_may_hold_both_quotes_and_python_words() -> None:
    line = """{'content': 'gs://b/it\\'s "x".mp4', "mimeType": 'video/mp4', 'timeSegmentEnd': None}"""
    instance = parse_instance_line(line.encode(), 1)
    assert instance.content == 'gs://b/it\'s "x".mp4'
    assert json.loads(instance.raw)["timeSegmentEnd"] is None


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (DOCUMENTED.encode(), "is a Python dict"),
        (_line(extra=1), 'Unknown member "extra"'),
        (json.dumps({"content": CONTENT}).encode(), '"mimeType" is missing'),
        (_segment("0.1234567s"), "more precise than a microsecond"),
    ],
)
def test_strict_makes_errors_of_warnings(line: bytes, problem: str) -> None:
    assert any(problem in warning for warning in parse_instance_line(line, 3).warnings)
    with pytest.raises(InstanceError, match=problem):
        parse_instance_line(line, 3, strict=True)


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (None, None, (0, None)),
        ("", "", (0, None)),
        ("0s", "inf", (0, None)),
        ("1s", "Infinity", (1_000_000, None)),
        ("1.2s", "3.4s", (1_200_000, 3_400_000)),
        ("0.000001s", "0.000002s", (1, 2)),
        ("2.366667s", "10800s", (2_366_667, 10_800_000_000)),
        ("1.100000s", "1.2s", (1_100_000, 1_200_000)),
        # Digits past the sixth are rounded, half up; 0.1 + 0.2 as Python prints it.
        ("0.30000000000000004s", "2.3666666666666667s", (300_000, 2_366_667)),
        ("0.0000005s", "0.0000014s", None),
        ("0.0000014s", "0.0000015s", (1, 2)),
        ("4.35s", "8.7s", (4_350_000, 8_700_000)),
    ],
)
def test_segment_is_read_in_whole_microseconds(start: Any, end: Any, expected: Any) -> None:
    if expected is None:
        with pytest.raises(InstanceError, match="must lie before"):
            parse_instance_line(_segment(start, end), 1)
    else:
        instance = parse_instance_line(_segment(start, end), 1)
        assert (instance.start_us, instance.end_us) == expected


def test_snake_case_members_are_accepted() -> None:
    line = {"content": CONTENT, "mime_type": "video/mp4", "time_segment_start": "1s"}
    instance = parse_instance_line(json.dumps(line).encode(), 1, strict=True)
    assert (instance.mime_type, instance.start_us) == ("video/mp4", 1_000_000)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b"nonsense", "The line is not a JSON object: Expecting value"),
        (b"", "The line is not a JSON object"),
        (b'{"content": "gs://b/v"', "The line is not a JSON object"),
        (b'{"content": "\xff"}', r"The line is not UTF-8 \(byte 13\)"),
        (b"[" * 100_000, "nested too deeply"),
        (b"[1]", "The line is a list. Write one JSON object per line"),
        (b'"gs://b/v"', "The line is a string"),
        (b"null", "The line is null"),
        (b"{}", '"content" is missing. Give the Cloud Storage URI of a video, gs://bucket/object'),
        (_line(content=None), '"content" is missing'),
        (_line(content=5), '"content" is the number 5'),
        (_line(content="https://x/v.mp4"), '"content" is "https://x/v.mp4". Give the Cloud Storage URI'),
        (_line(content="/v.mp4"), '"content" is "/v.mp4"'),
        (_line(content="gs://b"), '"content" is "gs://b"'),
        (_line(content="gs:///v.mp4"), '"content" is "gs:///v.mp4"'),
        (_line(content="gs://b/dir/"), "a directory"),
        (_line(content="gs://b/\ud800"), r'"content" is "gs://b/\\ud800"'),
        (_line(mimeType="video/webm"), '"mimeType" "video/webm" is not supported. Give one of video/mp4, '),
        (_line(mimeType=["video/mp4"]), '"mimeType" is a list'),
        (_segment("2s", "1s"), 'timeSegmentStart "2s" must lie before timeSegmentEnd "1s"'),
        (_segment("1s", "1.0s"), "must lie before"),
        (_segment(None, "0s"), 'timeSegmentStart "0s" must lie before timeSegmentEnd "0s"'),
        (_segment("-1s"), 'is "-1s", which is negative. Give seconds followed by "s", such as "1.2s"'),
        (_segment("0s", "-0.5s"), '"timeSegmentEnd" is "-0.5s", which is negative'),
        (_segment("1.2"), '"timeSegmentStart" is "1.2". Give seconds followed by "s"'),
        (_segment("0s", "1.2"), 'or "Infinity" for the end of the video'),
        (_segment("NaN"), '"timeSegmentStart" is "NaN"'),
        (_segment("0s", "NaNs"), '"timeSegmentEnd" is "NaNs"'),
        (_segment("inf"), "Only timeSegmentEnd may be the end of the video"),
        (_segment("1e3s"), '"timeSegmentStart" is "1e3s"'),
        (_segment("+1s"), '"timeSegmentStart" is "\\+1s"'),
        (_segment(" 1s"), '"timeSegmentStart" is " 1s"'),
        (_segment("1s\n"), "Give seconds"),
        (_segment("1.s"), "Give seconds"),
        (_segment(".5s"), "Give seconds"),
        (_segment("1m"), "Give seconds"),
        (_segment("1_0s"), "Give seconds"),
        (_segment("\u0661s"), "Give seconds"),
        (_segment("9" * 5_000 + "s"), "Give seconds"),
        (_segment("0s", "infs"), '"timeSegmentEnd" is "infs"'),
        (_line(timeSegmentStart=1.2), '"timeSegmentStart" is the number 1.2'),
        (_line(timeSegmentStart=True), '"timeSegmentStart" is true'),
        (_line(timeSegmentEnd=float("inf")), "Infinity is not a JSON value"),
        (b'{"timeSegmentStart": NaN}', "NaN is not a JSON value"),
        (b'{"a": ' + b"1" * 5_000 + b"}", "The line is not a JSON object"),
    ],
)
def test_bad_line_is_an_error_that_names_the_line(line: bytes, problem: str) -> None:
    with pytest.raises(InstanceError, match=problem) as raised:
        parse_instance_line(line, 12)
    assert raised.value.message.startswith("Line 12: ")
    assert raised.value.code == 3
    assert len(raised.value.message) < 600
    written = error_line(raised.value.raw, raised.value.code, raised.value.message)
    found = json.loads(written.encode())
    assert found["error"] == {"code": 3, "message": raised.value.message}


@given(st.one_of(st.binary(), st.text().map(str.encode)))
@example(b"{'a': '" + b"\\'" * 1_000)
@example(b"\"'" * 10_000)
def test_any_line_is_parsed_or_refused(line: bytes) -> None:
    try:
        parse_instance_line(line, 1)
    except InstanceError as error:
        error_line(error.raw, error.code, error.message).encode()


_MEMBERS = st.dictionaries(
    st.sampled_from(["content", "mimeType", "timeSegmentStart", "timeSegmentEnd", "x"]),
    st.one_of(
        st.text(), st.none(), st.integers(), st.floats(), st.booleans(), st.just({}), st.just("inf"),
        st.just("1s"), st.just("gs://b/o"),
    ),
)  # fmt: skip


@given(_MEMBERS, st.sampled_from([json.dumps, repr]))
def test_any_object_is_parsed_or_refused(members: dict[str, Any], write: Any) -> None:
    line = write(members).encode(errors="surrogatepass")
    try:
        instance = parse_instance_line(line, 1)
    except InstanceError as error:
        error_line(error.raw, error.code, error.message).encode()
    else:
        assert json.loads(instance.raw) == members


@given(st.integers(min_value=0, max_value=10**14))
def test_written_duration_is_read_back_exactly(time_us: int) -> None:
    instance = parse_instance_line(_segment(duration_text(time_us)), 1, strict=True)
    assert instance.start_us == time_us
