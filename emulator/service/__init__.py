"""Use cases: what each RPC means, whichever surface it came through. No HTTP, no gRPC.

Methods take and return v1 messages and raise `ApiError`; they are safe to call from many threads.
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from emulator.service.context import Call, Context, Place
from emulator.service.control import Canned, Faults, Gate, History, Journal, Metrics, Paces, Watch
from emulator.service.control.state import Folders, State
from emulator.service.identities import SeededClock, SeededIds
from emulator.service.jobs import JobService, job_message
from emulator.service.locations import LocationService
from emulator.service.model_registry import ModelRegistry
from emulator.service.models import ModelService
from emulator.service.operations import Operations, OperationService
from emulator.vertex.errors import InvalidArgument
from emulator.vertex.names import project_number

__all__ = ["Call", "Context", "Method", "Place", "Service"]

Method = Callable[[Any, Call], Any]

# What is read may be long, however short the request.
_BRIEF = "JobService/CreateBatchPredictionJob"


class Service:
    """Every RPC that the emulator has, over one database, registry and store."""

    def __init__(self, context: Context, folders: Folders | None = None) -> None:
        self._operations = operations = Operations(context)
        self.model_registry = ModelRegistry(context)
        self.watch = Watch(context.database)
        self.paces = Paces(context, self.watch)
        self.faults = Faults(context)
        self.journal = Journal()
        self.gate = Gate(context, self.paces, self.faults, self.journal)
        self.metrics = Metrics(context, self.journal, self.faults)
        self.jobs = JobService(context, self.model_registry, operations, self.paces, self.faults)
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
            create_job=self.jobs.create_batch_prediction_job,
            keep_job=self.jobs.keep,
            control=self.apply,
        )
        self._context = context

    def apply(self, value: Mapping[str, Any]) -> None:
        """Do what a seed's control.json says: paces and faults."""
        known = ("pace", "projects", "faults")
        if unknown := [name for name in value if name not in known]:
            raise InvalidArgument(f"{unknown[0]!r} is not known here; there are {', '.join(known)}.")
        projects, faults = value.get("projects", {}), value.get("faults", [])
        if not isinstance(projects, dict) or not all(list(one) == ["pace"] for one in projects.values()):
            raise InvalidArgument(
                '"projects" must be an object such as {"my-project": {"pace": "immediate"}}.'
            )
        if not isinstance(faults, list) or not all(isinstance(fault, dict) for fault in faults):
            raise InvalidArgument('"faults" must be a list of objects.')
        if "pace" in value:
            self.paces.set(str(value["pace"]))
        for project, of_project in projects.items():
            self.paces.set(str(of_project["pace"]), project)
        for fault in faults:
            self.faults.add(fault)

    def _forget(self, project: str | None) -> None:
        """Know nothing any more of rows that have gone: of a project (a number) or of all."""
        if project is not None:
            self.paces.set(None, project)
        self.faults.forget()
        self.paces.forget()
        self.journal.clear(project or "")
        self.model_registry.forget_seeds()
        self.models.sweep()
        for part in (self._context.new_id, self._context.database.clock):
            if isinstance(part, SeededIds):
                part.begin_anew(project)
            elif isinstance(part, SeededClock) and project is None:
                part.begin_anew(self._context.database.latest_job_us())

    def recover(self) -> None:
        """Tidy up after a server that was killed; call it before the first request."""
        self._operations.abort_unfinished()
        self.state.remove_leftovers()
        self.models.sweep()

    def close(self) -> None:
        """Let no call wait any longer, and wait for uploads that are under way."""
        self.watch.close()
        self.models.close()

    def methods(self) -> Mapping[str, Method]:
        """The methods by RPC, as in "JobService/CreateBatchPredictionJob". RPCs that are not here are
        not emulated."""
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

    def is_brief(self, key: str) -> bool:
        """Whether a call of that method, with a request of the usual size, would be over before it is handed
        to a thread: it writes a row or two into the database of this process, and asks nobody else."""
        return key == _BRIEF and self._context.database.answers_at_once and self.model_registry.is_current

    def number_of(self, project: str) -> str:
        """The number of a project, given its id or number."""
        return project_number(project, self._context.project_numbers)

    def find_requests(self, project: str = "", **wanted: str) -> dict[str, Any]:
        """The calls in the journal that fit; `project` is an id or a number."""
        return self.journal.find(self.number_of(project) if project else "", **wanted)

    def rest_extras(self, message: Any) -> dict[str, str]:
        """What REST responses show beyond the message; see JobService.rest_extras."""
        return self.jobs.rest_extras(message)


def _snake_case(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
