"""ModelService: the calls on models and their versions.

Contract: model_service.proto, model.proto.
"""

import hashlib
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from emulator.database import ModelRow, VersionRow
from emulator.service.context import Call, Context, Place, timestamp
from emulator.service.fields import REQUIRED, check_aliases, check_display_name, check_labels, refuse
from emulator.service.listing import Ordering, Page, Paging, Position, masked
from emulator.service.model_registry import DEFAULT_ALIAS, ModelRegistry, ResolvedModel, resolve_default
from emulator.service.model_uploads import Uploads
from emulator.service.operations import Operations
from emulator.vertex.errors import Aborted, FailedPrecondition, Violations
from emulator.vertex.listing import (
    MODEL_FILTER_FIELDS,
    MODEL_ORDER_FIELDS,
    MODEL_VERSION_FILTER_FIELDS,
    MODEL_VERSION_ORDER_FIELDS,
    OrderKey,
    mask_paths,
    parse_filter,
    parse_order_by,
)
from emulator.vertex.names import LocationName, ModelName

_MODEL_FIELDS = ("display_name", "description")
_VERSION_FIELDS = ("version_description",)


class ModelService:
    """The calls of `google.cloud.aiplatform.v1.ModelService` on models, versions and aliases."""

    def __init__(self, context: Context, models: ModelRegistry, operations: Operations) -> None:
        self._context = context
        self._models = models
        self._operations = operations
        self._uploads = Uploads(context, models, operations)

    def upload_model(self, request: Any, call: Call) -> Any:
        """Make a model or a new version from a folder in Cloud Storage."""
        return self._uploads.start(request, call)

    def install(
        self, place: Place, model_id: str, model: Any, files: list[tuple[str, Callable[[], BinaryIO]]]
    ) -> int:
        """Make a model or a version from files; see Uploads.install."""
        return self._uploads.install(place, model_id, model, files)

    def get_model(self, request: Any, _call: Call) -> Any:
        """Read a model at the version in its name, or at its default version."""
        return self._message(self._models.resolve(ModelName.parse(request.name)))

    def list_models(self, request: Any, _call: Call) -> Any:
        """List a page of models at their default versions; newest first unless ordered otherwise."""
        place = self._context.place(LocationName.parse(request.parent))
        paging = Paging.of(request, str(place), request.filter, request.order_by)
        order = parse_order_by(request.order_by, MODEL_ORDER_FIELDS)
        wanted = parse_filter(request.filter, MODEL_FILTER_FIELDS)
        mask_paths(self._context.v1.Model, request.read_mask.paths)
        found = [resolve_default(model) for model in self._models.list(place)]
        matching = [
            model_message(self._context, resolved.model, resolved.version)
            for resolved in found
            if wanted.matches(_filter_row(resolved))
        ]
        page = _page(matching, order, paging)
        response = self._context.v1.ListModelsResponse(next_page_token=page.next_page_token)
        response.models.extend(masked(page.rows, request))
        return response

    def list_model_versions(self, request: Any, _call: Call) -> Any:
        """List a page of a model's versions; newest first unless ordered otherwise."""
        name = ModelName.parse(request.name)
        paging = Paging.of(
            request, str(self._context.place(name)), name.model, request.filter, request.order_by
        )
        order = parse_order_by(request.order_by, MODEL_VERSION_ORDER_FIELDS)
        wanted = parse_filter(request.filter, MODEL_VERSION_FILTER_FIELDS)
        mask_paths(self._context.v1.Model, request.read_mask.paths)
        row = self._models.find(name)
        versions = [
            model_message(self._context, row, version)
            for version in row.versions
            if wanted.matches(_filter_row(ResolvedModel(row, version)))
        ]
        # Order by the versions' own times: the model's are the same in all of them.
        own_times = [OrderKey(f"version_{key.field}", key.descending) for key in order]
        page = _page(versions, own_times, paging)
        response = self._context.v1.ListModelVersionsResponse(next_page_token=page.next_page_token)
        response.models.extend(masked(page.rows, request))
        return response

    def update_model(self, request: Any, _call: Call) -> Any:
        """Update the fields of the mask: the model's, or one version's if the name has `@version`."""
        model = request.model
        # Vertex: "@-" means the model itself, like no version (model_service.proto, UpdateModelRequest).
        name = ModelName.parse(model.name.removesuffix("@-"), field="model.name")
        resolved = self._models.resolve(name)
        of_version = name.version is not None
        fields = _mask_fields(request.update_mask.paths, of_version)
        self._check_update(model, fields, resolved)
        changes = {field.removeprefix("version_"): getattr(model, field) for field in fields}
        if "labels" in changes:
            changes["labels"] = dict(model.labels)
        if not self._update(resolved, changes, of_version=of_version, etag=model.etag) and model.etag:
            raise _changed_since(model.etag)
        return self._message(self._models.resolve(name))

    def delete_model(self, request: Any, call: Call) -> Any:
        """Delete a model with all its versions. Jobs that use it keep running."""
        name = ModelName.parse(request.name)
        if name.version is not None:
            refuse("name", "Name the model without a version; a version is deleted by deleteVersion.")
        row = self._models.find(name)
        self._context.database.delete_model(row.project, row.location, row.model_id)
        self.sweep()
        return self._operations.deleted(Place(row.project, row.location), call)

    def delete_model_version(self, request: Any, call: Call) -> Any:
        """Delete one version, unless it is the default version."""
        resolved = self._with_version_id(request.name)
        row, version = resolved.model, resolved.version
        if len(row.versions) == 1:
            raise FailedPrecondition(
                f"{version.version} is the only version of the model {row.model_id}; delete the model."
            )
        deleted = self._context.database.delete_version(
            row.project, row.location, row.model_id, version.version
        )
        if not deleted:
            raise FailedPrecondition(
                f"Version {version.version} of the model {row.model_id} is its default version; give the"
                f" alias {DEFAULT_ALIAS} to another version first."
            )
        self.sweep()
        return self._operations.deleted(Place(row.project, row.location), call)

    def merge_version_aliases(self, request: Any, _call: Call) -> Any:
        """Move aliases to a version; remove those with a leading dash."""
        resolved = self._with_version_id(request.name)
        row, version = resolved.model, resolved.version
        violations = Violations()
        if not request.version_aliases:
            violations.add("version_aliases", REQUIRED)
        check_aliases(violations, "version_aliases", [a.removeprefix("-") for a in request.version_aliases])
        violations.raise_if_any()
        removed = {alias[1:] for alias in request.version_aliases if alias.startswith("-")}
        added = {alias for alias in request.version_aliases if not alias.startswith("-")}
        # Vertex: adding and removing the same alias cancel each other out (model_service.proto).
        removed, added = removed - added, added - removed
        if DEFAULT_ALIAS in removed and DEFAULT_ALIAS in version.aliases:
            raise FailedPrecondition(
                f"A model has exactly one default version, so the alias {DEFAULT_ALIAS} cannot be removed;"
                " add it to another version instead."
            )
        self._context.database.merge_aliases(
            row.project, row.location, row.model_id, version.version, add=sorted(added), remove=removed
        )
        return self._message(self._models.resolve(ModelName.parse(request.name)))

    def sweep(self) -> None:
        """Remove the files of uploads that no version, unfinished job or unfinished operation needs."""
        # In this order: an upload's operation finishes after its version is stored, and a job's folder was a
        # version's before.
        folders = self._context.registry.uploads()
        database = self._context.database
        in_progress = {str(operation.id) for operation in database.unfinished_operations()}
        # By folder name: the rows of a shared database may have another path to this folder.
        in_use = {Path(folder).name for folder in database.version_folders() | database.folders_in_use()}
        for folder in folders:
            if folder.name not in in_progress | in_use:
                self._context.registry.remove_upload(folder)

    def close(self) -> None:
        """Wait for running uploads."""
        self._uploads.close()

    def _with_version_id(self, text: str) -> ResolvedModel:
        name = ModelName.parse(text)
        if name.version is None or not name.version.isdecimal():
            refuse("name", f"The version id is missing; write {text.partition('@')[0]}@1, for example.")
        return self._models.resolve(name)

    def _check_update(self, model: Any, fields: Sequence[str], resolved: ResolvedModel) -> None:
        violations = Violations()
        if "display_name" in fields:
            check_display_name(violations, "model.display_name", model.display_name)
        if "labels" in fields:
            check_labels(violations, "model.labels", model.labels)
        violations.raise_if_any()
        if model.etag and model.etag != self._message(resolved).etag:
            raise _changed_since(model.etag)

    def _update(
        self, resolved: ResolvedModel, changes: dict[str, Any], *, of_version: bool, etag: str
    ) -> bool:
        """Write the changes; False if the model is gone or, with an etag, has changed since it was read."""
        row, version = resolved.model, resolved.version
        key = row.project, row.location, row.model_id
        seen = (row, version) if etag else None
        if of_version:
            return self._context.database.update_version(*key, version.version, changes, seen)
        return self._context.database.update_model(*key, changes, seen)

    def _message(self, resolved: ResolvedModel) -> Any:
        return model_message(self._context, resolved.model, resolved.version)


def _changed_since(etag: str) -> Aborted:
    return Aborted(f"The model has changed since etag {etag} was read. Read it again.")


def model_message(context: Context, row: ModelRow, version: VersionRow) -> Any:
    """The v1 Model for one version of a model."""
    model = context.v1.Model.FromString(version.document)
    # Vertex: the name has no version; version_id has it.
    model.name = f"projects/{row.project}/locations/{row.location}/models/{row.model_id}"
    model.version_id = str(version.version)
    model.version_aliases.extend(sorted(version.aliases))
    model.display_name = row.display_name
    model.description = row.description
    model.version_description = version.description
    model.labels.update({**row.labels, **version.labels})
    timestamp(model.create_time, row.create_time_us)
    timestamp(model.update_time, max(row.update_time_us, version.update_time_us))
    timestamp(model.version_create_time, version.create_time_us)
    timestamp(model.version_update_time, version.update_time_us)
    changing = f"{row.update_time_us} {version.version} {version.update_time_us}"
    model.etag = hashlib.sha256(changing.encode()).hexdigest()[:16]
    return model


def _filter_row(resolved: ResolvedModel) -> dict[str, object]:
    return {
        "model": resolved.model.model_id,
        "display_name": resolved.model.display_name,
        "labels": {**resolved.model.labels, **resolved.version.labels},
    }


def _page(models: list[Any], order: Sequence[OrderKey], paging: Paging) -> Page[Any]:
    """Sort by the order, then newest first, and cut the page."""
    keys = (
        *order,
        OrderKey("version_create_time", True),
        OrderKey("name", False),
        OrderKey("version_id", True),
    )

    def position(model: Any) -> Position:
        values = [getattr(model, key.field) for key in keys]
        return tuple(value if isinstance(value, str) else value.ToMicroseconds() for value in values)

    return Ordering(keys).page(models, position, paging)


def _mask_fields(paths: Sequence[str], of_version: bool) -> list[str]:
    """The fields of an update mask in snake_case. Raises if it is empty or a field cannot change."""
    own, other = (_VERSION_FIELDS, _MODEL_FIELDS) if of_version else (_MODEL_FIELDS, _VERSION_FIELDS)
    if not paths:
        refuse("update_mask", REQUIRED)
    fields = [re.sub(r"[A-Z]", lambda letter: f"_{letter[0].lower()}", path) for path in paths]
    if "*" in fields:
        return [*own, "labels"]
    # Vertex: model fields and version fields are updated separately (model_service.proto).
    if mismatched := [field for field in fields if field in other]:
        kind, remedy = ("a version", "without @version") if of_version else ("a model", "with @version")
        raise FailedPrecondition(
            f"{mismatched[0]} cannot be updated through the name of {kind}; name the model {remedy}."
        )
    if unknown := [field for field in fields if field not in (*own, "labels")]:
        can = ", ".join((*own, "labels"))
        refuse("update_mask", f"{unknown[0]} cannot be updated; {can} can.")
    return list(dict.fromkeys(fields))
