"""The expiry of signed URLs. Emulator: it is all that is checked here, as clients sign with a fake key."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from emulator.gcs.errors import XmlError
from emulator.gcs.requests import Query

_LONGEST_S = 7 * 24 * 3600
_EARLY_S = 15 * 60


def check_expiry(query: Query, now: datetime) -> None:
    """Raise XmlError if a signed URL has expired or its times are invalid. URLs without a signature pass."""
    signed = {name.lower(): query.get(name) for name in query.names()}
    if "x-goog-date" in signed or "x-goog-expires" in signed:
        _check(*_v4_span(signed), now)
    elif "expires" in signed and ("googleaccessid" in signed or "signature" in signed):
        _check(None, _v2_end(signed), now)


def iso_time(when: datetime) -> str:
    """Return a time in the form of Cloud Storage's error messages."""
    return when.replace(microsecond=0).isoformat()


def _check(start: datetime | None, end: datetime, now: datetime) -> None:
    if start and now < start - timedelta(seconds=_EARLY_S):
        raise _invalid(f"The request is not valid before {iso_time(start)}.")
    if now >= end:
        # Vertex: Cloud Storage answers 400 with these words (observed, 2026).
        details = f"The provided token has expired. Request signature expired at: {iso_time(end)}"
        raise XmlError(400, "ExpiredToken", "Invalid argument.", details)


def _v4_span(signed: Mapping[str, str]) -> tuple[datetime, datetime]:
    for name in ("x-goog-date", "x-goog-expires"):
        if not signed.get(name):
            raise _invalid(f"The signed URL lacks the parameter {name}.")
    expires = signed["x-goog-expires"]
    if not re.fullmatch(r"\d{1,9}", expires, re.ASCII) or not 0 < int(expires) <= _LONGEST_S:
        raise _invalid(f"X-Goog-Expires must be from 1 to {_LONGEST_S} seconds, it is {expires[:40]!r}.")
    try:
        start = datetime.strptime(signed["x-goog-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        return start, start + timedelta(seconds=int(expires))
    except (ValueError, OverflowError):
        message = f"X-Goog-Date must be like 20260131T235959Z, it is {signed['x-goog-date'][:40]!r}."
        raise _invalid(message) from None


def _v2_end(signed: Mapping[str, str]) -> datetime:
    try:
        return datetime.fromtimestamp(int(signed["expires"]), UTC)
    except (ValueError, OverflowError, OSError):
        raise _invalid(f"Expires must be seconds since 1970, it is {signed['expires'][:40]!r}.") from None


def _invalid(details: str) -> XmlError:
    return XmlError(400, "InvalidArgument", "Invalid argument.", details)
