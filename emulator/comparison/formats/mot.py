"""MOT Challenge: a folder for each video with `gt/gt.txt`, `gt/labels.txt` and `seqinfo.ini`.

A row is frame, id, left, top, width, height, confidence, class, visibility. Frames and classes count from 1,
boxes are in pixels. `labels.txt` names the classes, one per line, as CVAT writes it.
"""

from __future__ import annotations

import configparser
from collections.abc import Iterator, Mapping
from pathlib import Path

from emulator.comparison.annotations import Annotated
from emulator.comparison.formats.frame_numbers import (
    Lookup,
    Scene,
    frame_points,
    frames_of,
    required,
    stems,
)
from emulator.comparison.matching import Box
from emulator.files import read_bounded

_MOST_BYTES = 1 << 30
_COLUMNS = "frame, id, left, top, width, height"


def write(scenes: Mapping[str, Scene], footage: Lookup) -> dict[str, str]:
    """Return the files' contents by path. Raises ValueError if a video is missing."""
    labels = sorted({thing.label for scene in scenes.values() for thing in scene.things})
    files = {}
    for video, name in stems(list(scenes)).items():
        known, things = required(video, footage), scenes[video].things
        rows = [
            (frame, number, thing, box)
            for number, (thing, frames) in enumerate(
                zip(things, frames_of(things, known), strict=True), start=1
            )
            for frame, (box, _) in frames.items()
        ]
        text = ""
        for frame, number, thing, box in sorted(rows, key=lambda row: row[:2]):
            x, y = box[0] * known.width, box[1] * known.height
            width, height = (box[2] - box[0]) * known.width, (box[3] - box[1]) * known.height
            numbers = ",".join(map(repr, (x, y, width, height, thing.confidence)))
            text += f"{frame + 1},{number},{numbers},{labels.index(thing.label) + 1},1\n"
        files[f"{name}/gt/gt.txt"] = text
        files[f"{name}/gt/labels.txt"] = "".join(f"{label}\n" for label in labels)
        seconds = known.end_us / 1e6
        files[f"{name}/seqinfo.ini"] = (
            f"[Sequence]\nname={name}\nimDir=img1\nframeRate={len(known.times_us) / seconds:g}\n"
            f"seqLength={len(known.times_us)}\nimWidth={known.width}\nimHeight={known.height}\nimExt=.jpg\n"
        )
    return files


def is_sequence(folder: Path) -> bool:
    return (folder / "gt" / "gt.txt").is_file()


def read(path: Path, footage: Lookup) -> Iterator[tuple[str, Annotated, str]]:
    """Yield each video of a file or folder, its annotations, and its file. Raises ValueError, OSError."""
    if path.is_file():
        yield _sequence(path, path.parent, path.stem, footage)
    elif is_sequence(path):
        yield _sequence(path / "gt" / "gt.txt", path / "gt", path.name, footage)
    else:
        for folder in sorted(path.iterdir()):
            if is_sequence(folder):
                yield _sequence(folder / "gt" / "gt.txt", folder / "gt", folder.name, footage)


def _sequence(file: Path, beside: Path, name: str, footage: Lookup) -> tuple[str, Annotated, str]:
    labels = _labels(beside / "labels.txt")
    size = _size(beside.parent / "seqinfo.ini")
    known = required(name, footage)
    parts = [
        Annotated(
            moments=[point / 1e6 for frame in range(len(known.times_us)) for point in known.points(frame)]
        )
    ]
    width, height = size or (known.width, known.height)
    for number, row in enumerate(
        read_bounded(file, _MOST_BYTES).decode("utf-8", "replace").splitlines(), start=1
    ):
        if row.strip():
            try:
                parts.append(_row(row.split(","), labels, (width, height), name, footage))
            except ValueError as error:
                raise ValueError(f"{file.name} line {number}: {error}") from None
    annotated = Annotated.of(parts)
    return name, annotated, f"{file}"


def _row(cells: list[str], labels: list[str], size: tuple[int, int], name: str, footage: Lookup) -> Annotated:
    if len(cells) < 6:
        raise ValueError(f"it has {len(cells)} columns; MOT has at least {_COLUMNS}")
    try:
        numbers = [float(cell) for cell in cells]
    except ValueError:
        raise ValueError(f"it has a cell that is no number; MOT has {_COLUMNS} and more") from None
    confidence = numbers[6] if len(numbers) > 6 else 1.0
    if confidence == 0:  # MOT: ignore this row
        return Annotated()
    kind = int(numbers[7]) if len(numbers) > 7 and labels else 0
    if kind > len(labels):
        raise ValueError(f"it is of class {kind}, and labels.txt has {len(labels)}")
    label = labels[kind - 1] if kind > 0 else "object"
    box = _box(numbers, size)
    points = frame_points(name, int(numbers[0]) - 1, footage)
    key = (label, f"{int(numbers[1])}")
    return Annotated(
        {key: {point / 1e6: box for point in points}}, size=size, confidences={key: abs(confidence)}
    )


def _box(numbers: list[float], size: tuple[int, int]) -> Box:
    width, height = size
    x, y, across, down = numbers[2:6]
    if across < 0 or down < 0 or x + across > 1.5 * width or y + down > 1.5 * height:
        raise ValueError(
            f"its box {x:g},{y:g},{across:g},{down:g} does not lie in a picture of {width} x {height};"
            " is it of another size?"
        )
    return x / width, y / height, (x + across) / width, (y + down) / height


def _labels(path: Path) -> list[str]:
    try:
        return read_bounded(path, _MOST_BYTES).decode("utf-8-sig").split("\n")[:-1]
    except FileNotFoundError:
        return []


def _size(path: Path) -> tuple[int, int] | None:
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(read_bounded(path, _MOST_BYTES).decode("utf-8-sig"))
        found = parser["Sequence"]
        return int(found["imWidth"]), int(found["imHeight"])
    except FileNotFoundError:
        return None
    except (configparser.Error, KeyError, ValueError) as error:
        raise ValueError(f"{path.name} has no size of the pictures: {error}") from None
