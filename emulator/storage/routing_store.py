"""Routes each bucket to its store: the local folder or an endpoint."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import BinaryIO

from emulator.config import LOCAL, STORAGE_VARIABLE, SettingError, Settings, flag_name
from emulator.storage.endpoint import Endpoint, InvalidEndpoint
from emulator.storage.local import LocalStore
from emulator.storage.object_store import ObjectInfo, ObjectStore, Staged
from emulator.storage.uri import GcsUri

_ENDPOINT = f"gcs_endpoint (or {STORAGE_VARIABLE})"
_BUCKETS, _ALLOW_GOOGLE = "gcs_buckets", "gcs_allow_google"
_NO_PATTERN = re.compile(r"[^a-z0-9._*?-]|^$")
_ANY_ADDRESS = ("0.0.0.0", "::")
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True)
class RoutingStore(ObjectStore):
    """Several stores as one: a bucket is in the store of the first pattern that matches its name.

    A pattern is a bucket's name, in which `*` and `?` are wildcards.
    """

    routes: tuple[tuple[str, ObjectStore], ...]
    otherwise: ObjectStore

    def open_read(self, uri: GcsUri) -> BinaryIO:
        return self._store_of(uri.bucket).open_read(uri)

    def write(self, uri: GcsUri) -> AbstractContextManager[BinaryIO]:
        return self._store_of(uri.bucket).write(uri)

    def write_staged(self, staged: Staged) -> AbstractContextManager[BinaryIO]:
        return self._store_of(staged.bucket).write_staged(staged)

    def publish_staged(self, staged: Staged, uri: GcsUri) -> None:
        self._store_of(staged.bucket).publish_staged(staged, uri)

    def discard_staged(self, staged: Staged) -> None:
        self._store_of(staged.bucket).discard_staged(staged)

    def list_staged(self, prefix: GcsUri, group: str) -> Sequence[Staged]:
        return self._store_of(prefix.bucket).list_staged(prefix, group)

    def list(self, bucket: str, prefix: str = "") -> Iterator[ObjectInfo]:
        return self._store_of(bucket).list(bucket, prefix)

    def stat(self, uri: GcsUri) -> ObjectInfo:
        return self._store_of(uri.bucket).stat(uri)

    def delete(self, uri: GcsUri) -> None:
        self._store_of(uri.bucket).delete(uri)

    def local_path(self, uri: GcsUri) -> AbstractContextManager[Path]:
        return self._store_of(uri.bucket).local_path(uri)

    def check_writable(self, prefix: GcsUri) -> None:
        self._store_of(prefix.bucket).check_writable(prefix)

    def interruptible(self, check: Callable[[], None]) -> ObjectStore:
        routes = tuple((pattern, store.interruptible(check)) for pattern, store in self.routes)
        return RoutingStore(routes, self.otherwise.interruptible(check))

    def _store_of(self, bucket: str) -> ObjectStore:
        matching = (store for pattern, store in self.routes if fnmatchcase(bucket, pattern))
        return next(matching, self.otherwise)


def open_store(settings: Settings) -> ObjectStore:
    """The store that the settings describe. It connects on first use.

    Raises:
        SettingError: an endpoint is invalid or not allowed, or google-cloud-storage is missing.
    """
    local = LocalStore(settings.buckets)
    stores: dict[str, ObjectStore] = {}

    def store_at(where: str, setting: str) -> ObjectStore:
        endpoint = _endpoint(where, setting, settings)
        if endpoint is None:
            return local
        return stores.setdefault(endpoint.url, _gcs_store(endpoint, settings))

    otherwise = store_at(settings.gcs_endpoint, _ENDPOINT)
    # A literal name takes precedence over a pattern, in any order.
    for pattern in filter(_NO_PATTERN.search, settings.gcs_buckets):
        raise SettingError(f'{_BUCKETS}: "{pattern}" is neither a bucket\'s name nor a pattern with * and ?.')
    named = sorted(settings.gcs_buckets.items(), key=lambda entry: "*" in entry[0] or "?" in entry[0])
    routes = tuple((pattern, store_at(where, _BUCKETS)) for pattern, where in named)
    return RoutingStore(routes, otherwise) if routes else otherwise


def _endpoint(where: str, setting: str, settings: Settings) -> Endpoint | None:
    """The endpoint that a setting's value names; None for the local folder."""
    if where == LOCAL:
        return None
    try:
        endpoint = Endpoint.parse(where)
    except InvalidEndpoint as error:
        raise SettingError(f"{setting}: {error} `{LOCAL}` is the folder of buckets.") from error
    if endpoint.is_google and not settings.gcs_allow_google:
        raise SettingError(
            f"{setting}: {endpoint} is Google's own Cloud Storage. The emulator uses real buckets only with"
            f" {flag_name(_ALLOW_GOOGLE)} ({_ALLOW_GOOGLE} = true). Name an emulator, or `{LOCAL}`."
        )
    # This server's own endpoint is the local folder: use it directly, not over the network.
    return None if _is_this_server(endpoint, settings) else endpoint


def _is_this_server(endpoint: Endpoint, settings: Settings) -> bool:
    ports = {settings.port, settings.tls_port if settings.tls else None}
    own = {settings.host, socket.gethostname().lower(), *_LOOPBACK, *_ANY_ADDRESS}
    return endpoint.port in ports and (endpoint.host in own or endpoint.host.startswith("127."))


def _gcs_store(endpoint: Endpoint, settings: Settings) -> ObjectStore:
    # Imported here: most servers have no endpoint.
    from emulator.storage.cache import FileCache
    from emulator.storage.gcs_client import EXTRA_IS_MISSING, GcsClient, is_installed
    from emulator.storage.gcs_store import GcsStore

    if not is_installed():
        raise SettingError(f"{EXTRA_IS_MISSING}, or leave out gcs_endpoint and gcs_buckets.")
    cache = FileCache(settings.data_dir.absolute() / "gcs-cache", settings.gcs_cache_mb * 1_000_000)
    return GcsStore(endpoint, GcsClient(endpoint), cache)
