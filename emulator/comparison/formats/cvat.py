"""CVAT for video 1.1: an XML file for each video, with a track for each object and boxes in pixels.

Frames count from 0. Boxes marked `outside` are ignored. Files without this project's attributes are read too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from xml.etree import ElementTree as ET

from emulator.comparison.annotations import Annotated
from emulator.comparison.formats.frame_numbers import (
    Footage,
    Lookup,
    Scene,
    Thing,
    frame_points,
    frames_of,
    looked_at,
    moments_text,
    required,
    stem,
    stems,
)
from emulator.comparison.matching import Box
from emulator.comparison.truth import seconds

_EDGES = ("xtl", "ytl", "xbr", "ybr")
_CONFIDENCE, _TIMES = "confidence", "time_offsets"


def write(scenes: Mapping[str, Scene], footage: Lookup) -> dict[str, str]:
    """Return the files' contents by name. Raises ValueError if a video is missing."""
    files = {}
    for video, name in stems(list(scenes)).items():
        root = _document(video, scenes[video], required(video, footage))
        ET.indent(root)
        files[f"{name}.xml"] = ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n"
    return files


def _document(video: str, scene: Scene, known: Footage) -> ET.Element:
    root = ET.Element("annotations")
    ET.SubElement(root, "version").text = "1.1"
    task = ET.SubElement(ET.SubElement(root, "meta"), "task")
    names = {"name": stem(video), "size": str(len(known.times_us)), "mode": "interpolation", "source": video}
    for name, text in names.items():
        ET.SubElement(task, name).text = text
    labels = ET.SubElement(task, "labels")
    for label in sorted({thing.label for thing in scene.things}):
        _add_label(labels, label)
    size = ET.SubElement(task, "original_size")
    ET.SubElement(size, "width").text = str(known.width)
    ET.SubElement(size, "height").text = str(known.height)
    looked = looked_at(scene, known)
    for number, (thing, frames) in enumerate(zip(scene.things, frames_of(scene.things, known), strict=True)):
        _add_track(root, number, thing, frames, looked, known)
    return root


def _add_label(labels: ET.Element, name: str) -> None:
    label = ET.SubElement(labels, "label")
    ET.SubElement(label, "name").text = name
    attributes = ET.SubElement(label, "attributes")
    for attribute, kind in ((_CONFIDENCE, "number"), (_TIMES, "text")):
        one = ET.SubElement(attributes, "attribute")
        ET.SubElement(one, "name").text = attribute
        ET.SubElement(one, "mutable").text = "True"
        ET.SubElement(one, "input_type").text = kind


def _add_track(
    root: ET.Element,
    number: int,
    thing: Thing,
    frames: Mapping[int, tuple[Box, list[int]]],
    looked: list[int],
    known: Footage,
) -> None:
    track = ET.SubElement(root, "track", id=str(number), label=thing.label, source="auto")
    there = [frame for frame in looked if frame in frames]
    for frame, (box, moments) in frames.items():
        one = _add_box(track, frame, box, known, outside=False)
        ET.SubElement(one, "attribute", name=_CONFIDENCE).text = repr(thing.confidence)
        ET.SubElement(one, "attribute", name=_TIMES).text = moments_text(moments)
        # CVAT shows a box until the next one, so the following frame must mark it as outside.
        place = looked.index(frame) + 1
        if place < len(looked) and looked[place] not in frames:
            _add_box(track, looked[place], box, known, outside=True)
    if there and there[-1] == looked[-1] and there[-1] + 1 < len(known.times_us):
        _add_box(track, there[-1] + 1, frames[there[-1]][0], known, outside=True)


def _add_box(track: ET.Element, frame: int, box: Box, known: Footage, *, outside: bool) -> ET.Element:
    sides = (known.width, known.height) * 2
    edges = {name: repr(edge * side) for name, edge, side in zip(_EDGES, box, sides, strict=True)}
    marks = {"frame": str(frame), "keyframe": "1", "outside": str(int(outside)), "occluded": "0"}
    return ET.SubElement(track, "box", marks | edges | {"z_order": "0"})


def read(data: bytes, name: str, footage: Lookup) -> Iterator[tuple[str, Annotated]]:
    """Yield the video of a file with its annotations. Raises ValueError."""
    if b"<!DOCTYPE" in data or b"<!ENTITY" in data:
        raise ValueError("it declares entities, which CVAT does not")
    try:
        root = ET.fromstring(data)
    except ET.ParseError as error:
        raise ValueError(f"it is no XML: {error}. Export it again") from None
    if root.tag != "annotations":
        raise ValueError(f"it is a {root.tag}, no annotations of CVAT; export as CVAT for video 1.1")
    task = next((found for path in ("meta/task", "meta/job") if (found := root.find(path)) is not None), None)
    video = _text(task, "source") or _text(task, "name") or name
    size = _size(task, video, footage)
    parts = [_track(track, video, size, footage) for track in root.iter("track")]
    if root.find("image") is not None:
        raise ValueError("it is CVAT for images; export as CVAT for video 1.1")
    yield video, Annotated.of([Annotated(moments=_looked(root, footage(video)), size=size), *parts])


def _looked(root: ET.Element, known: Footage | None) -> list[float] | None:
    """Return the times of all frames, except those whose boxes carry their own time."""
    if known is None:
        return None
    timed = {
        int(box.get("frame", "-1"))
        for box in root.iter("box")
        if any(found.get("name") == _TIMES for found in box.iter("attribute"))
    }
    frames = [frame for frame in range(len(known.times_us)) if frame not in timed]
    return [point / 1e6 for frame in frames for point in known.points(frame)]


def _track(track: ET.Element, video: str, size: tuple[int, int], footage: Lookup) -> Annotated:
    label, number = track.get("label"), track.get("id", "")
    if not label:
        raise ValueError(f"track {number} has no label")
    boxes: dict[float, Box] = {}
    confidence = 1.0
    for one in track.iter("box"):
        if one.get("outside") == "1":
            continue
        try:
            box = _box(one, size)
            attributes = {found.get("name"): found.text or "" for found in one.iter("attribute")}
            confidence = float(attributes.get(_CONFIDENCE) or confidence)
            boxes |= dict.fromkeys(_moments(one, attributes.get(_TIMES), video, footage), box)
        except ValueError as error:
            raise ValueError(f"track {number}, frame {one.get('frame')}: {error}") from None
    key = (label, number)
    found = {key: boxes} if boxes else {}
    return Annotated(found, moments=sorted(boxes), confidences={key: confidence})


def _moments(one: ET.Element, own: str | None, video: str, footage: Lookup) -> list[float]:
    if own:
        return [seconds(moment) for moment in own.split()]
    frame = int(one.get("frame", ""))
    return [point / 1e6 for point in frame_points(video, frame, footage)]


def _box(one: ET.Element, size: tuple[int, int]) -> Box:
    x_min, y_min, x_max, y_max = (float(one.get(name, "")) for name in _EDGES)
    width, height = size
    if x_max > 1.5 * width or y_max > 1.5 * height:
        raise ValueError(f"its box does not lie in a picture of {width} x {height}; is it of another size?")
    return x_min / width, y_min / height, x_max / width, y_max / height


def _size(task: ET.Element | None, video: str, footage: Lookup) -> tuple[int, int]:
    width, height = _text(task, "original_size/width"), _text(task, "original_size/height")
    if width.isdigit() and height.isdigit() and int(width) and int(height):
        return int(width), int(height)
    known = required(video, footage)
    return known.width, known.height


def _text(task: ET.Element | None, path: str) -> str:
    found = None if task is None else task.find(path)
    return (found.text or "") if found is not None else ""
