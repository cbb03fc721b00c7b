"""Damaged videos: the worker answers each with predictions or an error in words; it never dies or hangs."""

import queue
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.execution.executor import Alive, Event, Finished
from emulator.execution.processes import ProcessExecutor
from emulator.execution.shards import Failed, ModelUse, Predicted, Shard, ShardItem
from emulator.storage import LocalStore
from emulator.vertex import errors
from emulator.vertex.parameters import ModelParameters
from tests.execution.workplace import write_tiny_model
from tests.fuzz.fuzzing import examples
from tests.inference.corpus import Clip, constant

pytestmark = pytest.mark.fuzz

_PATIENCE_S = 120
_RATE = Fraction(1, 30)
_CLIPS = [
    Clip("b.mp4", constant(40), _RATE, b_frames=2, gop=10, container_options={"movflags": "faststart"}),
    Clip("sound.mp4", constant(40), _RATE, audio=True),
    Clip("fragments.mp4", constant(40), _RATE, container_options={"movflags": "frag_keyframe+empty_moov"}),
    Clip("old.mp4", constant(40), _RATE, codec="mpeg4"),
    Clip("v.mkv", constant(40), Fraction(1, 1000), b_frames=2),
    Clip("v.mov", constant(40), _RATE, codec="mjpeg", pixel_format="yuvj420p"),
    Clip("v.ts", constant(40), Fraction(1, 90_000)),
]


class Bench:
    """A worker that is given one video at a time."""

    def __init__(self, folder: Path, pool: ProcessExecutor) -> None:
        self.clips = {clip.name: clip.write(folder).read_bytes() for clip in _CLIPS}
        self._video = folder / "damaged"
        self._pool = pool
        self._model = ModelUse(write_tiny_model(folder / "tiny"), "cpu", 1)
        self._store = LocalStore(folder)

    def predict(self, name: str, data: bytes) -> list[Event]:
        """Everything the worker says of a video, to the end."""
        self._video = self._video.with_suffix(Path(name).suffix)
        self._video.write_bytes(data)
        said: queue.SimpleQueue[Event] = queue.SimpleQueue()
        shards = self._pool.open_queue(self._shard, lambda _, event: said.put(event))
        try:
            shards.add([0])
            found = [said.get(timeout=_PATIENCE_S)]
            while isinstance(found[-1], Alive | Predicted | Failed):
                found.append(said.get(timeout=_PATIENCE_S))
            return [event for event in found if not isinstance(event, Alive)]
        finally:
            shards.close()

    def _shard(self, _: int) -> Shard:
        items = (ShardItem(0, '{"content":"a"}', 0, None), ShardItem(1, '{"content":"a"}', 300_000, 900_000))
        return Shard("job", self._model, self._video, self._store, items, ModelParameters())


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    pool = ProcessExecutor(1, timeout_s=60, log_level="error")
    pool.start()
    yield Bench(tmp_path_factory.mktemp("videos"), pool)
    pool.stop()


@st.composite
def _damage(draw: st.DrawFn, data: bytes) -> bytes:
    """Bytes overwritten, cut out or doubled at some places, most of them where the structure lies."""
    bytes_ = bytearray(data)
    for _ in range(draw(st.integers(1, 6))):
        near = draw(st.sampled_from([64, 1024, 4096, len(data)]))
        at = draw(st.integers(0, max(0, min(near, len(bytes_)) - 1)))
        if draw(st.booleans()):
            at = max(0, len(bytes_) - 1 - at)
        length = draw(st.sampled_from([1, 2, 4, 8, 64]))
        kind = draw(st.sampled_from(["set", "flip", "cut", "double", "end", "zero"]))
        if kind == "set":
            bytes_[at : at + length] = draw(st.binary(min_size=length, max_size=length))
        elif kind == "flip" and bytes_:
            bytes_[at] ^= 1 << draw(st.integers(0, 7))
        elif kind == "cut":
            del bytes_[at : at + length]
        elif kind == "double":
            bytes_[at:at] = bytes_[at : at + length]
        elif kind == "zero":
            bytes_[at : at + length] = draw(st.sampled_from([b"\0", b"\xff", b"\x7f"])) * length
        elif draw(st.integers(0, 4)) == 0:
            del bytes_[at:]
    return bytes(bytes_)


@examples(30)
@given(name=st.sampled_from([clip.name for clip in _CLIPS]), data=st.data())
def test_damaged_videos(bench: Bench, name: str, data: Any) -> None:
    *outcomes, end = bench.predict(name, data.draw(_damage(bench.clips[name])))
    assert isinstance(end, Finished), end
    assert sorted(outcome.instance for outcome in outcomes if isinstance(outcome, Predicted | Failed)) == [
        0,
        1,
    ]
    for outcome in outcomes:
        if isinstance(outcome, Failed):
            assert outcome.failure.message
            assert outcome.failure.code != errors.Internal.code, outcome
