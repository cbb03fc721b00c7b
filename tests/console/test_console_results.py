"""The results of a job over the wire: rows, lines, videos, pictures, and what is wrong with them in words."""

import csv
import json
import shutil
import struct
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import pytest

from emulator.app import Emulator
from tests.control.project import Project, job_id


def results(project: Project, name: str, path: str = "", **query: Any) -> Any:
    return project.control("GET", f"jobs/{job_id(name)}/results{path}", params=query)


def folder_of(project: Project, job: Any) -> Path:
    return project.buckets / str(job["outputInfo"]["gcsOutputDirectory"]).removeprefix("gs://")


def test_each_input_line_has_a_row_in_its_order(project: Project) -> None:
    name = project.create("b.mp4", "missing.mp4", "a.mp4", "b.mp4")
    project.finish(name)
    page = results(project, name)
    assert (page["page"], page["pages"], page["total"], page["notes"]) == (1, 1, 4, [])
    rows = page["results"]
    assert [row["number"] for row in rows] == [1, 2, 3, 4]
    assert [row["video"].rpartition("/")[2] for row in rows] == ["b.mp4", "missing.mp4", "a.mp4", "b.mp4"]
    assert rows[0]["labels"] == {"cat": 1}
    assert rows[0]["confidence"] == pytest.approx(0.9)
    assert rows[0]["spans"] == [["cat", "0s", "0.400s"]]
    assert "missing.mp4" in rows[1]["error"]["message"]
    assert "confidence" not in rows[1]


def test_line_is_as_it_lies_in_the_file(project: Project) -> None:
    name = project.create("b.mp4", "a.mp4")
    files = project.files(project.finish(name))
    response = project.http.get(f"/_emulator/jobs/{job_id(name)}/results/2")
    assert response.text == files["predictions_00002.jsonl"]
    assert json.loads(response.text)["instance"]["content"] == "gs://bucket/a.mp4"


def test_results_are_exported_in_the_order_of_the_input(project: Project) -> None:
    label = '=HYPERLINK("http://x")'
    frame = {"timeOffset": "0s", "xMin": 0.1, "xMax": 0.2, "yMin": 0.1, "yMax": 0.2}
    found = {"id": "1", "displayName": label, "confidence": 0.5, "frames": [frame]}
    lines = [{"video": "*", "prediction": [found]}]
    body = {"parent": project.parent, "modelId": "exported", "objective": "object_tracking", "lines": lines}
    project.control("POST", "canned", body)
    name = project.create("b.mp4", "missing.mp4", "a.mp4", model="exported")
    files = project.files(project.finish(name))
    path = f"/_emulator/jobs/{job_id(name)}/export"
    exported = project.http.get(path)
    assert exported.headers["content-disposition"] == f'attachment; filename="results-{job_id(name)}.jsonl"'
    assert exported.text == "".join(text for file, text in files.items() if file.startswith("predictions"))
    table = project.http.get(path, params={"format": "csv"})
    rows = list(csv.DictReader(table.text.splitlines()))
    assert [row["video"].rpartition("/")[2] for row in rows] == ["b.mp4", "missing.mp4", "a.mp4"]
    # What a spreadsheet would run is a text.
    assert [row["labels"] for row in rows] == [f"'{label} 1"] * 3
    assert [row["predictions"] for row in rows] == ["1"] * 3
    assert "format is 'coco'" in project.error("GET", f"{path}?format=coco")["message"]
    half = project.create("b.mp4", "missing.mp4")
    project.finish(half)
    failed = project.http.get(f"/_emulator/jobs/{job_id(half)}/export", params={"format": "csv"})
    assert "missing.mp4" in list(csv.DictReader(failed.text.splitlines()))[1]["error"]


def test_pages_of_many_lines_keep_their_order(project: Project) -> None:
    videos = ["a.mp4", "b.mp4"] * 125
    name = project.create(*videos)
    project.finish(name)
    last = results(project, name, page=3)
    assert (last["pages"], last["total"]) == (3, 250)
    rows = last["results"]
    assert [row["number"] for row in rows] == list(range(201, 251))
    assert [row["video"].rpartition("/")[2] for row in rows] == videos[200:]
    assert all(row["labels"] == {"cat": 1} for row in rows)


def test_held_job_shows_what_is_to_come(project: Project) -> None:
    project.pace("running=hold")
    name = project.create("a.mp4")
    project.wait(name, "running", held="true")
    (row,) = results(project, name)["results"]
    assert row["video"] == "gs://bucket/a.mp4"
    assert {"file", "error", "confidence"}.isdisjoint(row)
    error = project.error("GET", f"/_emulator/jobs/{job_id(name)}/results/1")
    assert "has no result yet" in error["message"]


def test_file_that_somebody_edited_is_named(project: Project) -> None:
    name = project.create("a.mp4", "b.mp4")
    job = project.finish(name)
    results(project, name)
    (folder_of(project, job) / "predictions_00001.jsonl").write_text('{"instance": {"content": \n')
    rows = results(project, name)["results"]
    assert "the output files lack it" in rows[0]["error"]["message"]
    assert rows[1]["labels"] == {"cat": 1}
    assert "predictions_00001.jsonl line 1 is not as the emulator writes it" in rows[2]["error"]["message"]


def test_output_that_vanished_is_said(project: Project) -> None:
    name = project.create("a.mp4")
    job = project.finish(name)
    shutil.rmtree(folder_of(project, job))
    page = results(project, name)
    assert "The output directory is no longer there (gs://bucket/" in page["notes"][0]
    assert page["results"][0]["video"] == "gs://bucket/a.mp4"


def test_input_that_vanished_leaves_the_rows(project: Project) -> None:
    name = project.create("a.mp4", "b.mp4")
    job = project.finish(name)
    uri = job["inputConfig"]["gcsSource"]["uris"][0]
    (project.buckets / uri.removeprefix("gs://")).unlink()
    page = results(project, name)
    assert "The input cannot be read any more" in page["notes"][0]
    assert [row["video"] for row in page["results"]] == ["gs://bucket/a.mp4", "gs://bucket/b.mp4"]


@pytest.mark.slow
def test_line_of_200_mb_takes_no_memory(project: Project, emulator: Emulator) -> None:
    name = project.create("a.mp4")
    file = folder_of(project, project.finish(name)) / "predictions_00001.jsonl"
    track = file.read_text()[:-3].partition('"prediction":[')
    with file.open("w") as written:
        written.write(track[0] + track[1])
        written.write(track[2].replace("]}", "," + " " * 200_000_000 + "]}", 1).replace(",  ", "   ", 1))
        written.write(', {"displayName": "last", "confidence": 0.5}]}\n')
    before = peak_memory()
    (row,) = results(project, name)["results"]
    assert row["labels"] == {"cat": 1, "last": 1}
    assert row["bytes"] > 200_000_000
    with project.http.stream("GET", f"/_emulator/jobs/{job_id(name)}/results/1") as response:
        assert sum(map(len, response.iter_raw())) == row["bytes"]
    assert peak_memory() - before < 50_000


def peak_memory() -> int:
    """The most memory of this process so far, in KiB: the server runs in it."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])


def test_video_comes_whole_or_in_ranges(project: Project) -> None:
    name = project.create("b.mp4", "a.mp4")
    project.finish(name)
    path = f"/_emulator/jobs/{job_id(name)}/results/2/video"
    whole = project.http.get(path)
    there = (project.buckets / "bucket" / "a.mp4").read_bytes()
    assert whole.content == there
    assert whole.headers["content-type"] == "video/mp4"
    assert whole.headers["content-security-policy"] == "sandbox"
    part = project.http.get(path, headers={"range": "bytes=100-199"})
    assert (part.status_code, part.content) == (206, there[100:200])
    assert part.headers["content-range"] == f"bytes 100-199/{len(there)}"
    stale = {"range": "bytes=100-199", "if-range": '"other"'}
    assert project.http.get(path, headers=stale).content == there
    assert part.headers["etag"] == whole.headers["etag"]
    assert project.http.get(path, headers={"range": "bytes=99999999-"}).status_code == 416


def test_video_info_and_pictures_come_from_a_process_of_its_own(project: Project) -> None:
    name = project.create("b.mp4")
    project.finish(name)
    path = f"jobs/{job_id(name)}/results/1"
    info = project.control("GET", f"{path}/video/info")
    assert (info["width"], info["height"], info["rotation"], info["fps"]) == (64, 48, 0, 10)
    assert info["codec"] in ("FMP4", "mp4v")
    found = pictures(project.http.get(f"/_emulator/{path}/frames?from=100000&to=400000&width=32").content)
    assert list(found) == [100_000, 200_000, 300_000]
    assert {picture.shape for picture in found.values()} == {(24, 32, 3)}
    # The clip becomes brighter by one step a frame.
    brightness = [float(picture.mean()) for picture in found.values()]
    assert brightness[0] < brightness[2]


def pictures(body: bytes) -> dict[int, Any]:
    """Pictures by time, as the console reads them."""
    found, at = {}, 0
    while at < len(body):
        time_us, length = struct.unpack_from(">QI", body, at)
        at += 12
        found[time_us] = cv2.imdecode(np.frombuffer(body, np.uint8, length, at), cv2.IMREAD_COLOR)
        at += length
    return found


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/0", 404, "count from 1"),
        ("/9", 404, "no result 9"),
        ("/x", 404, "no number of a result"),
        ("?page=0", 400, "give a whole number from 1"),
        ("/1/frames?from=5&to=5", 400, "to behind from"),
        ("/1/frames?to=5000001", 400, "at most 5000000"),
        ("/1/frames?width=x", 400, "width is 'x'"),
        ("/2/video", 404, "missing.mp4"),
        ("/2/frames", 404, "missing.mp4"),
        ("/3/video/info", 400, "not a video"),
    ],
)
def test_mistakes_have_words(project: Project, path: str, status: int, words: str) -> None:
    (project.buckets / "bucket" / "text.mp4").write_text("no video")
    name = project.create("a.mp4", "missing.mp4", "text.mp4")
    project.finish(name)
    error = project.error("GET", f"/_emulator/jobs/{job_id(name)}/results{path}")
    assert error["code"] == status
    assert words in error["message"]


def test_results_of_a_deleted_job(project: Project) -> None:
    name = project.create("a.mp4")
    project.finish(name)
    project.call("DELETE", f"/v1/{name}")
    error = project.error("GET", f"/_emulator/jobs/{job_id(name)}/results")
    assert error["code"] == 404


def test_pages_of_other_sites_are_refused(project: Project, http: httpx.Client) -> None:
    name = project.create("a.mp4")
    project.finish(name)
    path = f"/_emulator/jobs/{job_id(name)}/results/1/video"
    assert http.get(path, headers={"origin": "http://evil.example"}).status_code == 403
