"""One video on its way through a predictor: its known (cached) results, and the frames still to decode."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Generic, TypeVar

from emulator.inference.container import VideoUnreadable
from emulator.inference.decoding import Decoding
from emulator.inference.points import Points, Range
from emulator.inference.predictor import Progress
from emulator.inference.recall import Recall, Unrecallable, VideoFacts
from emulator.inference.video import FrameSource, GridPoints, Sample, VideoEnd
from emulator.vertex.instances import InstanceFailure
from emulator.vertex.predictions import Prediction

T = TypeVar("T")
Item = TypeVar("Item")

Outcome = list[Prediction] | InstanceFailure
Answers = Generator[tuple[int, Outcome], None, None]
Sampled = Callable[[int, int | None], None]


@dataclass(frozen=True)
class Wanted:
    """The results that a predictor needs from a video, by number, and the frames that they are made from.

    last_result: maps a video's last point to its last result. last_point: maps a result to the last frame
    that it is made from. behind: points where it matters whether the video goes on.
    """

    results: Points
    frames: GridPoints
    last_result: Callable[[int], int] = field(default=lambda point: point)
    last_point: Callable[[int], int] = field(default=lambda number: number)
    behind: Sequence[int] = ()


class Footage(Generic[T]):
    """The known results of a video, and the source for the others. A context manager.

    Without a recall, or with one that knows nothing, everything is decoded. missing: the results to make from
    `source`; None means all of them, and then the same frames are sampled as without a cache. source: None if
    nothing is missing; the video is then not even opened.
    """

    def __init__(
        self,
        wanted: Wanted,
        open_source: Callable[[Sampled], FrameSource],
        progress: Progress,
        recall: Recall[T] | None,
    ) -> None:
        """Look up the known results. Raises VideoUnreadable."""
        self._wanted, self._progress, self._recall = wanted, progress, recall
        self._facts = recall.facts if recall else None
        self._within = self._covered = Points(())
        self.behind = tuple(wanted.behind)
        """Points that must still be decoded to see whether the video goes on there."""
        self._kept = self._of = 0
        self._saw_last = False
        self._told: tuple[int, int | None] = (0, None)
        self.source: FrameSource | None = None
        self.missing = self._missing(recall, self._facts) if recall and self._facts else None
        if self.missing is None:
            self.source = open_source(progress.sampled)
        elif self.missing or self.behind:
            with _unrecallable():
                self.source = open_source(lambda _done, _total: None)

    def _missing(self, recall: Recall[T], facts: VideoFacts) -> Points | None:
        results, interval_us = self._wanted.results, self._wanted.frames.interval_us
        if facts.end is not None:
            results = self._within = results.until(
                self._wanted.last_result(facts.end.reach_us // interval_us)
            )
            behind: tuple[int, ...] = ()
        else:
            seen_us = max(facts.seen_us, facts.duration_us or 0)
            self._within = results.until(self._wanted.last_result(seen_us // interval_us))
            behind = tuple(point for point in self.behind if point * interval_us > facts.seen_us)
        covered = recall.coverage(self._within)
        missing = results.minus(covered)
        if missing and missing.ranges == results.ranges:
            return None
        self._covered, self.behind = covered, behind
        return missing

    def __enter__(self) -> Footage[T]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.source is not None:
            self.source.close()
        if self._recall is not None and self.source is not None:
            self._keep(self._recall, self.source)
        if not isinstance(error, Unrecallable):
            self._progress.decoded(self.decoding)

    def _keep(self, recall: Recall[T], source: FrameSource) -> None:
        if not source.is_sound:
            recall.keep_facts(VideoFacts(is_sound=False))
            return
        first, all_of_them = source.first_warnings, source.decoding.warnings
        recall.keep_facts(
            VideoFacts(
                True,
                source.info.decoder,
                first,
                source.info.duration_us,
                source.seen_us,
                source.end,
                tuple(warning for warning in all_of_them if warning not in first),
            )
        )
        recall.flush()

    @property
    def to_make(self) -> Points:
        """The results to make from the source."""
        return self._wanted.results if self.missing is None else self.missing

    def interrupt(self) -> None:
        """End the current sampling. May be called from any thread."""
        if self.source is not None:
            self.source.interrupt()

    def items(
        self,
        known: Callable[[Sample[T]], Item],
        decode: Callable[[FrameSource], Generator[Item, None, None]],
        place: Callable[[Item], Range],
    ) -> Generator[Item, None, None]:
        """All wanted items in order, known and decoded ones.

        Args:
            known: turns a known result into an item.
            decode: makes the other items from the source.
            place: gives the first and last number of an item, to sort by.
        """
        if self.missing is None or self._recall is None:
            assert self.source is not None
            yield from decode(self.source)
            return
        made = self._made(decode)
        with closing(made), _unrecallable():
            for item in heapq.merge(map(known, self._recall.known(self._within)), made, key=place):
                self._tell(place(item)[1])
                yield item
        self._tell(None)

    def _made(
        self, decode: Callable[[FrameSource], Generator[Item, None, None]]
    ) -> Generator[Item, None, None]:
        if self.source is not None:
            yield from decode(self.source)

    def _tell(self, number: int | None) -> None:
        """Report the number of finished points: those up to that result, or all of them for None."""
        frames, end = self._wanted.frames, self.end or (self._facts and self._facts.end)
        end_us = end.reach_us + 1 if end else self.duration_us
        total = frames.count(end_us)
        done = total
        if number is not None:
            until_us = (self._wanted.last_point(number) + 1) * frames.interval_us
            done = frames.count(until_us if end_us is None else min(until_us, end_us))
        if (told := (done or 0, total)) != self._told:
            self._told = told
            self._progress.sampled(*told)

    def take(self, sample: Sample[T]) -> None:
        """Take a result, known or new. Results come in order.

        Raises:
            Unrecallable: the video is damaged, so its known results must not be used.
        """
        self.check()
        if self._recall is None:
            return
        count = sample.last - sample.first + 1
        self._of += count
        if self._facts and self._facts.end and sample.time_us == self._facts.end.last_us:
            self._saw_last = True
        if self._covered.contains(sample.first, sample.last):
            self._kept += count
        elif self.source is not None and self.source.is_sound:
            self._recall.learn(sample)

    def check(self) -> None:
        """Raise Unrecallable if known results are used of a video that turns out to be damaged."""
        if self.missing is not None and self.source is not None and not self.source.is_sound:
            raise Unrecallable

    @property
    def end(self) -> VideoEnd | None:
        """The video's end, if it was reached, or would have been reached without the known results."""
        if self.source is not None and (self.missing is None or self.source.end is not None):
            return self.source.end
        facts = self._facts
        if facts is None or facts.end is None:
            return None
        frames = self._wanted.frames
        beyond = frames.at_or_after(facts.end.reach_us // frames.interval_us + 1)
        return facts.end if self._saw_last or beyond is not None else None

    def last_point(self, seen: int) -> int:
        """The video's last point, if its end was reached; else `seen`, the last one that was decoded."""
        end = self.end
        if self.missing is None or end is None:
            return seen
        return end.reach_us // self._wanted.frames.interval_us

    @property
    def end_us(self) -> int | None:
        """The video's end, in microseconds; None if it is not known."""
        return self.end.end_us if self.end else None

    @property
    def duration_us(self) -> int | None:
        """The video's length as its container states it; None if it does not."""
        if self.source is not None:
            return self.source.info.duration_us
        return self._facts.duration_us if self._facts else None

    @property
    def ends_early(self) -> str:
        """Why frames are missing at the end of the video, as a sentence."""
        return self.source.ends_early if self.source else ""

    @property
    def decoding(self) -> Decoding:
        """How the video was decoded, now or when its results were cached."""
        facts = self._facts
        if self.missing is None or facts is None:
            assert self.source is not None
            decoding = self.source.decoding
        else:
            at_end = facts.end_warnings if self.end else ()
            now = self.source.decoding.warnings if self.source else ()
            warnings = tuple(dict.fromkeys((*facts.warnings, *at_end, *now)))
            decoding = Decoding(facts.decoder, warnings)
        return replace(decoding, kept=self._kept, of=self._of)


@contextmanager
def _unrecallable() -> Iterator[None]:
    """Turn VideoUnreadable into Unrecallable: a run without known results may report another error."""
    try:
        yield
    except VideoUnreadable as error:
        raise Unrecallable from error


def with_recall(predict: Callable[[bool], Answers]) -> Answers:
    """The answers of a run that may use known results; if it must stop, the rest come from one without."""
    answered: set[int] = set()
    try:
        with closing(predict(True)) as answers:
            for index, answer in answers:
                answered.add(index)
                yield index, answer
        return
    except Unrecallable:
        pass
    yield from ((index, answer) for index, answer in predict(False) if index not in answered)
