"""Whatever stands in a file: it is read, or refused in words."""

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from emulator.comparison.formats.export import NotExportable, export
from emulator.comparison.formats.frame_numbers import Footage
from emulator.comparison.lines import Tolerance
from emulator.comparison.metrics.measure import measure
from emulator.comparison.page import page
from emulator.comparison.report import Options, compare
from emulator.comparison.sides import SideUnusable, read_side
from tests.comparison.made import line, track, write

VIDEO = "gs://bucket/videos/a.mp4"
JUNK: tuple[Any, ...] = (None, "x", [], {}, -1, 1e308)
FOOTAGE = Footage([n * 200_000 for n in range(10)], 2_000_000, 100, 80)

COCO = {
    "videos": [{"id": 1, "name": "a.mp4", "width": 100, "height": 80}],
    "images": [{"id": 1, "video_id": 1, "frame_id": 1, "width": 100, "height": 80, "time_offset": "0.2s"}],
    "categories": [{"id": 1, "name": "cat"}],
    "annotations": [
        {
            "id": 1,
            "image_id": 1,
            "category_id": 1,
            "instance_id": 1,
            "bbox": [1, 2, 3, 4],
            "score": 0.5,
            "time_offsets": ["0.2s"],
        }
    ],
}
BOX = {
    "displayName": "cat",
    "timeOffset": "0.2s",
    "instanceId": "1",
    "xMin": 0,
    "yMin": 0,
    "xMax": 1,
    "yMax": 1,
}
IMPORT = {
    "videoGcsUri": VIDEO,
    "temporalBoundingBoxAnnotations": [BOX],
    "timeSegments": [{"startTime": "0s", "endTime": "2s"}],
    "timeSegmentAnnotations": [{"displayName": "hit", "startTime": "1s", "endTime": "1s"}],
    "dataItemResourceLabels": {"aiplatform.googleapis.com/ml_use": "test"},
}
PREDICTIONS = json.loads(line(VIDEO, track("cat", {0.1: (0, 0, 1, 1), 0.2: (0, 0, 1, 1)})))


def spoilt(document: Any) -> Iterator[Any]:
    """The document with each value in it replaced by junk, and left out."""
    for path in paths(document):
        for junk in JUNK:
            changed = copy.deepcopy(document)
            place = changed
            for step in path[:-1]:
                place = place[step]
            place[path[-1]] = junk
            yield changed
            if junk is None:
                del place[path[-1]]
                yield changed


def paths(document: Any, before: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    steps = document.items() if isinstance(document, dict) else enumerate(document)
    for step, value in steps:
        yield (*before, step)
        if isinstance(value, dict | list):
            yield from paths(value, (*before, step))


@pytest.mark.parametrize(
    ("name", "document"),
    [("a.json", COCO), ("import.jsonl", IMPORT), ("p.jsonl", PREDICTIONS)],
    ids=["coco", "import", "predictions"],
)
def test_any_value_is_read_or_refused(tmp_path: Path, name: str, document: Any) -> None:
    other = read_side(write(tmp_path / "other.jsonl", json.dumps(PREDICTIONS)))
    read, refused = 0, list[str]()
    for changed in spoilt(document):
        path = write(tmp_path / name, json.dumps(changed))
        try:
            side = read_side(path, footage=lambda _: FOOTAGE)
            report = compare(side, other, Options(Tolerance(), objective="object_tracking"))
            page(report, measure(report, 0.1, 0.0), ("a", "b"), lambda *_: None)
            export(side, "coco", lambda _: FOOTAGE)
            read += 1
        except (SideUnusable, NotExportable) as error:
            refused.append(str(error))
    assert read
    assert refused
    assert all(refused)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "\x00", "\ufeff", "1,2\n" * 3])
@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.csv", "a.xml", "a.txt"])
def test_no_file_is_too_strange(tmp_path: Path, name: str, text: str) -> None:
    with pytest.raises(SideUnusable):
        read_side(write(tmp_path / name, text), footage=lambda _: FOOTAGE)
