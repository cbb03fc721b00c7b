"""The tables, and the check that a database holds just these."""

import struct
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Connection,
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
    inspect,
    select,
    text,
)
from sqlalchemy.types import TypeDecorator

from emulator.vertex.job_state import JobState

#: Raise it whenever a table changes: databases of another number are refused, not guessed at.
SCHEMA_VERSION = 2
# PostgreSQL: one key for the lock that lets only one of several starting servers create the tables.
_CREATE_LOCK = 0x76626574

_STATES = {int(state): state for state in JobState}

metadata = MetaData()


class SchemaMismatch(Exception):
    """The database holds other tables than this version of the emulator uses."""


class Frames(TypeDecorator[tuple[bytes, ...]]):
    """A sequence of byte strings in one column, each after its length."""

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


class State(TypeDecorator[JobState]):
    """A JobState by its number in the proto."""

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
    Column("project", String(64), nullable=False),
    Column("location", String(64), nullable=False),
    Column("display_name", String(128), nullable=False),
    Column("model_id", String(128), nullable=False),
    Column("model_version", Integer, nullable=False),
    Column("model_display_name", String(128), nullable=False),
    Column("model_objective", String(32), nullable=False),
    Column("model_folder", Text, nullable=False),
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
    Column("output_directory", Text),
    Column("provider", String(32)),
    Column("error", LargeBinary),
    Column("partial_failures", Frames, nullable=False),
    Column("owner", String(128)),
    Column("lease_expires_us", BigInteger),
    Column("attempts", Integer, nullable=False),
    # The pace's text, the stage of it that the job is in, and what holds it there: reads, or a time.
    Column("pace", Text, nullable=False),
    Column("stage", Integer, nullable=False),
    Column("hold_reads", Integer),
    Column("hold_until_us", BigInteger),
    # Failures on demand that the job takes along, as JSON.
    Column("faults", Text, nullable=False),
)
# Newest first within a parent, which is how lists read; a list of ten costs the same with 20,000 jobs.
Index("jobs_by_parent", jobs.c.project, jobs.c.location, jobs.c.create_time_us, jobs.c.id)
# Oldest first within a state, which is how runners claim.
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
    Column("errors", Text, nullable=False),
)

# What happened to jobs, one row a step, in the order of its numbers.
steps = Table(
    "job_steps",
    metadata,
    Column("number", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("job_id", BigInteger, nullable=False),
    Column("project", String(64), nullable=False),
    Column("time_us", BigInteger, nullable=False),
    Column("step", String(32), nullable=False),
    Column("text", Text, nullable=False),
    sqlite_autoincrement=True,
)
Index("steps_by_job", steps.c.job_id, steps.c.number)

# Failures on demand. `plan` is JSON; `used` counts the matches that it acted on.
faults = Table(
    "faults",
    metadata,
    Column("number", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("project", String(64), nullable=False),
    Column("plan", Text, nullable=False),
    Column("matched", Integer, nullable=False),
    Column("used", Integer, nullable=False),
    Column("fired", Integer, nullable=False),
    sqlite_autoincrement=True,
)

# What was set over the control surface, by name: paces, and whether the seed was loaded.
notes = Table(
    "control_notes",
    metadata,
    Column("name", String(128), primary_key=True),
    Column("value", Text, nullable=False),
)

models = Table(
    "models",
    metadata,
    Column("project", String(64), primary_key=True),
    Column("location", String(64), primary_key=True),
    Column("model_id", String(128), primary_key=True),
    Column("display_name", String(128), nullable=False),
    Column("description", Text, nullable=False),
    Column("labels", JSON, nullable=False),
    Column("create_time_us", BigInteger, nullable=False),
    Column("update_time_us", BigInteger, nullable=False),
    # Numbers are never given out twice, not even after a version is deleted.
    Column("last_version", Integer, nullable=False),
)

versions = Table(
    "model_versions",
    metadata,
    Column("project", String(64), primary_key=True),
    Column("location", String(64), primary_key=True),
    Column("model_id", String(128), primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("aliases", JSON, nullable=False),
    Column("description", Text, nullable=False),
    Column("labels", JSON, nullable=False),
    Column("folder", Text, nullable=False),
    Column("digest", String(128), nullable=False),
    Column("document", LargeBinary, nullable=False),
    Column("create_time_us", BigInteger, nullable=False),
    Column("update_time_us", BigInteger, nullable=False),
    Column("source", String(128)),
    ForeignKeyConstraint(
        ["project", "location", "model_id"],
        ["models.project", "models.location", "models.model_id"],
        ondelete="CASCADE",
    ),
)

# A folder model appears once in each location; deleting it there must not bring it back.
seeded = Table(
    "seeded_models",
    metadata,
    Column("project", String(64), primary_key=True),
    Column("location", String(64), primary_key=True),
    Column("source", String(128), primary_key=True),
)

operations = Table(
    "operations",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("project", String(64), nullable=False),
    Column("location", String(64), nullable=False),
    Column("model", String(128)),
    Column("create_time_us", BigInteger, nullable=False),
    Column("done", Boolean, nullable=False),
    Column("document", LargeBinary, nullable=False),
)
Index("operations_by_parent", operations.c.project, operations.c.location)


def prepare(connection: Connection) -> None:
    """Create the tables in an empty database; raise SchemaMismatch when others are there."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _CREATE_LOCK})
    present = set(inspect(connection).get_table_names())
    if schema_versions.name in present:
        found = connection.scalar(select(schema_versions.c.version))
        if found != SCHEMA_VERSION:
            raise SchemaMismatch(
                f"it has schema version {found}, and this version of the emulator uses {SCHEMA_VERSION}"
            )
        # A file that can only be read is found out now, not by the first client that creates something.
        connection.execute(schema_versions.update().values(version=SCHEMA_VERSION))
        return
    if ours := sorted(present & set(metadata.tables)):
        raise SchemaMismatch(f"its table {ours[0]} was not made by the emulator")
    if present and connection.dialect.name == "sqlite":
        raise SchemaMismatch(f"it belongs to another program (it has a table {min(present)})")
    metadata.create_all(connection, checkfirst=False)
    connection.execute(schema_versions.insert().values(version=SCHEMA_VERSION))
