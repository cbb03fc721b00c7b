"""`compare --html`: a page that loads nothing, with the frames of the worst mismatches."""

import base64
import re
from fractions import Fraction
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.comparison.made import action, compare, line, track, write
from tests.inference.corpus import Clip, constant, read_number

VIDEO = "gs://bucket/videos/a.mp4"
LEFT, RIGHT = (0.1, 0.2, 0.3, 0.4), (0.6, 0.2, 0.8, 0.4)


class Page(HTMLParser):
    """The addresses, boxes and text of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.tags: list[str] = []
        self.rects: list[dict[str, str | None]] = []
        self.text = ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "srcset")]
        if tag == "rect":
            self.rects.append(dict(attrs))

    def handle_data(self, data: str) -> None:
        self.text += data

    def frames(self) -> list[int]:
        """The number that is drawn into each picture."""
        raw = [base64.b64decode(one.removeprefix("data:image/jpeg;base64,")) for one in self.addresses]
        decoded = [cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) for data in raw]
        return [read_number(picture) for picture in decoded if picture is not None]


@pytest.fixture
def sides(tmp_path: Path) -> tuple[Path, Path]:
    """An object is missed from 0.4 s to 0.8 s, another is found from 1.2 s to 1.4 s."""
    missed = track("<b>cat</b>", {0.4: LEFT, 0.6: LEFT, 0.8: LEFT})
    extra = track("dog", {1.2: RIGHT, 1.3: RIGHT, 1.4: RIGHT}, 0.75)
    return write(tmp_path / "e.jsonl", line(VIDEO, missed)), write(tmp_path / "f.jsonl", line(VIDEO, extra))


def test_mismatches_have_the_frames_of_their_moments(tmp_path: Path, sides: tuple[Path, Path]) -> None:
    videos = tmp_path / "videos"
    videos.mkdir()
    Clip("a.mp4", constant(60), Fraction(1, 30)).write(videos)
    path = tmp_path / "report.html"
    assert compare(*sides, "--html", path, "--videos", videos).exit_code == 0
    page = Page(path)
    assert page.frames() == [18, 39]
    assert [(one["class"], one["x"]) for one in page.rects] == [("expected", "0.10000"), ("found", "0.60000")]
    assert "Missed: <b>cat</b> from 0.4 s to 0.8 s" in page.text
    assert "Extra: dog from 1.2 s to 1.4 s, confidence 0.75" in page.text
    assert page.tags.count("b") == 2  # a label is text


def test_page_loads_nothing_and_runs_nothing(tmp_path: Path, sides: tuple[Path, Path]) -> None:
    path = tmp_path / "report.html"
    assert compare(*sides, "--html", path).exit_code == 0
    page = Page(path)
    assert not page.addresses
    assert not {"script", "link", "iframe", "img"} & set(page.tags)
    assert not re.search(r"https?://|@import|url\(", path.read_text())
    assert "hota" in page.text


def test_longest_missed_and_surest_extra_come_first(tmp_path: Path) -> None:
    many = [action("hit", 10 * number, 0.5 + number / 100) for number in range(40)]
    wanted = [action("miss", 10 * number) for number in range(3)]
    expected = write(tmp_path / "e.jsonl", line(VIDEO, *wanted))
    found = write(tmp_path / "f.jsonl", line(VIDEO, *many))
    path = tmp_path / "report.html"
    compare(expected, found, "--html", path)
    text = Page(path).text
    assert "24 of 43" in text
    assert text.count("Missed: ") == 3
    assert [*map(float, re.findall(r"Extra: .*?confidence (0\.\d+)", text))] == [
        round(0.5 + number / 100, 2) for number in range(39, 18, -1)
    ]


def test_page_that_cannot_be_written_is_an_error(tmp_path: Path, sides: tuple[Path, Path]) -> None:
    done = compare(*sides, "--html", tmp_path)
    assert done.exit_code == 1
    assert f"{tmp_path} cannot be written" in done.stderr
