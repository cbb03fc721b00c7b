"""Films: clips joined to one video, by hard cuts or by dissolves."""

from __future__ import annotations

import itertools
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import cv2
import numpy as np

from emulator.factory.encode import FactoryError
from emulator.factory.scene import Clip, Frame, Moment, Schedule, Staged


@dataclass(frozen=True)
class Film:
    """Takes that follow each other, all of one size and frame rate.

    A take begins at the end of the one before it; its frames, objects and actions are shifted with it.
    dissolve: seconds of a take in which its pictures gradually replace the last picture of the take before;
    0 is a hard cut.
    """

    takes: Sequence[Clip]
    dissolve: float = 0.0

    def __post_init__(self) -> None:
        if not self.takes:
            raise FactoryError("The film has no take; give one clip at least.")
        for number, take in enumerate(self.takes, start=1):
            if take.size != self.size or take.rate != self.rate:
                raise FactoryError(
                    f"Take {number} is {take.size} at {take.fps} fps, the first one {self.size} at "
                    f"{self.takes[0].fps}; make all takes alike."
                )
            if not 0 <= self.dissolve <= take.frame_count / take.rate:
                raise FactoryError(
                    f"The dissolve is {self.dissolve} s, take {number} {take.duration} s; give 0 to that."
                )

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.takes[0].size

    @property
    def rate(self) -> Fraction:
        """Frames per second as a ratio."""
        return self.takes[0].rate

    def stage(self) -> Staged:
        """The film made ready to render."""
        return FilmStage(self)


class FilmStage:
    """A film that is ready to render (Staged).

    A take is prepared when its first picture is requested, and dropped for the next one: a long film needs no
    more memory than its largest take.
    """

    def __init__(self, film: Film) -> None:
        self._film = film
        counts = [take.frame_count for take in film.takes]
        self._first = [0, *itertools.accumulate(counts)]
        total = self._first[-1]
        self.schedule = Schedule(film.rate, total, float(total / film.rate))
        places = [0, *itertools.accumulate(len(take.objects) for take in film.takes)]
        self._places = places
        self.labels: Sequence[str | None] = [actor.label for take in film.takes for actor in take.objects]
        self.moments: Sequence[Moment] = [
            replace(moment, time=moment.time + self._start_s(number))
            for number, take in enumerate(film.takes)
            for actor in take.objects
            for moment in actor.moments
        ]
        self.cuts_us: Sequence[int] = [
            round(self._start_s(number) * 1e6) for number in range(1, len(film.takes))
        ]
        self._ready: tuple[int, Staged] | None = None
        self._last_picture: tuple[int, Frame] | None = None

    def frame(self, number: int) -> Frame:
        """Renders one picture of the film."""
        take = bisect_right(self._first, number) - 1
        within = number - self._first[take]
        shown = self._stage(take).frame(within)
        picture = shown.picture
        part = self._part(within)
        if take and part < 1:
            before = self._last_of(take - 1).picture
            picture = np.asarray(cv2.addWeighted(picture, part, before, 1 - part, 0), np.uint8)
        sightings = tuple(replace(seen, actor=seen.actor + self._places[take]) for seen in shown.sightings)
        return Frame(number, self.schedule.time_s(number), picture, sightings)

    def _part(self, within: int) -> float:
        """Weight of the take's own picture, `within` frames after the take began; 1 after the dissolve."""
        frames = float(self._film.dissolve * self._film.rate)
        return min(1.0, (within + 1) / (frames + 1))

    def _start_s(self, take: int) -> float:
        return float(self._first[take] / self._film.rate)

    def _stage(self, take: int) -> Staged:
        if self._ready is None or self._ready[0] != take:
            self._ready = (take, self._film.takes[take].stage())
        return self._ready[1]

    def _last_of(self, take: int) -> Frame:
        if self._last_picture is None or self._last_picture[0] != take:
            clip = self._film.takes[take]
            self._last_picture = (take, clip.stage().frame(clip.frame_count - 1))
        return self._last_picture[1]
