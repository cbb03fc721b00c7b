"""Predicts without a server, in this process; `vertex-emulator predict` uses it."""

from __future__ import annotations

import json
import mimetypes
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from emulator.execution.inputs import JobInput
from emulator.execution.shards import ModelUse, Outcome, Predicted, Predictors, Shard, ShardItem, run
from emulator.files import open_regular
from emulator.inference.decoding import Decoding
from emulator.storage import GcsUri, ObjectStore
from emulator.storage.uri import SCHEME
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
        predictors: the loaded models; runs may share them.
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
    predictors: Predictors = field(default_factory=Predictors)

    def predict(self, source: str, segment: tuple[int, int | None] = (0, None)) -> Iterator[LocalOutcome]:
        """Predict the instances of a JSONL file, or a `segment` (µs) of a video.

        `source` is a path or a gs:// URI; a name that ends in .jsonl or .json holds instances. Outcomes come
        video by video, in input order.

        Raises:
            InputError, StorageError, InvalidUri, OSError: the source cannot be read.
            ModelUnusable: the model cannot be run.
        """
        self.predictors.get(self.model)
        if not source.lower().endswith(_INSTANCE_SUFFIXES):
            yield from self._predict_video(source, segment)
            return
        with JobInput() as job_input:
            if source.startswith(SCHEME):
                job_input.read(self.store, [GcsUri.parse(source)], strict=self.strict)
            else:
                with open_regular(Path(source)) as file:
                    job_input.read_file(file, source, strict=self.strict)
                job_input.require_instances()
            yield from self._predict_instances(job_input)

    def _predict_instances(self, job_input: JobInput) -> Iterator[LocalOutcome]:
        for instance, failure in job_input.failures.items():
            yield _failed(None, job_input.raw(instance), failure)
        for number, (content, instances) in enumerate(job_input.videos, start=1):
            items = tuple(
                ShardItem(instance, job_input.raw(instance), *job_input.segment(instance))
                for instance in instances
            )
            video = GcsUri.parse(content)
            yield from self._predict_items(video, items, number, len(job_input.videos))

    def _predict_video(self, source: str, segment: tuple[int, int | None]) -> Iterator[LocalOutcome]:
        start_us, end_us = segment
        instance = {
            "content": source,
            "mimeType": mimetypes.guess_type(source)[0] or "video/mp4",
            "timeSegmentStart": duration_text(start_us),
            "timeSegmentEnd": "inf" if end_us is None else duration_text(end_us),
        }
        raw = json.dumps(instance, ensure_ascii=False, separators=(",", ":"))
        video = GcsUri.parse(source) if source.startswith(SCHEME) else Path(source)
        yield from self._predict_items(video, (ShardItem(0, raw, start_us, end_us),), 1, 1)

    def _predict_items(
        self,
        video: GcsUri | Path,
        items: tuple[ShardItem, ...],
        number: int,
        videos: int,
    ) -> Iterator[LocalOutcome]:
        shard = Shard("predict", self.model, video, self.store, items, self.parameters)
        progress = _Progress(
            lambda done, total: self.advance(number, videos, done, total),
            lambda text: self.warn(f"{video}: {text}"),
            self.recalled,
        )
        outcomes = {
            outcome.instance: outcome for outcome in run(shard, self.predictors.get(self.model), progress)
        }
        for item in items:
            yield _local(number, item, outcomes[item.instance])


@dataclass(frozen=True)
class _Progress:
    sampled: Callable[[int, int | None], None]
    warn: Callable[[str], None]
    recalled: Callable[[int, int], None]

    def cancelled(self) -> bool:
        return False

    def advance(self, time_us: int) -> None:
        pass

    def alive(self) -> None:
        pass

    def decoded(self, decoding: Decoding) -> None:
        for warning in decoding.warnings:
            self.warn(warning)
        if decoding.of:
            self.recalled(decoding.kept, decoding.of)


def _local(number: int, item: ShardItem, outcome: Outcome) -> LocalOutcome:
    if isinstance(outcome, Predicted):
        return LocalOutcome(number, outcome.line.decode().removesuffix("\n"))
    return _failed(number, item.raw, outcome.failure)


def _failed(number: int | None, raw: str, failure: InstanceFailure) -> LocalOutcome:
    return LocalOutcome(number, error_line(raw, failure.code, failure.message), failure)
