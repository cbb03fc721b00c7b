"""Failures on demand: plans with an account of how often they fitted and took effect."""

import difflib
import json
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any

from emulator.database import FaultRow, NewJob
from emulator.instructions import InstructionError
from emulator.instructions.faults import JobFault, Plan, RpcFault, dump_faults, parse_plan
from emulator.service.context import Context, id_number
from emulator.vertex.errors import InvalidArgument, NotFound
from emulator.vertex.names import check_project, project_number

# How old the list of plans may be where another server may have changed it.
_MAX_AGE_S = 1.0


@dataclass(frozen=True)
class _Kept:
    """A plan with its number; `project` is a number, or empty for all."""

    number: int
    project: str
    plan: Plan


class Faults:
    """The plans. Each call asks for those on it, each job that is created for those it takes along."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._lock = threading.Lock()
        self._plans: tuple[_Kept, ...] | None = None
        self._read_at = 0.0

    def add(self, value: Mapping[str, Any]) -> dict[str, Any]:
        """Keep a plan; its account."""
        plan = self.check(value)
        project = project_number(plan.project, self._context.project_numbers) if plan.project else ""
        row = self._context.database.insert_fault(project, json.dumps(value))
        self.forget()
        return account(row)

    def check(self, value: Mapping[str, Any]) -> Plan:
        """Read a plan. Raises InvalidArgument, also for one that could never act."""
        try:
            plan = parse_plan(value)
        except InstructionError as error:
            raise InvalidArgument(str(error)) from None
        if plan.project:
            check_project(plan.project)
        keys = [f"{rpc.service}/{rpc.name}" for rpc in self._context.contract.methods()]
        if not plan.is_for_jobs and not any(map(plan.hits_method, keys)):
            names = sorted({key.rpartition("/")[2] for key in keys})
            near = difflib.get_close_matches(plan.method.rpartition("/")[2], names, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]}?" if near else "such as GetBatchPredictionJob or *Model"
            raise InvalidArgument(f"method is {plan.method[:200]!r}, which no RPC fits; {hint}")
        return plan

    def list(self) -> list[dict[str, Any]]:
        """The accounts of all plans."""
        return [account(row) for row in self._context.database.list_faults()]

    def get(self, number: str) -> dict[str, Any]:
        """The account of one plan; raises NotFound."""
        for row in self._context.database.list_faults():
            if str(row.number) == number:
                return account(row)
        raise _missing(number)

    def remove(self, number: str | None = None) -> int:
        """Remove one plan or all; how many there were."""
        known = None if number is None else id_number(number)
        if number is not None and known is None:
            raise _missing(number[:80])
        removed = self._context.database.delete_faults(known)
        self.forget()
        if number is not None and not removed:
            raise _missing(number)
        return removed

    def forget(self) -> None:
        """Read the plans anew at the next occasion."""
        with self._lock:
            self._plans = None

    @property
    def may_delay(self) -> bool:
        """Whether a plan may hold calls up; never looks at the database, so that event loops can ask."""
        plans = self._plans
        return plans is None or any(
            isinstance(kept.plan.effect, RpcFault) and kept.plan.effect.delay_s > 0 for kept in plans
        )

    def of_call(self, key: str, project: str) -> tuple[RpcFault | None, int]:
        """What the first plan that fits a call does to it, and the plan's number; None when no plan acts."""
        for kept in self._all():
            effect = kept.plan.effect
            if not isinstance(effect, RpcFault) or not kept.plan.hits_method(key):
                continue
            if kept.project in ("", project) and self._acts(kept, fires=True):
                return effect, kept.number
        return None, 0

    def equip(self, job: NewJob, asked: tuple[JobFault, ...]) -> NewJob:
        """A job that is being created, with the faults that its request and the plans give it."""
        faults = list(asked)
        for kept in self._all():
            effect = kept.plan.effect
            if not isinstance(effect, JobFault) or kept.project not in ("", job.project):
                continue
            if fnmatchcase(job.display_name, kept.plan.display_name) and self._acts(kept, fires=False):
                faults.append(replace(effect, plan=kept.number))
        return replace(job, faults=dump_faults(faults)) if faults else job

    def _acts(self, kept: _Kept, *, fires: bool) -> bool:
        return self._context.database.use_fault(kept.number, kept.plan.acts_at, fires=fires)

    def _all(self) -> tuple[_Kept, ...]:
        stale = self._context.database.is_shared and time.monotonic() - self._read_at > _MAX_AGE_S
        plans = self._plans
        if plans is None or stale:
            with self._lock:
                rows = self._context.database.list_faults()
                plans = tuple(
                    _Kept(row.number, row.project, parse_plan(json.loads(row.plan))) for row in rows
                )
                self._plans, self._read_at = plans, time.monotonic()
        return plans


def account(row: FaultRow) -> dict[str, Any]:
    """A plan as the control surface shows it."""
    plan = json.loads(row.plan)
    return {"id": str(row.number), **plan, "matched": row.matched, "used": row.used, "fired": row.fired}


def _missing(number: str) -> NotFound:
    return NotFound(f"There is no fault {number}; GET /_emulator/faults lists them.")
