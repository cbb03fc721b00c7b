"""Paces: which pace a job gets, how reads of a held job count, and calls that wait for a job."""

import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from emulator.database import UNKNOWN_TOTAL, Cached, JobRow
from emulator.instructions import InstructionError
from emulator.instructions.pace import parse_pace
from emulator.service.context import Call, Context, HasToWait
from emulator.service.control.watch import Watch
from emulator.vertex.errors import DeadlineExceeded, FailedPrecondition, InvalidArgument, NotFound
from emulator.vertex.job_state import TERMINAL, JobState
from emulator.vertex.names import check_project, project_number

#: Maximum number of long-polling calls; further ones return at once. Surfaces size their thread pools by it.
MAX_HELD = 112
# A call with a deadline is answered this long before it.
_MARGIN_S = 0.5
#: Prefix of the names of notes that hold paces. The project's number follows, or nothing.
PACE_NOTES = "pace/"
_MAX_AGE_S = 1.0


class Paces:
    """The paces of the server, of projects and of jobs."""

    def __init__(self, context: Context, watch: Watch) -> None:
        self._context = context
        self._watch = watch
        self._lock = threading.Lock()
        # Another server may have changed them.
        shared_age_s = _MAX_AGE_S if context.database.is_shared else None
        self._set: Cached[Mapping[str, str]] = Cached(self._read_set, shared_age_s)
        self._holding = Cached(self._may_hold, _MAX_AGE_S)
        #: The number of calls that are held now.
        self.calls_held = 0

    @property
    def may_hold(self) -> bool:
        """Whether a call may be held; surfaces then give each call its own thread.

        Never reads the database, so event loops can ask; see `look`.
        """
        return self._holding.kept is not False

    def look(self) -> None:
        """Update `may_hold` if it is true. May read the database, so call it in a thread."""
        if self.may_hold:
            self._holding.get()

    def get(self, project: str | None = None) -> dict[str, Any]:
        """The pace of a project (id or number) or of the server, and where it was set."""
        paces = self._set.get()
        for scope in ([self._number(project)] if project else []) + [""]:
            if scope in paces:
                return {"pace": paces[scope] or "real", "from": "project" if scope else "server"}
        return {"pace": self._context.pace or "real", "from": "setting"}

    def set(self, pace: str | None, project: str | None = None) -> dict[str, Any]:
        """Set the pace of a project or of the server; None removes it. Existing jobs keep their pace."""
        text = None if pace is None else check_pace(pace)
        scope = self._number(check_project(project)) if project else ""
        self._context.database.set_note(f"{PACE_NOTES}{scope}", text)
        self.forget()
        return self.get(project)

    def forget(self) -> None:
        """Drop the cached paces."""
        self._set.forget()
        self._holding.forget()
        self.look()

    def of_new_job(self, project_number: str, asked: str | None) -> str:
        """The pace of a new job; `asked` is the pace that its request asks for, or None."""
        pace = asked if asked is not None else str(self.get(project_number)["pace"])
        return check_pace(pace)

    def expect_holds(self) -> None:
        """Note that a job with a pace exists now."""
        self._holding.forget()

    def set_of_job(self, row: JobRow, pace: str) -> dict[str, Any]:
        """Give an unfinished job another pace."""
        if not self._context.database.set_pace(row.id, check_pace(pace)):
            raise FailedPrecondition(f"{row.name} has ended; its pace cannot change any more.")
        self.expect_holds()
        self._context.on_change()
        return self.describe(self.row(row.id))

    def release(self, row: JobRow) -> dict[str, Any]:
        """End a job's hold."""
        if not self._context.database.release_hold(row.id):
            raise FailedPrecondition(
                f"{row.name} is in state {row.state.proto_name} and not held there; nothing is released."
            )
        self._context.on_change()
        # The dispatcher or runner has not moved the job yet. Wait for the state that it comes to.
        moved = self._watch.wait(lambda: self._at_rest(row.id), self._context.hold_timeout_s)
        return self.describe(moved or self.row(row.id))

    def read(self, row: JobRow, call: Call) -> JobRow:
        """Serve a GET of a job: counts the read if its pace counts reads, and waits if its pace says so.

        Raises:
            HasToWait: the job has a pace, but the call may not wait.
        """
        if not row.pace:
            return row
        if not call.may_wait:
            raise HasToWait
        time_left_s = call.time_left_s
        pace = parse_pace(row.pace)
        if row.state not in TERMINAL and not self.may_hold:
            self.expect_holds()
        if pace.has_reads:
            # The answer must not depend on how fast the job moves between two holds.
            row = self._wait(row, lambda: self._at_rest(row.id), time_left_s)
            if row.hold_reads is not None and not self._context.database.count_read(row.id):
                self._context.on_change()
                row = self._wait(row, lambda: self._at_rest(row.id), time_left_s)
                # This read is the first one in the state that it waited for.
                if row.hold_reads:
                    self._context.database.count_read(row.id)
        if pace.waits and row.state not in TERMINAL:
            return self._wait(row, lambda: self._ended(row.id), time_left_s)
        return row

    def wait(self, row: JobRow, states: Collection[JobState], held: bool, timeout_s: float) -> dict[str, Any]:
        """Wait until the job is in one of the states (and held there, if `held`).

        Raises:
            DeadlineExceeded: the timeout has passed.
            FailedPrecondition: the job has ended in another state.
        """

        def fits(found: JobRow) -> bool:
            return found.state in states and (not held or self._is_held(found))

        def look() -> JobRow | None:
            found = self.row(row.id)
            return found if fits(found) or found.state in TERMINAL else None

        found = self._watch.wait(look, timeout_s)
        current = found or self.row(row.id)
        if fits(current):
            return self.describe(current)
        wanted = ", ".join(sorted(state.name for state in states)) + (" (held)" if held else "")
        if current.state in TERMINAL:
            raise FailedPrecondition(
                f"{row.name} has ended in state {current.state.proto_name}; waited for {wanted}, which cannot"
                " come any more."
            )
        raise DeadlineExceeded(
            f"{row.name} is in state {current.state.proto_name} after {timeout_s:g} s; waited for {wanted}."
        )

    def describe(self, row: JobRow) -> dict[str, Any]:
        """A job's state, pace and hold, as JSON."""
        answer: dict[str, Any] = {
            "job": row.name,
            "state": row.state.proto_name,
            "held": row.held(self._context.database.now()),
            "pace": row.pace or "real",
        }
        if row.hold_reads is not None:
            answer["readsLeft"] = row.hold_reads
        return answer

    def row(self, job_id: int) -> JobRow:
        """The job now. Raises NotFound."""
        row = self._context.database.get_job(job_id)
        if row is None:
            raise NotFound(f"The BatchPredictionJob does not exist. No job {job_id}.")
        return row

    def _read_set(self) -> Mapping[str, str]:
        """The paces that were set, by project number; "" is the server's."""
        found = self._context.database.get_notes(PACE_NOTES)
        return {name.removeprefix(PACE_NOTES): text for name, text in found.items()}

    def _may_hold(self) -> bool:
        """Whether a pace is set, or an unfinished job has one."""
        paces = (self._context.pace, *self._set.get().values())
        return any(paces) or self._context.database.has_paced_jobs()

    def _number(self, project: str) -> str:
        return project_number(project, self._context.project_numbers)

    def _at_rest(self, job_id: int) -> JobRow | None:
        """The job if it is held or has ended; None while it moves on by itself."""
        row = self.row(job_id)
        return row if row.state in TERMINAL or self._is_held(row) else None

    def _is_held(self, row: JobRow) -> bool:
        """Whether the job is held and nothing visible will change until the hold ends.

        A job that has just started still has to count its instances.
        """
        counted = row.state is not JobState.RUNNING or row.incomplete != UNKNOWN_TOTAL
        return counted and row.held(self._context.database.now())

    def _ended(self, job_id: int) -> JobRow | None:
        row = self.row(job_id)
        return row if row.state in TERMINAL else None

    def _wait(self, row: JobRow, look: Callable[[], JobRow | None], time_left_s: float | None) -> JobRow:
        timeout_s = self._context.hold_timeout_s
        if time_left_s is not None:
            timeout_s = min(timeout_s, time_left_s - _MARGIN_S)
        with self._a_place() as has_place:
            if has_place and timeout_s > 0:
                return self._watch.wait(look, timeout_s) or self.row(row.id)
        return self.row(row.id)

    @contextmanager
    def _a_place(self) -> Iterator[bool]:
        """Take one of the places for long-polling calls; yields False if none is free."""
        with self._lock:
            taken = self.calls_held < MAX_HELD
            self.calls_held += taken
        try:
            yield taken
        finally:
            with self._lock:
                self.calls_held -= taken


def check_pace(text: str) -> str:
    """The text of a pace as it is stored, empty for `real`. Raises InvalidArgument."""
    try:
        parse_pace(text)
    except InstructionError as error:
        raise InvalidArgument(str(error)) from None
    return "" if text.strip().lower() == "real" else text.strip().lower()
