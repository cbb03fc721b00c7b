"""Model registry: model folders on disk, and what Vertex would say about the models in them.

Contract: model.proto. Reads manifests only; the ONNX graphs are the workers' business.
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
#: Entries of a folder of models, hidden ones aside.
MOST_MODELS = 10_000
# A folder that cannot be used is read again after so many times what reading it takes.
_RETRY_FACTOR = 10

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ModelSource:
    """A model folder: its manifest, and a digest that changes when its files do."""

    folder: Path
    manifest: ModelManifest
    digest: str

    @property
    def id(self) -> str:
        """The Model id, the last part of its resource name."""
        return self.manifest.id

    @property
    def labels(self) -> dict[str, str]:
        """What marks the Model: that its predictions are canned."""
        return {"emulator-canned": "true"} if self.manifest.is_canned else {}

    @property
    def description(self) -> str:
        """The manifest's description, which for canned predictions says so."""
        text = self.manifest.model.description
        return f"Canned predictions; no model is run. {text}".strip() if self.manifest.is_canned else text

    def message(self, *, artifact_uri: str = "") -> Any:
        """The v1 Model as far as the folder decides it; uploaded models name where they came from."""
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
    """The folder models at one moment. Two are equal when no folder changed in between; `problems` says
    which folders could not be used and why."""

    sources: tuple[ModelSource, ...]
    problems: tuple[str, ...]


@dataclass(frozen=True)
class _Unusable:
    """A folder that could not be used, and why; it stays so until its files change, for a while at least."""

    problem: str
    state: object
    retry_at: float


class Registry:
    """The folders that models are read from, and the folder that uploads are copied to.

    A later folder of `folders` replaces models of the same id in an earlier one. Safe to use from many
    threads.
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
        """The models in the folders, as they were at most so long ago. Reads only what has changed."""
        with self._lock:
            if time.monotonic() - self._looked_at >= max_age_s:
                self._look()
            return self._catalogue

    def is_current(self, max_age_s: float) -> bool:
        """Whether `catalogue` would not look at the folders."""
        return time.monotonic() - self._looked_at < max_age_s

    def install(self, name: str, files: Iterable[tuple[str, Callable[[], BinaryIO]]]) -> ModelSource:
        """Copy an upload's files, given by relative name, into a new folder `name`.

        Raises ManifestError when they make no usable model; nothing stays behind then.
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
        """The model in a folder, or why there is none; reads it only when its files have changed."""
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
            # Whatever strangers put into a folder, the other models are served.
            _log.exception("The model folder %s cannot be read", shown(folder))
            return shown(f"{folder} cannot be read: {type(error).__name__}: {error}")


def has_manifest(folder: Path) -> bool:
    """Whether a folder is meant to be a model's: there is a model.toml, be it readable or not."""
    try:
        return _has_manifest(folder)
    except OSError:
        return False


def _has_manifest(folder: Path) -> bool:
    """The same; raises OSError where it cannot be told."""
    try:
        (folder / MANIFEST).lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _visible(folder: Path) -> list[Path]:
    """What lies in a folder, sorted, without what is hidden; at most one more than are taken."""
    with os.scandir(folder) as found:
        names = (entry.name for entry in found if not entry.name.startswith("."))
        return [folder / name for name in sorted(islice(names, MOST_MODELS + 1))]


def open_registry(settings: Settings, *, make_folder: bool = True) -> Registry:
    """The registry that a server with these settings has; its own folder of models is made when missing, or
    left out."""
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
    """The folder of the models that come with the emulator."""
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
    """Changes with the files' sizes and times: reading hundreds of megabytes would delay the start."""
    digest = hashlib.sha256()
    for name, status in files:
        digest.update(name + f"\0{status.st_size}\0{status.st_mtime_ns}\0".encode())
    return digest.hexdigest()


def _inside(relative: str) -> PurePosixPath:
    path = PurePosixPath(relative)
    if path.is_absolute() or ".." in path.parts or "\0" in relative or not path.parts:
        raise ManifestError(f"the artifact's file name {relative!r} leaves its folder; rename it")
    return path
