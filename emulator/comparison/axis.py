"""Parses the values of a setting that a sweep tries."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

MOST_ROWS = 200
_LARGEST = 1_000_000_000

Value = bool | int | float | str


class AxisUnusable(ValueError):
    """A text does not describe the values to try; the message names the text and the remedy."""


@dataclass(frozen=True)
class Axis:
    """A setting and the values to try, in the given order."""

    name: str
    values: tuple[Value, ...]

    @staticmethod
    def parse(text: str) -> Axis:
        """Parse `NAME=FROM:TO:STEP` or `NAME=VALUE,VALUE`. Raises AxisUnusable."""
        name, equals, values = text.partition("=")
        name, values = name.strip(), values.strip()
        if not equals or not name or not values:
            raise AxisUnusable(
                f"{text!r} names no values; write NAME=FROM:TO:STEP, as in confidenceThreshold=0.1:0.9:0.1,"
                " or NAME=VALUE,VALUE"
            )
        if ":" in values:
            return Axis(name, tuple(_steps(text, values)))
        items = [item.strip() for item in values.split(",")]
        if not all(items):
            raise AxisUnusable(f"{text!r} has an empty value; write NAME=VALUE,VALUE")
        return Axis(name, tuple(dict.fromkeys(map(_value, items))))


def _steps(text: str, values: str) -> Iterable[Value]:
    """Yield the values of a range with both ends, in exact decimal steps."""
    try:
        start, end, step = (Decimal(part.strip()) for part in values.split(":"))
    except (InvalidOperation, ValueError):
        raise AxisUnusable(
            f"{text!r} is no range of three numbers; write NAME=FROM:TO:STEP, as in"
            " confidenceThreshold=0.1:0.9:0.1"
        ) from None
    if not all(number.is_finite() and abs(number) <= _LARGEST for number in (start, end, step)):
        raise AxisUnusable(f"{text!r} has a number that no setting takes; write a range as in 0.1:0.9:0.1")
    if step <= 0:
        raise AxisUnusable(f"{text!r} has the step {step}; a step is more than 0")
    if end < start:
        raise AxisUnusable(f"{text!r} ends at {end}, before it starts at {start}; write the lower one first")
    if end - start >= MOST_ROWS * step:
        raise AxisUnusable(f"{text!r} has more than {MOST_ROWS} values; take a larger step")
    count = int((end - start) / step) + 1
    numbers = [start + place * step for place in range(count)]
    if all("." not in f"{number:f}" for number in (start, step)):
        return map(int, numbers)
    return map(float, numbers)


def _value(item: str) -> Value:
    """Parse a value as TOML, or else take it as a text."""
    try:
        found = tomllib.loads(f"value = {item}")["value"]
    except tomllib.TOMLDecodeError:
        return item
    return found if isinstance(found, bool | int | float | str) else item
