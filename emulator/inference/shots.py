"""Finds hard cuts, where one shot of a video ends and the next begins, as the frames come in.

Between two frames of one shot, most of the picture has not changed, or has moved only a little. Across a cut,
nearly all of it has changed, and much is not found again. A frame is a cut if both of these hold:

- It differs from the frame before it clearly more than the frames around it do from theirs. So a steady fast
  movement of camera or objects is no cut.
- Too much of it cannot be found near its place in any of the frames shortly before; nor can the frames
  shortly after it be found in the frame before it. So a flash, after which everything is as before, is no
  cut.

Dissolves and fades are no cuts: the shots that they join count as one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from statistics import median

import cv2
import numpy as np
from numpy.typing import NDArray

from emulator.inference.points import NO_END

Thumbnail = NDArray[np.uint8]
"""A frame in COLUMNS x ROWS cells, each its mean colour: (ROWS, COLUMNS, 3), BGR."""

COLUMNS, ROWS = 32, 18
#: The surroundings of a frame on either side: this long, and at least this many frames.
AROUND_US = 300_000
AROUND_FRAMES = 2
#: At most this many of the surrounding frames are compared cell by cell.
COMPARED = 6
#: Least difference of a cut, in grey levels and as a multiple of the median around it.
LEAST_CHANGE = 5.0
LEAST_RATIO = 2.0
#: A cell is unchanged if it differs by at most this many grey levels.
STILL = 6
#: A cell is found again if one at most this many cells away differs by at most this many grey levels.
REACH = 2
TOLERANCE = 18
#: Across a cut, at least these shares of the cells are changed, and are not found again.
CHANGED_SHARE = 0.6
NEW_SHARE = 0.15


def thumbnail(frame: NDArray[np.uint8]) -> Thumbnail:
    """Reduce a BGR frame of any size to its cells."""
    while min(frame.shape[1] / COLUMNS, frame.shape[0] / ROWS) > 8:
        half = (frame.shape[1] // 2, frame.shape[0] // 2)
        frame = np.asarray(cv2.resize(frame, half, interpolation=cv2.INTER_LINEAR), np.uint8)
    return np.asarray(cv2.resize(frame, (COLUMNS, ROWS), interpolation=cv2.INTER_AREA), np.uint8)


class Change:
    """How far each frame differs from the one before it, in grey levels."""

    def __init__(self) -> None:
        self._before: Thumbnail | None = None

    def of(self, small: Thumbnail) -> float:
        """The mean over the cells; 0 for the first frame."""
        before, self._before = self._before, small
        return 0.0 if before is None else float(_difference(before, small).mean())


@dataclass(frozen=True)
class Cut:
    """A new shot begins with the frame at `time_us`, which answers for the moments from `since_us` on."""

    time_us: int
    since_us: int


@dataclass(frozen=True)
class _Frame:
    cut: Cut
    small: Thumbnail
    change: float

    @property
    def time_us(self) -> int:
        return self.cut.time_us


class CutFinder:
    """Finds the cuts in a run of frames. Holds the frames of some tenths of a second, however long the run.

    found: the cuts in order; the caller removes them. settled_us: no cut that is still to be found answers
    for a moment before this.
    """

    def __init__(self) -> None:
        self.found: deque[Cut] = deque()
        self.settled_us = 0
        self._before: deque[_Frame] = deque()
        self._after: deque[_Frame] = deque()  # the frame that is to be judged, and those after it

    def add(self, time_us: int, since_us: int, small: Thumbnail, change: float) -> None:
        """Take the next frame.

        Args:
            time_us: when it is shown.
            since_us: the first moment to which it is the nearest frame.
            small: its thumbnail.
            change: its difference from the frame before; any value for the first frame.
        """
        self._after.append(_Frame(Cut(time_us, since_us), small, change))
        while len(self._after) > AROUND_FRAMES and self._after[0].time_us + AROUND_US <= time_us:
            self._judge()

    def finish(self) -> None:
        """End the run of frames."""
        while self._after:
            self._judge()
        self.settled_us = NO_END

    def _judge(self) -> None:
        frame = self._after[0]
        if self._before and self._stands_out(frame) and not self._known(frame):
            self.found.append(frame.cut)
        self._before.append(self._after.popleft())
        while (
            len(self._before) > AROUND_FRAMES
            and self._before[0].time_us + AROUND_US < self._before[-1].time_us
        ):
            self._before.popleft()
        self.settled_us = self._after[0].cut.since_us if self._after else NO_END

    def _stands_out(self, frame: _Frame) -> bool:
        if frame.change < LEAST_CHANGE:
            return False
        # The first of the frames before may be the first of the run, which has no change of its own.
        around = [one.change for one in (*islice(self._before, 1, None), *islice(self._after, 1, None))]
        return not around or frame.change >= LEAST_RATIO * median(around)

    def _known(self, frame: _Frame) -> bool:
        """Whether the shot goes on as before, at once or after a moment."""
        last = self._before[-1].small
        return any(_goes_on(last, one.small) for one in _spread(self._after)) or any(
            _goes_on(one.small, frame.small) for one in _spread(self._before)
        )


def _spread(frames: Sequence[_Frame]) -> list[_Frame]:
    """At most COMPARED of the frames, the first and the last included."""
    places = np.linspace(0, len(frames) - 1, min(len(frames), COMPARED)).round().astype(int)
    return [frames[place] for place in places.tolist()]


def _goes_on(before: Thumbnail, after: Thumbnail) -> bool:
    """Whether two pictures can be of one shot: much is unchanged, or nearly all is near where it was."""
    if np.count_nonzero(_difference(before, after) > STILL) < CHANGED_SHARE * COLUMNS * ROWS:
        return True
    padded = np.pad(before, ((REACH, REACH), (REACH, REACH), (0, 0)), mode="edge")
    least = np.full(after.shape[:2], 255, np.uint8)
    for down in range(2 * REACH + 1):
        for right in range(2 * REACH + 1):
            moved = padded[down : down + ROWS, right : right + COLUMNS]
            np.minimum(least, _difference(moved, after), out=least)
    return bool(np.count_nonzero(least > TOLERANCE) < NEW_SHARE * COLUMNS * ROWS)


def _difference(before: Thumbnail, after: Thumbnail) -> NDArray[np.uint8]:
    """The difference of each cell, in the channel that differs most."""
    return np.asarray(cv2.absdiff(before, after).max(axis=2), np.uint8)
