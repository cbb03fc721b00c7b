"""A server that is stopped at a named point of a job, as by SIGSTOP, and goes on when told."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from emulator.database import Database, JobRow, ShardRow
from emulator.storage import GcsUri, ObjectStore, Staged
from emulator.storage.object_store import ObjectInfo
from emulator.vertex.job_state import JobState

#: Where a runner may be stopped, in the order of a job: before and after each step that others could see.
POINTS = (
    "stage",
    "staging",
    "record",
    "publish",
    "published",
    "stage errors",
    "decide",
    "publish errors",
    "tidy",
    "finish",
)
_TIMEOUT_S = 300


class Stopper:
    """Stops the first thread that comes to `point`, until `go_on`."""

    def __init__(self, point: str) -> None:
        assert point in POINTS
        self._point = point
        self.stopped = threading.Event()
        self._going_on = threading.Event()

    def passes(self, *points: str) -> None:
        """What is stopped calls this at its points."""
        if self._point in points and not self.stopped.is_set():
            self.stopped.set()
            assert self._going_on.wait(_TIMEOUT_S), f"nobody lets it go on from {self._point!r}"

    def go_on(self) -> None:
        """End the stop."""
        self._going_on.set()


class StoppingDatabase(Database):
    """The database of a server that can be stopped: from then on it takes no job and renews no lease, and
    thinks that it does."""

    stopper: Stopper

    def claim_job(self, owner: str, lease_us: int, now_us: int | None = None) -> JobRow | None:
        return None if self.stopper.stopped.is_set() else super().claim_job(owner, lease_us, now_us)

    def heartbeat(self, owners: Collection[str], lease_us: int) -> dict[str, JobState]:
        if self.stopper.stopped.is_set():
            return dict.fromkeys(owners, JobState.RUNNING)
        return super().heartbeat(owners, lease_us)

    def record_shard(
        self, job_id: int, owner: str, shard: ShardRow, note: str = "", numbered: Sequence[ShardRow] = ()
    ) -> bool:
        self.stopper.passes("record")
        return super().record_shard(job_id, owner, shard, note, numbered)

    def decide_ending(self, *arguments: Any, **options: Any) -> bool:
        self.stopper.passes("decide")
        return super().decide_ending(*arguments, **options)

    def finish_job(self, *arguments: Any, **options: Any) -> bool:
        self.stopper.passes("finish")
        return super().finish_job(*arguments, **options)


class StoppingStore(ObjectStore):
    """The store of a server that can be stopped. To workers it is the one within."""

    def __init__(self, store: ObjectStore, stopper: Stopper) -> None:
        self.store = store
        self.stopper = stopper

    def __reduce__(self) -> Any:
        return copy.copy, (self.store,)

    def interruptible(self, check: Callable[[], None]) -> ObjectStore:
        return StoppingStore(self.store.interruptible(check), self.stopper)

    @contextmanager
    def write_staged(self, staged: Staged) -> Iterator[BinaryIO]:
        self.stopper.passes("stage")
        with self.store.write_staged(staged) as file:
            writer = _Watched(file)
            yield writer  # type: ignore[misc]
            self.stopper.passes("stage errors" if b'"error"' in writer.first else "staging")

    def publish_staged(self, staged: Staged, uri: GcsUri) -> None:
        of_errors = uri.object.endswith("errors_00001.jsonl")
        self.stopper.passes("publish errors" if of_errors else "publish")
        self.store.publish_staged(staged, uri)
        self.stopper.passes("" if of_errors else "published")

    def delete(self, uri: GcsUri) -> None:
        self.stopper.passes("tidy")
        self.store.delete(uri)

    def discard_staged(self, staged: Staged) -> None:
        self.store.discard_staged(staged)

    def list_staged(self, prefix: GcsUri, group: str) -> Sequence[Staged]:
        return self.store.list_staged(prefix, group)

    def open_read(self, uri: GcsUri) -> BinaryIO:
        return self.store.open_read(uri)

    def write(self, uri: GcsUri) -> AbstractContextManager[BinaryIO]:
        return self.store.write(uri)

    def list(self, bucket: str, prefix: str = "") -> Iterator[ObjectInfo]:
        return self.store.list(bucket, prefix)

    def stat(self, uri: GcsUri) -> ObjectInfo:
        return self.store.stat(uri)

    def local_path(self, uri: GcsUri) -> AbstractContextManager[Path]:
        return self.store.local_path(uri)

    def check_writable(self, prefix: GcsUri) -> None:
        self.store.check_writable(prefix)


class _Watched:
    """A file that is written, and the beginning of what is."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.first = b""

    def write(self, data: bytes) -> int:
        self.first = self.first or data
        return self._file.write(data)
