"""Writes a side in the format of another tool."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from emulator.comparison.formats import coco, cvat, label_studio, mot, table
from emulator.comparison.formats.frame_numbers import Lookup, Scene, Thing, required
from emulator.comparison.lines import Line, Prediction, Segment, found_of
from emulator.comparison.matching import Found
from emulator.comparison.report import TRACKING, WHOLE_VIDEO, objective_of
from emulator.comparison.sides import Side
from emulator.vertex.objectives.classification import TYPES

FORMATS = ("csv", "coco", "mot", "cvat", "label-studio")


class NotExportable(ValueError):
    """The format cannot represent the predictions, or a video whose frames it counts is missing."""


def export(side: Side, form: str, footage: Lookup) -> str | dict[str, str]:
    """Return the text of the file, or the files of a folder by path.

    Raises:
        NotExportable: the format cannot represent the predictions, or a video is missing.
    """
    objective = objective_of(side)
    lines = [(line, *_predictions(line, objective or TRACKING)) for line in side.lines]
    if form == "csv":
        return table.write([(line.video, segment, found) for line, segment, found in lines])
    if objective not in ("", TRACKING) and form != "label-studio":
        raise NotExportable(f"{form} holds boxes, and this is {objective}. Export it as csv or label-studio")
    try:
        return _by_frames(lines, form, objective, footage)
    except ValueError as error:
        raise NotExportable(str(error)) from None


def _by_frames(
    lines: Sequence[tuple[Line, Segment, Sequence[Prediction]]], form: str, objective: str, footage: Lookup
) -> str | dict[str, str]:
    if form == "label-studio" and objective not in ("", TRACKING):
        spans: dict[str, list[Found]] = {}
        for line, _, predictions in lines:
            spans.setdefault(line.video, []).extend(map(found_of, predictions))
        return label_studio.write({}, spans, footage)
    scenes = _scenes(lines, footage)
    if form == "label-studio":
        return label_studio.write(scenes, {}, footage)
    if form == "coco":
        return coco.write(scenes, footage)
    return mot.write(scenes, footage) if form == "mot" else cvat.write(scenes, footage)


def _predictions(line: Line, objective: str) -> tuple[Segment, Sequence[Prediction]]:
    if line.is_pattern:
        raise NotExportable(f"{line.where}: it is of any video like {line.video}; name the video")
    segment = line.segment or WHOLE_VIDEO
    return segment, line.predictions(objective, segment, TYPES)


def _scenes(
    lines: Sequence[tuple[Line, Segment, Sequence[Prediction]]], footage: Lookup
) -> Mapping[str, Scene]:
    """Return the objects of each video, from all its segments."""
    scenes: dict[str, Scene] = {}
    for line, (start, end), predictions in lines:
        known = required(line.video, footage)
        scene = scenes.setdefault(line.video, Scene())
        last = known.end_us if math.isinf(end) else min(round(end * 1e6), known.end_us)
        scene.looked.append((round(start * 1e6), last))
        for one in map(found_of, predictions):
            boxes = {round(time * 1e6): box for time, box in one.boxes.items()}
            if late := [time for time in boxes if time > known.end_us + 100_000]:
                raise NotExportable(
                    f"{line.where or line.video}: it has a box at {late[0] / 1e6:g} s of {line.video}, which"
                    f" ends at {known.end_us / 1e6:g} s. Is it another video?"
                )
            scene.things.append(Thing(one.label, boxes, one.confidence))
    return scenes
