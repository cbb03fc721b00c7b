"""Buckets at a Cloud Storage endpoint: fake-gcs-server, another emulator, or, if allowed, the real
service."""

from __future__ import annotations

import contextlib
import io
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, cast

from emulator.storage.cache import FileCache
from emulator.storage.checksums import Hasher, checksums_of
from emulator.storage.endpoint import Endpoint
from emulator.storage.gcs_client import TIMEOUT_S, GcsClient, ObjectChanged
from emulator.storage.gzipped import unpacked
from emulator.storage.object_store import (
    AccessDenied,
    ObjectInfo,
    ObjectNotFound,
    ObjectStore,
    Staged,
    StorageError,
    go_on,
)
from emulator.storage.uri import GcsUri, InvalidUri, check_bucket

T = TypeVar("T")

# Size of one request, and so the memory for each open object, in bytes.
_PIECE = 4 << 20
_SPOOLED_IN_MEMORY = 1 << 20
# Staged bytes are objects below this prefix of the bucket.
_STAGED = ".vertex-emulator/staged"
# Attempts if others replace an object between a read and a conditional write.
_ATTEMPTS = 5
# The library would retry for two minutes. `GcsClient.call` retries instead.
_PATIENCE: dict[str, Any] = {"retry": None, "timeout": TIMEOUT_S}


@dataclass(frozen=True)
class _Found:
    """One version of an object."""

    uri: GcsUri
    generation: int
    size: int
    updated_us: int
    crc32c: str | None  # None if the endpoint has none
    is_gzipped: bool

    @property
    def info(self) -> ObjectInfo:
        return ObjectInfo(self.uri, self.size, self.updated_us)


@dataclass(frozen=True)
class GcsStore(ObjectStore):
    """Objects at `endpoint`; objects that are needed as files go through `cache`.

    `check` is called before every request and may raise to stop.
    """

    endpoint: Endpoint
    client: GcsClient
    cache: FileCache
    check: Callable[[], None] = go_on

    def interruptible(self, check: Callable[[], None]) -> ObjectStore:
        return replace(self, check=check)

    def open_read(self, uri: GcsUri) -> BinaryIO:
        found = self._find(uri)
        reader = io.BufferedReader(_Reader(self, found), _PIECE)
        return unpacked(uri, reader, found.size) if found.is_gzipped else reader

    def stat(self, uri: GcsUri) -> ObjectInfo:
        return self._find(uri).info

    @contextlib.contextmanager
    def write(self, uri: GcsUri) -> Iterator[BinaryIO]:
        _check_name(uri)
        with tempfile.SpooledTemporaryFile(_SPOOLED_IN_MEMORY) as spool:
            file = cast("BinaryIO", spool)
            yield file
            self._upload(uri, file, file.seek(0, io.SEEK_END))

    def write_staged(self, staged: Staged) -> AbstractContextManager[BinaryIO]:
        return self.write(_staged_uri(staged))

    def publish_staged(self, staged: Staged, uri: GcsUri) -> None:
        generation = 0
        for _ in range(_ATTEMPTS):
            origin = self._find(_staged_uri(staged))
            try:
                self._call(uri, partial(_rewrite, origin, uri, generation))
                break
            except ObjectChanged:
                there = self._current(uri)
                # The emulator's own: from a call whose answer was lost, or from before a restart.
                if there and (there.size, there.crc32c) == (origin.size, origin.crc32c):
                    break
                generation = there.generation if there else 0
        else:
            raise self._contested(uri)
        self.discard_staged(staged)

    def discard_staged(self, staged: Staged) -> None:
        # A writer may lack the permission to delete. That is harmless here: the object is published.
        with contextlib.suppress(ObjectNotFound, AccessDenied):
            self.delete(_staged_uri(staged))

    def list_staged(self, prefix: GcsUri, group: str) -> Sequence[Staged]:
        folder = f"{_STAGED}/{group}/"
        found = self.list(prefix.bucket, folder)
        return [Staged(prefix, group, info.uri.object.removeprefix(folder)) for info in found]

    def list(self, bucket: str, prefix: str = "") -> Iterator[ObjectInfo]:
        check_bucket(bucket, f"gs://{bucket}")
        token = None
        while True:
            try:
                page, token = self._call(GcsUri(bucket, prefix), partial(_page, bucket, prefix, token))
            except ObjectNotFound:
                return
            # Some consoles create empty objects whose names end in a slash, to show a folder.
            yield from (info for info in page if not info.uri.object.endswith("/"))
            if token is None:
                return

    def delete(self, uri: GcsUri) -> None:
        _check_name(uri)
        calls = 0

        def delete(client: Any) -> None:
            nonlocal calls
            calls += 1
            client.bucket(uri.bucket).blob(uri.object).delete(**_PATIENCE)

        try:
            self._call(uri, delete)
        except ObjectNotFound as error:
            # Missing at a retry: an earlier attempt, whose answer was lost, has deleted it.
            if calls == 1:
                raise self._missing(uri) from error

    @contextlib.contextmanager
    def local_path(self, uri: GcsUri) -> Iterator[Path]:
        with contextlib.ExitStack() as using:
            for _ in range(_ATTEMPTS - 1):
                with contextlib.suppress(ObjectChanged):
                    path = using.enter_context(self._cached(uri))
                    break
            else:
                path = using.enter_context(self._cached(uri))
            yield path

    def check_writable(self, prefix: GcsUri) -> None:
        _check_name(prefix / "probe")
        try:
            if not self._has_bucket(prefix.bucket):
                self._make_bucket(prefix.bucket)
        except AccessDenied:
            # A writer may lack the permission to read the bucket; the write itself will tell.
            if not self.endpoint.is_google:
                raise

    def download(self, found: _Found, start: int, end: int) -> bytes:
        """The bytes of that version from `start` to before `end`. Raises ObjectChanged if it is gone."""

        def download(client: Any) -> bytes:
            blob = client.bucket(found.uri.bucket).blob(found.uri.object, generation=found.generation)
            # A part has no checksum of its own, and the stored bytes are wanted, not the unpacked ones.
            data: bytes = blob.download_as_bytes(
                start=start, end=end - 1, checksum=None, raw_download=True, **_PATIENCE
            )
            return data

        try:
            data = self._call(found.uri, download)
        except ObjectNotFound as error:
            message = f"{found.uri} was replaced or removed while it was read. Try again when it is there."
            raise ObjectChanged(message) from error
        if len(data) != end - start:
            raise ObjectChanged(f"{found.uri} became shorter while it was read. Try again.")
        return data

    @contextlib.contextmanager
    def _cached(self, uri: GcsUri) -> Iterator[Path]:
        found = self._find(uri)
        key = f"{self.endpoint} {found}"
        cached = self.cache.file(key, uri.object, found.size, partial(self._fetch, found), self.check)
        with contextlib.ExitStack() as using:
            path = using.enter_context(cached)
            if found.is_gzipped:
                folder = Path(using.enter_context(tempfile.TemporaryDirectory(prefix="vbe-")))
                unzipped = unpacked(uri, path.open("rb"), found.size)
                path = folder / path.name
                with unzipped, path.open("wb") as file:
                    shutil.copyfileobj(unzipped, file, _PIECE)
            yield path

    def _fetch(self, found: _Found, file: BinaryIO) -> None:
        hasher = Hasher(md5=False)
        for start in range(0, found.size, _PIECE):
            data = self.download(found, start, min(start + _PIECE, found.size))
            hasher.update(data)
            file.write(data)
        # An endpoint without generations may have returned parts of two versions.
        if found.crc32c not in (None, hasher.checksums().crc32c):
            raise ObjectChanged(
                f"{found.uri}: the bytes from {self.endpoint} do not have the checksum it states. Try again;"
                " if that does not help, put the object there anew."
            )

    def _upload(self, uri: GcsUri, file: BinaryIO, size: int) -> None:
        """Upload the file as the object, completely or not at all, over the version that exists, if any."""

        def upload(generation: int, client: Any) -> None:
            client.bucket(uri.bucket).blob(uri.object).upload_from_file(
                file, rewind=True, size=size, if_generation_match=generation, checksum="crc32c", **_PATIENCE
            )

        generation = 0
        for _ in range(_ATTEMPTS):
            try:
                self._call(uri, partial(upload, generation))
                return
            except ObjectNotFound:
                self._make_bucket(uri.bucket)
            except ObjectChanged:
                there = self._current(uri)
                # The emulator's own: from a call whose answer was lost, or from before a restart.
                if there and there.size == size and there.crc32c == _crc32c_of(file):
                    return
                generation = there.generation if there else 0
        raise self._contested(uri)

    def _contested(self, uri: GcsUri) -> StorageError:
        return StorageError(
            f"{uri} cannot be written: somebody else keeps replacing it at {self.endpoint}. Choose another"
            " output prefix, or stop the other writer."
        )

    def _find(self, uri: GcsUri) -> _Found:
        _check_name(uri)

        def look(client: Any) -> _Found:
            blob = client.bucket(uri.bucket).blob(uri.object)
            blob.reload(**_PATIENCE)
            return _found(uri, blob)

        try:
            return self._call(uri, look)
        except ObjectNotFound as error:
            raise self._missing(uri) from error

    def _current(self, uri: GcsUri) -> _Found | None:
        try:
            return self._find(uri)
        except ObjectNotFound:
            return None

    def _missing(self, uri: GcsUri) -> ObjectNotFound:
        with contextlib.suppress(AccessDenied):
            if not self._has_bucket(uri.bucket):
                return ObjectNotFound(
                    f"{uri} does not exist: there is no bucket {uri.bucket} at {self.endpoint}. Create it, or"
                    " say with gcs_buckets where the bucket lies."
                )
        return ObjectNotFound(f"{uri} does not exist at {self.endpoint}; upload it there.")

    def _has_bucket(self, bucket: str) -> bool:
        try:
            self._call(GcsUri(bucket, ""), lambda client: client.bucket(bucket).reload(**_PATIENCE))
        except ObjectNotFound:
            return False
        return True

    def _make_bucket(self, bucket: str) -> None:
        """Create a bucket, unless another client creates it meanwhile."""
        if self.endpoint.is_google:
            # A real bucket has an owner, a location and a bill.
            raise StorageError(
                f"There is no bucket {bucket} at {self.endpoint}. Create it; the emulator makes no real ones."
            )

        def make(client: Any) -> None:
            from google.api_core.exceptions import Conflict

            with contextlib.suppress(Conflict):
                client.create_bucket(bucket, **_PATIENCE)

        self._call(GcsUri(bucket, ""), make)

    def _call(self, subject: GcsUri, operation: Callable[[Any], T]) -> T:
        return self.client.call(subject, operation, self.check)


class _Reader(io.RawIOBase):
    """Streams one version of an object in chunks."""

    def __init__(self, store: GcsStore, found: _Found) -> None:
        super().__init__()
        self._store = store
        self._found = found
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._found.size}[whence]
        self._position = min(max(0, origin + offset), self._found.size)
        return self._position

    def readinto(self, buffer: Any) -> int:
        end = min(self._position + len(buffer), self._found.size)
        if end == self._position:
            return 0
        data = self._store.download(self._found, self._position, end)
        buffer[: len(data)] = data
        self._position = end
        return len(data)

    def readall(self) -> bytes:
        # The inherited method reads 8 KB at a time.
        return b"".join(iter(lambda: self.read(_PIECE), b""))


def _page(bucket: str, prefix: str, token: str | None, client: Any) -> tuple[list[ObjectInfo], str | None]:
    blobs = client.list_blobs(bucket, prefix=prefix, page_token=token, **_PATIENCE)
    page = [_found(GcsUri(bucket, blob.name), blob).info for blob in next(blobs.pages, ())]
    return page, blobs.next_page_token


def _found(uri: GcsUri, blob: Any) -> _Found:
    if blob.generation is None or blob.size is None or blob.updated is None:
        raise ValueError(f"{uri} has no generation, size or time")
    updated_us = round(blob.updated.timestamp() * 1_000_000)
    is_gzipped = (blob.content_encoding or "").lower() == "gzip"
    return _Found(uri, blob.generation, blob.size, updated_us, blob.crc32c, is_gzipped)


def _rewrite(origin: _Found, uri: GcsUri, generation: int, client: Any) -> None:
    """Copy one version of an object at the endpoint, over that generation of the target."""
    source = client.bucket(origin.uri.bucket).blob(origin.uri.object)
    target = client.bucket(uri.bucket).blob(uri.object)
    conditions = {
        "if_generation_match": generation,
        "if_source_generation_match": origin.generation,
    }
    token, _, _ = target.rewrite(source, **conditions, **_PATIENCE)
    while token:
        token, _, _ = target.rewrite(source, token=token, **conditions, **_PATIENCE)


def _staged_uri(staged: Staged) -> GcsUri:
    return GcsUri(staged.bucket, f"{_STAGED}/{staged.group}/{staged.name}")


def _crc32c_of(file: BinaryIO) -> str:
    file.seek(0)
    return checksums_of(file).crc32c


def _check_name(uri: GcsUri) -> None:
    GcsUri.parse(str(uri))  # a GcsUri built by hand has not been checked yet
    if uri.object.endswith("/"):
        raise InvalidUri(f'"{uri}" names a folder, not an object; name an object in it.')
