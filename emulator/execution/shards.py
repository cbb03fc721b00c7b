"""A shard: what a worker gets for one video of a job, what it returns, and how it predicts.

Everything here is picklable and needs no database, so threads, processes and other machines are
interchangeable. Only `run` imports numpy, OpenCV and onnxruntime, because the server imports this module.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from emulator.inference.canned import CannedModel, Recorded, file_digest, load_canned
from emulator.inference.decoding import USUAL, VideoOptions
from emulator.inference.manifest import ModelUnusable, load_manifest, model_files
from emulator.inference.model_files import ModelDigests
from emulator.inference.objectives import open_predictor
from emulator.inference.prediction_cache import CachePlace, PredictionCache
from emulator.inference.predictor import Predictor, Progress, Segment
from emulator.instructions.faults import JobFault
from emulator.storage import (
    AccessDenied,
    GcsUri,
    InvalidUri,
    ObjectNotFound,
    ObjectStore,
    StorageError,
    StorageUnavailable,
)
from emulator.vertex import errors
from emulator.vertex.instances import InstanceFailure
from emulator.vertex.parameters import ModelParameters
from emulator.vertex.predictions import prediction_line

log = logging.getLogger(__name__)

_KEPT_PREDICTORS = 4


@dataclass(frozen=True)
class ModelUse:
    """How to use a model: its folder, execution provider, decoder settings and prediction cache.

    `changes` override values of its model.toml: pairs of `section.key` and value.
    """

    folder: Path
    provider: str = "auto"
    threads: int = 0
    video: VideoOptions = USUAL
    cache: CachePlace | None = None
    changes: tuple[tuple[str, object], ...] = ()


@dataclass(frozen=True)
class ShardItem:
    """One instance: its position in the job's input, its line as compact JSON, and its segment (µs)."""

    instance: int
    raw: str
    start_us: int
    end_us: int | None


@dataclass(frozen=True)
class Shard:
    """Instances of one video that are predicted in one pass.

    Attributes:
        attempt: 1-based.
        faults: injected faults that the worker carries out.
        batch_size: what the job asks for; 0 if it does not.
        model_digest: digest of the model that the job began with; "" allows any.
    """

    job: str
    model: ModelUse
    video: GcsUri | Path
    store: ObjectStore
    items: tuple[ShardItem, ...]
    parameters: ModelParameters
    attempt: int = 1
    faults: tuple[JobFault, ...] = ()
    batch_size: int = 0
    model_digest: str = ""


@dataclass(frozen=True)
class Predicted:
    """A successful instance: its line of the predictions file (UTF-8, with the line break)."""

    instance: int
    line: bytes


@dataclass(frozen=True)
class Failed:
    """A failed instance."""

    instance: int
    failure: InstanceFailure


Outcome = Predicted | Failed


Model = Predictor | CannedModel


class _Cancelled(Exception):
    """The shard was cancelled outside the prediction loop (during a download or while writing)."""


class Predictors:
    """An LRU cache of loaded models; it keeps a handful. Thread-safe: a model is loaded once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: OrderedDict[tuple[ModelUse, object], Model] = OrderedDict()
        self._digests = ModelDigests()
        self._caches: dict[CachePlace, PredictionCache] = {}

    def get(self, model: ModelUse, digest: str = "") -> Model:
        """The predictor of that model, loaded again if its files have changed.

        Raises:
            ModelUnusable: the model cannot be run, or its digest differs from `digest`.
        """
        with self._lock:
            predictor = self._load(model)
        # Checked after loading: the same files were there before, or the stamp differs next time.
        if digest and self._digests.get(model.folder) != digest:
            raise ModelUnusable(model_changed(model.folder))
        return predictor

    def _load(self, model: ModelUse) -> Model:
        key = (model, _stamp(model.folder))
        predictor = self._open.pop(key, None)
        if predictor is None:
            manifest = load_manifest(model.folder, dict(model.changes))
            if manifest.is_canned:
                predictor = load_canned(manifest)
            else:
                predictor = open_predictor(
                    manifest,
                    provider=model.provider,
                    threads=model.threads,
                    video=model.video,
                    cache=self._cache(model.cache),
                )
            self._digests.get(model.folder)  # computed now, so that the first job does not wait for it
        self._open[key] = predictor
        while len(self._open) > _KEPT_PREDICTORS:
            self._open.popitem(last=False)
        return predictor

    def _cache(self, place: CachePlace | None) -> PredictionCache | None:
        """The prediction cache of that place; it remembers the digests of videos."""
        if place is None:
            return None
        return self._caches.setdefault(place, PredictionCache(place))


def run(shard: Shard, predictor: Model, progress: Progress) -> Generator[Outcome]:
    """Predict a shard; yields each instance's outcome as soon as it is known.

    A defect of the video becomes the outcome of each instance that has none yet. Ends early once
    `progress.cancelled()`.

    Raises:
        ModelUnusable, StorageUnavailable: the whole job is affected.
    """
    if isinstance(predictor, CannedModel):
        with contextlib.suppress(_Cancelled):
            yield from _run_canned(shard, predictor, progress)
        return
    waiting = {item.instance: item for item in shard.items}
    segments = [Segment(item.start_us, item.end_us) for item in shard.items]
    try:
        with _file_of(shard, progress) as video:
            results = predictor.predict(video, segments, shard.parameters, progress, shard.batch_size)
            for position, result in results:
                item = shard.items[position]
                del waiting[item.instance]
                yield _outcome(item, result, partial(_check, progress))
        failure = InstanceFailure(
            errors.Internal.code, "The model gave no answer for this instance; see the server's log."
        )
    except (ModelUnusable, StorageUnavailable):
        raise
    except _Cancelled:
        return
    except Exception as error:
        failure = _failure(shard, error)
    if not progress.cancelled():
        for instance in waiting:
            yield Failed(instance, failure)


def model_changed(folder: Path) -> str:
    """The error message of a job whose model in `folder` has changed."""
    return (
        f"The model has changed since the job began: the files in {folder} are others now, and predictions of"
        " two models do not belong in one output. Create the job again."
    )


def batches_of(shard: Shard, model: Model) -> str:
    """How the batch size that the job asks for is applied, in words; "" if it asks for none."""
    if shard.batch_size <= 0:
        return ""
    if isinstance(model, CannedModel):
        return f"batchSize {shard.batch_size}: none, the predictions are canned"
    plan = model.batches(shard.batch_size, shard.parameters)
    return f"batchSize {shard.batch_size}: {plan.note or 'as asked'}"


def _run_canned(shard: Shard, model: CannedModel, progress: Progress) -> Iterator[Outcome]:
    """Answer from the model's file of canned predictions. The video is read only if a line names its hash."""
    known: list[str | None] = []

    def digest() -> str | None:
        if not known:
            try:
                with _file_of(shard, progress) as video:
                    known.append(file_digest(video))
            except StorageUnavailable:
                raise
            except (StorageError, InvalidUri):
                known.append(None)
        return known[0]

    for item in shard.items:
        progress.advance(0)
        if progress.cancelled():
            return
        result = model.answer(str(shard.video), (item.start_us, item.end_us), digest)
        if isinstance(result, InstanceFailure):
            yield Failed(item.instance, result)
        else:
            line = (
                result.line(item.raw) if isinstance(result, Recorded) else prediction_line(item.raw, result)
            )
            yield Predicted(item.instance, line.encode() + b"\n")


def storage_code(error: StorageError) -> int:
    """The google.rpc code for a storage error."""
    if isinstance(error, ObjectNotFound):
        return errors.NotFound.code
    if isinstance(error, AccessDenied):
        return errors.PermissionDenied.code
    if isinstance(error, StorageUnavailable):
        return errors.Unavailable.code
    return errors.FailedPrecondition.code


def _file_of(shard: Shard, progress: Progress) -> contextlib.AbstractContextManager[Path]:
    if isinstance(shard.video, GcsUri):
        return shard.store.interruptible(partial(_check, progress)).local_path(shard.video)
    return contextlib.nullcontext(shard.video)


def _check(progress: Progress) -> None:
    """Send a sign of life, and raise if cancelled: during a download or while predictions are written."""
    progress.alive()
    if progress.cancelled():
        raise _Cancelled


def _outcome(item: ShardItem, result: object, check: Callable[[], None]) -> Outcome:
    if isinstance(result, InstanceFailure):
        return Failed(item.instance, result)
    assert isinstance(result, list)
    return Predicted(item.instance, prediction_line(item.raw, result, check).encode() + b"\n")


def _failure(shard: Shard, error: Exception) -> InstanceFailure:
    """The failure of each instance of a video with this error."""
    from emulator.inference.container import VideoUnreadable

    if isinstance(error, VideoUnreadable):
        return InstanceFailure(errors.InvalidArgument.code, f"{shard.video}: {error}")
    if isinstance(error, InvalidUri):
        return InstanceFailure(errors.InvalidArgument.code, str(error))
    if isinstance(error, StorageError):
        return InstanceFailure(storage_code(error), str(error))
    log.error("%s: %s failed.", shard.job, shard.video, exc_info=error)
    cause = f"{type(error).__name__}: {error}"
    return InstanceFailure(
        errors.Internal.code, f"{shard.video}: {cause}. This is a defect; see the server's log."
    )


def _stamp(folder: Path) -> object:
    """A value that changes when a file of the model does, so that an edited model is loaded again."""
    return tuple((name, status.st_size, status.st_mtime_ns) for name, status in model_files(folder))
