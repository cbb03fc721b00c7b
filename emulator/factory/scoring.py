"""Scores an object tracker's output against a clip's truth."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from emulator.comparison.counts import Counts
from emulator.comparison.matching import best_first, overlap
from emulator.factory.scene import Truth

MATCH_IOU = 0.5
CARE_VISIBLE = 0.3
"""Objects with a smaller visible share are ignored: a model may find them or not."""


@dataclass(frozen=True)
class Placed:
    """A box (x_min, y_min, x_max, y_max, relative) of one track at one moment."""

    track: int
    label: str
    box: tuple[float, float, float, float]
    counts: bool = True


@dataclass(frozen=True)
class TrackingScore:
    """Counts that add up over clips; the figures are derived.

    A detection is right if it has the label of an object of that moment, overlaps it by at least MATCH_IOU,
    and no other detection has taken that object. A predicted and a true track are the same if such matches
    make up more than half of the moments at which either exists. An ID switch is a true object that is
    matched by another predicted track than before. iou is summed over right detections.
    """

    right: int = 0
    predicted: int = 0
    expected: int = 0
    tracks_right: int = 0
    tracks_predicted: int = 0
    tracks_expected: int = 0
    id_switches: int = 0
    iou: float = 0.0

    def __add__(self, other: TrackingScore) -> TrackingScore:
        return TrackingScore(*(getattr(self, name) + getattr(other, name) for name in self.__match_args__))

    @property
    def precision(self) -> float:
        return _counts(self.right, self.predicted, self.expected).precision

    @property
    def recall(self) -> float:
        return _counts(self.right, self.predicted, self.expected).recall

    @property
    def track_f1(self) -> float:
        return _counts(self.tracks_right, self.tracks_predicted, self.tracks_expected).f1

    @property
    def mean_iou(self) -> float:
        return self.iou / self.right if self.right else 1.0


def _counts(right: int, predicted: int, expected: int) -> Counts:
    return Counts(right, expected - right, predicted - right)


def score_tracking(truth: Truth, predictions: Sequence[Mapping[str, Any]]) -> TrackingScore:
    """Compares the `prediction` list of an output line (durations as text, `frames`) with the truth."""
    expected, predicted = _true_frames(truth), _predicted_frames(predictions)
    pairs: dict[int, list[tuple[int, int]]] = {}
    right, iou, judged, wanted = 0, 0.0, 0, 0
    counted: dict[int, int] = {}
    for time_us in sorted(expected.keys() | predicted.keys()):
        there, seen = expected.get(time_us, []), predicted.get(time_us, [])
        matches = list(_matches(there, seen))
        for one, other, share in matches:
            if one.counts:
                pairs.setdefault(one.track, []).append((time_us, other.track))
                right += 1
                iou += share
        # A detection that matches an ignored object is left out of both sides.
        forgiven = {other.track for one, other, _ in matches if not one.counts}
        wanted += sum(one.counts for one in there)
        for other in seen:
            if other.track not in forgiven:
                judged += 1
                counted[other.track] = counted.get(other.track, 0) + 1
    lengths = _lengths(expected)
    return TrackingScore(
        right=right,
        predicted=judged,
        expected=wanted,
        tracks_right=_same_tracks(pairs, lengths, counted),
        tracks_predicted=len(counted),
        tracks_expected=len(lengths),
        id_switches=sum(_switches(matched) for matched in pairs.values()),
        iou=iou,
    )


def _lengths(frames: Mapping[int, Sequence[Placed]]) -> dict[int, int]:
    """The number of moments at which each true track counts; tracks without any are left out."""
    lengths: dict[int, int] = {}
    for placed in itertools.chain.from_iterable(frames.values()):
        if placed.counts:
            lengths[placed.track] = lengths.get(placed.track, 0) + 1
    return lengths


def _switches(matched: Sequence[tuple[int, int]]) -> int:
    return sum(before[1] != after[1] for before, after in itertools.pairwise(matched))


def _true_frames(truth: Truth) -> dict[int, list[Placed]]:
    frames: dict[int, list[Placed]] = {}
    for number, track in enumerate(truth.tracks):
        for frame in track.frames:
            box = (frame.x_min, frame.y_min, frame.x_max, frame.y_max)
            placed = Placed(number, track.label, box, frame.visible >= CARE_VISIBLE)
            frames.setdefault(frame.time_us, []).append(placed)
    return frames


def _predicted_frames(predictions: Sequence[Mapping[str, Any]]) -> dict[int, list[Placed]]:
    frames: dict[int, list[Placed]] = {}
    for number, prediction in enumerate(predictions):
        for frame in prediction["frames"]:
            time_us = round(float(frame["timeOffset"].removesuffix("s")) * 1e6)
            box = (frame["xMin"], frame["yMin"], frame["xMax"], frame["yMax"])
            frames.setdefault(time_us, []).append(Placed(number, prediction["displayName"], box))
    return frames


def _matches(there: Sequence[Placed], seen: Sequence[Placed]) -> Iterator[tuple[Placed, Placed, float]]:
    """Pairs with equal labels, the greatest overlap first. Each object and detection is used at most once."""
    ranked = sorted(
        (
            (share, i, j)
            for i, one in enumerate(there)
            for j, other in enumerate(seen)
            if one.label == other.label and (share := overlap(one.box, other.box)) >= MATCH_IOU
        ),
        reverse=True,
    )
    for share, i, j in best_first(ranked):
        yield there[i], seen[j], share


def _same_tracks(
    pairs: Mapping[int, Sequence[tuple[int, int]]], lengths: Mapping[int, int], counted: Mapping[int, int]
) -> int:
    same = 0
    for track, length in lengths.items():
        shared: dict[int, int] = {}
        for _, other in pairs.get(track, ()):
            shared[other] = shared.get(other, 0) + 1
        # A track can share more than half of the union with only one other, so pairs are one to one.
        same += any(2 * common > length + counted.get(other, 0) - common for other, common in shared.items())
    return same
