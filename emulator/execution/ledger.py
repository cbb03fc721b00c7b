"""Which videos of a job are done, what became of their instances, and the numbers of their files.

Files are numbered in input order, over the videos that have a file. A video gets its number once all earlier
videos are done. So the numbers follow from the rows alone, whichever server finishes the videos in any order.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace

from emulator.database import ShardRow
from emulator.execution.inputs import Spool
from emulator.vertex.instances import InstanceFailure


class VideoOutcomes:
    """The outcomes of a video's instances until the video is recorded. `waiting` are those without one."""

    def __init__(self, instances: Iterable[int]) -> None:
        self.waiting = set(instances)
        self._failures: dict[int, InstanceFailure] = {}
        self._lines: dict[int, int] = {}
        self._spool = Spool()

    @property
    def successful(self) -> int:
        """The number of predicted instances."""
        return len(self._lines)

    def lines(self) -> Iterator[bytes]:
        """Yield the lines of the predicted instances, in input order."""
        return (self._spool.get(line) for _, line in sorted(self._lines.items()))

    def predicted(self, instance: int, line: bytes) -> None:
        """Take the line of a predicted instance."""
        self.waiting.remove(instance)
        self._lines[instance] = self._spool.add(line)

    def failed(self, instance: int, failure: InstanceFailure) -> None:
        """Take the reason why an instance failed."""
        self.waiting.discard(instance)
        self._failures[instance] = failure

    def row(self, index: int, staged: str | None) -> ShardRow:
        """The shard to record, without a file number."""
        found = [[instance, failure.code, failure.message] for instance, failure in self._failures.items()]
        return ShardRow(index, None, self.successful, len(found), json.dumps(found), staged)

    def close(self) -> None:
        """Delete the lines."""
        self._spool.close()


class Ledger:
    """The recorded shards of a job, as its owner has read and added them."""

    def __init__(self, recorded: Iterable[ShardRow] = (), lost: Iterable[ShardRow] = ()) -> None:
        """Start from recorded shards. `lost` ones, whose files are gone, run again and keep their number."""
        self._shards = {shard.index: shard for shard in recorded}
        self._kept = {shard.index: shard.file_number for shard in lost}
        numbers = [*(shard.file_number for shard in self), *self._kept.values()]
        self._last_number = max((number for number in numbers if number is not None), default=0)
        self._next_index = 0

    def __iter__(self) -> Iterator[ShardRow]:
        return iter(self._shards.values())

    def __contains__(self, index: int) -> bool:
        return index in self._shards

    @property
    def successful(self) -> int:
        """The number of predicted instances."""
        return sum(shard.successful for shard in self)

    @property
    def failed(self) -> int:
        """The number of failed instances."""
        return sum(shard.failed for shard in self)

    def failures(self) -> dict[int, InstanceFailure]:
        """Why instances failed, by instance."""
        found = (entry for shard in self for entry in json.loads(shard.errors))
        return {instance: InstanceFailure(code, message) for instance, code, message in found}

    def add(self, shard: ShardRow) -> tuple[ShardRow, list[ShardRow]]:
        """Add a finished shard.

        Returns:
            The shard, with its file number if that is known, and the other shards that get their number now.
        """
        kept = self._kept.get(shard.index) if shard.staged is not None else None
        self._shards[shard.index] = replace(shard, file_number=kept)
        numbered: list[ShardRow] = []
        while self._next_index in self._shards:
            numbered += self._number(self._next_index)
            self._next_index += 1
        return self._shards[shard.index], [other for other in numbered if other.index != shard.index]

    def close(self) -> list[ShardRow]:
        """Number all shards, because no more will finish; returns those that get their number now."""
        return [shard for index in sorted(self._shards) for shard in self._number(index)]

    def files(self) -> list[ShardRow]:
        """The shards that have a numbered file, by number."""
        return sorted(
            (shard for shard in self if shard.file_number is not None),
            key=lambda shard: shard.file_number or 0,
        )

    def _number(self, index: int) -> list[ShardRow]:
        shard = self._shards[index]
        if shard.staged is None or shard.file_number is not None:
            return []
        self._last_number += 1
        shard = self._shards[index] = replace(shard, file_number=self._last_number)
        return [shard]
