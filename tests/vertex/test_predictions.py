"""Prediction and error lines."""

import json
import random
import struct
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.vertex.messages import load
from emulator.vertex.objectives.action_recognition import ActionPrediction
from emulator.vertex.objectives.classification import ClassificationPrediction
from emulator.vertex.objectives.object_tracking import ObjectTrack, TrackFrame
from emulator.vertex.predictions import Label, duration_text, error_line, float32_text, prediction_line

INSTANCE = (
    '{"content":"gs://bucket/video.mp4","mimeType":"video/mp4","timeSegmentStart":"1s","timeSegmentEnd":"5s"}'
)
SCHEMAS = "google.cloud.aiplatform.v1.schema.predict.prediction"


def test_object_tracking_line_has_the_recorded_form() -> None:
    line = prediction_line(
        INSTANCE,
        [
            ObjectTrack(Label("2", "dög"), 0.25, (TrackFrame(1_200_000, 0.0, 1.0, -0.0246, 0.1),)),
            ObjectTrack(
                Label("1", "cat"),
                0.5733388,
                (
                    TrackFrame(35_300_000, 0.1, 0.2, 0.3, 0.4),
                    TrackFrame(47_000_000, -9.64848e-4, 0.2, 1e-10, 0.4),
                ),
            ),
        ],
    )
    assert line == (
        f'{{"instance":{INSTANCE},"prediction":['
        '{"id":"1","displayName":"cat","timeSegmentStart":"35.300s","timeSegmentEnd":"47s",'
        '"confidence":0.5733388,"frames":['
        '{"timeOffset":"35.300s","xMin":0.1,"xMax":0.2,"yMin":0.3,"yMax":0.4},'
        '{"timeOffset":"47s","xMin":-9.64848E-4,"xMax":0.2,"yMin":1.0E-10,"yMax":0.4}]},'
        '{"id":"2","displayName":"dög","timeSegmentStart":"1.200s","timeSegmentEnd":"1.200s",'
        '"confidence":0.25,"frames":['
        '{"timeOffset":"1.200s","xMin":0.0,"xMax":1.0,"yMin":-0.0246,"yMax":0.1}]}]}'
    )


def test_action_recognition_line_has_equal_start_and_end() -> None:
    swing = ActionPrediction(Label("1", "swing"), 0.7, 1_200_000)
    jump = ActionPrediction(Label("2", "jump"), 0.9, 2_766_667)
    assert prediction_line(INSTANCE, [swing, jump]) == (
        f'{{"instance":{INSTANCE},"prediction":['
        '{"id":"2","displayName":"jump","timeSegmentStart":"2.766667s","timeSegmentEnd":"2.766667s","confidence":0.9},'
        '{"id":"1","displayName":"swing","timeSegmentStart":"1.200s","timeSegmentEnd":"1.200s","confidence":0.7}]}'
    )


def test_classification_line_has_the_type_after_the_label() -> None:
    found = ClassificationPrediction("segment-classification", Label("1", "a"), 0, 2_766_667, 1.0)
    assert prediction_line("{}", [found]) == (
        '{"instance":{},"prediction":[{"id":"1","displayName":"a","type":"segment-classification",'
        '"timeSegmentStart":"0s","timeSegmentEnd":"2.766667s","confidence":1.0}]}'
    )


def test_each_prediction_of_a_line_gives_a_sign_of_life_and_can_end_it() -> None:
    actions = [ActionPrediction(Label("1", "swing"), 0.7, time_us) for time_us in range(5)]
    asked: list[int] = []

    def check() -> None:
        asked.append(len(asked))
        if len(asked) == 4:
            raise InterruptedError

    assert prediction_line(INSTANCE, actions[:3], check) == prediction_line(INSTANCE, actions[:3])
    with pytest.raises(InterruptedError):
        prediction_line(INSTANCE, actions, check)
    assert len(asked) == 4


def test_nothing_predicted_is_an_empty_list() -> None:
    assert prediction_line(INSTANCE, []) == f'{{"instance":{INSTANCE},"prediction":[]}}'


def test_equal_confidences_keep_their_order() -> None:
    first, second = (ActionPrediction(Label(name, name), 0.5, 0) for name in "ab")
    assert [p["id"] for p in json.loads(prediction_line("{}", [first, second]))["prediction"]] == ["a", "b"]


@pytest.mark.parametrize(
    ("prediction", "schema"),
    [
        (
            ObjectTrack(Label("1", "a"), 0.5, (TrackFrame(100_000, 0.1, 0.2, 0.3, 0.4),)),
            "VideoObjectTracking",
        ),
        (ActionPrediction(Label("1", "a"), 0.5, 100_000), "VideoActionRecognition"),
        (ClassificationPrediction("t", Label("1", "a"), 0, 1, 0.5), "VideoClassification"),
    ],
)
def test_members_are_those_of_the_schema_in_its_order(
    prediction: ObjectTrack | ActionPrediction | ClassificationPrediction, schema: str
) -> None:
    descriptor = load().message(f"{SCHEMAS}.{schema}PredictionResult").DESCRIPTOR
    (written,) = json.loads(prediction_line("{}", [prediction]))["prediction"]
    in_order = sorted(descriptor.fields, key=lambda field: field.number)
    assert list(written) == [field.json_name for field in in_order]
    if "frames" in written:
        frame = descriptor.fields_by_name["frames"].message_type
        assert set(written["frames"][0]) == {field.json_name for field in frame.fields}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.5733388, "0.5733388"), (1.0, "1.0"), (0.1, "0.1"), (-9.64848e-4, "-9.64848E-4"),
        (1e-3, "0.001"), (9.999999e-4, "9.999999E-4"), (1e7, "1.0E7"), (9_999_999.0, "9999999.0"),
        (1_234_567.0, "1234567.0"), (16_777_216.0, "1.6777216E7"), (0.0, "0.0"), (-0.0, "-0.0"),
        (1.4e-45, "1.4E-45"), (1.17549435e-38, "1.1754944E-38"), (3.4028235e38, "3.4028235E38"),
        (0.25, "0.25"), (-0.5, "-0.5"), (0.3, "0.3"), (np.float32(1) / 3, "0.33333334"), (1e10, "1.0E10"),
    ],
)  # fmt: skip
def test_float_is_written_as_java_writes_a_float32(value: float, text: str) -> None:
    assert float32_text(value) == text


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e39])
def test_float_that_json_cannot_hold_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="has no form in JSON"):
        float32_text(value)


def _float32(bits: int) -> float:
    found: float = struct.unpack("<f", struct.pack("<I", bits))[0]
    return found


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_float_text_reads_back_as_the_same_float32(value: float) -> None:
    text = float32_text(value)
    assert struct.pack("<f", float(text)) == struct.pack("<f", value)


def test_float_text_is_as_short_as_numpys() -> None:
    """Except that Java writes two digits at least, and that powers of two may take one digit more."""
    numbers = random.Random(1)
    for exponent in range(1, 255):
        for _ in range(20):
            value = _float32(exponent << 23 | numbers.randint(1, 2**23 - 1))
            assert Decimal(float32_text(value)) == Decimal(np.format_float_scientific(np.float32(value)))


@pytest.mark.parametrize(
    ("time_us", "text"),
    [
        (0, "0s"), (47_000_000, "47s"), (35_300_000, "35.300s"), (2_766_667, "2.766667s"),
        (1, "0.000001s"), (1_000, "0.001s"), (-1_500_000, "-1.500s"), (-1, "-0.000001s"),
    ],
)  # fmt: skip
def test_duration_has_no_three_or_six_digits(time_us: int, text: str) -> None:
    assert duration_text(time_us) == text


@given(st.integers(min_value=-(10**12), max_value=10**12))
def test_duration_is_what_protobuf_writes(time_us: int) -> None:
    duration = load().protobuf.Duration()
    duration.FromMicroseconds(time_us)
    assert duration_text(time_us) == duration.ToJsonString()


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (INSTANCE, INSTANCE[:-1] + ',"error":{"code":5,"message":"gön \\"x\\""}}'),
        ("{}", '{"error":{"code":5,"message":"gön \\"x\\""}}'),
        ('{"a":1.50,"b":"\\u00e9"}', '{"a":1.50,"b":"\\u00e9","error":{"code":5,"message":"gön \\"x\\""}}'),
        ("{'a", '{"instance":"{\'a","error":{"code":5,"message":"gön \\"x\\""}}'),
        ("[1]", '{"instance":"[1]","error":{"code":5,"message":"gön \\"x\\""}}'),
        ("", '{"instance":"","error":{"code":5,"message":"gön \\"x\\""}}'),
        ("\ud800", '{"instance":"\\ud800","error":{"code":5,"message":"gön \\"x\\""}}'),
    ],
)
def test_error_line_is_the_instance_followed_by_the_error(raw: str, expected: str) -> None:
    assert error_line(raw, 5, 'gön "x"') == expected
