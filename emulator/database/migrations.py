"""Migrates a database to this version's tables, and refuses one with an unknown schema.

To change a table, change it in `schema`. Then write a function here that makes the same change to a database
with rows, and append it to `MIGRATIONS`. Never change a released function.
"""

import logging
import re
from collections.abc import Callable

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
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
    update,
)
from sqlalchemy.schema import CreateColumn

from emulator.database.schema import metadata, schema_versions
from emulator.vertex.contract import load

# PostgreSQL: the key of the advisory lock by which only one of several starting servers changes the tables.
_LOCK = 0x76626574
_PREDICTION_SCHEMA = re.compile(r"/video_([a-z_]+)_1\.0\.0\.yaml$")
# The key of the lock that every connection of a server shares. A server that migrates has to have it alone.
_IN_USE = f"{0x76626575}, hashtext(current_schema())"
#: PostgreSQL: marks the tables as in use, until the connection ends.
MARK = text(f"SELECT pg_advisory_lock_shared({_IN_USE})")

_log = logging.getLogger(__name__)


class SchemaMismatch(Exception):
    """The database has tables that this version of the emulator cannot use."""


def prepare(connection: Connection) -> None:
    """Create the tables in an empty database, or migrate the tables of an older version and keep their rows.

    Everything happens in the caller's transaction.

    Raises:
        SchemaMismatch: a newer version or another program made the tables.
    """
    if connection.dialect.name == "postgresql":
        # Another server may be migrating many rows.
        connection.exec_driver_sql("SET LOCAL lock_timeout = 0; SET LOCAL statement_timeout = 0")
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
    present = set(inspect(connection).get_table_names())
    if schema_versions.name not in present:
        _create(connection, present)
        return
    found = connection.scalar(schema_versions.select())
    if found is None or not 1 <= found <= SCHEMA_VERSION:
        raise SchemaMismatch(
            f"it has schema version {found}, and this emulator knows 1 to {SCHEMA_VERSION};"
            " start the emulator that made it"
        )
    if found < SCHEMA_VERSION:
        _require_nobody(connection, found)
        _migrate(connection, found)
    # A write, so that a read-only file is found now and not by the first client that creates something.
    connection.execute(schema_versions.update().values(version=SCHEMA_VERSION))


def require(connection: Connection) -> None:
    """Change nothing. Raises SchemaMismatch unless the tables are of this version."""
    present = set(inspect(connection).get_table_names())
    found = connection.scalar(schema_versions.select()) if schema_versions.name in present else None
    if found != SCHEMA_VERSION:
        what = "no tables of the emulator" if found is None else f"schema version {found}"
        raise SchemaMismatch(
            f"it has {what}, and this emulator needs version {SCHEMA_VERSION}; start a server of this version"
            " on it, or use the emulator that made it"
        )


def _require_nobody(connection: Connection, found: int) -> None:
    """Refuse to migrate under the hands of servers of the older version, which do not know the new tables."""
    if connection.dialect.name != "postgresql":
        return
    if not connection.scalar(text(f"SELECT pg_try_advisory_xact_lock({_IN_USE})")):
        raise SchemaMismatch(
            f"servers of an older version are using it with schema version {found}, and this emulator would"
            f" bring it to {SCHEMA_VERSION}; stop them first, and end what a lost machine has left open with"
            " pg_terminate_backend"
        )


def _create(connection: Connection, present: set[str]) -> None:
    if ours := sorted(present & set(metadata.tables)):
        raise SchemaMismatch(f"its table {ours[0]} was not made by the emulator")
    if present and connection.dialect.name == "sqlite":
        raise SchemaMismatch(f"it belongs to another program (it has a table {min(present)})")
    metadata.create_all(connection, checkfirst=False)
    connection.execute(schema_versions.insert().values(version=SCHEMA_VERSION))


def _migrate(connection: Connection, found: int) -> None:
    for migration in MIGRATIONS[found - 1 :]:
        migration(connection)
    if connection.dialect.name == "sqlite":
        _rebuild(connection)
    _log.info("The database moves from schema version %d to %d.", found, SCHEMA_VERSION)


def _rebuild(connection: Connection) -> None:
    """Create the tables of `schema` anew and copy the rows: SQLite cannot change columns in place."""
    tables, run = metadata.sorted_tables, connection.exec_driver_sql
    for table in tables:
        run(f'CREATE TEMP TABLE "kept_{table.name}" AS SELECT * FROM main."{table.name}"')
    # The sequences must go on from these numbers: no number is given out twice.
    numbers = run("SELECT seq, name FROM sqlite_sequence").all()
    # Children first: dropping a parent deletes the rows that refer to it.
    for table in reversed(tables):
        run(f'DROP TABLE main."{table.name}"')
    metadata.create_all(connection, checkfirst=False)
    for table in tables:
        names = ", ".join(f'"{column.name}"' for column in table.columns)
        run(f'INSERT INTO main."{table.name}" ({names}) SELECT {names} FROM temp."kept_{table.name}"')
        run(f'DROP TABLE temp."kept_{table.name}"')
    run("DELETE FROM sqlite_sequence")
    for number, name in numbers:
        run("INSERT INTO sqlite_sequence (seq, name) VALUES (?, ?)", (number, name))


def _add_columns(connection: Connection, name: str, *columns: Column[object]) -> None:
    """Add columns to a table; existing rows get the `server_default`.

    A column that is not nullable needs a `server_default` here. `schema` has none, so later rows get none.
    """
    table, postgresql = Table(name, MetaData(), *columns), connection.dialect.name == "postgresql"
    for column in table.columns:
        definition = CreateColumn(column).compile(dialect=connection.dialect)
        connection.exec_driver_sql(f'ALTER TABLE "{name}" ADD COLUMN {definition}')
        if column.server_default is not None and postgresql:
            connection.exec_driver_sql(f'ALTER TABLE "{name}" ALTER COLUMN "{column.name}" DROP DEFAULT')


def _paces_faults_and_steps(connection: Connection) -> None:
    """Version 2: paces and faults of jobs, their steps, and what the control surface sets."""
    _add_columns(
        connection,
        "batch_prediction_jobs",
        Column("pace", Text, nullable=False, server_default=""),
        Column("stage", Integer, nullable=False, server_default="0"),
        Column("hold_reads", Integer),
        Column("hold_until_us", BigInteger),
        Column("faults", Text, nullable=False, server_default="[]"),
    )
    # A job without a pace has two stages: waiting, then working.
    connection.exec_driver_sql("UPDATE batch_prediction_jobs SET stage = 1 WHERE start_time_us IS NOT NULL")
    connection.exec_driver_sql("CREATE INDEX jobs_by_hold ON batch_prediction_jobs (hold_until_us)")
    new = MetaData()
    number = BigInteger().with_variant(Integer, "sqlite")
    steps = Table(
        "job_steps",
        new,
        Column("number", number, primary_key=True, autoincrement=True),
        Column("job_id", BigInteger, nullable=False),
        Column("project", String(64), nullable=False),
        Column("time_us", BigInteger, nullable=False),
        Column("step", String(32), nullable=False),
        Column("text", Text, nullable=False),
        sqlite_autoincrement=True,
    )
    Index("steps_by_job", steps.c.job_id, steps.c.number)
    Table(
        "faults",
        new,
        Column("number", number, primary_key=True, autoincrement=True),
        Column("project", String(64), nullable=False),
        Column("plan", Text, nullable=False),
        Column("matched", Integer, nullable=False),
        Column("used", Integer, nullable=False),
        Column("fired", Integer, nullable=False),
        sqlite_autoincrement=True,
    )
    Table(
        "control_notes",
        new,
        Column("name", String(128), primary_key=True),
        Column("value", Text, nullable=False),
    )
    new.create_all(connection, checkfirst=False)


def _texts_of_any_length(connection: Connection) -> None:
    """Version 3: names that were too long for PostgreSQL's columns; an index to find old operations."""
    names = "project, location, display_name, model_id, model_display_name, model_objective, provider, owner"
    _become_texts(connection, "batch_prediction_jobs", names)
    _become_texts(connection, "job_steps", "project, step")
    _become_texts(connection, "faults", "project")
    _become_texts(connection, "control_notes", "name")
    _become_texts(connection, "models", "project, location, model_id, display_name")
    _become_texts(connection, "model_versions", "project, location, model_id, digest, source")
    _become_texts(connection, "seeded_models", "project, location, source")
    _become_texts(connection, "operations", "project, location, model")
    connection.exec_driver_sql("CREATE INDEX operations_by_age ON operations (done, create_time_us)")


def _become_texts(connection: Connection, table: str, columns: str) -> None:
    """Make columns TEXT on PostgreSQL. On SQLite `_rebuild` does it."""
    if connection.dialect.name == "postgresql":
        changes = ", ".join(f"ALTER COLUMN {name} TYPE TEXT" for name in columns.split(", "))
        connection.exec_driver_sql(f"ALTER TABLE {table} {changes}")


def _digests_endings_and_staged_files(connection: Connection) -> None:
    """Version 4: digests of a job's input and model, the decided ending, and names of staged files."""
    _add_columns(
        connection,
        "batch_prediction_jobs",
        Column("input_digest", String(64), nullable=False, server_default=""),
        Column("model_digest", String(64), nullable=False, server_default=""),
        Column("ending", LargeBinary),
        Column("staged_errors", String(64)),
    )
    _add_columns(connection, "shards", Column("staged", String(64)))


def _frames_of_running_jobs(connection: Connection) -> None:
    """Version 5: how many frames a job has sampled, and how many are left."""
    _add_columns(
        connection,
        "batch_prediction_jobs",
        Column("frames_done", BigInteger, nullable=False, server_default="0"),
        Column("frames_left", BigInteger, nullable=False, server_default="-1"),
    )


def _notifications(connection: Connection) -> None:
    """Version 6: the notifications that are due."""
    new = MetaData()
    due = Table(
        "notifications",
        new,
        Column("number", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
        Column("job_id", BigInteger, nullable=False),
        Column("project", Text, nullable=False),
        Column("address", Integer, nullable=False),
        Column("time_us", BigInteger, nullable=False),
        Column("state", Integer, nullable=False),
        Column("document", LargeBinary, nullable=False),
        Column("attempts", Integer, nullable=False),
        Column("due_us", BigInteger, nullable=False),
        sqlite_autoincrement=True,
    )
    Index("notifications_by_due", due.c.address, due.c.due_us)
    Index("notifications_by_job", due.c.job_id)
    new.create_all(connection, checkfirst=False)


def _objectives_of_models(connection: Connection) -> None:
    """Version 7: the objective of each model version, which only its document told."""
    _add_columns(connection, "model_versions", Column("objective", Text, nullable=False, server_default=""))
    versions = Table("model_versions", MetaData(), Column("document", LargeBinary), Column("objective", Text))
    for document in connection.scalars(select(versions.c.document).distinct()).all():
        uri = load().v1.Model.FromString(document).predict_schemata.prediction_schema_uri
        if told := _PREDICTION_SCHEMA.search(uri):
            change = update(versions).where(versions.c.document == document)
            connection.execute(change.values(objective=told[1].upper()))


#: The migrations from version 1 to 2, from 2 to 3, and so on.
MIGRATIONS: tuple[Callable[[Connection], None], ...] = (
    _paces_faults_and_steps,
    _texts_of_any_length,
    _digests_endings_and_staged_files,
    _frames_of_running_jobs,
    _notifications,
    _objectives_of_models,
)
SCHEMA_VERSION = 1 + len(MIGRATIONS)
