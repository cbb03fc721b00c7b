"""Persistence: SQLAlchemy Core tables and every query of the emulator.

No row object of SQLAlchemy leaves this package. Every change of a job's state is one guarded UPDATE.
"""

from emulator.database.cached import Cached
from emulator.database.connection import DatabaseUnusable, now_us
from emulator.database.database import Database
from emulator.database.inspection import Inspection, JobFiles
from emulator.database.migrations import SCHEMA_VERSION
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
from emulator.database.upkeep import OldJob

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
