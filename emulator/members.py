"""Checks values that people write as JSON or TOML: a reader for each kind of value.

A reader returns the value, or raises ValueError. The error says what the value must be, without its name: the
caller knows the member, its path and its file. `problem` replaces the usual words.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from typing import Any, TypeGuard, TypeVar

T = TypeVar("T")

Reader = Callable[[object], T]


def is_integer(value: object, low: float = -math.inf, high: float = math.inf) -> TypeGuard[int]:
    """Whether a value is a whole number from `low` to `high`. A bool is none, though Python has it as int."""
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def is_number(value: object) -> TypeGuard[int | float]:
    """Whether a value is a number, also NaN. A bool is none, though Python has it as int."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_objects(value: object) -> TypeGuard[list[dict[str, Any]]]:
    """Whether a value is a list of objects."""
    return isinstance(value, list) and all(isinstance(entry, dict) for entry in value)


def typed(kind: type[T], problem: str) -> Reader[T]:
    """Read a value of one type: str, bool or dict."""

    def read(value: object) -> T:
        if not isinstance(value, kind):
            raise ValueError(problem)
        return value

    return read


def objects(problem: str) -> Reader[list[dict[str, Any]]]:
    """Read a list of objects."""

    def read(value: object) -> list[dict[str, Any]]:
        if not is_objects(value):
            raise ValueError(problem)
        return value

    return read


def text(value: object) -> str:
    """Read a text that is not empty or blank."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError("it must be a text that is not empty")
    return value


def one_of(choices: Collection[str], problem: str = "") -> Reader[str]:
    """Read one of some texts."""
    # Compared, not looked up: a value such as a list has no hash.
    known = tuple(choices)

    def read(value: object) -> str:
        if value not in known:
            raise ValueError(problem or f"it must be one of {', '.join(known)}")
        return str(value)

    return read


def integer(low: int, high: int, problem: str = "") -> Reader[int]:
    """Read a whole number from `low` to `high`."""

    def read(value: object) -> int:
        if not is_integer(value, low, high):
            raise ValueError(problem or f"it must be a whole number from {low} to {high}")
        return value

    return read


def number(low: float, high: float) -> Reader[float]:
    """Read a number from `low` to `high`."""

    def read(value: object) -> float:
        # Compared before it is converted: an int may be too large for a float.
        if not is_number(value) or not low <= value <= high:
            raise ValueError(f"it must be a number from {low:g} to {high:g}")
        return float(value)

    return read


def list_of(
    read_item: Reader[Any], lengths: Sequence[int] | None = None, *, least: int = 0
) -> Reader[tuple[Any, ...]]:
    """Read a list of one of some lengths, or of at least so many values."""

    def read(value: object) -> tuple[Any, ...]:
        if not isinstance(value, list) or (lengths is not None and len(value) not in lengths):
            count = "" if lengths is None else f" of {' or '.join(map(str, lengths))} values"
            raise ValueError(f"it must be a list{count}")
        if len(value) < least:
            raise ValueError(f"it must be a list of at least {least} value")
        return tuple(read_item(item) for item in value)

    return read


def pairs_of(read_value: Reader[str], example: str) -> Reader[tuple[tuple[str, str], ...]]:
    """Read a table as pairs of name and value; `example` is one for the message."""

    def read(value: object) -> tuple[tuple[str, str], ...]:
        if not isinstance(value, dict):
            raise ValueError(f"it must be a table such as {{ {example} }}")
        return tuple((name, read_value(item)) for name, item in value.items())

    return read
