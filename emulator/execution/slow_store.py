"""A store that takes its time: what the fault `slow-storage` puts in front of a job's own."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from emulator.storage import GcsUri, ObjectStore
from emulator.storage.object_store import ObjectInfo


@dataclass(frozen=True)
class SlowStore(ObjectStore):
    """Waits before each read or write of `store`."""

    store: ObjectStore
    delay_s: float

    def interruptible(self, check: Callable[[], None]) -> ObjectStore:
        return replace(self, store=self.store.interruptible(check))

    def open_read(self, uri: GcsUri) -> BinaryIO:
        time.sleep(self.delay_s)
        return self.store.open_read(uri)

    def write(self, uri: GcsUri) -> AbstractContextManager[BinaryIO]:
        time.sleep(self.delay_s)
        return self.store.write(uri)

    def local_path(self, uri: GcsUri) -> AbstractContextManager[Path]:
        time.sleep(self.delay_s)
        return self.store.local_path(uri)

    def list(self, bucket: str, prefix: str = "") -> Iterator[ObjectInfo]:
        return self.store.list(bucket, prefix)

    def stat(self, uri: GcsUri) -> ObjectInfo:
        return self.store.stat(uri)

    def delete(self, uri: GcsUri) -> None:
        self.store.delete(uri)

    def check_writable(self, prefix: GcsUri) -> None:
        self.store.check_writable(prefix)
