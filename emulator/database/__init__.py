"""Persistence: SQLAlchemy Core tables and every query of the emulator.

No row object of SQLAlchemy leaves this package. Every change of a job's state is one guarded UPDATE.
"""

from emulator.database.cached import Cached
from emulator.database.connection import DatabaseUnusable, now_us
from emulator.database.control import Control
from emulator.database.inspection import Inspection, JobFiles
from emulator.database.jobs import Jobs
from emulator.database.migrations import SCHEMA_VERSION
from emulator.database.models import Models
from emulator.database.operations import Operations
from emulator.database.outages import DATABASE_OUTAGES
from emulator.database.rows import (
    UNKNOWN_TOTAL,
    FaultRow,
    FilterRow,
    JobRow,
    ModelRow,
    NewJob,
    NewModel,
    OperationRow,
    ShardRow,
    StepRow,
    VersionRow,
)
from emulator.database.transfer import TABLES, RowRefused, row_from_json, row_to_json
from emulator.database.upkeep import OldJob, Upkeep

__all__ = [
    "Cached",
    "DATABASE_OUTAGES",
    "SCHEMA_VERSION",
    "Database",
    "DatabaseUnusable",
    "FaultRow",
    "FilterRow",
    "Inspection",
    "JobFiles",
    "JobRow",
    "ModelRow",
    "NewJob",
    "NewModel",
    "OldJob",
    "OperationRow",
    "RowRefused",
    "ShardRow",
    "StepRow",
    "TABLES",
    "UNKNOWN_TOTAL",
    "VersionRow",
    "now_us",
    "row_from_json",
    "row_to_json",
]


class Database(Jobs, Models, Operations, Control, Upkeep):
    """All rows that the emulator keeps, in one SQLAlchemy database. Thread-safe.

    Times are integer microseconds since 1970. With `migrate=False` only a database of this version's schema
    is opened.

    Raises:
        DatabaseUnusable: the database cannot be opened.
    """
