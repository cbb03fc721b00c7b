"""The database as one object: all queries of this package, over one engine."""

from emulator.database.control import Control
from emulator.database.jobs import Jobs
from emulator.database.leases import Leases
from emulator.database.models import Models
from emulator.database.operations import Operations
from emulator.database.upkeep import Upkeep


class Database(Jobs, Leases, Models, Operations, Control, Upkeep):
    """All rows that the emulator keeps, in one SQLAlchemy database. Thread-safe.

    Times are integer microseconds since 1970. With `migrate=False` only a database of this version's schema
    is opened.

    Raises:
        DatabaseUnusable: the database cannot be opened.
    """
