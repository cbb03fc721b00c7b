"""Reads the members of a JSON prediction, and says what is wrong with one."""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from emulator.vertex.predictions import Label

SEGMENT = ("timeSegmentStart", "timeSegmentEnd")
_DURATION = re.compile(r"(-?)([0-9]{1,9})(?:\.([0-9]{1,9}))?s")
_MAX_FLOAT32 = 3.4028235e38


@dataclass(frozen=True)
class Members:
    """The members of a prediction, and the path that messages show for them. Methods raise ValueError."""

    values: Mapping[str, Any]
    path: str

    @staticmethod
    def of(value: Any, name: str) -> "Members":
        """The members of a value that must be an object."""
        return Members(as_object(value, name), f"{name}.")

    def only(self, *known: str) -> None:
        if unknown := [name for name in self.values if name not in known]:
            raise ValueError(f"{self.path}{unknown[0]} is not known; there are {', '.join(known)}")

    def label(self) -> Label:
        identifier, name = self.values.get("id"), self.values.get("displayName")
        if not isinstance(identifier, str) or not identifier.isdecimal() or int(identifier) >= 2**63:
            raise ValueError(f'{self.path}id is {identifier!r}; it must be a decimal number in a text, "1"')
        if not isinstance(name, str) or not name:
            raise ValueError(f"{self.path}displayName is {name!r}; it must be a text that is not empty")
        return Label(identifier, name)

    def number(self, name: str, low: float = -_MAX_FLOAT32, high: float = _MAX_FLOAT32) -> float:
        value = self.values.get(name)
        usable = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if not usable or not low <= value <= high:  # type: ignore[operator]  # usable says that it is one
            raise ValueError(f"{self.path}{name} is {value!r}; it must be a number from {low:g} to {high:g}")
        return float(value)  # type: ignore[arg-type]

    def confidence(self) -> float:
        return self.number("confidence", 0, 1)

    def time(self, name: str) -> int:
        """A time in microseconds."""
        value = self.values.get(name)
        found = _DURATION.fullmatch(value) if isinstance(value, str) else None
        if found is None:
            raise ValueError(f'{self.path}{name} is {value!r}; it must be a time such as "1.200s"')
        micros = int(found[2]) * 1_000_000 + round(float(f"0.{found[3] or 0}") * 1_000_000)
        return -micros if found[1] else micros

    def segment(self) -> tuple[int, int]:
        """Start and end in microseconds."""
        start, end = (self.time(name) for name in SEGMENT)
        if start > end:
            raise ValueError(f"{self.path}timeSegmentEnd lies before timeSegmentStart")
        return start, end

    def items(self, name: str) -> Iterator["Members"]:
        """The objects of a list that must not be empty."""
        listed = self.values.get(name)
        if not isinstance(listed, list) or not listed:
            raise ValueError(f"{self.path}{name} must be a list with at least one {name.removesuffix('s')}")
        return (Members.of(one, f"{self.path}{name}[{index}]") for index, one in enumerate(listed))


def as_object(value: Any, name: str) -> Mapping[str, Any]:
    """The value, if it is a JSON object. Raises ValueError."""
    if not isinstance(value, dict):
        raise ValueError(f"{name} must be a JSON object")
    return value
