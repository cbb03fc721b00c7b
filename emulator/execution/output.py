"""The output directory of a job: its name, its files, and their removal when nobody vouches for them.

Contract: batch_prediction_job.proto, OutputInfo; recorded AutoML video output.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from emulator.storage import GcsUri, ObjectNotFound, ObjectStore

ERRORS_FILE = "errors_00001.jsonl"

_FILE = re.compile(r"(?:predictions|errors)_\d{5,}\.jsonl")
_UNFIT = re.compile(r"[/\\\x00-\x1f\x7f-\x9f\u2028\u2029]")
# One segment of a path in the usual file systems.
_MAX_SEGMENT_BYTES = 255


def directory_name(model_display_name: str, create_time_us: int) -> str:
    """`prediction-<model display name>-<time>`, as the service names a job's output directory.

    Emulator: slashes of both kinds and control characters in the display name become `_`, so that it stays
    one folder, and it is cut where the directory's name would exceed the 255 bytes that a folder's name has.
    """
    # Vertex: microseconds and colons, "2021-02-28T22:47:21.701608Z" (recorded AutoML output).
    time = datetime.fromtimestamp(create_time_us // 1_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    suffix = f"-{time}.{create_time_us % 1_000_000:06d}Z"
    room = _MAX_SEGMENT_BYTES - len("prediction-") - len(suffix)
    fitting = _UNFIT.sub("_", model_display_name).encode()[:room].decode(errors="ignore")
    return f"prediction-{fitting}{suffix}"


@dataclass(frozen=True)
class OutputDirectory:
    """The directory `prefix`, a name that ends in `/`, and the files the emulator writes there."""

    store: ObjectStore
    prefix: GcsUri

    @property
    def uri(self) -> str:
        """What outputInfo.gcsOutputDirectory says."""
        return str(self.prefix).removesuffix("/")

    def is_taken(self) -> bool:
        """Whether something lies in it already."""
        return next(self.store.list(self.prefix.bucket, self.prefix.object), None) is not None

    def write_predictions(self, number: int, lines: Iterable[bytes]) -> None:
        """Write `predictions_<number>.jsonl`, complete or not at all."""
        self._write(predictions_file(number), lines)

    def write_errors(self, lines: Iterable[bytes]) -> None:
        """Write `errors_00001.jsonl`, complete or not at all."""
        self._write(ERRORS_FILE, lines)

    def remove_others(self, known: Collection[str]) -> None:
        """Remove files that look like the emulator's but are not among the `known` ones.

        A server that was killed may have written a file and died before it could record it.
        """
        for info in list(self.store.list(self.prefix.bucket, self.prefix.object)):
            name = info.uri.object.removeprefix(self.prefix.object)
            if _FILE.fullmatch(name) and name not in known:
                with contextlib.suppress(ObjectNotFound):
                    self.store.delete(info.uri)

    def _write(self, name: str, lines: Iterable[bytes]) -> None:
        with self.store.write(self.prefix / name) as file:
            for line in lines:
                file.write(line)


def predictions_file(number: int) -> str:
    """The name of the `number`-th predictions file, counted from 1."""
    # Vertex: five digits, where the documentation shows four (recorded AutoML output).
    return f"predictions_{number:05d}.jsonl"


def output_directory(
    store: ObjectStore, prefix: GcsUri, display_name: str, create_time_us: int
) -> OutputDirectory:
    """A directory below `prefix` that nothing lies in yet."""
    while True:
        name = directory_name(display_name, create_time_us)
        directory = OutputDirectory(store, prefix / f"{name}/")
        if not directory.is_taken():
            return directory
        # Two jobs created in the same microsecond; the service's time differs from createTime as well.
        create_time_us += 1
