"""The journal: the last calls, for tests that check whether something was called."""

import heapq
import itertools
import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from emulator.instructions.faults import method_matches
from emulator.service.control.histogram import OF_CALLS, Histogram
from emulator.vertex.errors import InvalidArgument
from emulator.vertex.messages import to_json
from emulator.vertex.moments import moment

#: At most this many calls of Vertex's API are kept, and as many of Cloud Storage.
_KEPT = 1000
# The journal omits the message of a larger request.
_MAX_REQUEST_BYTES = 64 * 1024
_MAX_HEADER = 1000
#: The surface of a call of Cloud Storage.
STORAGE = "storage"
SURFACES = ("rest", "grpc", STORAGE)
# Other headers may hold a secret.
_SHOWN_HEADERS = (
    "user-agent",
    "x-goog-api-client",
    "x-goog-user-project",
    "x-goog-request-params",
    "x-goog-emulator-instructions",
    "content-type",
)


@dataclass
class Entry:
    """One call. `request` is its message, None if it could not be read or is too long.

    For a call of Cloud Storage it is JSON.
    """

    key: str
    version: str
    surface: str
    time_us: int
    headers: Mapping[str, str]
    project: str = ""
    status: str = "OK"
    seconds: float = 0.0
    request: Any = None
    faults: list[int] = field(default_factory=list)
    number: int = 0

    def to_json(self) -> dict[str, Any]:
        """The entry as JSON for the control surface."""
        return {
            "number": self.number,
            "time": moment(self.time_us),
            "surface": self.surface,
            "version": self.version,
            "method": self.key,
            "project": self.project,
            "status": self.status,
            "milliseconds": round(self.seconds * 1000, 3),
            "request": self.request if isinstance(self.request, dict | None) else to_json(self.request),
            "headers": dict(self.headers),
            "faults": [str(number) for number in self.faults],
        }


class Journal:
    """The last calls, in memory, and how long all calls took."""

    def __init__(self) -> None:
        # Separate queues: a thousand uploads must not push out the call that created a job.
        self._of_storage: deque[Entry] = deque(maxlen=_KEPT)
        self._of_vertex: deque[Entry] = deque(maxlen=_KEPT)
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._forgotten = 0
        #: The number of the newest call; 0 before the first.
        self.last = 0
        #: How long calls took, by surface, method and status.
        self.durations: dict[tuple[str, str, str], Histogram] = {}

    def add(self, entry: Entry) -> None:
        """Add a call that has been answered."""
        is_message = not isinstance(entry.request, dict | None)
        if is_message and entry.request.ByteSize() > _MAX_REQUEST_BYTES:
            entry.request = None
        entry.headers = {name: text[:_MAX_HEADER] for name, text in entry.headers.items()}
        with self._lock:
            entry.number = self.last = next(self._numbers)
            entries = self._of_storage if entry.surface == STORAGE else self._of_vertex
            self._forgotten += len(entries) == _KEPT
            entries.append(entry)
            kind = entry.surface, entry.key, entry.status
            if (durations := self.durations.get(kind)) is None:
                durations = self.durations[kind] = Histogram(OF_CALLS)
            durations.add(entry.seconds)

    def find(self, project: str, **wanted: str) -> dict[str, Any]:
        """The calls that match method, status, surface, contains and after; `project` is a number."""
        after = wanted.get("after") or "0"
        if not after.isdecimal():
            raise InvalidArgument(f"after is {after!r}; give the number of a request.")
        with self._lock:
            everything = heapq.merge(self._of_vertex, self._of_storage, key=lambda entry: entry.number)
            entries = [entry for entry in everything if entry.number > int(after)]
            forgotten = self._forgotten
        shown = [entry.to_json() for entry in entries if _fits(entry, project, wanted)]
        contains = wanted.get("contains")
        if contains:
            shown = [entry for entry in shown if contains in str(entry["request"])]
        return {"count": len(shown), "requests": shown, "forgotten": forgotten}

    def clear(self, project: str = "") -> None:
        """Delete the calls of one project (a number) or of all."""
        with self._lock:
            for entries in (self._of_vertex, self._of_storage):
                kept = [entry for entry in entries if project and entry.project != project]
                entries.clear()
                entries.extend(kept)
            self._forgotten = self._forgotten if project else 0


def shown_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers that the journal keeps: those that never hold a secret."""
    return {name: headers[name] for name in _SHOWN_HEADERS if name in headers}


def _fits(entry: Entry, project: str, wanted: Mapping[str, str]) -> bool:
    return (
        method_matches(wanted.get("method") or "*", entry.key)
        and (not project or entry.project == project)
        and (wanted.get("status") or entry.status) == entry.status
        and (wanted.get("surface") or entry.surface) == entry.surface
    )
