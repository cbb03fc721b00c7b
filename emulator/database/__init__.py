"""Persistence: SQLAlchemy Core tables and every query of the emulator.

No row object of SQLAlchemy leaves this package. Every change of a job's state is one guarded UPDATE.
"""

from emulator.database.cached import Cached
from emulator.database.connection import DatabaseUnusable, now_us
from emulator.database.control import Control
from emulator.database.jobs import Outbox
from emulator.database.migrations import SCHEMA_VERSION
from emulator.database.models import Models
from emulator.database.notifications import Notifications
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
    NotificationRow,
    OperationRow,
    ShardRow,
    StepRow,
    VersionRow,
)
from emulator.database.transfer import TABLES, RowRefused, row_from_json, row_to_json

__all__ = [
    "Cached",
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
    "NotificationRow",
    "OperationRow",
    "Outbox",
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


class Database(Notifications, Models, Operations, Control):
    """All rows that the emulator keeps, in one SQLAlchemy database. Thread-safe.

    Times are integer microseconds since 1970.

    Raises:
        DatabaseUnusable: the database cannot be opened.
    """
