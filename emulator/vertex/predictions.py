"""Predictions and error lines in the service's format (recorded AutoML output, schema/predict)."""

import json
import struct
from collections.abc import Callable, Sequence
from dataclasses import Field, dataclass
from math import frexp, isfinite
from typing import Any, ClassVar, Protocol


@dataclass(frozen=True, slots=True)
class Label:
    """An annotation spec: a decimal int64 id and a display name."""

    id: str
    display_name: str


class Prediction(Protocol):
    """One prediction of any objective: a dataclass of `vertex/objectives/`."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    @property
    def label(self) -> Label: ...

    @property
    def confidence(self) -> float: ...

    def as_json(self) -> str:
        """Return it as compact JSON; its members are in the order of the schema's field numbers."""


def prediction_line(
    instance_raw: str, predictions: Sequence[Prediction], check: Callable[[], None] = lambda: None
) -> str:
    """Return the output line of one instance, without line break, most confident prediction first.

    `check` is called before each prediction and may raise to stop: tracks of hours take minutes to write.
    """
    written = []
    for prediction in sorted(predictions, key=lambda prediction: -prediction.confidence):
        check()
        written.append(prediction.as_json())
    listed = ",".join(written)
    return f'{{"instance":{instance_raw},"prediction":[{listed}]}}'


def error_line(instance_raw: str, code: int, message: str) -> str:
    """Return the output line of one failed instance: its members, then the error.

    `instance_raw` is the instance as compact JSON, or the original line if it was not readable.
    """
    error = f'"error":{{"code":{code},"message":{json_text(message)}}}'
    text = instance_raw.strip()
    if not _is_json_object(text):
        # Emulator: no real sample of such a line is known. A line that is no JSON object is kept as a string.
        return f'{{"instance":{json_text(instance_raw)},{error}}}'
    members = text[1:-1].strip()
    return f"{{{members},{error}}}" if members else f"{{{error}}}"


def duration_text(time_us: int) -> str:
    """Format microseconds as a Duration with 0, 3 or 6 fraction digits: "47s", "35.300s", "2.766667s"."""
    sign = "-" if time_us < 0 else ""
    seconds, micros = divmod(abs(time_us), 1_000_000)
    if micros == 0:
        return f"{sign}{seconds}s"
    if micros % 1000 == 0:
        return f"{sign}{seconds}.{micros // 1000:03d}s"
    return f"{sign}{seconds}.{micros:06d}s"


def float32_text(value: float) -> str:
    """Return the shortest text that reads back as the same float32, in Java's form: "1.0", "-9.64848E-4".

    Raises:
        ValueError: JSON or float32 cannot represent the value.
    """
    try:
        single = _unpack(_pack(value))[0]
    except OverflowError:
        single = float("inf")
    if not isfinite(single):
        raise ValueError(f"{value} has no form in JSON as a float32")
    mantissa, exponent = frexp(single)
    scale = _SCALES.get(exponent)
    # Zero has a sign to keep. Next to a power of two, the two neighbours are not equally far away.
    if scale is None or abs(mantissa) <= 0.5:
        return _float32_text_by_trial(single)
    coarse, reach, fine = scale
    scaled = single * coarse
    nearest = round(scaled)
    if abs(nearest - scaled) < reach:
        return repr(nearest / coarse)
    return repr(round(single * fine) / fine)


_FLOAT32 = struct.Struct("<f")
_pack, _unpack = _FLOAT32.pack, _FLOAT32.unpack
_SMALLEST_NORMAL = 2.0**-126
_FORMS = ("%.6g", "%.7g", "%.8g", "%.9g")
_SUBNORMAL_FORMS = tuple(f"%.{digits}g" for digits in range(2, 10))


def _scale(exponent: int) -> tuple[float, float, float]:
    """Return `coarse`, `reach` and `fine` for rounding the float32 in [2**(exponent - 1), 2**exponent).

    `coarse` and `fine` are powers of ten, `fine` ten times `coarse`. Decimals in units of 1 / coarse are
    sparser than these numbers, so at most one of them lies within half a step of a number; half a step is
    `reach`, in units of 1 / coarse. In units of 1 / fine there always is one. The products with a float32 are
    exact: 24 bits times at most 24 bits of a power of five.
    """
    step = 2.0 ** (exponent - 24)
    decimals = 0
    while 10.0 ** -(decimals + 1) > step:
        decimals += 1
    return 10.0**decimals, step / 2 * 10.0**decimals, 10.0 ** (decimals + 1)


# From 2**-9 to 2**20, where Java writes no exponent: in practice all coordinates and confidences.
_SCALES = {exponent: _scale(exponent) for exponent in range(-8, 21)}


def _float32_text_by_trial(single: float) -> str:
    # Six digits always survive a float32, so a shorter text shows up padded with zeros. Subnormal numbers
    # have fewer digits.
    for form in _SUBNORMAL_FORMS if abs(single) < _SMALLEST_NORMAL else _FORMS:
        candidate = float(form % single)
        if _unpack(_pack(candidate))[0] == single:
            break
    if 1e-3 <= abs(candidate) < 1e7 or candidate == 0.0:
        return repr(candidate)
    return _scientific(candidate)


def _scientific(number: float) -> str:
    mantissa, _, exponent = f"{number:.8e}".partition("e")
    mantissa = mantissa.rstrip("0")
    return f"{mantissa}{'0' if mantissa.endswith('.') else ''}E{int(exponent)}"


def common_members(label: Label, start_us: int, end_us: int, confidence: float, type_member: str = "") -> str:
    """Return the members that predictions of all objectives have, without braces.

    `type_member` goes before the times, where the schema has it.
    """
    return (
        f'"id":{json_text(label.id)},"displayName":{json_text(label.display_name)},{type_member}'
        f'"timeSegmentStart":"{duration_text(start_us)}","timeSegmentEnd":"{duration_text(end_us)}",'
        f'"confidence":{float32_text(confidence)}'
    )


def _is_json_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


def json_text(text: str) -> str:
    """Return a JSON string, not ASCII only, except that a lone surrogate is escaped."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(text)
    return json.dumps(text, ensure_ascii=False)
