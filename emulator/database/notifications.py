"""Queries on the notifications that are due: an outbox, which the transaction that ends a job fills.

A sender claims a notification before it sends it, and its claim ends with its lease. So a notification is
sent at least once, and by two servers only if the first has not reported in time.
"""

from sqlalchemy import Update, delete, func, select, update

from emulator.database.jobs import Jobs
from emulator.database.rows import NotificationRow
from emulator.database.schema import notifications

_COLUMNS = [notifications.c[name] for name in NotificationRow.__dataclass_fields__]


class Notifications(Jobs):
    """The notifications of jobs that have ended, until they are delivered or given up."""

    def claim_notification(self, address: int, lease_us: int) -> NotificationRow | None:
        """Claim the notification that is due first, for an attempt; None if none is due.

        Until the lease ends, no other sender gets it.
        """
        now = self.now()
        due = select(*_COLUMNS).where(notifications.c.address == address, notifications.c.due_us <= now)
        first = due.order_by(notifications.c.due_us, notifications.c.number).limit(1)
        with self._write() as connection:
            found = connection.execute(first.with_for_update(skip_locked=True)).first()
            if found is None:
                return None
            number, attempts, due_us = found.number, found.attempts + 1, now + lease_us
            claimed = update(notifications).where(notifications.c.number == number)
            connection.execute(claimed.values(attempts=attempts, due_us=due_us))
            return NotificationRow(**{**found._mapping, "attempts": attempts, "due_us": due_us})

    def next_notification_us(self, address: int) -> int | None:
        """When the next notification of an address is due; None if there is none."""
        next_due = select(func.min(notifications.c.due_us)).where(notifications.c.address == address)
        with self._read() as connection:
            found: int | None = connection.scalar(next_due)
            return found

    def end_notification(self, row: NotificationRow, note: str) -> None:
        """Remove a notification that was delivered or given up; the note becomes a step of its job."""
        with self._write() as connection:
            connection.execute(delete(notifications).where(notifications.c.number == row.number))
            self._note(connection, row.job_id, "notification", note)

    def retry_notification(self, row: NotificationRow, delay_us: int, note: str) -> None:
        """Let a notification be due again after a delay; the note becomes a step of its job."""
        with self._write() as connection:
            connection.execute(_own(row).values(due_us=self.now() + delay_us))
            self._note(connection, row.job_id, "notification", note)

    def return_notification(self, row: NotificationRow) -> None:
        """Give a claim back as if no attempt had begun."""
        with self._write() as connection:
            connection.execute(_own(row).values(due_us=self.now(), attempts=row.attempts - 1))

    def notifications(self, job_id: int) -> list[NotificationRow]:
        """The notifications of a job that are not delivered yet."""
        of_job = select(*_COLUMNS).where(notifications.c.job_id == job_id).order_by(notifications.c.number)
        with self._read() as connection:
            return [NotificationRow(**found._mapping) for found in connection.execute(of_job)]


def _own(row: NotificationRow) -> Update:
    """The change of a notification, unless another sender has claimed it since."""
    own = notifications.c.number == row.number, notifications.c.attempts == row.attempts
    return update(notifications).where(*own)
