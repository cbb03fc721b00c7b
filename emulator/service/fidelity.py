"""How each field and RPC behaves compared with the real service.

The service reads these tables, and a test compares docs/fidelity.md with them. A path covers all fields below
it. Contract: batch_prediction_job.proto, model.proto.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any


class Kind(Enum):
    """How closely a field or an RPC follows the real service."""

    EMULATED = "emulated"
    APPROXIMATED = "approximated"
    IGNORED = "ignored"
    """Accepted, kept in the message, without effect."""
    DROPPED = "dropped"
    """Accepted, and left out of the stored message."""
    ABSENT = "absent"
    """Output only, and never set."""
    REFUSED = "refused"
    """INVALID_ARGUMENT, as the real service would answer for a video model."""
    UNIMPLEMENTED = "unimplemented"
    """UNIMPLEMENTED, naming the field or the RPC."""


@dataclass(frozen=True)
class Fidelity:
    """One row of the tables: the kind, and a note for users."""

    kind: Kind
    note: str = ""

    def __str__(self) -> str:
        return f"{self.kind.value}: {self.note}" if self.note else self.kind.value


#: The kind of a job's step that names a field that was set without effect. Its text: "path|kind|note".
NOT_HONOURED = "not-honoured"

EMULATED = Fidelity(Kind.EMULATED)
_ABSENT = Fidelity(Kind.ABSENT, "reserved by Google")
_NO_BIGQUERY = Fidelity(Kind.REFUSED, "video models read and write JSON Lines in Cloud Storage only")
_NO_DATASET = Fidelity(Kind.REFUSED, "video models do not take multimodal datasets")
_NO_EXPLANATION = Fidelity(Kind.REFUSED, "video models do not support explanations")
_NO_MONITORING = Fidelity(Kind.UNIMPLEMENTED, "v1beta1 only; there is no model monitoring here")
_CONTAINER = Fidelity(
    Kind.IGNORED, "no container is run; the model is the artifact folder's model.toml and ONNX"
)

JOB_FIELDS: Mapping[str, Fidelity] = {
    "name": EMULATED,
    "display_name": EMULATED,
    "model": Fidelity(
        Kind.EMULATED, "the version is resolved when the job is created; a name without models/ is forgiven"
    ),
    "model_version_id": Fidelity(Kind.EMULATED, "set from RUNNING on"),
    "unmanaged_container_model": Fidelity(
        Kind.UNIMPLEMENTED, "no containers are run; upload a model instead"
    ),
    "input_config.instances_format": Fidelity(Kind.EMULATED, "jsonl, the only format of video models"),
    "input_config.gcs_source": Fidelity(Kind.EMULATED, "wildcards included"),
    "input_config.bigquery_source": _NO_BIGQUERY,
    "input_config.vertex_multimodal_dataset_source": _NO_DATASET,
    "instance_config": Fidelity(Kind.UNIMPLEMENTED, "instances are echoed whole, under the key instance"),
    "model_parameters": EMULATED,
    "output_config.predictions_format": Fidelity(Kind.EMULATED, "jsonl, the only format of video models"),
    "output_config.gcs_destination": EMULATED,
    "output_config.bigquery_destination": _NO_BIGQUERY,
    "output_config.vertex_multimodal_dataset_destination": _NO_DATASET,
    "dedicated_resources": Fidelity(
        Kind.DROPPED,
        "as the real service drops it for AutoML video models; accelerators are used as the setting"
        " `provider` says",
    ),
    "service_account": Fidelity(Kind.IGNORED, "there is no access control"),
    "manual_batch_tuning_parameters": Fidelity(
        Kind.APPROXIMATED,
        "frames or clips in a call of the model, at most 64, on CUDA and TensorRT if the graph's batch axis"
        " is free (8 if not set); else one, and the job's explanation says why",
    ),
    "generate_explanation": _NO_EXPLANATION,
    "explanation_spec": _NO_EXPLANATION,
    "output_info.gcs_output_directory": EMULATED,
    "output_info.bigquery_output_dataset": Fidelity(Kind.ABSENT, "no BigQuery"),
    "output_info.bigquery_output_table": Fidelity(Kind.ABSENT, "no BigQuery"),
    "output_info.vertex_multimodal_dataset_name": Fidelity(Kind.ABSENT, "no multimodal datasets"),
    "state": Fidelity(
        Kind.APPROXIMATED,
        "PENDING, RUNNING, SUCCEEDED, FAILED, CANCELLING and CANCELLED occur; QUEUED, PAUSED, EXPIRED,"
        " UPDATING and PARTIALLY_SUCCEEDED only where a pace asks for them",
    ),
    "error": EMULATED,
    "partial_failures": Fidelity(Kind.EMULATED, "at most 20"),
    "resources_consumed": Fidelity(Kind.ABSENT, "documented as possibly not populated for AutoML models"),
    "completion_stats.successful_count": EMULATED,
    "completion_stats.failed_count": EMULATED,
    "completion_stats.incomplete_count": Fidelity(Kind.EMULATED, "-1 until the input has been read"),
    "completion_stats.successful_forecast_point_count": Fidelity(Kind.ABSENT, "forecasting only"),
    "create_time": EMULATED,
    "start_time": EMULATED,
    "end_time": EMULATED,
    "update_time": EMULATED,
    "labels": EMULATED,
    "encryption_spec": Fidelity(Kind.IGNORED, "nothing is encrypted"),
    "disable_container_logging": Fidelity(Kind.IGNORED, "there is no container"),
    "satisfies_pzs": _ABSENT,
    "satisfies_pzi": _ABSENT,
    "endpoint": Fidelity(Kind.UNIMPLEMENTED, "v1beta1 only; there are no endpoints here"),
    "model_monitoring_config": _NO_MONITORING,
    "model_monitoring_stats_anomalies": Fidelity(Kind.ABSENT, "v1beta1 only"),
    "model_monitoring_status": Fidelity(Kind.ABSENT, "v1beta1 only"),
}

MODEL_FIELDS: Mapping[str, Fidelity] = {
    "name": EMULATED,
    "version_id": EMULATED,
    "version_aliases": EMULATED,
    "version_create_time": EMULATED,
    "version_update_time": EMULATED,
    "display_name": EMULATED,
    "description": EMULATED,
    "version_description": EMULATED,
    "default_checkpoint_id": Fidelity(Kind.UNIMPLEMENTED, "models here have no checkpoints"),
    "predict_schemata": Fidelity(
        Kind.APPROXIMATED, "always those of the objective; what an upload says is dropped"
    ),
    "metadata_schema_uri": Fidelity(Kind.IGNORED, "not read"),
    "metadata": Fidelity(Kind.IGNORED, "not read"),
    "supported_export_formats": Fidelity(Kind.ABSENT, "models cannot be exported"),
    "training_pipeline": Fidelity(Kind.ABSENT, "models are not trained here"),
    "pipeline_job": Fidelity(Kind.IGNORED, "kept as given"),
    "container_spec": _CONTAINER,
    "artifact_uri": Fidelity(
        Kind.EMULATED, "a gs:// folder with model.toml and an ONNX file, copied at upload; given back as sent"
    ),
    "supported_deployment_resources_types": Fidelity(Kind.ABSENT, "empty: batch prediction only"),
    "supported_input_storage_formats": Fidelity(Kind.EMULATED, "jsonl"),
    "supported_output_storage_formats": Fidelity(Kind.EMULATED, "jsonl"),
    "create_time": EMULATED,
    "update_time": EMULATED,
    "deployed_models": Fidelity(Kind.ABSENT, "models are never deployed"),
    "explanation_spec": _NO_EXPLANATION,
    "etag": EMULATED,
    "labels": Fidelity(Kind.EMULATED, "those of the model and of the version are merged"),
    "data_stats": Fidelity(Kind.DROPPED, "models are not trained here"),
    "encryption_spec": Fidelity(Kind.IGNORED, "nothing is encrypted"),
    "model_source_info": Fidelity(Kind.APPROXIMATED, "AUTOML for folder models, CUSTOM for uploads"),
    "original_model_info": Fidelity(Kind.ABSENT, "models are not copied"),
    "metadata_artifact": Fidelity(Kind.ABSENT, "there is no metadata store"),
    "base_model_source": Fidelity(Kind.IGNORED, "kept as given"),
    "satisfies_pzs": _ABSENT,
    "satisfies_pzi": _ABSENT,
    "checkpoints": Fidelity(Kind.ABSENT, "models here have no checkpoints"),
}

RPCS: Mapping[str, Fidelity] = {
    "JobService/CreateBatchPredictionJob": EMULATED,
    "JobService/GetBatchPredictionJob": EMULATED,
    "JobService/ListBatchPredictionJobs": EMULATED,
    "JobService/CancelBatchPredictionJob": EMULATED,
    "JobService/DeleteBatchPredictionJob": EMULATED,
    "ModelService/UploadModel": Fidelity(Kind.APPROXIMATED, "takes ONNX models described by a model.toml"),
    "ModelService/GetModel": EMULATED,
    "ModelService/ListModels": EMULATED,
    "ModelService/ListModelVersions": EMULATED,
    "ModelService/UpdateModel": EMULATED,
    "ModelService/DeleteModel": EMULATED,
    "ModelService/DeleteModelVersion": EMULATED,
    "ModelService/MergeVersionAliases": EMULATED,
    "Operations/GetOperation": EMULATED,
    "Operations/ListOperations": EMULATED,
    "Operations/WaitOperation": EMULATED,
    "Operations/DeleteOperation": EMULATED,
    "Operations/CancelOperation": Fidelity(
        Kind.APPROXIMATED, "no operation here can be cancelled, so it always fails"
    ),
    "Locations/GetLocation": Fidelity(Kind.APPROXIMATED, "any well-formed location exists"),
    "Locations/ListLocations": Fidelity(Kind.APPROXIMATED, "a fixed list of Vertex AI regions"),
}


def set_paths(message: Any, table: Mapping[str, Fidelity]) -> list[tuple[str, Fidelity]]:
    """The table's entries for fields that a message sets, in order of field numbers."""
    return list(_set_paths(message, table, ""))


def _set_paths(message: Any, table: Mapping[str, Fidelity], prefix: str) -> Iterator[tuple[str, Fidelity]]:
    for field, value in message.ListFields():
        path = f"{prefix}{field.name}"
        if path in table:
            yield path, table[path]
        else:
            yield from _set_paths(value, table, f"{path}.")


def not_honoured(found: Iterable[tuple[str, Fidelity]]) -> list[tuple[str, str]]:
    """Steps of a job for those fields of `set_paths` that have no effect."""
    kinds = (Kind.IGNORED, Kind.DROPPED, Kind.APPROXIMATED)
    return [
        (NOT_HONOURED, f"{path}|{fidelity.kind.value}|{fidelity.note}")
        for path, fidelity in found
        if fidelity.kind in kinds
    ]


def clear(message: Any, path: str) -> None:
    """Clear the field at a path."""
    *parents, name = path.split(".")
    for parent in parents:
        message = getattr(message, parent)
    message.ClearField(name)
