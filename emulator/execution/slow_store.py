"""A store with delays: the fault `slow-storage` puts it in front of a job's store."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from emulator.storage import GcsUri, ObjectStore
from emulator.storage.object_store import ObjectInfo, Staged, go_on

#: Interval at which a wait checks whether it should go on, in seconds.
_LOOK_S = 0.1


@dataclass(frozen=True)
class SlowStore(ObjectStore):
    """Delays each read and write of `store`."""

    store: ObjectStore
    delay_s: float
    check: Callable[[], None] = go_on

    def interruptible(self, check: Callable[[], None]) -> ObjectStore:
        return replace(self, store=self.store.interruptible(check), check=check)

    def _wait(self) -> None:
        until = time.monotonic() + self.delay_s
        while (left_s := until - time.monotonic()) > 0:
            self.check()
            time.sleep(min(left_s, _LOOK_S))

    def open_read(self, uri: GcsUri) -> BinaryIO:
        self._wait()
        return self.store.open_read(uri)

    def write(self, uri: GcsUri) -> AbstractContextManager[BinaryIO]:
        self._wait()
        return self.store.write(uri)

    def local_path(self, uri: GcsUri) -> AbstractContextManager[Path]:
        self._wait()
        return self.store.local_path(uri)

    def write_staged(self, staged: Staged) -> AbstractContextManager[BinaryIO]:
        self._wait()
        return self.store.write_staged(staged)

    def publish_staged(self, staged: Staged, uri: GcsUri) -> None:
        self.store.publish_staged(staged, uri)

    def discard_staged(self, staged: Staged) -> None:
        self.store.discard_staged(staged)

    def list_staged(self, prefix: GcsUri, group: str) -> Sequence[Staged]:
        return self.store.list_staged(prefix, group)

    def list(self, bucket: str, prefix: str = "") -> Iterator[ObjectInfo]:
        return self.store.list(bucket, prefix)

    def stat(self, uri: GcsUri) -> ObjectInfo:
        return self.store.stat(uri)

    def delete(self, uri: GcsUri) -> None:
        self.store.delete(uri)

    def check_writable(self, prefix: GcsUri) -> None:
        self.store.check_writable(prefix)
