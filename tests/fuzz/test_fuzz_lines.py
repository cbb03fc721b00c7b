"""Input objects: whatever their bytes, each line is an instance or a problem in words."""

import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.execution.inputs import InputError, JobInput
from emulator.vertex.predictions import error_line
from tests.fuzz.fuzzing import damaged, examples, nearly, written

pytestmark = pytest.mark.fuzz

_LINES: list[dict[str, Any]] = [
    {"content": "gs://b/v.mp4", "mimeType": "video/mp4", "timeSegmentStart": "0.0s", "timeSegmentEnd": "inf"},
    {"content": "gs://b/v.mp4", "mimeType": "video/mp4", "timeSegmentStart": "1.5s", "timeSegmentEnd": "2s"},
    {"content": "gs://b/w.avi"},
]
_NAMES = ["content", "mimeType", "mime_type", "timeSegmentStart", "timeSegmentEnd", "key", "instance"]


@st.composite
def _objects(draw: st.DrawFn) -> bytes:
    line = st.one_of(
        written(nearly(_LINES, _NAMES)),
        nearly(_LINES, _NAMES).map(lambda value: repr(value).encode(errors="surrogatepass")),
        st.binary(max_size=20),
    )
    ends = st.sampled_from([b"\n", b"\r\n", b"\n\n", b"\r", b" \n"])
    pairs = draw(st.lists(st.tuples(line, ends), max_size=8))
    return draw(damaged(b"".join(text + end for text, end in pairs)))


@examples(100)
@given(data=_objects(), strict=st.booleans())
def test_input_objects(data: bytes, strict: bool) -> None:
    expected = [line for line in data.split(b"\n") if line.strip().removeprefix(b"\xef\xbb\xbf")]
    with JobInput() as job_input:
        job_input.read_file(io.BytesIO(data), "gs://b/in.jsonl", strict=strict)
        if not len(job_input):
            with pytest.raises(InputError, match="There is no instance in"):
                job_input.require_instances()
            return
        job_input.require_instances()
        assert len(job_input) <= len(expected) + 1
        answered = set(job_input.failures)
        for content, instances in job_input.videos:
            assert content.startswith("gs://")
            answered |= set(instances)
        assert answered == set(range(len(job_input)))
        for instance, failure in job_input.failures.items():
            text = error_line(job_input.raw(instance), failure.code, failure.message)
            assert "\n" not in text
            assert json.loads(text.encode())["error"]["message"] == failure.message
            assert "line" in failure.message.lower()
