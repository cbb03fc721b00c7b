"""Queries on long-running operations."""

from collections.abc import Sequence

from sqlalchemy import Delete, delete, insert, select, update

from emulator.database.connection import Connected
from emulator.database.rows import OperationRow
from emulator.database.schema import operations

_COLUMNS = [operations.c[name] for name in OperationRow.__dataclass_fields__]
#: At most this many finished operations are kept.
MAX_DONE = 10_000


def _forget_old() -> Delete:
    """Delete the oldest finished operations beyond `MAX_DONE`."""
    done = operations.c.done.is_(True)
    newest = select(operations.c.create_time_us).where(done).order_by(operations.c.create_time_us.desc())
    oldest_kept = newest.offset(MAX_DONE - 1).limit(1).scalar_subquery()
    return delete(operations).where(done, operations.c.create_time_us < oldest_kept)


class Operations(Connected):
    """Long-running operations, kept until a client deletes them; of finished ones the newest `MAX_DONE`."""

    def insert_operation(self, operation: OperationRow) -> None:
        """Add an operation."""
        values = {name: getattr(operation, name) for name in OperationRow.__dataclass_fields__}
        with self._write() as connection:
            connection.execute(insert(operations).values(values))
            connection.execute(_forget_old())

    def get_operation(self, operation_id: int) -> OperationRow | None:
        """The operation with that id, or None."""
        with self._read() as connection:
            row = connection.execute(select(*_COLUMNS).where(operations.c.id == operation_id)).one_or_none()
        return None if row is None else OperationRow(*row)

    def list_operations(self, project: str, location: str, *, model: str | None = None) -> list[OperationRow]:
        """The operations of one model, or of a location and all its models; there are few."""
        statement = select(*_COLUMNS).where(
            operations.c.project == project, operations.c.location == location
        )
        if model is not None:
            statement = statement.where(operations.c.model == model)
        with self._read() as connection:
            return [OperationRow(*row) for row in connection.execute(statement)]

    def finish_operation(self, operation_id: int, document: bytes) -> bool:
        """Store an operation's outcome; False if it had finished or was deleted."""
        statement = update(operations).where(operations.c.id == operation_id, operations.c.done.is_(False))
        with self._write() as connection:
            return connection.execute(statement.values(done=True, document=document)).rowcount == 1

    def unfinished_operations(self) -> Sequence[OperationRow]:
        """The operations that have not finished."""
        statement = select(*_COLUMNS).where(operations.c.done.is_(False))
        with self._read() as connection:
            return [OperationRow(*row) for row in connection.execute(statement)]

    def delete_operation(self, operation_id: int) -> bool:
        """Remove an operation; False if there is none with that id."""
        with self._write() as connection:
            statement = delete(operations).where(operations.c.id == operation_id)
            return connection.execute(statement).rowcount == 1
