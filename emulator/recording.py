"""Turns a job that ran elsewhere into a seed folder: its files, and a canned model with the same answers.

docs/leaving-automl.md has the folder's layout. Nothing is decoded and no model runs.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

from emulator.comparison.output import ERRORS, PREDICTIONS, OutputUnusable, instance_of, json_lines, numbered
from emulator.comparison.sides import RECORDING_FORMAT, RECORDING_NOTE
from emulator.files import cause, size_text
from emulator.inference.canned import MOST_BYTES, check_lines
from emulator.inference.sections import OBJECTIVES, read_model_id
from emulator.redaction import Redaction, secrets_in
from emulator.storage import GcsUri, InvalidUri
from emulator.vertex import contract
from emulator.vertex.errors import ApiError
from emulator.vertex.instances import InstanceError, parse_instance_line
from emulator.vertex.job_state import TERMINAL, JobState
from emulator.vertex.messages import from_json, to_json
from emulator.vertex.names import BatchPredictionJobName, ModelName
from emulator.vertex.objectives import Objective, objective_of

_DIRECTORY = re.compile(r"prediction-(?P<model>.+)-(?P<time>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3,6}Z)")
_TIMES = ("createTime", "startTime", "endTime", "updateTime")
# Fields that name people and keys, and fields that clients cannot set.
_REMOVED = ("serviceAccount", "encryptionSpec", "satisfiesPzs", "satisfiesPzi")
# Members of REST responses that the message lacks.
_EXTRAS = ("modelDisplayName", "modelObjective")
_CHOICES = ", ".join(OBJECTIVES)


class CannotRecord(Exception):
    """The job cannot be recorded; the message names file, line, cause and remedy. Nothing was written."""


@dataclass(frozen=True)
class Finished:
    """A job that has ended: its resource as JSON, and its files by name.

    `inputs` are the input files by gs:// name, if available. `directory` is the name of the folder with the
    outputs, or "" if that name means nothing.
    """

    job: Mapping[str, Any]
    outputs: Mapping[str, bytes]
    inputs: Mapping[str, bytes] = field(default_factory=dict)
    directory: str = ""
    origin: str = "files"


@dataclass(frozen=True)
class Options:
    """What the recording changes of a job.

    `prefixes` maps prefixes of gs:// names, `shift` moves the job's times. With `pace`, new jobs take that
    many times as long as this one did (None: as long as the emulator needs).
    """

    project: str = "recorded"
    prefixes: Mapping[str, str] = field(default_factory=dict)
    keep_names: bool = False
    shift: timedelta = timedelta()
    pace: float | None = None
    objective: str = ""


def record(finished: Finished, options: Options, folder: Path) -> list[str]:
    """Write the recording of a job into a folder that is new or empty.

    Returns:
        The changes, in words.

    Raises:
        CannotRecord: the files are not those of one whole job, or hold a secret, or the folder is taken.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise CannotRecord(f"{folder} is there already. Name another folder with --to, or remove that one.")
    try:
        recording = _Recording(finished, options)
    except OutputUnusable as error:
        raise CannotRecord(str(error)) from None
    files = recording.files()
    for name, data in files.items():
        if found := secrets_in(data.decode(errors="replace")):
            raise CannotRecord(
                f"{name} would hold {found[0]}. Nothing was written. Remove it from the job's files, or have"
                " it replaced with --map, and try again."
            )
    changes = recording.changes()
    files[RECORDING_NOTE] = _note(finished, files, changes).encode()
    _write(files, folder)
    return changes


class _Recording:
    """The files of a recording, made from a checked job."""

    def __init__(self, finished: Finished, options: Options) -> None:
        self._finished = finished
        self._options = options
        self._dropped: list[str] = []
        self._job = self._read_job()
        self._name, self._model = self._names()
        self._output = self._output_directory()
        self._predictions = numbered(finished.outputs, PREDICTIONS)
        self._errors = numbered(finished.outputs, ERRORS)
        if sum(map(len, self._predictions.values())) > MOST_BYTES:
            raise CannotRecord(f"The predictions are larger than {size_text(MOST_BYTES)}, the most recorded.")
        self._predicted, self._failed = list(json_lines(self._predictions)), list(json_lines(self._errors))
        self._check_whole()
        self._objective = self._read_objective()
        self._check_answers()
        project = self._name.project if options.keep_names else options.project
        self._redaction = Redaction(project, options.prefixes, options.keep_names, self._moved_directory())

    def files(self) -> dict[str, bytes]:
        """Every file of the recording except RECORDING.md, by its path in the folder."""
        objects = {
            uri: (_path_of(self._redaction.text(str(uri))), self._redacted(data))
            for uri, data in self._objects()
        }
        found = dict(objects.values())
        model = f"models/{_model_id(self._model.model)}"
        for name in self._predictions:
            found[f"{model}/predictions/{name}"] = objects[self._output / name][1]
        if failures := self._failures():
            found[f"{model}/predictions/failures.jsonl"] = self._redacted(failures)
        found[f"{model}/model.toml"] = self._redacted(self._manifest().encode())
        parent = f"projects/{self._redaction.project}/locations/{self._name.location}"
        job = self._redaction.text(json.dumps(self._moved_job(), ensure_ascii=False))
        found["jobs.jsonl"] = f'{{"parent": "{parent}", "batchPredictionJob": {job}}}\n'.encode()
        if self._options.pace is not None:
            paces = {"projects": {self._redaction.project: {"pace": self._pace(self._options.pace)}}}
            found["control.json"] = json.dumps(paces).encode()
        return found

    def changes(self) -> list[str]:
        """The differences from the original job, in words."""
        found = [f"{old} is {new}" for old, new in sorted(self._redaction.changes.items())]
        found += [f"{name} of the job was left out" for name in self._dropped]
        if self._options.shift:
            found.append(f"times were moved by {self._options.shift}")
        if not self._finished.inputs:
            found.append("the input was put together from the instances in the output")
        return found

    def _read_job(self) -> dict[str, Any]:
        job = dict(self._finished.job)
        known = {field.json_name for field in contract.load().v1.BatchPredictionJob.DESCRIPTOR.fields}
        self._dropped = sorted(
            name for name in job if name in _REMOVED or (name not in known and name not in _EXTRAS)
        )
        kept = {name: value for name, value in job.items() if name in known and name not in self._dropped}
        try:
            message = from_json(contract.load().v1.BatchPredictionJob, kept)
        except ApiError as error:
            raise CannotRecord(f"The job is none that Vertex would give: {error.message}") from None
        if JobState(message.state) not in TERMINAL:
            raise CannotRecord(
                f"The job is in state {JobState(message.state).proto_name}. Record it once it has ended."
            )
        return to_json(message)

    def _names(self) -> tuple[BatchPredictionJobName, ModelName]:
        try:
            name = BatchPredictionJobName.parse(self._job.get("name", ""))
            return name, ModelName.parse(self._job.get("model", ""), field="model", lenient=True)
        except ApiError as error:
            raise CannotRecord(f"The job is none that Vertex would give: {error.message}") from None

    def _output_directory(self) -> GcsUri:
        uri = self._job.get("outputInfo", {}).get("gcsOutputDirectory", "")
        try:
            directory = GcsUri.parse_prefix(uri)
        except InvalidUri:
            raise CannotRecord(
                f"The job's outputInfo.gcsOutputDirectory is {uri!r}; only a job that wrote to Cloud Storage"
                " can be recorded."
            ) from None
        name = uri.rstrip("/").rpartition("/")[2]
        found = self._finished.directory
        if _DIRECTORY.fullmatch(found) and found != name:
            raise CannotRecord(
                f"The files are those of {found}, and the job wrote to {name}. Give one job's."
            )
        return directory

    def _read_objective(self) -> Objective:
        named = self._options.objective or str(self._finished.job.get("modelObjective", "")).lower()
        if named in OBJECTIVES:
            return OBJECTIVES[named]
        if named:
            raise CannotRecord(f"The objective {named!r} is not known; --objective takes {_CHOICES}.")
        for _, line in self._predicted:
            for prediction in line.get("prediction") or []:
                if isinstance(prediction, dict) and prediction:
                    return objective_of(prediction)
        raise CannotRecord(f"No prediction tells the job's objective. Say it with --objective: {_CHOICES}.")

    def _check_whole(self) -> None:
        """Refuse files that are not the whole output of one job."""
        predicted = [(where, instance_of(where, line)) for where, line in self._predicted]
        failed = [(where, instance_of(where, line)) for where, line in self._failed]
        if not predicted and not failed:
            raise CannotRecord("There are no prediction and error lines, so there is nothing to record.")
        self._check_counts(len(predicted), len(failed))
        self._check_inputs(predicted)

    def _check_answers(self) -> None:
        """Refuse predictions that a canned model cannot return."""
        for data in self._predictions.values():
            try:
                check_lines(data.decode().splitlines(), self._objective)
            except ValueError as error:
                raise CannotRecord(f"The predictions cannot be given again: {error}.") from None

    def _check_counts(self, predicted: int, failed: int) -> None:
        stats = self._job.get("completionStats", {})
        for what, member, found in (
            ("prediction", "successfulCount", predicted),
            ("error", "failedCount", failed),
        ):
            said = int(stats.get(member, 0))
            if stats and said != found:
                raise CannotRecord(
                    f"The job says {member} {said}, and the files hold {found} {what} lines. Copy all files"
                    " of the output directory."
                )

    def _check_inputs(self, predicted: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
        asked = {
            _key(line)
            for uri, data in self._finished.inputs.items()
            for number, line in enumerate(data.splitlines(), start=1)
            if line.strip()
        }
        for where, instance in predicted:
            if asked and _key(json.dumps(instance).encode()) not in asked:
                raise CannotRecord(
                    f"{where} is for {instance.get('content')}, with a segment that no line of the input has."
                    " Give the files of one job."
                )

    def _objects(self) -> list[tuple[GcsUri, bytes]]:
        found = [(self._output / name, data) for name, data in (self._predictions | self._errors).items()]
        found += [(GcsUri.parse(uri), data) for uri, data in self._finished.inputs.items()]
        uris = self._job.get("inputConfig", {}).get("gcsSource", {}).get("uris", [])
        if not self._finished.inputs and uris and not GcsUri.parse(uris[0]).has_wildcards:
            text = "".join(f"{_input_line(*line)}\n" for line in [*self._predicted, *self._failed])
            found.append((GcsUri.parse(uris[0]), text.encode()))
        return found

    def _failures(self) -> bytes:
        """The error lines for a canned model. Lines without an instance are left out: they fail anyway."""
        lines = [
            json.dumps({"instance": instance_of(where, line), "error": line["error"]}, ensure_ascii=False)
            for where, line in self._failed
            if isinstance(line.get("content"), str)
        ]
        return "".join(f"{line}\n" for line in lines).encode()

    def _manifest(self) -> str:
        found = _DIRECTORY.fullmatch(self._output.object.rstrip("/").rpartition("/")[2])
        name = self._finished.job.get("modelDisplayName") or (found and found["model"]) or self._model.model
        return (
            f'[model]\nobjective = "{self._objective.value}"\n'
            f'display_name = {json.dumps(name, ensure_ascii=False)}\ncanned = "predictions"\n'
        )

    def _moved_job(self) -> dict[str, Any]:
        moved = {name: _moved(self._job[name], self._options.shift) for name in _TIMES if name in self._job}
        return self._job | moved

    def _moved_directory(self) -> Mapping[str, str]:
        found = _DIRECTORY.search(str(self._output))
        if found is None or not self._options.shift:
            return {}
        return {found["time"]: _moved(found["time"], self._options.shift)}

    def _pace(self, factor: float) -> str:
        times = [
            _time(self._job[name]) for name in ("createTime", "startTime", "endTime") if name in self._job
        ]
        waits = [max(0, round((b - a).total_seconds() * factor * 1000)) for a, b in pairwise(times)]
        return ",".join(f"{state}={ms}ms" for state, ms in zip(("pending", "running"), waits, strict=False))

    def _redacted(self, data: bytes) -> bytes:
        return self._redaction.text(data.decode()).encode()


def _input_line(where: str, line: Mapping[str, Any]) -> str:
    """The input line of an output line."""
    if isinstance(line.get("instance"), str):
        return str(line["instance"])
    return json.dumps(instance_of(where, line), ensure_ascii=False)


def _key(line: bytes) -> object:
    """A key for an instance; equal instances have equal keys."""
    try:
        instance = parse_instance_line(line, 1)
    except InstanceError:
        return line.strip()
    return instance.content, instance.start_us, instance.end_us


def _model_id(model: str) -> str:
    try:
        return read_model_id(model)
    except ValueError as error:
        raise CannotRecord(f"The model's id is {model!r}; to be served {error}.") from None


def _path_of(uri: str) -> str:
    """The path of an object in the recording."""
    path = uri.removeprefix("gs://")
    if any(part in ("", ".", "..") for part in path.split("/")):
        raise CannotRecord(f"{uri} cannot be a file in a folder. Give it another name with --map.")
    return f"buckets/{path}"


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _moved(text: str, shift: timedelta) -> str:
    return (_time(text) + shift).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _note(finished: Finished, files: Mapping[str, bytes], changes: Sequence[str]) -> str:
    """The text of RECORDING.md."""
    stats = finished.job.get("completionStats", {})
    made = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
    sums = [f"| {name} | {hashlib.sha256(data).hexdigest()} |" for name, data in sorted(files.items())]
    counts = f"instances: {stats.get('successfulCount', 0)} succeeded, {stats.get('failedCount', 0)} failed"
    parts = [
        "# Recording of a batch prediction job",
        f"Format {RECORDING_FORMAT}. Made at {made} from {finished.origin}; {counts}.",
        "## Changed",
        "\n".join(f"- {change}" for change in changes) or "Nothing.",
        "## Files",
        "\n".join(("| file | SHA-256 |", "|---|---|", *sums)),
    ]
    return "\n\n".join(parts) + "\n"


def _write(files: Mapping[str, bytes], folder: Path) -> None:
    """Write all files or none."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        for name, data in files.items():
            path = made / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        made.chmod(0o755)
        made.rename(folder)
    except OSError as error:
        shutil.rmtree(made, ignore_errors=True)
        raise CannotRecord(f"{folder} cannot be written: {cause(error)}.") from error
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise
