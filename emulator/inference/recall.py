"""Earlier results for a video, by the points of a grid, in blocks in the prediction cache."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from emulator.inference.heads import Detections
from emulator.inference.points import Points
from emulator.inference.prediction_cache import PredictionCache, VideoIdentity
from emulator.inference.video import Sample, VideoEnd

T = TypeVar("T")

Arrays = Mapping[str, NDArray[Any]]

#: Points in one file: at ten a second, this is more than a minute and a half.
BLOCK = 1000
#: Blocks that were looked up are held in memory up to this size; the others are read again.
HELD_BYTES = 32 << 20


class Unrecallable(Exception):
    """The known results cannot be used after all: the video must be predicted without them."""


class Codec(Protocol[T]):
    """Writes results as arrays, and reads them back bit for bit."""

    def pack(self, results: Sequence[T], /) -> dict[str, NDArray[Any]]: ...

    def unpack(self, arrays: Arrays, /) -> list[T]: ...


class DetectionsCodec:
    """Detections of frames: 22 bytes each."""

    def pack(self, results: Sequence[Detections], /) -> dict[str, NDArray[Any]]:
        """See Codec."""
        return {
            "counts": np.array([len(found) for found in results], np.uint32),
            "boxes": np.concatenate([found.boxes for found in results]),
            "scores": np.concatenate([found.scores for found in results]),
            "classes": _shortest(np.concatenate([found.classes for found in results])),
        }

    def unpack(self, arrays: Arrays, /) -> list[Detections]:
        """See Codec."""
        places = np.cumsum(arrays["counts"])[:-1]
        columns = (arrays["boxes"], arrays["scores"], arrays["classes"].astype(np.int64))
        return [Detections(*found) for found in zip(*(np.split(one, places) for one in columns), strict=True)]


class ScoresCodec:
    """Scores of clips, one for each label."""

    def pack(self, results: Sequence[NDArray[np.float32]], /) -> dict[str, NDArray[Any]]:
        """See Codec."""
        return {"scores": np.stack(results)}

    def unpack(self, arrays: Arrays, /) -> list[NDArray[np.float32]]:
        """See Codec."""
        return list(arrays["scores"])


@dataclass(frozen=True)
class VideoFacts:
    """The decoder's facts about a video without damage; times in microseconds.

    seen_us: the latest point for which a frame was found. end: known once the last frame was reached. Of a
    damaged or incomplete video, only `is_sound` is kept: its results depend on where decoding begins.
    """

    is_sound: bool
    decoder: str = ""
    warnings: tuple[str, ...] = ()
    duration_us: int | None = None
    seen_us: int = 0
    end: VideoEnd | None = None
    end_warnings: tuple[str, ...] = ()

    def dump(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    @classmethod
    def load(cls, content: bytes) -> VideoFacts:
        facts = cls(**json.loads(content))
        end = VideoEnd(**facts.end) if isinstance(facts.end, dict) else None
        return replace(facts, end=end, warnings=tuple(facts.warnings), end_warnings=tuple(facts.end_warnings))


@dataclass(frozen=True)
class _Block:
    """Samples of one file, in order; `packed` are their results."""

    first: tuple[int, ...]
    last: tuple[int, ...]
    time_us: tuple[int, ...]
    packed: Arrays

    @property
    def ranges(self) -> list[tuple[int, int]]:
        return list(zip(self.first, self.last, strict=True))

    @property
    def size(self) -> int:
        return sum(array.nbytes for array in self.packed.values())


class Recall(Generic[T]):
    """Looks up and extends the results of one video for one model. For one thread at a time.

    A sample is the result for the points `first` to `last`, made at the moment `time_us`; each moment has one
    sample. decoding: how videos are decoded. look: everything else that results depend on.
    """

    def __init__(
        self,
        cache: PredictionCache,
        path: Path,
        video: VideoIdentity,
        codec: Codec[T],
        *,
        decoding: str,
        look: str,
    ) -> None:
        self._cache, self._path, self._video, self._codec = cache, path, video, codec
        self._video_key = f"{cache.code} {video.digest} {decoding}"
        self._key = f"{self._video_key} {look}"
        self._held: dict[int, _Block] = {}
        self._held_bytes = 0
        self._coverage: dict[int, list[tuple[int, int]]] = {}
        self._learned: list[Sample[T]] = []
        content = cache.get(self._video_key)
        self.facts = VideoFacts.load(content) if content is not None else None

    def coverage(self, wanted: Points) -> Points:
        """The points that have a result, in the blocks of the wanted points."""
        for number in _blocks(wanted):
            if number not in self._coverage and (block := self._read(number)) is not None:
                self._coverage[number] = block.ranges
                if self._held_bytes + block.size <= HELD_BYTES:
                    self._held[number] = block
                    self._held_bytes += block.size
        return Points(range_ for ranges in self._coverage.values() for range_ in ranges)

    def known(self, wanted: Points) -> Iterator[Sample[T]]:
        """The samples of the covered points, in order.

        Raises:
            Unrecallable: a result has changed or disappeared since `coverage`.
        """
        before: Sample[T] | None = None
        for number in _blocks(wanted):
            for sample in self._samples(number, wanted):
                if before is not None and before.time_us == sample.time_us:
                    before = replace(before, last=sample.last)
                    continue
                if before is not None:
                    yield before
                before = sample
        if before is not None:
            yield before

    def _samples(self, number: int, wanted: Points) -> Iterator[Sample[T]]:
        if number not in self._coverage:
            return
        block = self._held.pop(number, None) or self._read(number)
        if block is None or block.ranges != self._coverage[number]:
            raise Unrecallable
        results = self._codec.unpack(block.packed)
        for (first, last), time_us, result in zip(block.ranges, block.time_us, results, strict=True):
            begin, end = wanted.at_or_after(first), wanted.at_or_before(last)
            if begin is not None and end is not None and begin <= end:
                yield Sample(begin, end, time_us, result)

    def learn(self, sample: Sample[T]) -> None:
        """Take a new result. Results come in order."""
        if self._learned and sample.first // BLOCK != self._learned[-1].first // BLOCK:
            self.flush()
        self._learned.append(sample)

    def flush(self) -> None:
        """Store the new results, if the file has not changed since it was read."""
        learned, self._learned = self._learned, []
        if not learned or not self.is_same_file():
            return
        for number in _blocks(Points((sample.first, sample.last) for sample in learned)):
            bounds = Points([(number * BLOCK, (number + 1) * BLOCK - 1)])
            pieces = [_within(sample, bounds) for sample in learned]
            old = self._read(number)
            kept = self._all_of(old) if old else []
            merged = _merged([*kept, *(piece for piece in pieces if piece is not None)])
            self._cache.put(f"{self._key} {number}", self._packed(merged))

    def keep_facts(self, facts: VideoFacts) -> None:
        """Store the decoder's facts, merged with those known before."""
        before = self.facts
        if before is not None and before.is_sound and facts.is_sound:
            facts = replace(facts, seen_us=max(before.seen_us, facts.seen_us))
            if facts.end is None:
                facts = replace(facts, end=before.end, end_warnings=before.end_warnings)
        if facts != before and self.is_same_file():
            self._cache.put(self._video_key, facts.dump())

    def is_same_file(self) -> bool:
        """Whether the file has not changed since its digest was computed."""
        try:
            return self._cache.videos.stamp(self._path) == self._video.stamp
        except OSError:
            return False

    def _all_of(self, block: _Block) -> list[Sample[T]]:
        results = self._codec.unpack(block.packed)
        return list(map(Sample, block.first, block.last, block.time_us, results))

    def _packed(self, samples: Sequence[Sample[T]]) -> bytes:
        columns: dict[str, Any] = {
            name: np.array([getattr(sample, name) for sample in samples], np.int64)
            for name in ("first", "last", "time_us")
        }
        buffer = io.BytesIO()
        np.savez(buffer, **(columns | self._codec.pack([sample.data for sample in samples])))
        return buffer.getvalue()

    def _read(self, number: int) -> _Block | None:
        content = self._cache.get(f"{self._key} {number}")
        if content is None:
            return None
        with np.load(io.BytesIO(content), allow_pickle=False) as stored:
            arrays = dict(stored)
        first, last, time_us = (tuple(arrays.pop(name).tolist()) for name in ("first", "last", "time_us"))
        return _Block(first, last, time_us, arrays)


def _blocks(points: Points) -> Iterator[int]:
    """The numbers of the blocks that contain the points, in order."""
    reached = None
    for first, last in points.ranges:
        begin = first // BLOCK if reached is None else max(first // BLOCK, reached + 1)
        yield from range(begin, last // BLOCK + 1)
        reached = last // BLOCK


def _within(sample: Sample[T], bounds: Points) -> Sample[T] | None:
    first, last = bounds.at_or_after(sample.first), bounds.at_or_before(sample.last)
    if first is None or last is None or first > last:
        return None
    return replace(sample, first=first, last=last)


def _merged(samples: Sequence[Sample[T]]) -> list[Sample[T]]:
    """One sample for each moment, in order."""
    by_time: dict[int, Sample[T]] = {}
    for sample in samples:
        same = by_time.get(sample.time_us, sample)
        first, last = min(same.first, sample.first), max(same.last, sample.last)
        by_time[sample.time_us] = replace(sample, first=first, last=last)
    return [by_time[time_us] for time_us in sorted(by_time)]


def _shortest(numbers: NDArray[np.int64]) -> NDArray[Any]:
    """The same non-negative numbers, in two bytes each if they fit."""
    return numbers.astype(np.uint16) if numbers.max(initial=0) < 1 << 16 else numbers
