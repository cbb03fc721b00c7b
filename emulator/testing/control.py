"""The emulator's control surface (docs/control.md) for a test: pace, canned predictions, faults, requests."""

from __future__ import annotations

import http.client
import itertools
import json
import urllib.parse
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from emulator.testing.videos import Video

_TIMEOUT_S = 90.0
_NOT_FOUND = 404

_CAN_BE_HELD = "QUEUED,PENDING,RUNNING,PAUSED,UPDATING,CANCELLING"

_Json = Mapping[str, Any]


class ControlError(Exception):
    """The control surface refused; `code` is the HTTP status, the message names the remedy."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class Control:
    """Calls to `/_emulator/` of the server at `url`, JSON in and JSON out."""

    def __init__(self, url: str, token: str | None = None) -> None:
        """`token`: the server's auth_token, if it has one."""
        self._token = token
        self._address = urllib.parse.urlsplit(url).netloc

    def get(self, path: str, **query: object) -> Any:
        """GET a route; `requests` stands for `/_emulator/requests`."""
        return self.call("GET", path, query=query)

    def call(
        self, method: str, path: str, body: object = None, *, query: Mapping[str, object] | None = None
    ) -> Any:
        """Call a route. Returns None if the answer has no body. Raises ControlError."""
        given = {name: value for name, value in (query or {}).items() if value is not None}
        target = f"/_emulator/{path}" + (f"?{urllib.parse.urlencode(given)}" if given else "")
        # http.client ignores proxies, and everything that a test has changed in its HTTP libraries.
        connection = http.client.HTTPConnection(self._address, timeout=_TIMEOUT_S)
        try:
            headers = {} if body is None else {"Content-Type": "application/json"}
            if self._token:
                headers["Authorization"] = f"Bearer {self._token}"
            connection.request(method, target, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            text = answer.read().decode()
        finally:
            connection.close()
        if answer.status >= 400:
            raise ControlError(answer.status, _message(text))
        return json.loads(text) if text else None


def job_path(job: object) -> str:
    """The route of a job. `job` is the SDK's object, a message, or a resource name."""
    name = job if isinstance(job, str) else getattr(job, "resource_name", None) or getattr(job, "name", None)
    if not name:
        raise TypeError(f"{job!r} is no job; give the SDK's job, a BatchPredictionJob, or a resource name.")
    return f"jobs/{str(name).rpartition('/')[2]}"


class Pace:
    """How long jobs stay in each state; docs/control.md describes the texts.

    `pace("pending=2,running=3")` applies to jobs created from now on, in any project that the code names.
    """

    def __init__(self, control: Control, project: str, *, every_project: bool = True) -> None:
        self._control = control
        self._own = f"projects/{project}/pace"
        self._every_project = every_project
        self._before: dict[str, str | None] = {}

    def __call__(self, pace: str, *, project: str | None = None) -> None:
        """Set the pace of the jobs of every project, or of one."""
        paths = [f"projects/{project}/pace"] if project else self._paths()
        for path in paths:
            self._set(path, pace)

    def of(self, job: object, pace: str) -> None:
        """Replace the rest of one job's pace."""
        self._control.call("PUT", f"{job_path(job)}/pace", {"pace": pace})

    def hold(self) -> None:
        """Hold each job in PENDING, then in RUNNING, until it is released."""
        self("steps")

    def release(self, job: object) -> str:
        """Wait until the job is held, and end the hold. Returns the job's state."""
        self._control.get(f"{job_path(job)}/wait", held="true", state=_CAN_BE_HELD)
        state: str = self._control.call("POST", f"{job_path(job)}/release")["state"]
        return state

    def restore(self) -> None:
        """Restore the paces from before."""
        while self._before:
            path, pace = self._before.popitem()
            if pace is None:
                self._control.call("DELETE", path)
            else:
                self._control.call("PUT", path, {"pace": pace})

    def _paths(self) -> list[str]:
        if not self._every_project:
            return [self._own]
        # A project with a pace of its own ignores the general one.
        has_own = self._control.get(self._own)["from"] == "project"
        return ["pace", self._own] if has_own else ["pace"]

    def _set(self, path: str, pace: str) -> None:
        was = self._control.get(path)
        self._control.call("PUT", path, {"pace": pace})
        is_its_own = was["from"] == ("server" if path == "pace" else "project")
        self._before.setdefault(path, was["pace"] if is_its_own else None)


@dataclass(frozen=True, repr=False, eq=False)
class Fault:
    """An injected failure; `fired` counts how often it took effect so far."""

    id: str
    plan: _Json
    _control: Control
    may_not_fire: bool = False
    _last: dict[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"<Fault {self.id}: {self._words()}>"

    @property
    def fired(self) -> int:
        return int(self._account()["fired"])

    @property
    def matched(self) -> int:
        """How many calls or jobs matched, whether or not the fault took effect."""
        return int(self._account()["matched"])

    def remove(self) -> None:
        """Remove the fault."""
        self._account()
        self._control.call("DELETE", f"faults/{self.id}")

    def why_not_fired(self) -> str:
        """Why the fault has never taken effect; "" if it has, or need not."""
        account = {} if self.may_not_fire else self._account()
        if not account or account["fired"]:
            return ""
        what = "jobs" if self.plan["on"] == "job" else "calls"
        if account["used"]:
            return f"{self!r}: {account['used']} jobs took it along and have not come to it; wait for them"
        if account["matched"]:
            return f"{self!r}: it let the {account['matched']} {what} that fitted pass (skip)"
        return f"{self!r}: no {what[:-1]} fitted"

    def _account(self) -> dict[str, Any]:
        try:
            self._last.update(self._control.get(f"faults/{self.id}"))
        except ControlError as error:
            # A removed fault keeps the counts that it had then.
            if error.code != _NOT_FOUND or not self._last:
                raise
        return self._last

    def _words(self) -> str:
        told = {name: value for name, value in self.plan.items() if name not in ("on", "method", "kind")}
        what = self.plan.get("kind") or self.plan.get("method", "*")
        return f"{self.plan['on']} {what}" + "".join(f", {name}={value!r}" for name, value in told.items())


class Faults:
    """Injected failures, in any project that the code names; docs/control.md describes the members.

    A fault must take effect at least once, or the test fails; `may_not_fire=True` lifts this.
    """

    def __init__(self, control: Control, project: str, *, every_project: bool = True) -> None:
        self._control = control
        self._narrow = {} if every_project else {"project": project}
        self._made: list[Fault] = []

    def rpc(self, method: str = "*", *, may_not_fire: bool = False, **members: object) -> Fault:
        """Make calls fail or wait: `rpc("Get*", code="UNAVAILABLE", times=2)`, `rpc(delay="200ms")`."""
        return self._plan({"on": "rpc", "method": method, **self._narrow, **members}, may_not_fire)

    def storage(self, method: str = "*", *, may_not_fire: bool = False, **members: object) -> Fault:
        """Make Cloud Storage calls fail: `storage("storage.objects.get", code=503, object="videos/*")`."""
        return self._plan({"on": "storage", "method": method, **members}, may_not_fire)

    def job(self, kind: str, *, may_not_fire: bool = False, **members: object) -> Fault:
        """Make jobs that are created from now on fail: `job("fail-instance", instance=2)`."""
        return self._plan({"on": "job", "kind": kind, **self._narrow, **members}, may_not_fire)

    def never_fired(self) -> list[str]:
        """A sentence for each fault that had to take effect but never did."""
        return [why for fault in self._made if (why := fault.why_not_fired())]

    def remove(self) -> None:
        """Remove all faults that were made here."""
        while self._made:
            with suppress(ControlError):
                self._control.call("DELETE", f"faults/{self._made.pop().id}")

    def _plan(self, members: Mapping[str, object], may_not_fire: bool) -> Fault:
        kept = self._control.call("POST", "faults", members)
        self._made.append(Fault(str(kept["id"]), members, self._control, may_not_fire))
        return self._made[-1]


def complaint_of_faults(never_fired: Sequence[str]) -> str:
    """A test's failure message for faults that never took effect."""
    listed = "".join(f"\n  {why}" for why in never_fired)
    return (
        f"{len(never_fired)} of the test's faults never fired, so nothing was tested with them:{listed}\n"
        "Take it away, or say may_not_fire=True where it is made; vertex_emulator.requests() has the calls."
    )


class Canned:
    """Models that answer what a test says, without decoding a frame."""

    def __init__(self, control: Control, parent: str) -> None:
        self._control = control
        self._parent = parent
        self._ids = itertools.chain(("canned",), map("canned-{}".format, itertools.count(2)))

    def __call__(
        self,
        answers: Video
        | Mapping[str, Sequence[Mapping[str, Any]]]
        | Sequence[Mapping[str, Any]]
        | None = None,
        *,
        model_id: str | None = None,
        objective: str | None = None,
        directory: str | None = None,
    ) -> str:
        """Make a canned model, and return its resource name.

        Args:
            answers: a Video, whose truth is the answer; or predictions by URI pattern; or whole lines as in
                docs/control.md.
            model_id: by default an unused one: `canned`, `canned-2`, `canned-3`. For an id that exists, the
                model is a new version, which becomes the default.
            objective: `object_tracking`, `action_recognition` or `classification`; by default that of the
                Video (`video.objective`), else object tracking.
            directory: a `gs://` output directory to answer from instead.
        """
        usual: str = getattr(answers, "objective", "object_tracking")
        chosen = objective or usual
        request: dict[str, object] = {
            "parent": self._parent,
            "modelId": model_id or next(self._ids),
            "objective": chosen,
        }
        if directory is not None:
            request["directory"] = directory
        else:
            request["lines"] = _lines(answers, chosen)
        model: str = self._control.call("POST", "canned", request)["model"]
        return model


def _lines(answers: Any, objective: str) -> list[Mapping[str, Any]]:
    if answers is None:
        return [{"video": "*", "prediction": []}]
    if isinstance(answers, str):
        raise TypeError(
            f"canned({answers!r}): give a Video, predictions by URI pattern, or whole lines. To answer from"
            " an output directory, say canned(directory='gs://…')."
        )
    if isinstance(answers, Mapping):
        return [{"video": video, "prediction": list(answer)} for video, answer in answers.items()]
    if isinstance(answers, Sequence):
        return list(answers)
    return [{"video": answers.uri, "prediction": answers.answer(objective)}]


def _message(text: str) -> str:
    try:
        return str(json.loads(text)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return text.strip() or "The server gave no reason."
