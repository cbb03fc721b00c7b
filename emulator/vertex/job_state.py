"""The states of a job and the moves between them (job_state.proto), lettered as in docs/architecture.md."""

from collections.abc import Mapping
from enum import IntEnum


class JobState(IntEnum):
    """`google.cloud.aiplatform.v1.JobState`, without the `JOB_STATE_` prefix."""

    UNSPECIFIED = 0
    QUEUED = 1
    PENDING = 2
    RUNNING = 3
    SUCCEEDED = 4
    FAILED = 5
    CANCELLING = 6
    CANCELLED = 7
    PAUSED = 8
    EXPIRED = 9
    UPDATING = 10
    PARTIALLY_SUCCEEDED = 11

    @property
    def proto_name(self) -> str:
        """The name in the API, such as `JOB_STATE_RUNNING`."""
        return f"JOB_STATE_{self.name}"


TRANSITIONS: Mapping[str, tuple[JobState, JobState]] = {
    "a": (JobState.PENDING, JobState.RUNNING),
    "b": (JobState.PENDING, JobState.CANCELLED),
    "c": (JobState.RUNNING, JobState.SUCCEEDED),
    "d": (JobState.RUNNING, JobState.FAILED),
    "e": (JobState.RUNNING, JobState.CANCELLING),
    "f": (JobState.CANCELLING, JobState.CANCELLED),
    "g": (JobState.CANCELLING, JobState.SUCCEEDED),
    "h": (JobState.CANCELLING, JobState.FAILED),
}

# Emulator: moves that happen only with a pace, to test clients that handle these states. Otherwise the
# emulator never makes them, because the Python SDK waits forever on PARTIALLY_SUCCEEDED and EXPIRED.
FORCED: Mapping[str, tuple[JobState, JobState]] = {
    "i": (JobState.QUEUED, JobState.PENDING),
    "j": (JobState.QUEUED, JobState.CANCELLED),
    "k": (JobState.RUNNING, JobState.PAUSED),
    "l": (JobState.PAUSED, JobState.RUNNING),
    "m": (JobState.PAUSED, JobState.CANCELLING),
    "n": (JobState.RUNNING, JobState.UPDATING),
    "o": (JobState.UPDATING, JobState.RUNNING),
    "p": (JobState.UPDATING, JobState.CANCELLING),
    "q": (JobState.RUNNING, JobState.EXPIRED),
    "r": (JobState.RUNNING, JobState.PARTIALLY_SUCCEEDED),
}

TERMINAL = frozenset(
    {
        JobState.SUCCEEDED,
        JobState.FAILED,
        JobState.CANCELLED,
        JobState.EXPIRED,
        JobState.PARTIALLY_SUCCEEDED,
    }
)

_MOVES = frozenset((*TRANSITIONS.values(), *FORCED.values()))


def allowed(from_: JobState, to: JobState) -> bool:
    """Return whether a job may move from one state to another."""
    return (from_, to) in _MOVES


def sources(to: JobState) -> frozenset[JobState]:
    """Return the states from which a job may move to `to`; guarded updates require one of them."""
    return frozenset(from_ for from_, target in _MOVES if target is to)
