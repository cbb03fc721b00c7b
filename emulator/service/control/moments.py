"""Times as people and JSON have them."""

from datetime import UTC, datetime


def moment(time_us: int) -> str:
    """Microseconds since 1970 as "2026-01-02T03:04:05.678901Z"."""
    time = datetime.fromtimestamp(time_us // 1_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{time}.{time_us % 1_000_000:06d}Z"
