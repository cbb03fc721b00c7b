"""The tables. A change to a table needs a migration; see `emulator.database.migrations`."""

import struct
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Dialect,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
)
from sqlalchemy.types import TypeDecorator

from emulator.vertex.job_state import JobState

_STATES = {int(state): state for state in JobState}

metadata = MetaData()


class Frames(TypeDecorator[tuple[bytes, ...]]):
    """A sequence of byte strings in one column, each prefixed by its length."""

    impl = LargeBinary
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> bytes:  # noqa: ARG002
        return b"".join(struct.pack("<I", len(frame)) + frame for frame in value or ())

    def process_result_value(self, value: Any, dialect: Dialect) -> tuple[bytes, ...]:  # noqa: ARG002
        frames: list[bytes] = []
        data, at = bytes(value or b""), 0
        while at < len(data):
            (size,) = struct.unpack_from("<I", data, at)
            frames.append(data[at + 4 : at + 4 + size])
            at += 4 + size
        return tuple(frames)


class Words(TypeDecorator[str]):
    """A text of any length. U+FFFD replaces NUL, which PostgreSQL's texts cannot hold, on every database."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:  # noqa: ARG002
        return value.replace("\0", "\ufffd") if value and "\0" in value else value


class State(TypeDecorator[JobState]):
    """A JobState, stored as its number in the proto."""

    impl = Integer
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> int:  # noqa: ARG002
        return int(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> JobState:  # noqa: ARG002
        return _STATES[value]


schema_versions = Table("schema_version", metadata, Column("version", Integer, primary_key=True))

jobs = Table(
    "batch_prediction_jobs",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("project", Words, nullable=False),
    Column("location", Words, nullable=False),
    Column("display_name", Words, nullable=False),
    Column("model_id", Words, nullable=False),
    Column("model_version", Integer, nullable=False),
    Column("model_display_name", Words, nullable=False),
    Column("model_objective", Words, nullable=False),
    Column("model_folder", Words, nullable=False),
    Column("labels", JSON, nullable=False),
    Column("document", LargeBinary, nullable=False),
    Column("state", State, nullable=False),
    Column("create_time_us", BigInteger, nullable=False),
    Column("update_time_us", BigInteger, nullable=False),
    Column("start_time_us", BigInteger),
    Column("end_time_us", BigInteger),
    Column("successful", BigInteger, nullable=False),
    Column("failed", BigInteger, nullable=False),
    Column("incomplete", BigInteger, nullable=False),
    Column("output_directory", Words),
    Column("provider", Words),
    Column("error", LargeBinary),
    Column("partial_failures", Frames, nullable=False),
    Column("owner", Words),
    Column("lease_expires_us", BigInteger),
    Column("attempts", Integer, nullable=False),
    # The text of the job's pace, the index of its stage, and the hold there: a number of reads or a time.
    Column("pace", Words, nullable=False),
    Column("stage", Integer, nullable=False),
    Column("hold_reads", Integer),
    Column("hold_until_us", BigInteger),
    # The injected faults that apply to the job, as JSON.
    Column("faults", Words, nullable=False),
    # Digests of what the job began with. How it ends, once decided: a serialized BatchPredictionJob.
    Column("input_digest", String(64), nullable=False),
    Column("model_digest", String(64), nullable=False),
    Column("ending", LargeBinary),
    Column("staged_errors", String(64)),
    # Frames sampled, of videos running and finished; frames left, -1 if unknown.
    Column("frames_done", BigInteger, nullable=False),
    Column("frames_left", BigInteger, nullable=False),
)
# Newest first within a parent, as lists read. A list of ten costs the same with 20,000 jobs.
Index("jobs_by_parent", jobs.c.project, jobs.c.location, jobs.c.create_time_us, jobs.c.id)
# Oldest first within a state, as claims read.
Index("jobs_by_state", jobs.c.state, jobs.c.create_time_us, jobs.c.id)
Index("jobs_by_hold", jobs.c.hold_until_us)

shards = Table(
    "shards",
    metadata,
    Column("job_id", ForeignKey(jobs.c.id, ondelete="CASCADE"), primary_key=True),
    Column("index", Integer, primary_key=True, autoincrement=False),
    Column("file_number", Integer),
    Column("successful", BigInteger, nullable=False),
    Column("failed", BigInteger, nullable=False),
    Column("errors", Words, nullable=False),
    Column("staged", String(64)),
)

# What happened to jobs: one row per step, ordered by number.
steps = Table(
    "job_steps",
    metadata,
    Column("number", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("job_id", BigInteger, nullable=False),
    Column("project", Words, nullable=False),
    Column("time_us", BigInteger, nullable=False),
    Column("step", Words, nullable=False),
    Column("text", Words, nullable=False),
    sqlite_autoincrement=True,
)
Index("steps_by_job", steps.c.job_id, steps.c.number)

# Notifications that are due: one per ended job and address. `address` is the address's position among the
# server's, so that no URL with a secret is kept here. `due_us` is when the next attempt may begin.
notifications = Table(
    "notifications",
    metadata,
    Column("number", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("job_id", BigInteger, nullable=False),
    Column("project", Words, nullable=False),
    Column("address", Integer, nullable=False),
    Column("time_us", BigInteger, nullable=False),
    Column("state", State, nullable=False),
    Column("document", LargeBinary, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("due_us", BigInteger, nullable=False),
    sqlite_autoincrement=True,
)
Index("notifications_by_due", notifications.c.address, notifications.c.due_us)
Index("notifications_by_job", notifications.c.job_id)

# Injected faults. `plan` is JSON; `used` counts the matches to which the fault applied.
faults = Table(
    "faults",
    metadata,
    Column("number", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("project", Words, nullable=False),
    Column("plan", Words, nullable=False),
    Column("matched", Integer, nullable=False),
    Column("used", Integer, nullable=False),
    Column("fired", Integer, nullable=False),
    sqlite_autoincrement=True,
)

# Settings of the control surface, by name: paces, and whether the seed was loaded.
notes = Table(
    "control_notes",
    metadata,
    Column("name", Words, primary_key=True),
    Column("value", Words, nullable=False),
)

models = Table(
    "models",
    metadata,
    Column("project", Words, primary_key=True),
    Column("location", Words, primary_key=True),
    Column("model_id", Words, primary_key=True),
    Column("display_name", Words, nullable=False),
    Column("description", Words, nullable=False),
    Column("labels", JSON, nullable=False),
    Column("create_time_us", BigInteger, nullable=False),
    Column("update_time_us", BigInteger, nullable=False),
    # A version number is never given out twice, even after its version is deleted.
    Column("last_version", Integer, nullable=False),
)

versions = Table(
    "model_versions",
    metadata,
    Column("project", Words, primary_key=True),
    Column("location", Words, primary_key=True),
    Column("model_id", Words, primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("aliases", JSON, nullable=False),
    Column("description", Words, nullable=False),
    Column("labels", JSON, nullable=False),
    Column("folder", Words, nullable=False),
    Column("digest", Words, nullable=False),
    Column("document", LargeBinary, nullable=False),
    Column("create_time_us", BigInteger, nullable=False),
    Column("update_time_us", BigInteger, nullable=False),
    Column("source", Words),
    Column("objective", Words, nullable=False),
    ForeignKeyConstraint(
        ["project", "location", "model_id"],
        ["models.project", "models.location", "models.model_id"],
        ondelete="CASCADE",
    ),
)

# A folder model is seeded once into each location. If a client deletes it there, it stays deleted.
seeded = Table(
    "seeded_models",
    metadata,
    Column("project", Words, primary_key=True),
    Column("location", Words, primary_key=True),
    Column("source", Words, primary_key=True),
)

operations = Table(
    "operations",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("project", Words, nullable=False),
    Column("location", Words, nullable=False),
    Column("model", Words),
    Column("create_time_us", BigInteger, nullable=False),
    Column("done", Boolean, nullable=False),
    Column("document", LargeBinary, nullable=False),
)
Index("operations_by_parent", operations.c.project, operations.c.location)
Index("operations_by_age", operations.c.done, operations.c.create_time_us)
