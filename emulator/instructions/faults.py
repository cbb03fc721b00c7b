"""Injected faults: which calls or jobs a fault matches, and its effect.

docs/control.md describes the members. A fault is stored as the JSON that it came as.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from fnmatch import fnmatchcase
from typing import Any

from emulator.instructions import InstructionError
from emulator.members import integer, is_number, typed
from emulator.vertex.errors import CATALOGUE

KINDS: Mapping[str, tuple[str, ...]] = {
    "fail-instance": ("instance", "code", "message"),
    "kill-worker": ("instance", "attempts"),
    "hang-worker": ("instance", "attempts"),
    "unreadable-video": ("video",),
    "fail-output": ("code", "message"),
    "fail-job": ("code", "message"),
    "slow-storage": ("delay",),
    "slow-model": ("delay",),
}
#: A request to Cloud Storage that is none of the known methods.
UNKNOWN_STORAGE_METHOD = "storage.unknown"
#: The methods of Cloud Storage, named as in its discovery document. Every kind of upload is `insert`.
STORAGE_METHODS = (
    *("storage.buckets.list", "storage.buckets.insert", "storage.buckets.get", "storage.buckets.update"),
    *("storage.buckets.patch", "storage.buckets.delete", "storage.buckets.getStorageLayout"),
    *("storage.buckets.lockRetentionPolicy", "storage.buckets.getIamPolicy", "storage.buckets.setIamPolicy"),
    *("storage.buckets.testIamPermissions", "storage.notifications.list", "storage.folders.list"),
    *("storage.managedFolders.list", "storage.objects.list", "storage.objects.insert", "storage.objects.get"),
    *("storage.objects.update", "storage.objects.patch", "storage.objects.delete", "storage.objects.restore"),
    *("storage.objects.compose", "storage.objects.copy", "storage.objects.rewrite", "storage.objects.move"),
    *("storage.projects.serviceAccount.get", "storage.projects.hmacKeys.list", UNKNOWN_STORAGE_METHOD),
    *(
        f"storage.{kind}.{verb}"
        for kind in ("bucketAccessControls", "defaultObjectAccessControls", "objectAccessControls")
        for verb in ("list", "insert", "get", "update", "patch", "delete")
    ),
)
_FAILED_PRECONDITION = 9
_CALL_EFFECTS = ("delay", "reset", "code", "message")
_DURATION = re.compile(r"(\d{1,6}(?:\.\d{1,6})?)(ms|s)")
_MAX_DELAY_S = 3600.0
_flag = typed(bool, "write true or false")
_count = integer(0, 2**31 - 1, "write a whole number from 0 on")


@dataclass(frozen=True)
class JobFault:
    """A fault attached to a job.

    Attributes:
        kind: a key of `KINDS`.
        plan: the number of the fault that it came from, or None.
        instance: 1-based.
        attempts: the fault fires on that many first attempts.
        delay_s: of a slow fault, in seconds.
        code: a google.rpc code; 0 for the kind's default.
        message: of the error; "" for the kind's default.
        video: a pattern for videos.
    """

    kind: str
    plan: int | None = None
    instance: int = 1
    attempts: int = 1
    delay_s: float = 0.0
    code: int = 0
    message: str = ""
    video: str = "*"

    def hits_video(self, content: str) -> bool:
        """Whether the fault makes this video unreadable."""
        return self.kind == "unreadable-video" and fnmatchcase(content, self.video)


@dataclass(frozen=True)
class RpcFault:
    """The effect on a call: a delay, then a connection reset or an error or neither.

    `code` is a google.rpc code; 0 for no error.
    """

    delay_s: float = 0.0
    reset: bool = False
    code: int = 0
    message: str = ""


@dataclass(frozen=True)
class Plan:
    """A fault: what it matches, and its effect.

    The first `skip` matches pass, then it fires on `times` matches (0: on all). `is_for_storage`: it matches
    calls of Cloud Storage by method, `bucket` and `object`.
    """

    effect: RpcFault | JobFault
    is_for_storage: bool = False
    bucket: str = "*"
    object: str = "*"
    project: str = ""
    method: str = "*"
    display_name: str = "*"
    skip: int = 0
    times: int = 0

    @property
    def is_for_jobs(self) -> bool:
        """Whether the fault is attached to jobs; otherwise it applies to calls."""
        return isinstance(self.effect, JobFault)

    def hits_method(self, key: str) -> bool:
        """Whether the fault matches a method, given as `JobService/GetBatchPredictionJob`."""
        return method_matches(self.method, key)

    def hits_storage(self, method: str, bucket: str, name: str) -> bool:
        """Whether the fault matches a call of Cloud Storage on a bucket and an object ("" for none)."""
        return (
            self.is_for_storage
            and self.hits_method(method)
            and fnmatchcase(bucket, self.bucket)
            and fnmatchcase(name, self.object)
        )

    def acts_at(self, match: int) -> bool:
        """Return whether the fault fires on its nth match (1-based)."""
        return match > self.skip and (not self.times or match <= self.skip + self.times)


def method_matches(pattern: str, key: str) -> bool:
    """Whether a pattern matches `JobService/GetBatchPredictionJob`, with or without its service."""
    return fnmatchcase(key, pattern) or fnmatchcase(key.rpartition("/")[2], pattern)


def parse_plan(value: Mapping[str, Any]) -> Plan:
    """Parse a fault. Raises InstructionError."""
    on = value.get("on")
    if on == "job":
        _only(
            value, "A plan on jobs", ("on", "project", "displayName", "skip", "times", *_job_members(value))
        )
        effect: RpcFault | JobFault = parse_job_fault({name: value[name] for name in _job_members(value)})
    elif on == "rpc":
        _only(value, "A plan on RPCs", ("on", "project", "method", "skip", "times", *_CALL_EFFECTS))
        effect = _rpc_fault(value)
    elif on == "storage":
        known = ("on", "method", "bucket", "object", "skip", "times", *_CALL_EFFECTS)
        _only(value, "A plan on Cloud Storage", known)
        effect = _rpc_fault(value, parse_storage_code)
    else:
        raise InstructionError(
            f'A fault needs "on": "rpc", "on": "storage" or "on": "job"; this one has {on!r}.'
        )
    return Plan(
        effect,
        is_for_storage=on == "storage",
        bucket=_read(value, "bucket", read_text, "*"),
        object=_read(value, "object", read_text, "*"),
        project=_read(value, "project", read_text, ""),
        method=_read(value, "method", read_text, "*"),
        display_name=_read(value, "displayName", read_text, "*"),
        skip=_read(value, "skip", _count, 0),
        times=_read(value, "times", _count, 0),
    )


def parse_job_fault(value: Mapping[str, Any]) -> JobFault:
    """Parse a fault's effect on a job: its `kind` and that kind's members. Raises InstructionError."""
    kind = value.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        raise InstructionError(f"A fault on a job needs a kind, one of {', '.join(KINDS)}; got {kind!r}.")
    _only(value, f"A fault of the kind {kind}", ("kind", *KINDS[kind]))
    return JobFault(
        kind=kind,
        instance=_read(value, "instance", _position, 1),
        attempts=_read(value, "attempts", _position, 1),
        delay_s=_read(value, "delay", parse_duration, 0.0),
        code=_read(value, "code", parse_code, 0),
        message=_read(value, "message", read_text, ""),
        video=_read(value, "video", read_text, "*"),
    )


def dump_faults(faults: Iterable[JobFault]) -> str:
    """Serialize faults for the job row."""
    return json.dumps(
        [{field.name: getattr(fault, field.name) for field in fields(fault)} for fault in faults]
    )


def load_faults(text: str) -> tuple[JobFault, ...]:
    """Parse what `dump_faults` wrote."""
    return tuple(JobFault(**value) for value in json.loads(text))


def parse_duration(value: object) -> float:
    """Parse "2s", "500ms" or a number to seconds. Raises ValueError."""
    found = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if found:
        seconds = float(found[1]) / (1000 if found[2] == "ms" else 1)
    elif is_number(value):
        seconds = float(value)
    else:
        raise ValueError("write a time such as 2s or 500ms")
    if not 0 <= seconds <= _MAX_DELAY_S:
        raise ValueError("it must lie between 0 and an hour")
    return seconds


def parse_code(value: object) -> int:
    """The google.rpc code for a canonical name, an HTTP status, or a google.rpc code. Raises ValueError."""
    number = int(value) if isinstance(value, str) and value.isdecimal() and len(value) < 4 else value
    if isinstance(value, bool):
        number = None
    for code, error in CATALOGUE.items():
        if number == code or (isinstance(value, str) and value.upper() == error.status):
            return code
    for code in (3, *CATALOGUE):  # several codes share a status: take the most usual one
        if number == CATALOGUE[code].http_status:
            return 13 if number == 500 else code
    names = ", ".join(error.status for error in CATALOGUE.values())
    raise ValueError(f"write one of {names}, or the HTTP status of one")


def parse_storage_code(value: object) -> int:
    """Like `parse_code` for Cloud Storage, where 412 is a failed precondition. Raises ValueError."""
    return _FAILED_PRECONDITION if str(value) == "412" else parse_code(value)


def _rpc_fault(value: Mapping[str, Any], read_code: Callable[[object], int] = parse_code) -> RpcFault:
    fault = RpcFault(
        delay_s=_read(value, "delay", parse_duration, 0.0),
        reset=_read(value, "reset", _flag, False),
        code=_read(value, "code", read_code, 0),
        message=_read(value, "message", read_text, ""),
    )
    if not (fault.delay_s or fault.reset or fault.code):
        raise InstructionError("The fault does nothing; give it a code, a delay or reset.")
    return fault


def _job_members(value: Mapping[str, Any]) -> list[str]:
    known = {"kind", *(member for members in KINDS.values() for member in members)}
    return [name for name in value if name in known]


def _only(value: Mapping[str, Any], what: str, known: Iterable[str]) -> None:
    for name in value:
        if name not in known:
            raise InstructionError(f"{what} has no member {name!r}; it takes {', '.join(known)}.")


def _read(value: Mapping[str, Any], name: str, read: Callable[[Any], Any], default: Any) -> Any:
    if value.get(name) is None:
        return default
    try:
        return read(value[name])
    except ValueError as error:
        raise InstructionError(f"{name} is {value[name]!r}; {error}.") from None


def read_text(value: object) -> str:
    """A text that can be sent in a response. Raises ValueError."""
    if not isinstance(value, str):
        raise ValueError("write a text")
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise ValueError("write a text without halves of surrogate pairs")
    return value


def _position(value: object) -> int:
    if _count(value) == 0:
        raise ValueError("write a whole number from 1 on")
    return _count(value)
