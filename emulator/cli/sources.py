"""Resolves the sources of `compare` and `export`: a file, a folder, or a job of a running server."""

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from emulator.cli.jobs import copy_output
from emulator.cli.remote import Server

_JOB = re.compile(r"[0-9]{1,20}|projects/[^/]+/locations/[^/]+/batchPredictionJobs/[^/]+")


@contextmanager
def located(source: str, server: str | None) -> Iterator[Path]:
    """Yield the path of a source. The output of a job is copied to a temporary folder meanwhile."""
    path = Path(source)
    if path.exists() or not _JOB.fullmatch(source):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="vertex-emulator-") as folder:
        copy_output(Server(server), source, Path(folder))
        yield Path(folder)
