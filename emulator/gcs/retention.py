"""Holds and retention: objects that cannot be replaced or deleted yet."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from emulator.storage.metadata import LAST_US, StoredBucket, StoredObject
from emulator.storage.object_store import StorageError


class ObjectProtected(StorageError):
    """A hold or a retention period protects the object."""


def retained_until_us(stored: StoredObject, bucket: StoredBucket) -> int | None:
    """When the object may be deleted; None if nothing retains it, or while an event-based hold is set."""
    ends = [_own_retention_us(stored)]
    if bucket.retention_us and not stored.attributes.get("eventBasedHold"):
        start = stored.retained_from_us or stored.generation
        ends.append(min(start + bucket.retention_us, LAST_US))
    return max(ends) or None


def check_unprotected(
    stored: StoredObject, bucket: StoredBucket, clock: Callable[[], int], *, is_kept: bool
) -> None:
    """Raise ObjectProtected if the object may not be replaced or deleted.

    Args:
        stored: the object.
        bucket: of the object.
        clock: gives the time in microseconds.
        is_kept: the object only becomes noncurrent, which retention allows and a hold does not.
    """
    name = f"{stored.uri.bucket}/{stored.uri.object}"
    for field, kind in (("temporaryHold", "Temporary"), ("eventBasedHold", "Event-Based")):
        if stored.attributes.get(field):
            raise ObjectProtected(
                f"Object '{name}' is under active {kind} hold and cannot be deleted, overwritten or archived"
                " until hold is removed."
            )
    end_us = retained_until_us(stored, bucket)
    if end_us is not None and not is_kept and end_us > clock():
        when = datetime.fromtimestamp(end_us // 1_000_000, UTC)
        raise ObjectProtected(
            f"Object '{name}' is subject to bucket's retention policy or object retention and cannot be"
            f" deleted or overwritten until {when:%Y-%m-%dT%H:%M:%SZ}."
        )


def _own_retention_us(stored: StoredObject) -> int:
    until = (stored.attributes.get("retention") or {}).get("retainUntilTime")
    return int(datetime.fromisoformat(until).timestamp() * 1_000_000) if until else 0
