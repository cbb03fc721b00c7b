"""The labels of a clip whose truth is known, as a classifier gives them: of the whole, shots and seconds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from emulator.comparison.matching import WITHIN_S, Label
from emulator.comparison.truth import labels_of as seen_labels
from emulator.vertex.objectives.classification import TYPES

if TYPE_CHECKING:
    from emulator.factory import Truth


def labels_of(truth: Truth, types: Sequence[str], within: float = WITHIN_S) -> list[Label]:
    """The visible labels of each stretch of the given types. Raises ValueError for unknown types."""
    if unknown := [one for one in types if one not in TYPES]:
        raise ValueError(f"{unknown[0]!r} is no type of classification; use {', '.join(TYPES)}.")
    seen: dict[str, list[float]] = {}
    for track in truth.tracks:
        seen.setdefault(track.label, []).extend(frame.time_us / 1e6 for frame in track.frames)
    cuts = [cut_us / 1e6 for cut_us in truth.cuts_us]
    return seen_labels(seen, truth.duration_us / 1e6, cuts, types, within=within)


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
