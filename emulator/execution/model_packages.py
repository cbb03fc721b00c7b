"""How a model travels to a machine that does not have its folder: packed once, kept there by content digest.

Imports neither Ray nor numpy. `ray_driver.py` packs, `ray_actor.py` unpacks.
"""

from __future__ import annotations

import fcntl
import io
import os
import secrets
import shutil
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from emulator.files import size_text
from emulator.inference.manifest import ModelUnusable, load_manifest
from emulator.inference.model_files import ModelDigests, files_read

MOST_BYTES = 500_000_000
"""Size of the largest model that travels."""

_MOST_KEPT = 16


def pack(folder: Path) -> bytes:
    """The files of a model that predictions depend on, as a tar archive.

    Raises:
        ModelUnusable: the model is too large to travel; the message says what to do.
        ManifestError, OSError, ValueError: its files cannot be read.
    """
    files = files_read(load_manifest(folder))
    size = sum(path.stat().st_size for path in files)
    if size > MOST_BYTES:
        raise ModelUnusable(
            f"The model in {folder} has {size_text(size)}, and models of at most {size_text(MOST_BYTES)} are"
            " sent to Ray's nodes. Mount its folder under the same path on each node."
        )
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path in files:
            archive.add(path.resolve(), arcname=path.relative_to(folder))
    return buffer.getvalue()


@dataclass(frozen=True)
class NodeModels:
    """The models of one machine: folders of its own, and a cache of what was sent, shared by its processes.

    `root` is the folder of the cache. It keeps the 16 models that were used last.
    """

    root: Path
    _digests: ModelDigests = field(default_factory=ModelDigests)

    def find(self, folder: Path, digest: str) -> Path | None:
        """A folder here with that content: `folder` itself, if it has it, or one of the cache; else None.

        With an empty digest, `folder` is not compared.
        """
        if not digest or self._digests.get(folder) == digest:
            return folder
        if not (self.root / digest).is_dir():
            return None
        os.utime(self.root / digest)
        return self.kept(digest)

    def kept(self, digest: str) -> Path:
        """The folder of a model in the cache. Its name has to be one that a model may have."""
        return self.root / digest / "model"

    def keep(self, digest: str, fetch: Callable[[], bytes]) -> Path:
        """Unpack a model into the cache. Of several processes, one calls `fetch`, and the others wait for it.

        Raises:
            ModelUnusable: what was sent is another model than `digest` says.
        """
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        if (status := self.root.stat()).st_uid != os.getuid() or status.st_mode & 0o022:
            raise ModelUnusable(f"The folder {self.root} can be written by others. Remove it.")
        kept = self.root / digest
        with _locked(self.root / f"{digest}.lock"):
            if not kept.is_dir():
                self._unpack(kept, fetch())
        self._make_room()
        return self.kept(digest)

    def _unpack(self, kept: Path, content: bytes) -> None:
        part = self.root / f"{kept.name}.{secrets.token_hex(8)}.part"
        try:
            with tarfile.open(fileobj=io.BytesIO(content)) as archive:
                archive.extractall(part / "model", filter="data")
            if ModelDigests().get(part / "model") != kept.name:
                raise ModelUnusable(
                    "The model has changed while it was sent to a node. Create the job again."
                )
            part.rename(kept)
        finally:
            shutil.rmtree(part, ignore_errors=True)

    def _make_room(self) -> None:
        kept = [path for path in self.root.iterdir() if path.is_dir() and path.suffix != ".part"]
        kept.sort(key=lambda path: path.stat().st_mtime, reverse=True)
        for path in kept[_MOST_KEPT:]:
            with _locked(self.root / f"{path.name}.lock"):
                shutil.rmtree(path, ignore_errors=True)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the lock of a file against other processes and threads."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
