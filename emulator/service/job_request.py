"""Checks a BatchPredictionJob to create, and makes its row.

Contract: batch_prediction_job.proto. One error reports all problems, with proto field paths.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from emulator.database import NewJob
from emulator.registry import SUPPORTED_FORMAT
from emulator.service.context import Call, Context, Place
from emulator.service.fidelity import JOB_FIELDS, Kind, not_honoured, set_paths
from emulator.service.fields import (
    REQUIRED,
    apply_fidelity,
    check_display_name,
    check_labels,
    refuse_unimplemented,
    without_output_only,
)
from emulator.service.model_registry import ModelRegistry, ResolvedModel
from emulator.storage import GcsUri, InvalidUri
from emulator.vertex.errors import InvalidArgument, NotFound, Violations
from emulator.vertex.names import ModelName
from emulator.vertex.objectives import Objective, parse_parameters

_JOB = "batch_prediction_job"
_DIRECTORY = "prediction-{}-2030-01-31T00:00:00.000000Z"
_MAX_DIRECTORY_BYTES = 255
_FILE = b"/predictions_00001.jsonl"


@dataclass(frozen=True)
class JobRequest:
    """One create request, from the client's message to a row."""

    context: Context
    models: ModelRegistry
    place: Place
    call: Call

    def prepare(self, message: Any) -> NewJob:
        """Check the message and return the new job. Raises InvalidArgument, Unimplemented or NotFound."""
        job = without_output_only(message)
        violations = Violations()
        check_display_name(violations, f"{_JOB}.display_name", job.display_name)
        name = self._check_model_name(job, violations)
        resolved, missing = self._find_model(name)
        _check_input(job.input_config, violations)
        _check_output(job.output_config, violations, resolved.model.display_name if resolved else "")
        check_labels(violations, f"{_JOB}.labels", job.labels)
        found = set_paths(job, JOB_FIELDS)
        notes = not_honoured(found)
        unimplemented = apply_fidelity(violations, _JOB, job, found)
        objective = None
        if resolved is not None:
            objective = Objective[resolved.version.objective]
            parameters = job.model_parameters if job.HasField("model_parameters") else None
            parse_parameters(objective, parameters, violations)
        violations.raise_if_any()
        refuse_unimplemented([*unimplemented, *self._unimplemented_beta_fields()])
        if resolved is None or objective is None or name is None:
            raise missing or InvalidArgument(f"{_JOB}.model is missing.")
        return self._row(job, name, resolved, objective, notes)

    def _row(
        self,
        job: Any,
        name: ModelName,
        resolved: ResolvedModel,
        objective: Objective,
        notes: Iterable[tuple[str, str]],
    ) -> NewJob:
        model_place = self.context.place(name)
        version = "" if name.version is None else f"@{name.version}"
        # Vertex: responses have the project's number even if the request had its id (recorded AutoML output).
        job.model = f"{model_place}/models/{name.model}{version}"
        return NewJob(
            id=self.context.new_id(self.place.project),
            project=self.place.project,
            location=self.place.location,
            display_name=job.display_name,
            model_id=resolved.model.model_id,
            model_version=resolved.version.version,
            model_display_name=resolved.model.display_name,
            model_objective=objective.name,
            model_folder=resolved.version.folder,
            labels=dict(job.labels),
            document=job.SerializeToString(),
            create_time_us=self.context.database.clock(),
            notes=tuple(notes),
        )

    def _check_model_name(self, job: Any, violations: Violations) -> ModelName | None:
        path = f"{_JOB}.model"
        if job.HasField("unmanaged_container_model"):
            if job.model:
                violations.add(path, "Set either model or unmanaged_container_model, not both.")
            return None
        if not job.model:
            violations.add(path, REQUIRED)
            return None
        try:
            name = ModelName.parse(job.model, field=path, lenient=not self.context.strict)
        except InvalidArgument as error:
            violations.add(path, _description(error))
            return None
        if name.location != self.place.location:
            violations.add(
                path,
                f"The model is in location {name.location}; it must be in the location of the job,"
                f" {self.place.location}.",
            )
            return None
        return name

    def _find_model(self, name: ModelName | None) -> tuple[ResolvedModel | None, NotFound | None]:
        """The model, or the error to raise if the rest of the request is valid."""
        if name is None:
            return None, None
        try:
            return self.models.resolve(name, from_memory=True), None
        except NotFound as error:
            return None, error

    def _unimplemented_beta_fields(self) -> list[str]:
        prefix = f"{_JOB}."
        paths = [path for path in self.call.beta_only_fields if path.startswith(prefix)]
        tops = {path: JOB_FIELDS.get(path.removeprefix(prefix).split(".")[0]) for path in paths}
        return [
            path for path, fidelity in tops.items() if not fidelity or fidelity.kind is Kind.UNIMPLEMENTED
        ]


def _check_input(config: Any, violations: Violations) -> None:
    path = f"{_JOB}.input_config"
    _check_format(violations, f"{path}.instances_format", config.instances_format)
    if config.WhichOneof("source") is None:
        violations.add(path, "Exactly one source is required; set gcs_source.")
    elif config.HasField("gcs_source"):
        uris = config.gcs_source.uris
        if not uris:
            violations.add(f"{path}.gcs_source.uris", REQUIRED)
        for index, uri in enumerate(uris):
            try:
                GcsUri.parse(uri)
            except InvalidUri as error:
                violations.add(f"{path}.gcs_source.uris[{index}]", str(error))


def _check_output(config: Any, violations: Violations, model_display_name: str) -> None:
    path = f"{_JOB}.output_config"
    _check_format(violations, f"{path}.predictions_format", config.predictions_format)
    if config.WhichOneof("destination") is None:
        violations.add(path, "Exactly one destination is required; set gcs_destination.")
    elif config.HasField("gcs_destination"):
        prefix = config.gcs_destination.output_uri_prefix
        try:
            if not prefix:
                violations.add(f"{path}.gcs_destination.output_uri_prefix", REQUIRED)
            else:
                # The longest object name below the prefix in the job's output.
                directory = _DIRECTORY.format(model_display_name).encode()[:_MAX_DIRECTORY_BYTES]
                name = GcsUri.parse_prefix(prefix) / ("x" * len(directory + _FILE))
                GcsUri.parse(str(name))
        except InvalidUri as error:
            violations.add(f"{path}.gcs_destination.output_uri_prefix", str(error))


def _check_format(violations: Violations, path: str, given: str) -> None:
    if not given:
        violations.add(path, REQUIRED)
    elif given != SUPPORTED_FORMAT:
        violations.add(
            path, f'The model does not support the format "{given}"; video models take {SUPPORTED_FORMAT}.'
        )


def _description(error: InvalidArgument) -> str:
    """The text of the error's single violation."""
    detail = error.details[0] if error.details else {}
    violations = detail.get("fieldViolations", []) if isinstance(detail, dict) else []
    return str(violations[0]["description"]) if violations else error.message
