"""Lists the files of a model and computes their digest. Imports neither numpy nor onnxruntime."""

from __future__ import annotations

import hashlib
import mmap
import re
import threading
from collections.abc import Sequence
from pathlib import Path

from emulator.files import open_regular
from emulator.inference.canned import canned_files
from emulator.inference.manifest import MANIFEST, ManifestError, ModelManifest, load_manifest

# TensorProto.external_data is a list of (key, value). A graph with external data is small, so a search for
# the bytes of the key is cheaper than a parser for all of ONNX.
_LOCATION = re.compile(rb"\n\x08location\x12([\x00-\x7f]|[\x80-\xff][\x00-\x7f])")
_MOST_KEPT = 256

_Stamp = tuple[tuple[Path, int, int, int], ...]


class ModelDigests:
    """Digests of models by folder; a model's files are read again when one of them has changed.

    Safe to use from many threads.
    """

    def __init__(self) -> None:
        self._known: dict[Path, tuple[_Stamp, str]] = {}
        self._lock = threading.Lock()

    def get(self, folder: Path) -> str:
        """The digest of the model in `folder`; "" if that fails: the model cannot run then either."""
        known = self._known.get(folder)
        try:
            if known is not None and _stamp([path for path, *_ in known[0]]) == known[0]:
                return known[1]
            files = files_read(load_manifest(folder))
            # Take the stamp before reading: the next call then notices a change in between.
            stamp = _stamp(files)
            digest = _digest(folder, files)
        except (ManifestError, OSError, ValueError):
            return ""
        with self._lock:
            self._known[folder] = stamp, digest
            while len(self._known) > _MOST_KEPT:
                del self._known[next(iter(self._known))]
        return digest


class GraphDigest:
    """The digest of a graph with its weights, as they are when this object is made."""

    def __init__(self, graph: Path) -> None:
        """Take the stamp of the files. Raises OSError and ValueError."""
        self._folder = graph.parent
        self._files = [graph, *(graph.parent / name for name in external_files(graph))]
        self._stamp = _stamp(self._files)

    def get(self) -> str:
        """The digest; "" if the files have changed since."""
        try:
            digest = _digest(self._folder, self._files)
            return digest if _stamp(self._files) == self._stamp else ""
        except (OSError, ValueError):
            return ""


def files_read(manifest: ModelManifest) -> list[Path]:
    """The files that predictions depend on. Other files in the folder do not belong to the model.

    Raises OSError if one cannot be read.
    """
    files = [manifest.folder / MANIFEST]
    if manifest.is_canned:
        return [*files, *canned_files(manifest)]
    graph = manifest.graph
    weights = [graph.parent / name for name in external_files(graph)]
    return [*files, manifest.folder / manifest.labels_file, graph, *weights]


def external_files(path: Path) -> list[str]:
    """Names of the files next to `path` that hold weights of the graph (ONNX's external data)."""
    names = set()
    with open_regular(path) as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        for match in _LOCATION.finditer(content):
            # The length of the name is a varint: seven bits a byte, the lowest first.
            low, high = match[1][0] & 0x7F, match[1][1:]
            length = low | (high[0] << 7 if high else 0)
            names.add(content[match.end() : match.end() + length].decode("utf-8", "replace"))
    return sorted(names)


def _stamp(files: Sequence[Path]) -> _Stamp:
    found = ((path, path.stat()) for path in files)
    return tuple((path, status.st_ino, status.st_size, status.st_mtime_ns) for path, status in found)


def _digest(folder: Path, files: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for path in files:
        with open_regular(path) as file:
            of_file = hashlib.file_digest(file, "sha256").hexdigest()
        digest.update(f"{path.relative_to(folder)}\0{of_file}\0".encode(errors="surrogateescape"))
    return digest.hexdigest()
