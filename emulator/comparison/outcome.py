"""Matches the predictions of a segment with its expectations, and explains what is missed."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from emulator.comparison.counts import Counts
from emulator.comparison.matching import (
    Expected,
    Found,
    Track,
    assign,
    candidates,
    differences,
    mean_iou,
    nearest,
)

_LOOKED_AT = 50
_EPSILON = 1e-9


@dataclass(frozen=True)
class Outcome:
    """The matching of predictions and expectations, as indices in `found` and `wanted`.

    fitting: for each expectation all predictions that meet it. given: the matched prediction by expectation.
    counted: the predictions that count, because they are judged and confident enough.
    """

    wanted: Sequence[Expected]
    found: Sequence[Found]
    fitting: Sequence[Sequence[int]]
    given: Mapping[int, int]
    counted: Sequence[int]

    @staticmethod
    def of(wanted: Sequence[Expected], found: Sequence[Found], least: float) -> Outcome:
        fitting = list(candidates(wanted, found))
        counted = _counted(found, least)
        return Outcome(wanted, found, fitting, assign(_only(fitting, counted)), counted)

    def counts_at(self, least: float) -> Counts:
        """Return the counts of all labels together with another confidence threshold."""
        counted = _counted(self.found, least)
        matched = len(assign(_only(self.fitting, counted)))
        return Counts(matched, len(self.wanted) - matched, len(counted) - matched)

    @property
    def missed(self) -> list[int]:
        return [place for place in range(len(self.wanted)) if place not in self.given]

    @property
    def extra(self) -> list[int]:
        taken = set(self.given.values())
        return [place for place in self.counted if place not in taken]

    def counts(self) -> dict[str, Counts]:
        """Return the counts of each label."""
        kinds = (
            (Counts(matched=1), [self.wanted[place].label for place in self.given]),
            (Counts(missed=1), [self.wanted[place].label for place in self.missed]),
            (Counts(extra=1), [self.found[place].label for place in self.extra]),
        )
        counted: dict[str, Counts] = {}
        for one, labels in kinds:
            for label in labels:
                counted[label] = counted.get(label, Counts()) + one
        return counted

    def in_short(self) -> dict[str, Any]:
        """Return the counts as JSON, with the time of the first difference in seconds."""
        missed, extra = self.missed, self.extra
        starts = [self.wanted[place].start for place in missed] + [self.found[place].start for place in extra]
        first = {"first": min(starts)} if starts else {}
        return {"matched": len(self.given), "missed": len(missed), "extra": len(extra), **first}

    def in_full(self) -> dict[str, Any]:
        """Return pairs, missed and extra as JSON. Predictions and expectations are numbered from 1."""
        extra = [self.found[place] for place in self.extra]
        left = [_by_label(some) for some in (extra, [self.found[place] for place in self.counted])]
        return {
            "pairs": [
                {"expected": one + 1, "found": place + 1, **self._overlap(one, place)}
                for one, place in sorted(self.given.items())
            ],
            "missed": [{"expected": place + 1, **self._why(place, left)} for place in self.missed],
            "extra": [place + 1 for place in self.extra],
        }

    def _overlap(self, one: int, place: int) -> dict[str, float]:
        wanted = self.wanted[one]
        if not isinstance(wanted, Track) or not wanted.boxes:
            return {}
        return {"iou": round(mean_iou(wanted.boxes, self.found[place].boxes), 4)}

    def _why(self, place: int, left: Sequence[Mapping[str, Sequence[Found]]]) -> dict[str, str]:
        """Describe the nearest prediction of the label: an unmatched one, or else any."""
        wanted = self.wanted[place]
        near = next(filter(None, (nearest(wanted, _around(wanted, some)) for some in left)), None)
        if near is None:
            return {}
        said = " and ".join(differences(wanted, near))
        return {"nearest": f"{near}: it {said}" if said else f"{near}, which another expectation has taken"}


def _counted(found: Sequence[Found], least: float) -> list[int]:
    return [place for place, one in enumerate(found) if one.judged and one.confidence >= least - _EPSILON]


def _only(fitting: Sequence[Sequence[int]], counted: Sequence[int]) -> list[list[int]]:
    allowed = set(counted)
    return [[place for place in places if place in allowed] for places in fitting]


def _by_label(found: Sequence[Found]) -> dict[str, list[Found]]:
    grouped: dict[str, list[Found]] = {}
    for one in sorted(found, key=lambda one: one.start):
        grouped.setdefault(one.label, []).append(one)
    return grouped


def _around(wanted: Expected, by_label: Mapping[str, Sequence[Found]]) -> Sequence[Found]:
    """Return the predictions of the label whose starts are nearest."""
    found = by_label.get(wanted.label, ())
    place = bisect_left(found, wanted.start, key=lambda one: one.start)
    return found[max(0, place - _LOOKED_AT) : place + _LOOKED_AT]
