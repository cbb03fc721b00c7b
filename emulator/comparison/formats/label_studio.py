"""Label Studio: tasks with pre-annotations, `videorectangle` for tracks, `timelinelabels` for the rest.

Frames count from 1, boxes are in percent of the frame. The labelling configuration needs the tags `<Video
name="video">`, and `<VideoRectangle name="box">` or `<TimelineLabels name="time">` with the labels.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from emulator.comparison.formats.frame_numbers import (
    Footage,
    Lookup,
    Scene,
    Thing,
    frames_of,
    json_text,
    looked_at,
    required,
)
from emulator.comparison.matching import Box, Found


def write(scenes: Mapping[str, Scene], spans: Mapping[str, Sequence[Found]], footage: Lookup) -> str:
    """Return the text of the file. `spans`: actions and classes. Raises ValueError if a video is missing."""
    tasks = []
    for video in dict.fromkeys([*scenes, *spans]):
        known = required(video, footage)
        results = [_span(number, one, known) for number, one in enumerate(spans.get(video, ()), start=1)]
        results += _tracks(scenes.get(video, Scene()), known)
        scores = [result["score"] for result in results]
        tasks.append(
            {
                "data": {"video": video},
                "predictions": [
                    {
                        "model_version": "vertex-batch-emulator",
                        "score": sum(scores) / len(scores) if scores else 0.0,
                        "result": results,
                    }
                ],
            }
        )
    return json_text(tasks)


def _tracks(scene: Scene, known: Footage) -> list[dict[str, Any]]:
    looked = looked_at(scene, known)
    return [
        _track(number, thing, frames, looked, known)
        for number, (thing, frames) in enumerate(
            zip(scene.things, frames_of(scene.things, known), strict=True), start=1
        )
    ]


def _track(
    number: int,
    thing: Thing,
    frames: Mapping[int, tuple[Box, list[int]]],
    looked: Sequence[int],
    known: Footage,
) -> dict[str, Any]:
    following = dict(itertools.pairwise(looked))
    sequence = [
        {
            "frame": frame + 1,
            "x": box[0] * 100,
            "y": box[1] * 100,
            "width": (box[2] - box[0]) * 100,
            "height": (box[3] - box[1]) * 100,
            "rotation": 0,
            # A box is shown until the next one, unless it is the last before the object disappears.
            "enabled": following.get(frame) in frames,
            "time": moments[0] / 1e6,
        }
        for frame, (box, moments) in frames.items()
    ]
    value = {
        "sequence": sequence,
        "framesCount": len(known.times_us),
        "duration": known.end_us / 1e6,
        "labels": [thing.label],
    }
    return _result(f"box-{number}", "videorectangle", "box", value, thing.confidence)


def _span(number: int, one: Found, known: Footage) -> dict[str, Any]:
    start, end = (known.frame_at(round(min(time, known.end_us / 1e6) * 1e6)) for time in (one.start, one.end))
    value = {"ranges": [{"start": start + 1, "end": end + 1}], "timelinelabels": [one.label]}
    result = _result(f"time-{number}", "timelinelabels", "time", value, one.confidence)
    return {**result, "meta": {"text": [one.type]}} if one.type else result


def _result(name: str, kind: str, tag: str, value: Mapping[str, Any], confidence: float) -> dict[str, Any]:
    return {
        "id": name,
        "type": kind,
        "from_name": tag,
        "to_name": "video",
        "score": confidence,
        "value": value,
    }
