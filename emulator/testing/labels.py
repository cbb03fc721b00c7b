"""What a classifier says of a clip whose truth is known: labels of the whole, of its shots and seconds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from emulator.testing.expectations import SECOND, SEGMENT, SHOT, Label

if TYPE_CHECKING:
    from emulator.factory import Truth

TYPES = (SEGMENT, SHOT, SECOND)

_SECOND_US = 1_000_000


def labels_of(truth: Truth, types: Sequence[str], within: float = 0.1) -> list[Label]:
    """The labels of all that is seen in each stretch of the given types. Raises ValueError for others."""
    if unknown := [one for one in types if one not in TYPES]:
        raise ValueError(f"{unknown[0]!r} is no type of classification; use {', '.join(TYPES)}.")
    names = sorted({track.label for track in truth.tracks})
    return [
        Label(name, shown[0] / 1e6, shown[1] / 1e6, one, within)
        for one in types
        for stretch, shown in _stretches(truth, one)
        for name in names
        if truth.seen(name, *stretch)
    ]


def classifications(truth: Truth, types: Sequence[str]) -> list[dict[str, Any]]:
    """The same labels as the `prediction` list of a line of output. Ids are made up."""
    from emulator.vertex.predictions import duration_text

    labels = labels_of(truth, types)
    names = sorted({one.label for one in labels})
    return [
        {
            "id": str(names.index(one.label) + 1),
            "displayName": one.label,
            "type": one.type,
            "timeSegmentStart": duration_text(round(one.start * 1e6)),
            "timeSegmentEnd": duration_text(round(one.end * 1e6)),
            "confidence": 1.0,
        }
        for one in labels
    ]


def _stretches(truth: Truth, kind: str) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """Each stretch of a type, and the times that its predictions have, in microseconds."""
    if kind == SEGMENT:
        whole = 0, truth.duration_us
        yield whole, whole
    elif kind == SHOT:
        yield from ((shot, shot) for shot in truth.shots)
    else:
        for start_us in range(0, truth.duration_us, _SECOND_US):
            end_us = min(start_us + _SECOND_US, truth.duration_us)
            # Vertex: start and end are one moment inside the second (recorded output).
            # Emulator: the middle, as its own classifiers have it.
            middle_us = (start_us + end_us) // 2
            yield (start_us, end_us), (middle_us, middle_us)
