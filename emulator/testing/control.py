"""The emulator's control surface (docs/control.md) for a test: pace, canned predictions, faults, requests."""

from __future__ import annotations

import http.client
import itertools
import json
import urllib.parse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from emulator.testing.videos import Video

_TIMEOUT_S = 90.0

_CAN_BE_HELD = "QUEUED,PENDING,RUNNING,PAUSED,UPDATING,CANCELLING"

_Json = Mapping[str, Any]


class ControlError(Exception):
    """The control surface refused; `code` is the HTTP status, the message names the remedy."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class Control:
    """Calls to `/_emulator/` of the server at `url`, JSON in and JSON out."""

    def __init__(self, url: str) -> None:
        self._address = urllib.parse.urlsplit(url).netloc

    def get(self, path: str, **query: object) -> Any:
        """GET a route, `requests` being `/_emulator/requests`."""
        return self.call("GET", path, query=query)

    def call(
        self, method: str, path: str, body: object = None, *, query: Mapping[str, object] | None = None
    ) -> Any:
        """Call a route; None when it answers without a body. Raises ControlError."""
        given = {name: value for name, value in (query or {}).items() if value is not None}
        target = f"/_emulator/{path}" + (f"?{urllib.parse.urlencode(given)}" if given else "")
        # http.client goes past proxies and past whatever a test has done to its HTTP libraries.
        connection = http.client.HTTPConnection(self._address, timeout=_TIMEOUT_S)
        try:
            headers = {} if body is None else {"Content-Type": "application/json"}
            connection.request(method, target, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            text = answer.read().decode()
        finally:
            connection.close()
        if answer.status >= 400:
            raise ControlError(answer.status, _message(text))
        return json.loads(text) if text else None


def job_path(job: object) -> str:
    """The route of a job, given as the SDK's object, a message, or its resource name."""
    name = job if isinstance(job, str) else getattr(job, "resource_name", None) or getattr(job, "name", None)
    if not name:
        raise TypeError(f"{job!r} is no job; give the SDK's job, a BatchPredictionJob, or a resource name.")
    return f"jobs/{str(name).rpartition('/')[2]}"


class Pace:
    """How long the jobs of one project stay in which state; see docs/control.md for the texts.

    `pace("pending=2,running=3")` is for the jobs created from now on.
    """

    def __init__(self, control: Control, project: str) -> None:
        self._control = control
        self._path = f"projects/{project}/pace"

    def __call__(self, pace: str) -> None:
        """Set the pace of the project's jobs."""
        self._control.call("PUT", self._path, {"pace": pace})

    def of(self, job: object, pace: str) -> None:
        """Replace what is still to come in the pace of one job."""
        self._control.call("PUT", f"{job_path(job)}/pace", {"pace": pace})

    def hold(self) -> None:
        """Hold each job in PENDING, then in RUNNING, until it is released."""
        self("steps")

    def release(self, job: object) -> str:
        """End the hold that the job is in (waiting until it is in one); gives its state."""
        self._control.get(f"{job_path(job)}/wait", held="true", state=_CAN_BE_HELD)
        state: str = self._control.call("POST", f"{job_path(job)}/release")["state"]
        return state


@dataclass(frozen=True)
class Fault:
    """A failure on demand; `fired` says how often it took effect so far."""

    id: str
    _control: Control

    @property
    def fired(self) -> int:
        return int(self._control.get(f"faults/{self.id}")["fired"])

    @property
    def matched(self) -> int:
        """How many calls or jobs fitted, whether or not it took effect."""
        return int(self._control.get(f"faults/{self.id}")["matched"])

    def remove(self) -> None:
        """End it."""
        self._control.call("DELETE", f"faults/{self.id}")


class Faults:
    """Failures on demand in one project; members as in docs/control.md."""

    def __init__(self, control: Control, project: str) -> None:
        self._control = control
        self._project = project

    def rpc(self, method: str = "*", **members: object) -> Fault:
        """Let calls fail or linger: `rpc("Get*", code="UNAVAILABLE", times=2)`, `rpc(delay="200ms")`."""
        return self._plan({"on": "rpc", "method": method, **members})

    def job(self, kind: str, **members: object) -> Fault:
        """Let jobs that are created from now on fail: `job("fail-instance", instance=2)`."""
        return self._plan({"on": "job", "kind": kind, **members})

    def _plan(self, members: Mapping[str, object]) -> Fault:
        kept = self._control.call("POST", "faults", {"project": self._project, **members})
        return Fault(str(kept["id"]), self._control)


class Canned:
    """Models that answer what a test says, without a frame decoded."""

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
        """Make a canned model; gives its resource name.

        Args:
            answers: a Video, to answer its truth; or predictions by URI pattern; or whole lines as in
                docs/control.md.
            model_id: by default one that no other has: `canned`, `canned-2`, `canned-3`. For an id that
                exists it is a new version, which becomes the default.
            objective: `object_tracking`, `action_recognition` or `classification`; by default that of the
                Video (`video.objective`), and of anything else object tracking.
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
