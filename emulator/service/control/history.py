"""The history of jobs: the steps of each, fields without effect, and a stream of all steps."""

from collections.abc import Callable
from typing import Any

from emulator.database import UNKNOWN_TOTAL, JobRow, StepRow
from emulator.service.context import Context
from emulator.service.control.watch import Watch
from emulator.service.fidelity import NOT_HONOURED
from emulator.vertex.job_state import TERMINAL
from emulator.vertex.messages import to_json
from emulator.vertex.moments import moment

CANNED = "canned"


class History:
    """Reads the steps of jobs."""

    def __init__(self, context: Context, watch: Watch, message: Callable[[JobRow], Any]) -> None:
        self._context = context
        self._watch = watch
        self._message = message

    def explain(self, row: JobRow) -> dict[str, Any]:
        """Everything known about a job, as JSON."""
        # Read before the steps: one that is not waiting any more has its step.
        waiting = self._notifications(row)
        steps = self._context.database.all_steps(row.id)
        canned = row.provider == CANNED
        dropped = [step.text.split("|", 2) for step in steps if step.step == NOT_HONOURED]
        not_honoured = [{"field": a, "fidelity": b, "note": c} for a, b, c in dropped]
        if canned:
            note = "the predictions are canned: they are given as the file has them"
            not_honoured.append({"field": "model_parameters", "fidelity": "ignored", "note": note})
        return {
            "job": {
                **to_json(self._message(row)),
                "modelDisplayName": row.model_display_name,
                "modelObjective": row.model_objective,
            },
            "steps": [_shown(step) for step in steps if step.step != NOT_HONOURED],
            "notHonoured": not_honoured,
            "executionProvider": row.provider or "",
            "canned": canned,
            "attempts": row.attempts,
            **({} if row.state in TERMINAL else {"progress": self._progress(row)}),
            **waiting,
        }

    def _notifications(self, row: JobRow) -> dict[str, Any]:
        """The notifications of an ended job that are not delivered yet."""
        waiting = self._context.database.notifications(row.id) if row.state in TERMINAL else []
        shown = [
            {"id": str(one.number), "attempts": one.attempts, "nextAttempt": moment(one.due_us)}
            for one in waiting
        ]
        return {"notificationsWaiting": shown} if shown else {}

    def _progress(self, row: JobRow) -> dict[str, Any]:
        """The progress of an unfinished job, in frames of its videos.

        The number left is an estimate; it is missing until a video states its length.
        """
        shown: dict[str, Any] = {"framesDone": row.frames_done}
        if row.frames_left != UNKNOWN_TOTAL:
            shown["framesLeft"] = row.frames_left
            shown["fraction"] = round(row.frames_done / max(1, row.frames_done + row.frames_left), 4)
        seconds = (self._context.database.now() - (row.start_time_us or 0)) / 1e6
        # In deterministic mode a job's times are not real.
        real = row.start_time_us and self._context.database.tick_us is None
        if real and row.frames_done and seconds > 0:
            rate = row.frames_done / seconds
            shown["framesPerSecond"] = round(rate, 1)
            if row.frames_left != UNKNOWN_TOTAL:
                shown["secondsLeft"] = round(row.frames_left / rate, 1)
        return shown

    def last(self) -> int:
        """The number of the newest step."""
        return self._context.database.last_step()

    def after(self, number: int, timeout_s: float) -> list[StepRow]:
        """The steps behind a number. Waits until there are any; empty after the timeout."""
        return self._watch.wait(lambda: self._context.database.steps(after=number) or None, timeout_s) or []

    def event(self, step: StepRow) -> dict[str, Any]:
        """A step as an event of the stream."""
        row = self._context.database.get_job(step.job_id)
        return {"job": row.name if row else str(step.job_id), **_shown(step)}


def _shown(step: StepRow) -> dict[str, Any]:
    shown = {"time": moment(step.time_us), "step": step.step, "text": step.text}
    if step.step == "state":
        shown["state"] = step.text.partition(" ")[0]
    return shown
