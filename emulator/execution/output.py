"""A job's output directory: its name, its files, and the removal of files that no row knows.

Contract: batch_prediction_job.proto, OutputInfo; recorded AutoML video output.
"""

from __future__ import annotations

import contextlib
import re
import secrets
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from emulator.storage import GcsUri, ObjectNotFound, ObjectStore, Staged, StorageError
from emulator.vertex.moments import moment

ERRORS_FILE = "errors_00001.jsonl"

_FILE = re.compile(r"(?:predictions|errors)_\d{5,}\.jsonl")
_UNFIT = re.compile(r"[/\\\x00-\x1f\x7f-\x9f\u2028\u2029]")
# The limit for one path segment in common file systems.
_MAX_SEGMENT_BYTES = 255


def directory_name(model_display_name: str, create_time_us: int) -> str:
    """Return `prediction-<model display name>-<time>`, the name of a job's output directory.

    Emulator: slashes, backslashes and control characters in the display name become `_`, so that it stays one
    folder. The name is cut to the 255 bytes that file systems allow.
    """
    # Vertex: microseconds and colons, "2021-02-28T22:47:21.701608Z" (recorded AutoML output).
    suffix = f"-{moment(create_time_us)}"
    room = _MAX_SEGMENT_BYTES - len("prediction-") - len(suffix)
    fitting = _UNFIT.sub("_", model_display_name).encode()[:room].decode(errors="ignore")
    return f"prediction-{fitting}{suffix}"


@dataclass(frozen=True)
class OutputDirectory:
    """The directory `prefix` (a name that ends in `/`) and the emulator's files in it.

    A file is staged first and published second. `group` separates the staged files of one job from all
    others.
    """

    store: ObjectStore
    prefix: GcsUri
    group: str

    @property
    def uri(self) -> str:
        """The URI for outputInfo.gcsOutputDirectory."""
        return str(self.prefix).removesuffix("/")

    def is_taken(self) -> bool:
        """Whether the directory contains any object."""
        return next(self.store.list(self.prefix.bucket, self.prefix.object), None) is not None

    def stage(self, lines: Iterable[bytes]) -> str:
        """Write a staged file, completely or not at all; returns the staged name for `publish`."""
        name = secrets.token_hex(16)
        with self.store.write_staged(self._staged(name)) as file:
            for line in lines:
                file.write(line)
        return name

    def publish(self, staged: str, file: str) -> None:
        """Rename a staged file to its final name, unless that has been done already.

        Call this only for files that the job's rows name: then it makes no difference which server does it.

        Raises:
            StorageError: the store cannot rename it.
        """
        try:
            self.store.publish_staged(self._staged(staged), self.prefix / file)
        except ObjectNotFound as error:
            if not self._has(file):
                message = f"The lines of {self.prefix / file}, which were ready, have been removed"
                raise StorageError(f"{message} by somebody else ({error}). Create the job again.") from error

    def discard(self, staged: str) -> None:
        """Remove a staged file; ignores storage errors."""
        with contextlib.suppress(StorageError):
            self.store.discard_staged(self._staged(staged))

    def staged(self) -> set[str]:
        """The names of the staged files."""
        return {staged.name for staged in self.store.list_staged(self.prefix, self.group)}

    def files(self) -> set[str]:
        """The names of the files in the directory that look like the emulator's."""
        found = self.store.list(self.prefix.bucket, self.prefix.object)
        names = (info.uri.object.removeprefix(self.prefix.object) for info in found)
        return {name for name in names if _FILE.fullmatch(name)}

    def remove_others(self, known: Collection[str], check: Callable[[], None]) -> None:
        """Remove files that look like the emulator's but are not `known`.

        Call this only after the job's rows fix the final set of files. `check` is called before the first
        removal and may raise.
        """
        # Earlier versions of the emulator wrote files before they recorded them.
        if others := self.files() - {*known}:
            check()
        for name in others:
            with contextlib.suppress(ObjectNotFound):
                self.store.delete(self.prefix / name)

    def _staged(self, name: str) -> Staged:
        return Staged(self.prefix, self.group, name)

    def _has(self, file: str) -> bool:
        try:
            self.store.stat(self.prefix / file)
        except ObjectNotFound:
            return False
        return True


def predictions_file(number: int) -> str:
    """The name of the `number`-th predictions file (1-based)."""
    # Vertex: five digits, where the documentation shows four (recorded AutoML output).
    return f"predictions_{number:05d}.jsonl"


def output_directory(
    store: ObjectStore, prefix: GcsUri, display_name: str, create_time_us: int, group: str
) -> OutputDirectory:
    """Return a directory below `prefix` that does not exist yet."""
    while True:
        name = directory_name(display_name, create_time_us)
        directory = OutputDirectory(store, prefix / f"{name}/", group)
        if not directory.is_taken():
            return directory
        # Two jobs were created in the same microsecond. Vertex's time differs from createTime as well.
        create_time_us += 1
