"""Times as RFC 3339 texts in UTC."""

import re
from datetime import UTC, datetime, timedelta

_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def moment(time_us: int) -> str:
    """Format microseconds since 1970 as "2026-01-02T03:04:05.678901Z"."""
    time = datetime.fromtimestamp(time_us // 1_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{time}.{time_us % 1_000_000:06d}Z"


def microseconds(text: str) -> int:
    """Parse a time that `moment` wrote, to microseconds since 1970. Raises ValueError."""
    if not _MOMENT.fullmatch(text):
        raise ValueError("write a time such as 2026-01-02T03:04:05.678901Z")
    return (datetime.fromisoformat(text) - _EPOCH) // timedelta(microseconds=1)
