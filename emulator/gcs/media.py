"""Downloads: an object's bytes with their headers, ranges, and decompression."""

import re
from collections.abc import Mapping
from email.utils import formatdate
from typing import BinaryIO

from emulator.gcs.requests import Media, Response
from emulator.gcs.resources import content_type, object_etag
from emulator.storage.gzipped import is_gzip, unpacked
from emulator.storage.metadata import StoredObject

_RANGE = re.compile(r"bytes=\s*(\d*)\s*-\s*(\d*)\s*")
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def media_response(stored: StoredObject, file: BinaryIO, request_headers: Mapping[str, str]) -> Response:
    """Answer with the object's bytes or the requested range. The response closes the file."""
    range_header = request_headers.get("range", "")
    headers = _headers(stored)
    if stored.content_encoding == "gzip":
        headers["vary"] = "Origin, X-Origin, Accept-Encoding"
        if not _takes_gzip(request_headers) and (whole := _unpacked_response(stored, file, headers)):
            return whole
    span = _parse_range(range_header, stored.size)
    if span is None:
        headers["content-length"] = str(stored.size)
        return Response(200, Media(file, 0, stored.size), headers)
    start, end = span
    if start >= end:
        file.close()
        message = (
            f"The requested range {range_header} is not satisfiable: the object has {stored.size} bytes."
        )
        refused = {"content-type": "text/plain; charset=UTF-8", "content-range": f"bytes */{stored.size}"}
        return Response(416, message.encode(), refused)
    headers["content-length"] = str(end - start)
    headers["content-range"] = f"bytes {start}-{end - 1}/{stored.size}"
    return Response(206, Media(file, start, end - start), headers)


def _takes_gzip(headers: Mapping[str, str]) -> bool:
    """Return whether the client accepts gzip."""
    entries = (entry.replace(" ", "").lower() for entry in headers.get("accept-encoding", "").split(","))
    taken = [name for name, _, quality in (entry.partition(";") for entry in entries) if quality != "q=0"]
    return "gzip" in taken or "*" in taken


def _unpacked_response(stored: StoredObject, file: BinaryIO, headers: Mapping[str, str]) -> Response | None:
    """Return a gzipped object decompressed (decompressive transcoding), always from its beginning.

    None if the object forbids it (`no-transform`), or if its bytes are not gzip.
    """
    if "no-transform" in str(stored.attributes.get("cacheControl", "")).lower():
        return None
    if not is_gzip(file):
        return None
    unzipped = unpacked(stored.uri, file, stored.size)
    left_out = ("content-encoding", "accept-ranges")
    shown = {name: value for name, value in headers.items() if name not in left_out}
    return Response(200, Media(unzipped, 0, None), {**shown, "warning": "214 UploadServer gunzipped"})


def _parse_range(text: str, size: int) -> tuple[int, int] | None:
    """Return the half-open range of a Range header; None for all bytes, also for a list of ranges."""
    match = _RANGE.fullmatch(text)
    if match is None or not (match[1] or match[2]):
        return None
    first, last = map(_number, match.groups())
    if not match[1]:
        return max(0, size - last) if last else size, size
    if match[2] and last < first:
        return None
    return first, min(size, last + 1) if match[2] else size


def _number(digits: str) -> int:
    """Parse a number of a Range header, exact up to 20 digits. No object is that large."""
    return int(digits.lstrip("0")[:20] or "0")


def _headers(stored: StoredObject) -> dict[str, str]:
    attributes = stored.attributes
    headers = {
        "content-type": content_type(stored),
        "cache-control": attributes.get("cacheControl", "no-cache"),
        "content-disposition": attributes.get("contentDisposition", ""),
        "content-encoding": attributes.get("contentEncoding", ""),
        "content-language": attributes.get("contentLanguage", ""),
        "accept-ranges": "bytes",
        "etag": object_etag(stored),
        "last-modified": formatdate(stored.generation // 1_000_000, usegmt=True),
        "x-goog-generation": str(stored.generation),
        "x-goog-metageneration": str(stored.metageneration),
        "x-goog-storage-class": attributes.get("storageClass", "STANDARD"),
        "x-goog-stored-content-encoding": attributes.get("contentEncoding", "identity"),
        "x-goog-stored-content-length": str(stored.size),
    }
    if encryption := attributes.get("customerEncryption"):
        headers["x-goog-encryption-algorithm"] = encryption["encryptionAlgorithm"]
        headers["x-goog-encryption-key-sha256"] = encryption["keySha256"]
    if stored.checksums:
        md5 = f",md5={stored.checksums.md5}" if stored.checksums.md5 else ""
        headers["x-goog-hash"] = f"crc32c={stored.checksums.crc32c}{md5}"
    for name, value in attributes.get("metadata", {}).items():
        if _TOKEN.fullmatch(name):
            headers[f"x-goog-meta-{name.lower()}"] = value
    return {name: _CONTROL.sub(" ", value) for name, value in headers.items() if value}
