"""Persistence: SQLAlchemy Core tables and every query of the emulator.

No row object of SQLAlchemy leaves this package. Every change of a job's state is one guarded UPDATE.
"""

from emulator.database.connection import DATABASE_OUTAGES, DatabaseUnusable, now_us
from emulator.database.control import Control
from emulator.database.jobs import Jobs
from emulator.database.models import Models
from emulator.database.operations import Operations
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
from emulator.database.schema import SCHEMA_VERSION

__all__ = [
    "DATABASE_OUTAGES",
    "SCHEMA_VERSION",
    "Database",
    "DatabaseUnusable",
    "FaultRow",
    "FilterRow",
    "JobRow",
    "ModelRow",
    "NewJob",
    "NewModel",
    "OperationRow",
    "ShardRow",
    "StepRow",
    "UNKNOWN_TOTAL",
    "VersionRow",
    "now_us",
]


class Database(Jobs, Models, Operations, Control):
    """Every row the emulator keeps, in one SQLAlchemy database; safe to use from many threads.

    Times are integer microseconds since 1970. Raises DatabaseUnusable when it cannot be opened.
    """
