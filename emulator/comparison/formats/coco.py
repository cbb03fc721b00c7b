"""COCO for videos: one JSON file of videos, images, annotations with `instance_id`, and categories.

Source: the layout of CocoVID, which pycocotools reads as plain COCO. Boxes are in pixels. Frames count
from 0.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from emulator.comparison.annotations import Annotated
from emulator.comparison.formats.frame_numbers import (
    Lookup,
    Scene,
    frame_points,
    frames_of,
    json_text,
    looked_at,
    required,
    stem,
)
from emulator.comparison.matching import Box
from emulator.comparison.truth import seconds
from emulator.members import objects
from emulator.vertex.predictions import duration_text


def write(scenes: Mapping[str, Scene], footage: Lookup) -> str:
    """Return the text of the file. Raises ValueError if a video is missing."""
    labels = sorted({thing.label for scene in scenes.values() for thing in scene.things})
    categories = {label: number for number, label in enumerate(labels, start=1)}
    made: dict[str, list[dict[str, Any]]] = {
        "videos": [],
        "images": [],
        "annotations": [],
        "categories": [{"id": number, "name": label} for label, number in categories.items()],
    }
    for number, (video, scene) in enumerate(scenes.items(), start=1):
        _add(made, number, video, scene, footage, categories)
    return json_text(made)


def _add(
    made: Mapping[str, list[dict[str, Any]]],
    number: int,
    video: str,
    scene: Scene,
    footage: Lookup,
    categories: Mapping[str, int],
) -> None:
    known = required(video, footage)
    size = {"width": known.width, "height": known.height}
    made["videos"].append({"id": number, "name": video, **size})
    images: dict[int, int] = {}
    for frame in looked_at(scene, known):
        images[frame] = len(made["images"]) + 1
        times = {"frame_id": frame, "time_offset": duration_text(known.times_us[frame])}
        name = f"{stem(video)}/{frame:06d}.jpg"
        made["images"].append({"id": images[frame], "video_id": number, "file_name": name, **times, **size})
    for instance, (thing, frames) in enumerate(
        zip(scene.things, frames_of(scene.things, known), strict=True), start=1
    ):
        for frame, (box, moments) in frames.items():
            x, y = box[0] * known.width, box[1] * known.height
            width, height = (box[2] - box[0]) * known.width, (box[3] - box[1]) * known.height
            made["annotations"].append(
                {
                    "id": len(made["annotations"]) + 1,
                    "image_id": images[frame],
                    "video_id": number,
                    "category_id": categories[thing.label],
                    "instance_id": instance,
                    "bbox": [x, y, width, height],
                    "area": width * height,
                    "iscrowd": 0,
                    "score": thing.confidence,
                    "time_offsets": [duration_text(moment) for moment in moments],
                }
            )


def read(document: Mapping[str, Any], footage: Lookup) -> Iterator[tuple[str, Annotated]]:
    """Yield the videos of a file with their annotations. Raises ValueError."""
    videos = {_id(one, "id", "a video"): one for one in _list(document, "videos")}
    images = {_id(one, "id", "an image"): one for one in _list(document, "images")}
    labels = {_id(one, "id", "a category"): str(one.get("name")) for one in _list(document, "categories")}
    parts: dict[Any, list[Annotated]] = {key: [] for key in videos}
    points = {key: _points(one, videos, footage) for key, one in images.items()}
    own: dict[Any, set[float]] = {}
    for one in _list(document, "annotations"):
        where = f"annotation {one.get('id')}"
        image = images.get(_id(one, "image_id", where))
        label = labels.get(_id(one, "category_id", where))
        if image is None or label is None:
            raise ValueError(f"{where} has no image or no category in the file")
        try:
            part = _annotated(one, image, videos[image["video_id"]], label, points[image["id"]])
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None
        parts[image["video_id"]].append(part)
        own.setdefault(image["id"], set()).update(part.moments or ())
    for key, one in images.items():
        moments = own.get(key) or {point / 1e6 for point in points[key]}
        parts[one["video_id"]].append(Annotated(moments=sorted(moments)))
    for key, some in parts.items():
        yield str(videos[key].get("name") or videos[key].get("file_name") or key), Annotated.of(some)


def _points(image: Mapping[str, Any], videos: Mapping[Any, Mapping[str, Any]], footage: Lookup) -> list[int]:
    video = videos.get(image["video_id"]) if isinstance(image.get("video_id"), int | str) else None
    if video is None:
        raise ValueError(
            f"image {image.get('id')} is of no video of the file; write COCO with videos and video_id"
        )
    frame = image.get("frame_id", image.get("frame_index"))
    if not isinstance(frame, int):
        raise ValueError(f"image {image.get('id')} has no frame_id, so nobody knows when it is seen")
    name = str(video.get("name") or video.get("file_name"))
    if footage(name) is None and "time_offset" in image:  # our own file: its times suffice
        return [round(seconds(image["time_offset"]) * 10) * 100_000]
    return frame_points(name, frame, footage)


def _annotated(
    one: Mapping[str, Any],
    image: Mapping[str, Any],
    video: Mapping[str, Any],
    label: str,
    points: Sequence[int],
) -> Annotated:
    width, height = (_size(image, video, name) for name in ("width", "height"))
    box = _box(one.get("bbox"), width, height)
    instance = one.get("instance_id", one.get("track_id"))
    key = (label, f"#{one.get('id')}" if instance is None else str(instance))
    own = one.get("time_offsets")
    times = [seconds(time) for time in own] if isinstance(own, list) else [point / 1e6 for point in points]
    return Annotated(
        {key: dict.fromkeys(times, box)},
        moments=times,
        size=(round(width), round(height)),
        confidences={key: _score(one)},
    )


def _box(bbox: object, width: float, height: float) -> Box:
    if not isinstance(bbox, list) or len(bbox) != 4 or not all(map(_is_number, bbox)):
        raise ValueError(f"its bbox is {str(bbox)[:60]}; write [x, y, width, height] in pixels")
    x, y, across, down = bbox
    if across < 0 or down < 0 or x + across > 1.5 * width or y + down > 1.5 * height:
        raise ValueError(
            f"its bbox {bbox} does not lie in a picture of {width:g} x {height:g}; is it of another size?"
        )
    return x / width, y / height, (x + across) / width, (y + down) / height


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and -1e9 < value < 1e9


def _size(image: Mapping[str, Any], video: Mapping[str, Any], name: str) -> float:
    size = image.get(name) or video.get(name)
    if not isinstance(size, int | float) or not 0 < size < 1e6:
        raise ValueError(f"its image has no {name}")
    return float(size)


def _list(document: Mapping[str, Any], name: str) -> Sequence[Mapping[str, Any]]:
    return objects(f'its "{name}" is no list of objects; COCO for videos has one')(document.get(name))


def _id(one: Mapping[str, Any], name: str, what: str) -> int | str:
    found = one.get(name)
    if not isinstance(found, int | str):
        raise ValueError(f"{what} of it has no {name} that is a number or a text")
    return found


def _score(one: Mapping[str, Any]) -> float:
    score = one.get("score", 1.0)
    if not isinstance(score, int | float) or not -1e6 < score < 1e6:
        raise ValueError(f"its score is {str(score)[:40]}, no number")
    return float(score)
