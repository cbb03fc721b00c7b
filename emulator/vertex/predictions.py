"""Predictions and error lines in the exact form that the service writes (recorded AutoML output, schema/predict)."""

import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from math import copysign, isfinite


@dataclass(frozen=True, slots=True)
class Label:
    """An annotation spec: a decimal int64 id and the name that people see."""

    id: str
    display_name: str


@dataclass(frozen=True, slots=True)
class TrackFrame:
    """Where a tracked object is at one moment; relative coordinates, not clamped to the frame."""

    time_us: int
    x_min: float
    x_max: float
    y_min: float
    y_max: float


@dataclass(frozen=True, slots=True)
class ObjectTrack:
    """One object followed through a segment; `frames` in time order, at least one."""

    label: Label
    confidence: float
    frames: tuple[TrackFrame, ...]


@dataclass(frozen=True, slots=True)
class ActionPrediction:
    """An action at one moment."""

    label: Label
    confidence: float
    time_us: int


@dataclass(frozen=True, slots=True)
class ClassificationPrediction:
    """A label for a stretch of video; `type` is "segment-classification" or one of its siblings."""

    type: str
    label: Label
    start_us: int
    end_us: int
    confidence: float


Prediction = ObjectTrack | ActionPrediction | ClassificationPrediction


def prediction_line(instance_raw: str, predictions: Sequence[Prediction]) -> str:
    """Return the line of one predicted instance, without a line break; the most confident prediction first."""
    ordered = sorted(predictions, key=lambda prediction: -prediction.confidence)
    listed = ",".join(map(_prediction, ordered))
    return f'{{"instance":{instance_raw},"prediction":[{listed}]}}'


def error_line(instance_raw: str, code: int, message: str) -> str:
    """Return the line of one failed instance: its members, then the error.

    `instance_raw` is the compact JSON of the instance, or the line as it stood when that was not readable.
    """
    error = f'"error":{{"code":{code},"message":{_string(message)}}}'
    try:
        instance = json.loads(instance_raw)
    except (ValueError, RecursionError):
        instance = None
    if not isinstance(instance, dict):
        # Emulator: there is no real sample of a line that is no JSON object; it is kept as a string.
        return f'{{"instance":{_string(instance_raw)},{error}}}'
    members = ",".join(
        f"{_string(name)}:{json.dumps(value, ensure_ascii=False, separators=(',', ':'))}"
        for name, value in instance.items()
        if name != "error"
    )
    return f"{{{members},{error}}}" if members else f"{{{error}}}"


def duration_text(time_us: int) -> str:
    """Return microseconds as a protobuf Duration in JSON: 0, 3 or 6 fraction digits, "47s", "35.300s", "2.766667s"."""
    sign = "-" if time_us < 0 else ""
    seconds, micros = divmod(abs(time_us), 1_000_000)
    if micros == 0:
        return f"{sign}{seconds}s"
    if micros % 1000 == 0:
        return f"{sign}{seconds}.{micros // 1000:03d}s"
    return f"{sign}{seconds}.{micros:06d}s"


def float32_text(value: float) -> str:
    """Return the shortest text that reads back as the same float32, written as Java does: "0.1", "1.0", "-9.64848E-4"."""
    if not isfinite(value):
        raise ValueError(f"{value} has no JSON form")
    single = _to_float32(value)
    if single == 0.0:
        return "-0.0" if copysign(1.0, single) < 0 else "0.0"
    for digits in range(5, 9):
        text = f"{single:.{digits}e}"
        if _to_float32(float(text)) == single:
            break
    raise NotImplementedError


_FLOAT32 = struct.Struct("<f")


def _to_float32(value: float) -> float:
    found: float = _FLOAT32.unpack(_FLOAT32.pack(value))[0]
    return found


def _prediction(prediction: Prediction) -> str:
    raise NotImplementedError


def _string(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
