"""The plain data that goes into and comes out of the database."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from emulator.instructions.pace import parse_pace
from emulator.vertex.job_state import JobState

UNKNOWN_TOTAL = -1


@dataclass(frozen=True)
class JobRow:
    """A job as the database holds it.

    Attributes:
        model_folder: the folder with the model's files.
        document: the request's v1 BatchPredictionJob, serialized.
        incomplete: -1 until the number of instances is known.
        provider: the execution provider that really runs the model, once known.
        error: a serialized Status.
        partial_failures: serialized Status messages.
        owner: the runner that has claimed the job, until the job ends or is released.
        attempts: how often a runner has claimed the job.
        pace: the text of the job's pace; see `emulator.instructions.pace`.
        stage: index of the pace's stage that the job is in.
        hold_reads: reads until the hold ends, if reads are counted.
        hold_until_us: end of the hold, if it is timed.
        faults: the job's injected faults, as JSON.
        input_digest: digest of the input that the job began with; "" before that.
        model_digest: digest of the model that the job began with; "" before that.
        ending: how the job will end, once that is decided: a serialized v1 BatchPredictionJob.
        staged_errors: name of the errors file until it is published.
        frames_done: frames that the runner has sampled.
        frames_left: an estimate; -1 while there is none.
    """

    id: int
    project: str
    location: str
    display_name: str
    model_id: str
    model_version: int
    model_display_name: str
    model_objective: str
    model_folder: str
    document: bytes
    state: JobState
    create_time_us: int
    update_time_us: int
    start_time_us: int | None
    end_time_us: int | None
    successful: int
    failed: int
    incomplete: int
    output_directory: str | None
    provider: str | None
    error: bytes | None
    partial_failures: tuple[bytes, ...]
    owner: str | None
    attempts: int
    pace: str = ""
    stage: int = 0
    hold_reads: int | None = None
    hold_until_us: int | None = None
    faults: str = "[]"
    input_digest: str = ""
    model_digest: str = ""
    ending: bytes | None = None
    staged_errors: str | None = None
    frames_done: int = 0
    frames_left: int = UNKNOWN_TOTAL

    def held(self, now_us: int) -> bool:
        """Whether the pace holds the job in its current stage."""
        return self.hold_reads is not None or (self.hold_until_us is not None and self.hold_until_us > now_us)

    @property
    def name(self) -> str:
        """The resource name, with the project's number."""
        return f"projects/{self.project}/locations/{self.location}/batchPredictionJobs/{self.id}"


@dataclass(frozen=True)
class NewJob:
    """A job to create: PENDING, or QUEUED if its pace says so.

    `document` is the request's v1 BatchPredictionJob, serialized. `notes` become the job's first steps, each
    a kind and a text.
    """

    id: int
    project: str
    location: str
    display_name: str
    model_id: str
    model_version: int
    model_display_name: str
    model_objective: str
    model_folder: str
    labels: Mapping[str, str]
    document: bytes
    create_time_us: int
    pace: str = ""
    faults: str = "[]"
    notes: tuple[tuple[str, str], ...] = ()

    def as_row(self, now_us: int) -> JobRow:
        """The row of the new job."""
        first = parse_pace(self.pace).stages[0]
        hold_reads, hold_until_us = first.hold(now_us)
        return JobRow(
            id=self.id,
            project=self.project,
            location=self.location,
            display_name=self.display_name,
            model_id=self.model_id,
            model_version=self.model_version,
            model_display_name=self.model_display_name,
            model_objective=self.model_objective,
            model_folder=self.model_folder,
            document=self.document,
            state=first.state,
            create_time_us=self.create_time_us,
            update_time_us=self.create_time_us,
            start_time_us=None,
            end_time_us=None,
            successful=0,
            failed=0,
            incomplete=UNKNOWN_TOTAL,
            output_directory=None,
            provider=None,
            error=None,
            partial_failures=(),
            owner=None,
            attempts=0,
            pace=self.pace,
            hold_reads=hold_reads,
            hold_until_us=hold_until_us,
            faults=self.faults,
        )


@dataclass(frozen=True)
class NotificationRow:
    """A notification that is due.

    Attributes:
        number: its id, the same in every attempt.
        address: position of the address among the server's.
        time_us: when the job ended.
        state: of the job.
        document: the job as JSON.
        attempts: how many have begun.
        due_us: when the next attempt may begin.
    """

    number: int
    job_id: int
    address: int
    time_us: int
    state: JobState
    document: bytes
    attempts: int
    due_us: int


class FilterRow(NamedTuple):
    """The columns that a list filter may use."""

    id: int
    display_name: str
    model_display_name: str
    state: JobState
    labels: Mapping[str, str]
    create_time_us: int


@dataclass(frozen=True)
class ShardRow:
    """A finished shard of a job: its counts and its file.

    `file_number` is None until a number is assigned. `staged` is the file's name until it is published.
    `errors` is a text of the runner's own, which it reads again after a restart.
    """

    index: int
    file_number: int | None
    successful: int
    failed: int
    errors: str
    staged: str | None = None


@dataclass(frozen=True)
class StepRow:
    """One step of a job. `step` is its kind; the text of a `state` step begins with the new state."""

    number: int
    job_id: int
    project: str
    time_us: int
    step: str
    text: str


@dataclass(frozen=True)
class FaultRow:
    """An injected fault and its counts: how often it matched, was applied and fired.

    `plan` is its JSON. `project` is a project number, or empty for all projects.
    """

    number: int
    project: str
    plan: str
    matched: int
    used: int
    fired: int


@dataclass(frozen=True)
class NewModel:
    """A model and one version of it before they are stored; see ModelRow and VersionRow."""

    model_id: str
    display_name: str
    folder: str
    digest: str
    document: bytes
    description: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    version_description: str = ""
    version_labels: Mapping[str, str] = field(default_factory=dict)
    source: str | None = None
    objective: str = ""


@dataclass(frozen=True)
class VersionRow:
    """One version of a model.

    `source` is the folder model that the version mirrors, or None for an upload. `document` is a serialized
    v1 Model with the fields that never change (schemata, formats, artifact URI). `objective` is a name of
    `vertex.objectives.Objective`.
    """

    project: str
    location: str
    model_id: str
    version: int
    aliases: tuple[str, ...]
    description: str
    labels: Mapping[str, str]
    folder: str
    digest: str
    document: bytes
    create_time_us: int
    update_time_us: int
    source: str | None = None
    objective: str = ""


@dataclass(frozen=True)
class ModelRow:
    """A model: the fields that all its versions share, and the versions, oldest first."""

    project: str
    location: str
    model_id: str
    display_name: str
    description: str
    labels: Mapping[str, str]
    create_time_us: int
    update_time_us: int
    versions: tuple[VersionRow, ...] = ()


@dataclass(frozen=True)
class OperationRow:
    """A long-running operation.

    `document` is a serialized google.longrunning.Operation without its name. `model` is set if the
    operation's name lies below that model.
    """

    id: int
    project: str
    location: str
    model: str | None
    create_time_us: int
    done: bool
    document: bytes

    @property
    def name(self) -> str:
        """The resource name, with the project's number."""
        below = f"/models/{self.model}" if self.model else ""
        return f"projects/{self.project}/locations/{self.location}{below}/operations/{self.id}"
