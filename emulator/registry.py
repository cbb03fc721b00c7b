"""Model registry: model folders on disk, and the Vertex Models they describe.

Contract: model.proto. Reads manifests only; workers read the ONNX graphs.
"""

import hashlib
import logging
import math
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from emulator.config import Settings
from emulator.files import cause, open_regular, shown
from emulator.inference.canned import load_canned
from emulator.inference.manifest import (
    MANIFEST,
    ManifestError,
    ModelManifest,
    ModelUnusable,
    load_manifest,
    model_files,
)
from emulator.vertex.contract import load

SUPPORTED_FORMAT = "jsonl"
#: Maximum number of visible entries in a folder of models.
MOST_MODELS = 10_000
# An unusable folder is read again after this many times the time that reading it took.
_RETRY_FACTOR = 10

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ModelSource:
    """A model folder: its manifest, and a digest that changes when its files change."""

    folder: Path
    manifest: ModelManifest
    digest: str

    @property
    def id(self) -> str:
        """The Model id, the last part of its resource name."""
        return self.manifest.id

    @property
    def labels(self) -> dict[str, str]:
        """The Model's labels: one marks canned predictions."""
        return {"emulator-canned": "true"} if self.manifest.is_canned else {}

    @property
    def description(self) -> str:
        """The manifest's description; for canned predictions it says so first."""
        text = self.manifest.model.description
        return f"Canned predictions; no model is run. {text}".strip() if self.manifest.is_canned else text

    def message(self, *, artifact_uri: str = "") -> Any:
        """The folder's part of the v1 Model. `artifact_uri` is the origin of an uploaded model."""
        v1, objective = load().v1, self.manifest.objective
        source_types = v1.ModelSourceInfo.DESCRIPTOR.enum_types_by_name["ModelSourceType"].values_by_name
        # Vertex: a model without deployment resources types serves batch predictions only (model.proto).
        return v1.Model(
            predict_schemata=v1.PredictSchemata(
                instance_schema_uri=objective.instance_schema_uri,
                parameters_schema_uri=objective.parameters_schema_uri,
                prediction_schema_uri=objective.prediction_schema_uri,
            ),
            supported_input_storage_formats=[SUPPORTED_FORMAT],
            supported_output_storage_formats=[SUPPORTED_FORMAT],
            artifact_uri=artifact_uri,
            model_source_info=v1.ModelSourceInfo(
                source_type=source_types["CUSTOM" if artifact_uri else "AUTOML"].number
            ),
        )


@dataclass(frozen=True)
class Catalogue:
    """The folder models at one time.

    Two catalogues are equal if no folder changed in between. `problems` name the unusable folders with
    reasons.
    """

    sources: tuple[ModelSource, ...]
    problems: tuple[str, ...]


@dataclass(frozen=True)
class _Unusable:
    """An unusable folder and the reason; cached until its files change, or until `retry_at`."""

    problem: str
    state: object
    retry_at: float


class Registry:
    """The folders that models are read from, and the folder that uploads are copied to.

    A model in a later folder of `folders` replaces one with the same id in an earlier folder. Thread-safe.
    """

    def __init__(self, folders: Sequence[Path], uploads: Path) -> None:
        self._folders = tuple(folders)
        self._uploads = uploads
        self._lock = threading.Lock()
        self._read: dict[Path, ModelSource] = {}
        self._unusable: dict[Path, _Unusable] = {}
        self._catalogue = Catalogue((), ())
        self._looked_at = -math.inf

    def catalogue(self, *, max_age_s: float = 0.0) -> Catalogue:
        """The models in the folders, at most `max_age_s` seconds old. Reads only changed folders."""
        with self._lock:
            if time.monotonic() - self._looked_at >= max_age_s:
                self._look()
            return self._catalogue

    def is_current(self, max_age_s: float) -> bool:
        """Whether `catalogue` would answer without reading the folders."""
        return time.monotonic() - self._looked_at < max_age_s

    def install(self, name: str, files: Iterable[tuple[str, Callable[[], BinaryIO]]]) -> ModelSource:
        """Copy an upload's files (by relative name) into a new folder `name`.

        Raises:
            ManifestError: the files are no usable model; nothing is left behind.
        """
        folder = self._uploads / name
        try:
            for relative, open_file in files:
                target = folder / _inside(relative)
                target.parent.mkdir(parents=True, exist_ok=True)
                with open_file() as origin, target.open("wb") as copy:
                    shutil.copyfileobj(origin, copy, 1 << 20)
            return _read_source(folder)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    def uploads(self) -> list[Path]:
        """The folders of all uploads."""
        found = self._uploads.iterdir() if self._uploads.is_dir() else ()
        return sorted(folder for folder in found if not folder.name.startswith("."))

    def remove_upload(self, folder: Path) -> None:
        """Delete the folder of an upload."""
        shutil.rmtree(folder, ignore_errors=True)

    def _look(self) -> None:
        sources: dict[str, ModelSource] = {}
        problems: list[str] = []
        for folder in self._model_folders(problems):
            found = self._source(folder)
            if isinstance(found, str):
                problems.append(found)
            else:
                sources[found.id] = found
        for problem in set(problems) - set(self._catalogue.problems):
            _log.error("Model left out: %s", problem)
        self._catalogue = Catalogue(tuple(sources.values()), tuple(problems))
        self._looked_at = time.monotonic()

    def _model_folders(self, problems: list[str]) -> Iterable[Path]:
        for folder in self._folders:
            try:
                if _has_manifest(folder):
                    yield folder
                    continue
                entries = _visible(folder)
            except OSError as error:
                problems.append(shown(f"the models folder {folder} cannot be read: {cause(error)}"))
                continue
            if len(entries) > MOST_MODELS:
                problems.append(shown(f"the models folder {folder} holds more than {MOST_MODELS:,} entries"))
                continue
            for path in entries:
                try:
                    if _has_manifest(path):
                        yield path
                except OSError as error:
                    problems.append(shown(f"{path} cannot be read: {cause(error)}"))

    def _source(self, folder: Path) -> ModelSource | str:
        """The model in a folder, or the reason why there is none; reads it only if its files have changed."""
        try:
            files = model_files(folder)
        except ManifestError as error:
            return str(error)
        known, unusable = self._read.get(folder), self._unusable.get(folder)
        if known is not None and known.digest == _digest(files):
            return known
        state = [(name, status.st_mtime_ns, status.st_ctime_ns, status.st_size) for name, status in files]
        began = time.monotonic()
        if unusable is not None and unusable.state == state and began < unusable.retry_at:
            return unusable.problem
        found = self._look_into(folder)
        if isinstance(found, str):
            ended = time.monotonic()
            retry_at = ended + _RETRY_FACTOR * (ended - began)
            self._unusable[folder] = _Unusable(found, state, retry_at)
        else:
            self._read[folder] = found
            self._unusable.pop(folder, None)
        return found

    def _look_into(self, folder: Path) -> ModelSource | str:
        try:
            return _read_source(folder)
        except ModelUnusable as error:
            return str(error)
        except OSError as error:
            return shown(f"{folder} cannot be read: {cause(error)}")
        except Exception as error:
            # Any defect in one folder must not affect the other models.
            _log.exception("The model folder %s cannot be read", shown(folder))
            return shown(f"{folder} cannot be read: {type(error).__name__}: {error}")


def has_manifest(folder: Path) -> bool:
    """Whether a folder contains a model.toml, readable or not."""
    try:
        return _has_manifest(folder)
    except OSError:
        return False


def _has_manifest(folder: Path) -> bool:
    """Like `has_manifest`; raises OSError if the file system does."""
    try:
        (folder / MANIFEST).lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _visible(folder: Path) -> list[Path]:
    """The visible content of a folder, sorted; at most one entry more than MOST_MODELS."""
    with os.scandir(folder) as found:
        names = (entry.name for entry in found if not entry.name.startswith("."))
        return [folder / name for name in sorted(islice(names, MOST_MODELS + 1))]


def open_registry(settings: Settings, *, make_folder: bool = True) -> Registry:
    """The registry for a server with these settings.

    A missing folder of the server's own models is created, or with `make_folder=False` left out.
    """
    if make_folder:
        settings.own_models.mkdir(parents=True, exist_ok=True)
    own = [settings.own_models] if settings.own_models.is_dir() else []
    bundled = [bundled_models()] if settings.bundled_models else []
    seeded = (
        [settings.seed_dir / "models"]
        if settings.seed_dir and (settings.seed_dir / "models").is_dir()
        else []
    )
    folders = [*bundled, *own, *settings.models_dirs, *seeded]
    return Registry(folders, settings.data_dir / "uploads")


def bundled_models() -> Path:
    """The folder of the bundled models."""
    package = Path(__file__).parent
    installed = package / "_models"
    return installed if installed.is_dir() else package.parent / "models"


def _read_source(folder: Path) -> ModelSource:
    resolved = folder.resolve()
    if not str(resolved).isprintable():
        raise ManifestError(f"{resolved}: the folder's name must be printable UTF-8; rename it")
    manifest = load_manifest(folder)
    if manifest.is_canned:
        load_canned(manifest)
    else:
        _require_graph(manifest)
    return ModelSource(resolved, manifest, _digest(model_files(folder)))


def _require_graph(manifest: ModelManifest) -> None:
    path = f"{manifest.folder / MANIFEST}: [model] file names {manifest.model.file}, "
    try:
        open_regular(manifest.graph).close()
    except FileNotFoundError:
        raise ManifestError(f"{path}which does not exist; put the ONNX file there") from None
    except OSError as error:
        raise ManifestError(f"{path}which cannot be read: {cause(error)}; put the ONNX file there") from None


def _digest(files: Iterable[tuple[bytes, os.stat_result]]) -> str:
    """A digest of the files' sizes and times. Reading hundreds of megabytes would delay the start."""
    digest = hashlib.sha256()
    for name, status in files:
        digest.update(name + f"\0{status.st_size}\0{status.st_mtime_ns}\0".encode())
    return digest.hexdigest()


def _inside(relative: str) -> PurePosixPath:
    path = PurePosixPath(relative)
    if path.is_absolute() or ".." in path.parts or "\0" in relative or not path.parts:
        raise ManifestError(f"the artifact's file name {relative!r} leaves its folder; rename it")
    return path
