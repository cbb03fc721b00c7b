"""Resource names (`projects/P/locations/L/…`): parsing, checks and formatting; project numbers."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Self

from emulator.vertex.errors import Violations

CONSOLE = "/console"
"""The path of the web console."""

_SHOWN_CHARACTERS = 200
_PROJECT = r"(?P<project>[a-z0-9][a-z0-9.:-]{0,127})"
_PROJECT_RULE = "a project id or number has a-z, 0-9, '-', '.' and ':' alone, at most 128 of them"
_LOCATION = r"(?P<location>[a-z0-9][a-z0-9-]{0,127})"
_LOCATION_RULE = "a location has a-z, 0-9 and '-' alone, at most 128 of them, as us-central1"
_PREFIX = rf"projects/{_PROJECT}/locations/{_LOCATION}"
# Letters, digits, "_" and "-", as the SDK checks resource ids.
_ID = r"[A-Za-z0-9_][A-Za-z0-9_-]{0,127}"
_LOCATION_NAME = re.compile(_PREFIX)
_JOB_NAME = re.compile(rf"{_PREFIX}/batchPredictionJobs/(?P<batch_prediction_job>[0-9]{{1,19}})")
_MODEL_NAME = re.compile(
    rf"{_PREFIX}/models/(?P<model>{_ID})(?:@(?P<version>[A-Za-z0-9][A-Za-z0-9-]{{0,127}}))?"
)
# Vertex: the action recognition page names a model without `models/`.
_MODEL_NAME_WITHOUT_COLLECTION = re.compile(_MODEL_NAME.pattern.replace("/models/", "/"))
_OPERATION_NAME = re.compile(
    rf"{_PREFIX}/(?:models/(?P<model>{_ID})/)?operations/(?P<operation>[A-Za-z0-9_][A-Za-z0-9_-]{{0,127}})"
)


@dataclass(frozen=True)
class LocationName:
    """`projects/P/locations/L`; the project is an id or a number, as the client wrote it."""

    project: str
    location: str

    @classmethod
    def parse(cls, text: str, *, field: str = "parent") -> Self:
        """Parse a name. Raises InvalidArgument for `field` if the text is invalid."""
        return cls(**_match(_LOCATION_NAME, text, field, "Location", "projects/PROJECT/locations/LOCATION"))

    def __str__(self) -> str:
        return f"projects/{self.project}/locations/{self.location}"


@dataclass(frozen=True)
class BatchPredictionJobName:
    """`projects/P/locations/L/batchPredictionJobs/ID`; the id is a decimal int64."""

    project: str
    location: str
    batch_prediction_job: str

    @classmethod
    def parse(cls, text: str, *, field: str = "name") -> Self:
        """Parse a name. Raises InvalidArgument for `field` if the text is invalid."""
        form = "projects/PROJECT/locations/LOCATION/batchPredictionJobs/NUMBER"
        return cls(**_match(_JOB_NAME, text, field, "BatchPredictionJob", form))

    @property
    def parent(self) -> LocationName:
        return LocationName(self.project, self.location)

    def __str__(self) -> str:
        return f"{self.parent}/batchPredictionJobs/{self.batch_prediction_job}"


@dataclass(frozen=True)
class ModelName:
    """`projects/P/locations/L/models/M`, with `@` and a version id or alias when `version` is not None."""

    project: str
    location: str
    model: str
    version: str | None = None

    @classmethod
    def parse(cls, text: str, *, field: str = "name", lenient: bool = False) -> Self:
        """Parse a name. Raises InvalidArgument for `field` if the text is invalid.

        `lenient` also accepts the form without `models/`.
        """
        form = "projects/PROJECT/locations/LOCATION/models/MODEL[@VERSION]"
        if lenient and (found := _MODEL_NAME_WITHOUT_COLLECTION.fullmatch(text)):
            return cls(**found.groupdict())
        return cls(**_match(_MODEL_NAME, text, field, "Model", form))

    @property
    def parent(self) -> LocationName:
        return LocationName(self.project, self.location)

    def __str__(self) -> str:
        version = "" if self.version is None else f"@{self.version}"
        return f"{self.parent}/models/{self.model}{version}"


@dataclass(frozen=True)
class OperationName:
    """`projects/P/locations/L/operations/O`, or `…/models/M/operations/O` when `model` is not None."""

    project: str
    location: str
    operation: str
    model: str | None = None

    @classmethod
    def parse(cls, text: str, *, field: str = "name") -> Self:
        """Parse a name. Raises InvalidArgument for `field` if the text is invalid."""
        form = "projects/PROJECT/locations/LOCATION/[models/MODEL/]operations/OPERATION"
        return cls(**_match(_OPERATION_NAME, text, field, "Operation", form))

    @property
    def parent(self) -> LocationName:
        return LocationName(self.project, self.location)

    def __str__(self) -> str:
        model = "" if self.model is None else f"/models/{self.model}"
        return f"{self.parent}{model}/operations/{self.operation}"


def console_path(job: str) -> str:
    """The path of a job's page in the web console, given the job's resource name."""
    name = BatchPredictionJobName.parse(job)
    return f"{CONSOLE}/{name.parent}/batch-predictions/{name.batch_prediction_job}"


def check_project(text: str, *, field: str = "project") -> str:
    """Return the project (id or number). Raises InvalidArgument for `field` if it is invalid."""
    if not re.fullmatch(_PROJECT, text):
        violations = Violations()
        violations.add(field, f"{text[:_SHOWN_CHARACTERS]!r} is no project: {_PROJECT_RULE}.")
        raise violations.to_error()
    return text


def project_number(project_id: str, configured: Mapping[str, str]) -> str:
    """Return a project's number: the configured one, a numeric id itself, or one derived from the id.

    A derived number has 12 digits and is the same on every machine.
    """
    if project_id in configured:
        return configured[project_id]
    if project_id.isascii() and project_id.isdecimal():
        return project_id
    return _derived_number(project_id)


@lru_cache(maxsize=1024)
def _derived_number(project_id: str) -> str:
    digest = hashlib.sha256(project_id.encode()).digest()
    return str(10**11 + int.from_bytes(digest[:8], "big") % (9 * 10**11))


def _wrong_part(text: str) -> str:
    """The reason why a name of the right form is invalid, if its project or location is."""
    parts = text.split("/")
    if len(parts) >= 4 and (parts[0], parts[2]) == ("projects", "locations"):
        for part, form, rule in ((parts[1], _PROJECT, _PROJECT_RULE), (parts[3], _LOCATION, _LOCATION_RULE)):
            if part and not re.fullmatch(form, part):
                return f"; {rule}"
    return ""


def _match(pattern: re.Pattern[str], text: str, field: str, resource: str, form: str) -> dict[str, str]:
    found = pattern.fullmatch(text)
    if found is None:
        violations = Violations()
        # Vertex: "Invalid CustomJob resource name." (recorded custom job). The rest is the emulator's.
        shown = text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"
        why = _wrong_part(text)
        violations.add(field, f'Invalid {resource} resource name. Expected {form}, got "{shown}"{why}')
        raise violations.to_error()
    return found.groupdict()
