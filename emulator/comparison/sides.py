"""Reads the sides of a comparison from files: a job's output, annotations, or a truth."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from emulator.comparison.annotations import REACH_S, Annotated
from emulator.comparison.formats import coco, cvat, mot, table
from emulator.comparison.formats.frame_numbers import Footage, Lookup
from emulator.comparison.lines import (
    TRUTH_SUFFIX,
    Expectations,
    Line,
    checked,
    segment_of,
)
from emulator.comparison.output import ERRORS, PREDICTIONS, instance_of, json_lines, numbered
from emulator.comparison.truth import snake_too
from emulator.files import cause, read_bounded, shown

RECORDING_FORMAT = 1
"""The version of a recording's layout, which its note names."""
RECORDING_NOTE = "RECORDING.md"

_MOST_BYTES = 1 << 30
_SHOWN_PROBLEMS = 3
_SAME_SHAPE = 0.02  # the tolerance of the aspect ratio
_FORMAT = re.compile(r"^Format (\d{1,9})\b", re.MULTILINE)


class SideUnusable(ValueError):
    """A side cannot be read; the message names file, place, cause and remedy."""


class Side(Expectations):
    """The predictions of one side of a comparison, by video and segment.

    failed: the segments that its job could not predict. notes: messages on what looks wrong.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.failed: list[tuple[str, tuple[float, float]]] = []
        self.notes: list[str] = []

    def take_output(self, where: str, line: Mapping[str, Any]) -> None:
        """Add a line of a job's output: predictions or an error."""
        instance = instance_of(where, line)
        if "error" not in line:
            video, segment = _key(where, instance)
            self.lines.append(Line(video, False, segment, checked(line), where))
        elif instance:
            self.failed.append(_key(where, instance))


def no_footage(video: str) -> Footage | None:  # noqa: ARG001
    """Return None: a lookup without videos."""
    return None


def read_side(path: Path, use: str = "", footage: Lookup = no_footage, name: str = "") -> Side:
    """Read a file or folder.

    Args:
        path: job output, recording, truth, annotations, or a format of another tool.
        use: read only annotations of this set: training, validation or test.
        footage: looks up the frames of videos, for formats that count frames and to check sizes and times.
        name: what messages call it; by default the path.

    Raises:
        SideUnusable: the format is unknown, or a part is missing or damaged.
    """
    side = Side(name or shown(path))
    try:
        _read(path, side, footage)
    except (ValueError, RecursionError, OverflowError) as error:
        raise SideUnusable(f"{side.name}: {error}") from None
    except OSError as error:
        raise SideUnusable(f"{shown(error.filename or path)} cannot be read: {cause(error)}.") from None
    if side.problems:
        more = len(side.problems) - _SHOWN_PROBLEMS
        rest = f" And {more} more lines." if more > 0 else ""
        raise SideUnusable(". ".join(side.problems[:_SHOWN_PROBLEMS]) + f".{rest} Copy or mend the file.")
    for line in side.lines:
        _check(line, side, footage)
    if use:
        side.lines = [line for line in side.lines if _is_for(line, use)]
    if not side.lines and not side.failed:
        kept = f" of the set {use}" if use else ""
        raise SideUnusable(f"{side.name} holds no line{kept} to compare.")
    return side


def _is_for(line: Line, use: str) -> bool:
    return not isinstance(line.content, Annotated) or line.content.use == use


def _read(path: Path, side: Side, footage: Lookup) -> None:
    kind = path.suffix.lower()
    if path.is_dir():
        _read_folder(path, side, footage)
    elif kind == ".csv":
        _read_csv(path, side)
    elif kind == ".xml":
        _read_cvat(path, side, footage)
    elif kind == ".json":
        _read_coco(path, side, footage)
    elif kind == ".txt":
        _read_mot(path, side, footage)
    else:
        _read_lines(path, side)


def _read_folder(path: Path, side: Side, footage: Lookup) -> None:
    names = sorted(entry.name for entry in path.iterdir())
    if "jobs.jsonl" in names:
        _read_recording(path, side)
    elif any(PREDICTIONS.fullmatch(name) or ERRORS.fullmatch(name) for name in names):
        _read_output(path, side)
    elif any(name.endswith(TRUTH_SUFFIX) for name in names):
        _read_truths(path, side)
    elif any(mot.is_sequence(folder) for folder in (path, *(path / name for name in names))):
        _read_mot(path, side, footage)
    elif files := [path / name for name in names if name.endswith(".xml")]:
        for file in files:
            _read_cvat(file, side, footage)
    else:
        raise SideUnusable(
            "it holds no predictions_00001.jsonl, no recording, no *.truth.jsonl, no gt/gt.txt of MOT and no"
            " *.xml of CVAT. Name the output directory itself, not a folder above it"
        )


def _read_lines(path: Path, side: Side) -> None:
    """Read a JSON Lines file: predictions, a truth, or expectations."""
    pattern = f"*{path.name.removesuffix(TRUTH_SUFFIX)}" if path.name.endswith(TRUTH_SUFFIX) else None
    _add(side, path, pattern)


def _read_truths(path: Path, side: Side) -> None:
    """Read the truths in a folder of videos."""
    for file in sorted(path.iterdir()):
        if file.name.endswith(TRUTH_SUFFIX):
            _add(side, file, f"*{file.name.removesuffix(TRUTH_SUFFIX)}")


def _add(side: Side, path: Path, pattern: str | None) -> None:
    """Add the lines of a file. `pattern`: the videos of a truth that names none itself."""
    read = Expectations(shown(path))
    for number, raw in enumerate(_text(path).split("\n"), start=1):
        read.add(raw, number)
    side.problems += read.problems
    for line in read.lines:
        if pattern is not None and line.video == "*":
            line = Line(pattern, True, line.segment, line.content, line.where)
        side.take(line)


def _read_csv(path: Path, side: Side) -> None:
    """Read an AutoML import file, or a table that `export` wrote."""
    text = _text(path)
    if not table.is_table(text):
        side.add_csv(text)
        return
    for video, segment, predictions in table.read(text):
        side.lines.append(Line(video, False, segment, checked({"prediction": predictions}), side.name))


def _read_coco(path: Path, side: Side, footage: Lookup) -> None:
    try:
        document = json.loads(_text(path))
    except (ValueError, RecursionError) as error:
        raise SideUnusable(f"it is no JSON: {error}. Copy the file again") from None
    if not isinstance(document, dict):
        raise SideUnusable("it is no COCO: write an object with videos, images, annotations and categories")
    for video, annotated in coco.read(document, footage):
        side.take(Line(video, False, None, annotated, side.name))


def _read_mot(path: Path, side: Side, footage: Lookup) -> None:
    for video, annotated, where in mot.read(path, footage):
        side.take(Line(video, False, None, annotated, where))


def _read_cvat(path: Path, side: Side, footage: Lookup) -> None:
    try:
        for video, annotated in cvat.read(read_bounded(path, _MOST_BYTES), path.stem, footage):
            side.take(Line(video, False, None, annotated, shown(path)))
    except ValueError as error:
        raise SideUnusable(f"{path.name}: {error}") from None


def _check(line: Line, side: Side, footage: Lookup) -> None:
    """Raise SideUnusable for annotations of another aspect ratio. Note those after the video's end."""
    known = None if line.is_pattern else footage(line.video)
    if known is None or not isinstance(line.content, Annotated):
        return
    size = line.content.size
    if size and abs(size[0] * known.height / (size[1] * known.width) - 1) > _SAME_SHAPE:
        raise SideUnusable(
            f"{line.where}: it is for pictures of {size[0]} x {size[1]}, and {line.video} has"
            f" {known.width} x {known.height}. It was annotated in another video, or turned"
        )
    if line.content.last() > known.end_us / 1e6 + REACH_S:
        side.notes.append(
            f"{line.where}: it has annotations at {line.content.last():g} s of {line.video}, which ends at"
            f" {known.end_us / 1e6:g} s. They cannot be found."
        )


def _text(path: Path) -> str:
    try:
        return read_bounded(path, _MOST_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise SideUnusable("it is no UTF-8 text") from None


def _read_output(path: Path, side: Side) -> None:
    """Read the files of a job's output directory."""
    files = {
        entry.name: read_bounded(entry, _MOST_BYTES)
        for entry in sorted(path.iterdir())
        if PREDICTIONS.fullmatch(entry.name) or ERRORS.fullmatch(entry.name)
    }
    homes: dict[tuple[str, tuple[float, float]], str] = {}
    for where, line in json_lines(numbered(files, PREDICTIONS)):
        instance = instance_of(where, line)
        key = _key(where, instance)
        file = where.partition(" ")[0]
        if homes.setdefault(key, file) != file:
            raise SideUnusable(
                f"{key[0]} is in {homes[key]} and again in {file}, for the same segment. These look like"
                " files of two jobs; give the files of one"
            )
        try:
            side.lines.append(Line(key[0], False, key[1], checked(line), where))
        except ValueError as error:
            side.problems.append(f"{side.name}/{where}: {error}")
    for where, line in json_lines(numbered(files, ERRORS)):
        if instance := instance_of(where, line):
            side.failed.append(_key(where, instance))


def _key(where: str, instance: Mapping[str, Any]) -> tuple[str, tuple[float, float]]:
    try:
        segment = segment_of(*(snake_too(instance, name) for name in ("timeSegmentStart", "timeSegmentEnd")))
    except ValueError as error:
        raise SideUnusable(f"{where}: {error}") from None
    return str(instance.get("content") or ""), segment


def _read_recording(path: Path, side: Side) -> None:
    """The output of the job that was recorded."""
    check_format(path)
    directories = [
        str(line.get("batchPredictionJob", {}).get("outputInfo", {}).get("gcsOutputDirectory", ""))
        for _, line in json_lines({"jobs.jsonl": read_bounded(path / "jobs.jsonl", _MOST_BYTES)})
    ]
    written = [directory for directory in directories if directory]
    if len(written) != 1:
        raise SideUnusable(
            f"its jobs.jsonl names {len(written)} output directories. Name one of the folders below"
            " buckets/ instead"
        )
    folder = path / "buckets" / written[0].removeprefix("gs://").rstrip("/")
    if not folder.resolve().is_relative_to(path.resolve()) or not folder.is_dir():
        raise SideUnusable(f"the job's output directory {written[0]} is not in it. Record the job again")
    _read_output(folder, side)


def check_format(path: Path) -> None:
    """Raise SideUnusable if a newer version made the recording in a folder."""
    try:
        note = read_bounded(path / RECORDING_NOTE, _MOST_BYTES).decode(errors="replace")
    except FileNotFoundError:  # a seed folder that was made by hand
        return
    found = _FORMAT.search(note)
    if found and int(found[1]) > RECORDING_FORMAT:
        raise SideUnusable(
            f"a newer version of vertex-batch-emulator made this recording (format {found[1]}; this one reads"
            f" format {RECORDING_FORMAT}). Update it"
        )
