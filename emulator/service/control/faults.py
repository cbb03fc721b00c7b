"""Injected faults, and the counts of how often each matched and fired."""

import difflib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any

from emulator.database import Cached, FaultRow, NewJob
from emulator.instructions import InstructionError
from emulator.instructions.faults import (
    STORAGE_METHODS,
    JobFault,
    Plan,
    RpcFault,
    dump_faults,
    method_matches,
    parse_plan,
)
from emulator.service.context import Context, id_number
from emulator.vertex.errors import InvalidArgument, NotFound
from emulator.vertex.names import check_project, project_number

# Maximum age of the cached faults if several servers share the database.
_MAX_AGE_S = 1.0


@dataclass(frozen=True)
class _Kept:
    """A fault with its number; `project` is a project number, or empty for all."""

    number: int
    project: str
    plan: Plan


class Faults:
    """All injected faults: applied to calls, and attached to new jobs."""

    def __init__(self, context: Context) -> None:
        self._context = context
        # Another server may have changed them.
        self._plans = Cached(self._read_plans, _MAX_AGE_S if context.database.is_shared else None)

    def add(self, value: Mapping[str, Any]) -> dict[str, Any]:
        """Add a fault; returns it with its counts."""
        plan = self.check(value)
        project = project_number(plan.project, self._context.project_numbers) if plan.project else ""
        row = self._context.database.insert_fault(project, json.dumps(value))
        self.forget()
        return account(row)

    def check(self, value: Mapping[str, Any]) -> Plan:
        """Parse a fault. Raises InvalidArgument, also for one that can never match."""
        try:
            plan = parse_plan(value)
        except InstructionError as error:
            raise InvalidArgument(str(error)) from None
        if plan.project:
            check_project(plan.project)
        if plan.is_for_storage:
            check_method(plan.method, STORAGE_METHODS, "call of Cloud Storage", "storage.objects.insert")
        elif not plan.is_for_jobs:
            check_method(plan.method, self.rpcs, "RPC", "GetBatchPredictionJob or *Model")
        return plan

    @property
    def rpcs(self) -> Sequence[str]:
        """Every RPC, such as `JobService/GetBatchPredictionJob`."""
        return [f"{rpc.service}/{rpc.name}" for rpc in self._context.contract.methods()]

    def list(self) -> list[dict[str, Any]]:
        """All faults with their counts."""
        return [account(row) for row in self._context.database.list_faults()]

    def get(self, number: str) -> dict[str, Any]:
        """One fault with its counts. Raises NotFound."""
        for row in self._context.database.list_faults():
            if str(row.number) == number:
                return account(row)
        raise _missing(number)

    def remove(self, number: str | None = None) -> int:
        """Remove one fault, or all; returns how many were removed."""
        known = None if number is None else id_number(number)
        if number is not None and known is None:
            raise _missing(number[:80])
        removed = self._context.database.delete_faults(known)
        self.forget()
        if number is not None and not removed:
            raise _missing(number)
        return removed

    def forget(self) -> None:
        """Drop the cached faults."""
        self._plans.forget()

    @property
    def may_delay(self) -> bool:
        """Whether a fault may delay calls. Never reads the database, so event loops can ask."""
        plans = self._plans.kept
        return plans is None or any(
            isinstance(kept.plan.effect, RpcFault) and kept.plan.effect.delay_s > 0 for kept in plans
        )

    def of_call(self, key: str, project: str) -> tuple[RpcFault | None, int]:
        """The effect of the first fault that fires on a call, and its number; (None, 0) if none does."""
        for kept in self._plans.get():
            effect = kept.plan.effect
            if not isinstance(effect, RpcFault) or kept.plan.is_for_storage or not kept.plan.hits_method(key):
                continue
            if kept.project in ("", project) and self._acts(kept, fires=True):
                return effect, kept.number
        return None, 0

    @property
    def may_hit_storage(self) -> bool:
        """Whether a fault may apply to calls of Cloud Storage. Never reads the database."""
        plans = self._plans.kept
        # Another server on a shared database may have added some.
        is_shared = self._context.database.is_shared
        return is_shared or plans is None or any(kept.plan.is_for_storage for kept in plans)

    def of_storage(self, method: str, bucket: str, name: str) -> tuple[RpcFault | None, int]:
        """Like `of_call`, for a call of Cloud Storage on a bucket and an object."""
        for kept in self._plans.get():
            effect = kept.plan.effect
            fits = isinstance(effect, RpcFault) and kept.plan.hits_storage(method, bucket, name)
            if fits and self._acts(kept, fires=True):
                return effect, kept.number  # type: ignore[return-value]
        return None, 0

    def equip(self, job: NewJob, asked: tuple[JobFault, ...]) -> NewJob:
        """Attach faults to a new job: those of its request and those whose pattern matches it."""
        faults = list(asked)
        for kept in self._plans.get():
            effect = kept.plan.effect
            if not isinstance(effect, JobFault) or kept.project not in ("", job.project):
                continue
            if fnmatchcase(job.display_name, kept.plan.display_name) and self._acts(kept, fires=False):
                faults.append(replace(effect, plan=kept.number))
        return replace(job, faults=dump_faults(faults)) if faults else job

    def _acts(self, kept: _Kept, *, fires: bool) -> bool:
        return self._context.database.use_fault(kept.number, kept.plan.acts_at, fires=fires)

    def _read_plans(self) -> tuple[_Kept, ...]:
        rows = self._context.database.list_faults()
        return tuple(_Kept(row.number, row.project, parse_plan(json.loads(row.plan))) for row in rows)


def check_method(pattern: str, keys: Sequence[str], kind: str, example: str) -> None:
    """Raise InvalidArgument if a pattern matches no existing method."""
    if any(method_matches(pattern, key) for key in keys):
        return
    names = sorted({key.rpartition("/")[2] for key in keys})
    near = difflib.get_close_matches(pattern.rpartition("/")[2], names, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}?" if near else f"such as {example}"
    raise InvalidArgument(f"method is {pattern[:200]!r}, which no {kind} fits; {hint}")


def account(row: FaultRow) -> dict[str, Any]:
    """A fault with its counts, as the control surface shows it."""
    plan = json.loads(row.plan)
    return {"id": str(row.number), **plan, "matched": row.matched, "used": row.used, "fired": row.fired}


def _missing(number: str) -> NotFound:
    return NotFound(f"There is no fault {number}; GET /_emulator/faults lists them.")
