"""The faults injected into a job: those that the runner itself applies, and the record that they fired."""

from __future__ import annotations

from emulator.execution.claim import Claim
from emulator.execution.ending import JobFailed
from emulator.execution.shards import Failed, Predicted
from emulator.execution.slow_store import SlowStore
from emulator.instructions.faults import JobFault, load_faults
from emulator.storage import ObjectStore
from emulator.vertex import errors
from emulator.vertex.instances import InstanceFailure


class InjectedFaults:
    """The faults of one job. `all` includes those that workers carry out."""

    def __init__(self, claim: Claim) -> None:
        self.all = load_faults(claim.job.faults)
        self._claim = claim

    def slowed(self, store: ObjectStore) -> ObjectStore:
        """The store, with the delays that the faults ask for."""
        delay_s = sum(fault.delay_s for fault in self.all if fault.kind == "slow-storage")
        return SlowStore(store, delay_s) if delay_s else store

    def note_delays(self) -> None:
        """Count the faults that only delay the job, before its work begins."""
        self._fire("slow-storage", "slow-model")

    def fail_job(self) -> None:
        """Raise JobFailed if a fault fails the whole job."""
        for fault in self._fire("fail-job"):
            message = fault.message or "The job fails because a fault was asked for."
            raise JobFailed(fault.code or errors.Internal.code, message)

    def refuse_output(self, directory: str) -> None:
        """Raise JobFailed if a fault makes this output directory unwritable."""
        for fault in self._fire("fail-output"):
            # Vertex: recorded error of a batch prediction job whose output bucket was not writable.
            message = (
                f'The service account doesn\'t have sufficient permission "storage.objects.create" to write'
                f" {directory}. (A fault was asked for.)"
            )
            raise JobFailed(fault.code or errors.PermissionDenied.code, fault.message or message)

    def why_unreadable(self, content: str) -> InstanceFailure | None:
        """The failure of all instances of this video if a fault makes the video unreadable."""
        for fault in self.all:
            if fault.hits_video(content):
                self.count(fault.plan, f"unreadable-video {content}")
                message = f"{content}: it cannot be read as a video, because a fault was asked for."
                return InstanceFailure(errors.InvalidArgument.code, message)
        return None

    def with_injected_failure(self, outcome: Predicted | Failed) -> Predicted | Failed:
        """The outcome of an instance, or a failure in its place if a fault fails the instance."""
        for fault in self._fire("fail-instance", instance=outcome.instance):
            message = fault.message or "The instance fails because a fault was asked for."
            return Failed(outcome.instance, InstanceFailure(fault.code or errors.Internal.code, message))
        return outcome

    def count(self, plan: int | None, text: str) -> None:
        """Record that a fault fired: in the job's history, and for the fault with that number."""
        self._claim.note("fault", text if plan is None else f"plan {plan}: {text}")
        if plan is not None:
            self._claim.database.count_fired(plan)

    def _fire(self, *kinds: str, instance: int | None = None) -> list[JobFault]:
        """The job's faults of these kinds (and of that 0-based instance); each is counted as fired."""
        found = [
            fault
            for fault in self.all
            if fault.kind in kinds and (instance is None or fault.instance == instance + 1)
        ]
        for fault in found:
            self.count(fault.plan, f"{fault.kind}" + (f" {fault.message}" if fault.message else ""))
        return found
