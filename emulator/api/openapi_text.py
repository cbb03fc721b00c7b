"""The texts and examples of the OpenAPI document. The rest of it comes from the descriptors."""

from collections.abc import Mapping
from typing import Any

from emulator.vertex.objectives import Objective

DESCRIPTION = """\
A local emulator of Vertex AI batch prediction for video models. `v1` and `v1beta1` differ in a few fields;
`/ui` is where the official REST clients poll long-running operations.

Every call also takes the parameters of all Google APIs: `prettyPrint=false` writes compact JSON and
`$alt=json;enum-encoding=int` writes enums as numbers; the others (`key`, `fields`, `access_token` and so on)
are accepted and have no effect.
"""

#: The tag of the emulator's own routes.
CONTROL_TAG = "Emulator: the control surface (not part of Vertex AI)"

TAGS = (
    "JobService v1",
    "ModelService v1",
    "Operations",
    "Locations",
    "JobService v1beta1",
    "ModelService v1beta1",
)

PATH_EXAMPLES: Mapping[str, str] = {
    "project": "my-project",
    "location": "us-central1",
    "batch_prediction_job": "1234567890123456789",
    "model": "video-object-tracking",
    "operation": "1234567890123456789",
}

SUMMARIES: Mapping[str, str] = {
    "CreateBatchPredictionJob": "Create a batch prediction job; it starts right away",
    "GetBatchPredictionJob": "Get a batch prediction job",
    "ListBatchPredictionJobs": "List batch prediction jobs, the newest first",
    "DeleteBatchPredictionJob": "Delete a batch prediction job that has ended",
    "CancelBatchPredictionJob": "Cancel a batch prediction job; files already written stay",
    "UploadModel": "Upload a model, or a new version of one",
    "GetModel": "Get a model: the default version, or id@version, or id@alias",
    "ListModels": "List the default versions of all models",
    "ListModelVersions": "List the versions of a model",
    "ListModelVersionCheckpoints": "List the checkpoints of a model version",
    "UpdateModel": "Change the fields of a model that updateMask names",
    "DeleteModel": "Delete a model with all its versions",
    "DeleteModelVersion": "Delete one version of a model",
    "MergeVersionAliases": "Add aliases to a model version; a leading - removes one",
    "ExportModel": "Export a model",
    "CopyModel": "Copy a model",
    "GetModelEvaluation": "Get an evaluation of a model",
    "ListModelEvaluations": "List the evaluations of a model",
    "GetOperation": "Get a long-running operation",
    "ListOperations": "List long-running operations",
    "CancelOperation": "Cancel a long-running operation",
    "DeleteOperation": "Forget a long-running operation",
    "WaitOperation": "Wait until a long-running operation is done, or the time is over",
    "GetLocation": "Get a location",
    "ListLocations": "List the locations",
}

_LOCATION = "projects/my-project/locations/us-central1"


def _job(name: str, model: str, line_file: str) -> dict[str, Any]:
    return {
        "displayName": name,
        "model": f"{_LOCATION}/models/{model}",
        "modelParameters": {"confidenceThreshold": 0.5},
        "inputConfig": {"instancesFormat": "jsonl", "gcsSource": {"uris": [f"gs://my-bucket/{line_file}"]}},
        "outputConfig": {
            "predictionsFormat": "jsonl",
            "gcsDestination": {"outputUriPrefix": "gs://my-bucket/output"},
        },
    }


# Request bodies from the pages of the documentation of Vertex AI, with the placeholders filled in.
BODY_EXAMPLES: Mapping[str, Mapping[str, Any]] = {
    "CreateBatchPredictionJob": {
        words.replace("_", " "): _job(name, f"video-{words.replace('_', '-')}", line_file)
        for words, (name, line_file) in ((one.value, one.definition.example) for one in Objective)
    },
    "CancelBatchPredictionJob": {"cancel": {}},
    "UploadModel": {
        "folder with model.toml and an ONNX file": {
            "model": {"displayName": "my tracker", "artifactUri": "gs://my-bucket/models/my-tracker"}
        },
    },
    "UpdateModel": {"rename (updateMask=displayName)": {"displayName": "a better name"}},
    "MergeVersionAliases": {"promote": {"versionAliases": ["default"]}},
}

# Vertex: the documentation shows these two in a job's JSON, but the message has no such fields.
EXTRA_PROPERTIES: Mapping[str, dict[str, Any]] = {
    "BatchPredictionJob": {
        "modelDisplayName": {"type": "string", "readOnly": True},
        "modelObjective": {"type": "string", "readOnly": True},
    },
}

ERROR_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["error"],
    "additionalProperties": False,
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "message", "status"],
            "additionalProperties": False,
            "properties": {
                "code": {"type": "integer", "description": "The HTTP status."},
                "message": {"type": "string"},
                "status": {"type": "string", "description": "The name of the google.rpc code."},
                "details": {"type": "array", "items": {"type": "object", "required": ["@type"]}},
            },
        }
    },
}
