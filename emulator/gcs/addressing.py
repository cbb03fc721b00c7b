"""Decides which requests belong to Cloud Storage's XML API, and reads bucket and object from their URLs.

A request belongs to the XML API if no other surface has its path and one of these rules holds:

1. its Host is `BUCKET.storage.googleapis.com`: the whole path is the object's name;
2. its path begins with the name of an existing bucket: `/BUCKET/OBJECT`;
3. its path could begin with a bucket's name, and the request has a mark of the XML API: the Host
   `storage.googleapis.com`, the method PUT, or a parameter or header that only the XML API has.
"""

from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import parse_qsl, unquote_to_bytes

from emulator.gcs.errors import invalid
from emulator.storage import GcsUri, InvalidUri
from emulator.storage.uri import check_bucket

_HOSTS = ("storage.googleapis.com", "commondatastorage.googleapis.com")
_BELOW_HOSTS = tuple(f".{host}" for host in _HOSTS)
_PARAMETERS = frozenset(
    (
        "googleaccessid",
        "list-type",
        "upload_id",
        "uploadid",
        "uploads",
        "x-goog-algorithm",
        "x-goog-signature",
    )
)
# Not every header that begins with x-goog-: Vertex's clients send others.
_HEADERS = (
    *(b"x-goog-acl", b"x-goog-content-sha256", b"x-goog-copy-source", b"x-goog-date", b"x-goog-hash"),
    *(b"x-goog-if-", b"x-goog-meta-", b"x-goog-project-id", b"x-goog-resumable", b"x-goog-storage-class"),
)


def bucket_of_host(host: str) -> str:
    """Return the bucket in a Host header such as `BUCKET.storage.googleapis.com`; "" if there is none."""
    name = host.partition(":")[0].lower().rstrip(".")
    for ending in _BELOW_HOSTS:
        if name.endswith(ending):
            return name.removesuffix(ending)
    return ""


def is_virtual_host(scope: Any) -> bool:
    """Return whether the Host of an ASGI scope names a bucket (rule 1)."""
    return scope["type"] == "http" and bool(bucket_of_host(_host(scope)))


def is_xml(scope: Any, has_bucket: Callable[[str], bool]) -> bool:
    """Return whether a request belongs to the XML API (rules 2 and 3). No other surface may have its path."""
    bucket = scope["path"].lstrip("/").partition("/")[0]
    if not bucket:
        return _has_sign(scope) and scope["path"] == "/" and scope["method"] in ("GET", "HEAD")
    return _is_bucket_name(bucket) and (has_bucket(bucket) or _has_sign(scope))


def address(path: str, host: str) -> GcsUri:
    """Return the bucket and object of a URL. An empty object means the bucket, an empty bucket the service.

    Raises:
        GcsError: the path is not percent-encoded UTF-8.
    """
    try:
        text = unquote_to_bytes(path.encode(errors="surrogateescape")).decode()
    except UnicodeDecodeError:
        raise invalid("The path is not percent-encoded UTF-8.") from None
    if bucket := bucket_of_host(host):
        return GcsUri(bucket, text.removeprefix("/"))
    bucket, _, name = text.removeprefix("/").partition("/")
    return GcsUri(bucket, name)


def _has_sign(scope: Any) -> bool:
    if scope["method"] == "PUT" or _host(scope).partition(":")[0].lower() in _HOSTS:
        return True
    if any(name.startswith(_HEADERS) for name, _ in scope["headers"]):
        return True
    names: Iterable[str] = dict(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True))
    return any(name.lower() in _PARAMETERS for name in names)


def _host(scope: Any) -> str:
    host: bytes = next((value for name, value in scope["headers"] if name == b"host"), b"")
    return host.decode("latin-1")


def _is_bucket_name(name: str) -> bool:
    try:
        check_bucket(name, name)
    except InvalidUri:
        return False
    return True
