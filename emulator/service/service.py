"""Builds the use cases over one database, and finds the method of an RPC."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from emulator.database import JobRow
from emulator.instructions.faults import STORAGE_METHODS
from emulator.members import is_objects
from emulator.service.context import Call, Context
from emulator.service.control import (
    Canned,
    Examples,
    Faults,
    Gate,
    History,
    Journal,
    Metrics,
    Paces,
    Scopes,
    StorageGate,
    Watch,
)
from emulator.service.control.faults import check_method
from emulator.service.control.journal import SURFACES
from emulator.service.control.state import Folders, State
from emulator.service.identities import SeededClock, SeededIds
from emulator.service.jobs import JobService, job_message
from emulator.service.locations import LocationService
from emulator.service.model_registry import ModelRegistry
from emulator.service.models import ModelService
from emulator.service.operations import Operations, OperationService
from emulator.vertex.errors import CATALOGUE, ApiError, InvalidArgument
from emulator.vertex.moments import moment
from emulator.vertex.names import ModelName, project_number

Method = Callable[[Any, Call], Any]

_CREATE = "JobService/CreateBatchPredictionJob"
_GET = "JobService/GetBatchPredictionJob"
_LIST = "JobService/ListBatchPredictionJobs"
# A list reads as many rows as it asks for, however short the request is.
_SHORT_PAGE = re.compile(r"pageSize=(?:20|1?\d)(?:&pageToken=[^&]*)?")
_MODEL = re.compile(rb'"model"\s*:\s*"([^"\\]*)"')


class Service:
    """Every emulated RPC, over one database, registry and store."""

    def __init__(self, context: Context, folders: Folders | None = None) -> None:
        self.model_registry = ModelRegistry(context)
        self.watch = Watch(context.database)
        self._operations = operations = Operations(context, self.watch)
        self.paces = Paces(context, self.watch)
        self.faults = Faults(context)
        self.journal = Journal()
        self.gate = Gate(context, self.watch, self.paces, self.faults, self.journal)
        self.storage_gate = StorageGate(context, self.watch, self.faults, self.journal)
        self.metrics = Metrics(context, self.journal, self.faults)
        self.scopes = Scopes(context)
        self.jobs = JobService(
            context, self.model_registry, operations, self.paces, self.faults, on_created=self._created
        )
        self.examples = Examples(context, self.jobs.create_batch_prediction_job, self.model_registry.resolve)
        self.history = History(context, self.watch, lambda row: job_message(context, row))
        self.models = ModelService(context, self.model_registry, operations)
        self.canned = Canned(context, self.models.install)
        self.operations = OperationService(context, operations)
        self.locations = LocationService(context)
        self.state = State(
            context,
            self.watch,
            folders or Folders(Path(), None),
            forget=self._forget,
            forget_rows=self._forget_rows,
            create_job=self.jobs.create_batch_prediction_job,
            keep_job=self.jobs.keep,
            control=self.apply,
            sweep=self._sweep,
        )
        self._context = context

    def apply(self, value: Mapping[str, Any]) -> None:
        """Apply a seed's control.json: paces and faults."""
        known = ("pace", "projects", "faults")
        if unknown := [name for name in value if name not in known]:
            raise InvalidArgument(f"{unknown[0]!r} is not known here; there are {', '.join(known)}.")
        projects, faults = value.get("projects", {}), value.get("faults", [])
        if not isinstance(projects, dict) or not all(list(one) == ["pace"] for one in projects.values()):
            raise InvalidArgument(
                '"projects" must be an object such as {"my-project": {"pace": "immediate"}}.'
            )
        if not is_objects(faults):
            raise InvalidArgument('"faults" must be a list of objects.')
        if "pace" in value:
            self.paces.set(str(value["pace"]))
        for project, of_project in projects.items():
            self.paces.set(str(of_project["pace"]), project)
        for fault in faults:
            self.faults.add(fault)

    def _created(self, row: JobRow) -> None:
        self.scopes.remember(row.project)
        if self._context.on_created is not None:
            self._context.on_created(row.name)

    def _forget(self, project: str | None) -> None:
        """Clear everything held in memory for removed rows of a project (a number) or of all."""
        if project is not None:
            self.paces.set(None, project)
        self.journal.clear(project or "")
        self._forget_rows(project)
        self.models.sweep()

    def _forget_rows(self, project: str | None) -> None:
        """Invalidate the caches of removed rows."""
        self.faults.forget()
        self.scopes.forget()
        self.paces.forget()
        self.model_registry.forget_seeds()
        for part in (self._context.new_id, self._context.database.clock):
            if isinstance(part, SeededIds):
                part.begin_anew(project)
            elif isinstance(part, SeededClock) and project is None:
                part.begin_anew(self._context.database.latest_job_us())

    def _sweep(self) -> None:
        """Seed every location again on its next use, and remove the files of models that are gone."""
        self.model_registry.forget_seeds()
        self.models.sweep()

    def recover(self) -> None:
        """Clean up after a server that was killed. Call this before the first request."""
        self._operations.abort_unfinished()
        self.state.recover()
        self.models.sweep()

    def close(self) -> None:
        """End the waits of all calls, and wait for running uploads."""
        self.watch.close()
        self.examples.close()
        self.models.close()

    def methods(self) -> Mapping[str, Method]:
        """The methods by RPC, such as "JobService/CreateBatchPredictionJob". Other RPCs are not emulated."""
        parts = {
            "JobService": self.jobs,
            "ModelService": self.models,
            "Operations": self.operations,
            "Locations": self.locations,
        }
        found = {}
        for rpc in self._context.contract.methods():
            method = getattr(parts[rpc.service], _snake_case(rpc.name), None)
            if method is not None:
                found[f"{rpc.service}/{rpc.name}"] = method
        return found

    def is_brief(self, key: str, query: str, body: bytes) -> bool:
        """Whether a call takes less time than handing it to a thread, with a request of the usual size.

        Such a call reads or writes a few rows of a local database and waits for nothing else.
        """
        database = self._context.database
        if key == _CREATE:
            return self._knows_models(body) and database.answers_at_once
        reads = key == _GET or (key == _LIST and _SHORT_PAGE.fullmatch(query) is not None)
        return reads and database.reads_at_once

    def _knows_models(self, body: bytes) -> bool:
        """Whether every model that a request names is cached."""
        names = _MODEL.findall(body)
        if not names or len(names) != body.count(b'"model"'):
            return False
        try:
            parsed = [ModelName.parse(name.decode()) for name in names]
        except (ApiError, UnicodeDecodeError):
            return False
        return all(map(self.model_registry.is_known, parsed))

    def number_of(self, project: str) -> str:
        """The number of a project, given its id or number."""
        return project_number(project, self._context.project_numbers)

    def find_requests(self, project: str = "", **wanted: str) -> dict[str, Any]:
        """The calls in the journal that match; `project` is an id or a number.

        Raises:
            InvalidArgument: no call can have a wanted value.
        """
        self._check_question(wanted)
        return self.journal.find(self.number_of(project) if project else "", **wanted)

    def _check_question(self, wanted: Mapping[str, str]) -> None:
        if method := wanted.get("method"):
            keys = (*self.faults.rpcs, *STORAGE_METHODS)
            check_method(method, keys, "call", "GetBatchPredictionJob or storage.objects.insert")
        statuses = ("OK", *(error.status for error in CATALOGUE.values()))
        for name, known in (("status", statuses), ("surface", SURFACES)):
            if (value := wanted.get(name)) and value not in known:
                raise InvalidArgument(f"{name} is {value[:80]!r}; use one of {', '.join(known)}.")

    def now(self) -> dict[str, Any]:
        """The time for new resources, and the newest call's number, as values for `after`."""
        clock = self._context.database.clock
        time_us = clock.time_us if isinstance(clock, SeededClock) else clock()
        return {"time": moment(time_us), "request": self.journal.last}

    def rest_extras(self, message: Any) -> dict[str, str]:
        """The extra members of REST responses; see JobService.rest_extras."""
        return self.jobs.rest_extras(message)


def _snake_case(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
