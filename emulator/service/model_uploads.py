"""UploadModel: turns a folder in Cloud Storage into a model or a version, in the background.

Contract: model_service.proto. An invalid request fails at once; an invalid artifact fails the operation.
"""

import logging
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any, BinaryIO

from emulator.database import NewModel, OperationRow
from emulator.inference.manifest import ManifestError
from emulator.registry import ModelSource
from emulator.service.context import Call, Context, Place
from emulator.service.fidelity import MODEL_FIELDS, set_paths
from emulator.service.fields import (
    REQUIRED,
    apply_fidelity,
    check_aliases,
    check_display_name,
    check_labels,
    refuse_unimplemented,
    without_output_only,
)
from emulator.service.model_registry import DEFAULT_ALIAS, ModelRegistry
from emulator.service.operations import Operations
from emulator.storage import GcsUri, InvalidUri, StorageError
from emulator.vertex.errors import (
    Aborted,
    AlreadyExists,
    ApiError,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    NotFound,
    Unavailable,
    Violations,
)
from emulator.vertex.names import LocationName, ModelName

_MODEL_ID = re.compile(r"[a-z_][a-z0-9_-]{0,62}")
# Fields that can change have columns of their own; the schemata follow from the objective.
_NOT_IN_DOCUMENT = (
    "name", "display_name", "description", "version_description", "version_aliases", "labels", "etag",
    "predict_schemata",
)  # fmt: skip
_MAX_FILES = 100
# Small models are ready when the call returns, so the client need not poll. No client times out this soon.
_GRACE_S = 1.0

_File = tuple[str, Callable[[], BinaryIO]]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Upload:
    """A checked upload: what to copy, and the model that it becomes."""

    place: Place
    model_id: str
    is_version: bool
    artifacts: GcsUri
    model: Any
    api_version: str


class Uploads:
    """Checks uploads and runs them one at a time."""

    def __init__(self, context: Context, models: ModelRegistry, operations: Operations) -> None:
        self._context = context
        self._models = models
        self._operations = operations
        self._closing = threading.Event()
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="model-upload")

    def start(self, request: Any, call: Call) -> Any:
        """Start an upload; returns its operation, which is done if the upload was quick."""
        upload = self._check(request, call)
        if self._closing.is_set():
            raise Unavailable("The server is stopping. Upload the model again when it is back.")
        row = self._operations.started(upload.place, upload.model_id, "UploadModelOperationMetadata", call)
        wait([self._executor.submit(self._run, upload, row)], timeout=_GRACE_S)
        return self._operations.message(self._context.database.get_operation(row.id) or row)

    def install(self, place: Place, model_id: str, model: Any, files: list[_File]) -> int:
        """Make a model or a new version from these files, synchronously.

        Returns:
            The version's number.

        Raises:
            ManifestError: the files are no usable model.
        """
        exists = any(known.model_id == model_id for known in self._models.list(place))
        upload = _Upload(place, model_id, exists, GcsUri("", ""), model, "v1")
        row = self._operations.started(place, model_id, "UploadModelOperationMetadata", Call())
        try:
            return self._store(upload, self._context.registry.install(str(row.id), files))
        finally:
            # The operation only kept `sweep` from removing the files.
            self._context.database.delete_operation(row.id)

    def close(self) -> None:
        """Stop a running upload after its current file. Waiting uploads fail at the next start."""
        self._closing.set()
        self._executor.shutdown(wait=True, cancel_futures=True)

    def _check(self, request: Any, call: Call) -> _Upload:
        place = self._context.place(LocationName.parse(request.parent))
        model = without_output_only(request.model)
        violations = Violations()
        if request.model_id and not _MODEL_ID.fullmatch(request.model_id):
            violations.add(
                "model_id",
                f'"{request.model_id[:80]}" is not a model id; use up to 63 of a-z, 0-9, _ and -, beginning'
                " with a letter or _.",
            )
        check_display_name(violations, "model.display_name", model.display_name)
        check_labels(violations, "model.labels", model.labels)
        check_aliases(violations, "model.version_aliases", model.version_aliases)
        artifacts = _artifacts(model.artifact_uri, violations)
        unimplemented = apply_fidelity(violations, "model", model, set_paths(model, MODEL_FIELDS))
        violations.raise_if_any()
        refuse_unimplemented([*unimplemented, *call.beta_only_fields])
        model_id = self._model_id(request, place)
        return _Upload(place, model_id, bool(request.parent_model), artifacts, model, call.api_version)

    def _model_id(self, request: Any, place: Place) -> str:
        if request.parent_model:
            name = ModelName.parse(request.parent_model, field="parent_model")
            if self._context.place(name) != place:
                raise InvalidArgument(f"The parent model {request.parent_model} is not in {place}.")
            return self._models.find(name).model_id
        model_id = request.model_id or str(self._context.new_id(place.project))
        if any(model.model_id == model_id for model in self._models.list(place)):
            raise self._taken(place, model_id)
        return model_id

    def _run(self, upload: _Upload, row: OperationRow) -> None:
        try:
            number = self._store(upload, self._copy(upload, row))
        except ApiError as error:
            self._operations.fail(row, error)
        except ManifestError as error:
            self._operations.fail(row, InvalidArgument(f"{upload.artifacts} holds no usable model: {error}."))
        except (StorageError, InvalidUri, OSError) as error:
            self._operations.fail(row, FailedPrecondition(f"{upload.artifacts} cannot be copied: {error}"))
        except Exception as error:
            _log.exception("The upload %s failed", row.name)
            self._operations.fail(row, Internal(f"{type(error).__name__}: {error}"))
        else:
            response = self._context.contract.package(upload.api_version).UploadModelResponse(
                model=f"{upload.place}/models/{upload.model_id}", model_version_id=str(number)
            )
            self._operations.succeed(row, response)

    def _copy(self, upload: _Upload, row: OperationRow) -> ModelSource:
        files = list(islice(self._files(upload.artifacts), _MAX_FILES + 1))
        if not files:
            raise NotFound(
                f"There are no objects below {upload.artifacts}; put model.toml and its ONNX file there."
            )
        if len(files) > _MAX_FILES:
            raise InvalidArgument(
                f"There are more than {_MAX_FILES} objects below {upload.artifacts}; name one model's folder."
            )
        return self._context.registry.install(str(row.id), self._until_closed(files))

    def _until_closed(self, files: list[_File]) -> Iterator[_File]:
        for file in files:
            if self._closing.is_set():
                raise Aborted("The server stopped before the upload was finished. Start it again.")
            yield file

    def _files(self, artifacts: GcsUri) -> Iterator[_File]:
        for info in self._context.store.list(artifacts.bucket, artifacts.object):
            relative = info.uri.object.removeprefix(artifacts.object)
            # Some consoles create empty objects whose names end in a slash, to show a folder.
            if relative and not relative.endswith("/"):
                yield relative, partial(self._context.store.open_read, info.uri)

    def _store(self, upload: _Upload, source: ModelSource) -> int:
        place, model = upload.place, upload.model
        document = self._context.v1.Model()
        document.CopyFrom(model)
        for field in _NOT_IN_DOCUMENT:
            document.ClearField(field)
        document.MergeFrom(source.message(artifact_uri=model.artifact_uri))
        labels = {**model.labels, **source.labels}
        row = NewModel(
            model_id=upload.model_id,
            display_name=model.display_name,
            description=model.description,
            folder=str(source.folder),
            digest=source.digest,
            document=document.SerializeToString(),
            objective=source.manifest.objective.name,
            labels={} if upload.is_version else labels,
            version_description=model.version_description,
            version_labels=labels if upload.is_version else {},
        )
        aliases = list(dict.fromkeys(model.version_aliases))
        database = self._context.database
        if upload.is_version:
            number = database.add_version(place.project, place.location, row, aliases)
            if number is None:
                raise NotFound(f"The Model does not exist. {place}/models/{upload.model_id} is gone.")
            return number
        if DEFAULT_ALIAS not in aliases:
            # Vertex: the first version is the default version (model.proto, version_aliases).
            aliases.append(DEFAULT_ALIAS)
        if not database.insert_model(place.project, place.location, row, aliases):
            raise self._taken(place, upload.model_id)
        return 1

    def _taken(self, place: Place, model_id: str) -> AlreadyExists:
        return AlreadyExists(
            f"The Model {place}/models/{model_id} exists already. Choose another model_id, or name it as"
            " parent_model to upload a new version."
        )


def _artifacts(uri: str, violations: Violations) -> GcsUri:
    if not uri:
        violations.add(
            "model.artifact_uri", f"{REQUIRED} Name a gs:// folder that holds a model.toml and its ONNX file."
        )
        return GcsUri("", "")
    try:
        return GcsUri.parse_prefix(uri)
    except InvalidUri as error:
        violations.add("model.artifact_uri", str(error))
        return GcsUri("", "")
