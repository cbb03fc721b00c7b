"""Predicts without a server, by shards in this process; `vertex-emulator predict` uses it."""

from __future__ import annotations

import json
import mimetypes
import queue
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from emulator.execution.executor import Alive, Died, Event, Finished, JobQueue, Refused
from emulator.execution.inline import InlineExecutor
from emulator.execution.inputs import JobInput
from emulator.execution.shards import Failed, ModelUse, Outcome, Predicted, Shard, ShardItem
from emulator.execution.workbench import Workbench
from emulator.files import open_regular
from emulator.inference.manifest import ModelUnusable
from emulator.storage import GcsUri, ObjectStore, StorageUnavailable
from emulator.storage.uri import SCHEME
from emulator.vertex import errors
from emulator.vertex.instances import InstanceFailure
from emulator.vertex.parameters import ModelParameters
from emulator.vertex.predictions import duration_text, error_line

_INSTANCE_SUFFIXES = (".jsonl", ".json", ".ndjson")


@dataclass(frozen=True)
class LocalOutcome:
    """The result of one instance: its line of the predictions or errors file, without the line break.

    `video` is the video's number, from 1; None for a line that is no valid instance.
    """

    video: int | None
    line: str
    failure: InstanceFailure | None = None


@dataclass(frozen=True)
class LocalRun:
    """The model and settings of a local run.

    Attributes:
        model: the model to run.
        parameters: of the predictions.
        store: where gs:// URIs are read from.
        strict: refuse input that only the emulator accepts.
        advance: progress callback with the video's number, the number of videos, the sampled frames of the
            video, and the frames to sample (or None).
        warn: gets warnings about videos.
        recalled: with a prediction cache, gets how many grid points of a video came from it, and of how many.
        workbench: holds the loaded models; runs may share it.
    """

    model: ModelUse
    parameters: ModelParameters
    store: ObjectStore
    strict: bool = False
    advance: Callable[[int, int, int, int | None], None] = field(
        default=lambda _video, _videos, _done, _total: None
    )
    warn: Callable[[str], None] = field(default=lambda _: None)
    recalled: Callable[[int, int], None] = field(default=lambda _kept, _of: None)
    # Every sampled frame is worth a call of `advance`.
    workbench: Workbench = field(default_factory=lambda: Workbench(alive_interval_s=0.0))

    def predict(self, source: str, segment: tuple[int, int | None] = (0, None)) -> Iterator[LocalOutcome]:
        """Predict the instances of a JSONL file, or a `segment` (µs) of a video.

        `source` is a path or a gs:// URI; a name that ends in .jsonl or .json holds instances. Outcomes come
        video by video, in input order.

        Raises:
            InputError, StorageError, InvalidUri, OSError: the source cannot be read.
            ModelUnusable: the model cannot be run.
        """
        self.workbench.open(self.model)
        with _Session(self.workbench) as session:
            if not source.lower().endswith(_INSTANCE_SUFFIXES):
                yield from self._predict_video(session, source, segment)
                return
            with JobInput() as job_input:
                self._read(job_input, source)
                yield from self._predict_instances(session, job_input)

    def _read(self, job_input: JobInput, source: str) -> None:
        if source.startswith(SCHEME):
            job_input.read(self.store, [GcsUri.parse(source)], strict=self.strict)
        else:
            with open_regular(Path(source)) as file:
                job_input.read_file(file, source, strict=self.strict)
            job_input.require_instances()

    def _predict_instances(self, session: _Session, job_input: JobInput) -> Iterator[LocalOutcome]:
        for instance, failure in job_input.failures.items():
            yield _failed(None, job_input.raw(instance), failure)
        for number, (content, instances) in enumerate(job_input.videos, start=1):
            items = tuple(
                ShardItem(instance, job_input.raw(instance), *job_input.segment(instance))
                for instance in instances
            )
            shard = self._shard(GcsUri.parse(content), items)
            yield from self._predict_shard(session, shard, number, len(job_input.videos))

    def _predict_video(
        self, session: _Session, source: str, segment: tuple[int, int | None]
    ) -> Iterator[LocalOutcome]:
        start_us, end_us = segment
        instance = {
            "content": source,
            "mimeType": mimetypes.guess_type(source)[0] or "video/mp4",
            "timeSegmentStart": duration_text(start_us),
            "timeSegmentEnd": "inf" if end_us is None else duration_text(end_us),
        }
        raw = json.dumps(instance, ensure_ascii=False, separators=(",", ":"))
        video = GcsUri.parse(source) if source.startswith(SCHEME) else Path(source)
        shard = self._shard(video, (ShardItem(0, raw, start_us, end_us),))
        yield from self._predict_shard(session, shard, 1, 1)

    def _shard(self, video: GcsUri | Path, items: tuple[ShardItem, ...]) -> Shard:
        return Shard("predict", self.model, video, self.store, items, self.parameters)

    def _predict_shard(
        self, session: _Session, shard: Shard, number: int, videos: int
    ) -> Iterator[LocalOutcome]:
        outcomes: dict[int, Outcome] = {}
        shown = Alive()
        for event in session.predict(shard):
            if isinstance(event, Predicted | Failed):
                outcomes[event.instance] = event
            elif isinstance(event, Alive) and event != shown and event.frames >= shown.frames:
                shown = event
                self.advance(number, videos, event.frames, event.of)
            elif isinstance(event, Finished):
                self._tell(shard, event)
        for item in shard.items:
            yield _local(number, item, outcomes[item.instance])

    def _tell(self, shard: Shard, finished: Finished) -> None:
        decoding = finished.decoding
        if decoding is not None:
            for warning in decoding.warnings:
                self.warn(f"{shard.video}: {warning}")
            if decoding.of:
                self.recalled(decoding.kept, decoding.of)


class _Session:
    """An executor with one thread, for the shards of one run."""

    def __init__(self, workbench: Workbench) -> None:
        self._executor = InlineExecutor(1, workbench=workbench)
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._shards: JobQueue[Shard] = self._executor.open_queue(
            lambda shard: shard, lambda _, event: self._events.put(event)
        )

    def __enter__(self) -> Self:
        self._executor.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._executor.stop()

    def predict(self, shard: Shard) -> Iterator[Event]:
        """What happens to a shard, to its end.

        Raises:
            ModelUnusable, StorageUnavailable: it cannot be run.
            RuntimeError: the thread that runs it was ended.
        """
        self._shards.add([shard])
        event: Event = Alive()
        while not isinstance(event, Finished):
            event = self._events.get()
            if isinstance(event, Refused):
                is_storage = event.code == errors.Unavailable.code
                raise (StorageUnavailable if is_storage else ModelUnusable)(event.message)
            if isinstance(event, Died):
                raise RuntimeError(f"{shard.video}: the worker {event.cause}")
            yield event


def _local(number: int, item: ShardItem, outcome: Outcome) -> LocalOutcome:
    if isinstance(outcome, Predicted):
        return LocalOutcome(number, outcome.line.decode().removesuffix("\n"))
    return _failed(number, item.raw, outcome.failure)


def _failed(number: int | None, raw: str, failure: InstanceFailure) -> LocalOutcome:
    return LocalOutcome(number, error_line(raw, failure.code, failure.message), failure)
