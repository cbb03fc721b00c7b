"""Downloads: the headers that go with an object's bytes, and ranges of them."""

import re
from email.utils import formatdate
from typing import BinaryIO

from emulator.api.gcs.messages import Media, Response
from emulator.api.gcs.resources import content_type, object_etag
from emulator.storage.metadata import StoredObject

_RANGE = re.compile(r"bytes=\s*(\d*)\s*-\s*(\d*)\s*")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def media_response(stored: StoredObject, file: BinaryIO, range_header: str) -> Response:
    """Answer with the object's bytes, or the range asked for; takes over the file."""
    headers = _headers(stored)
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


def _parse_range(text: str, size: int) -> tuple[int, int] | None:
    """The half-open span of a Range header; None for all bytes, which is also what a list of ranges gets."""
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
    """A number in a Range header: exact up to 20 digits, which no object has bytes for."""
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
    if stored.checksums:
        md5 = f",md5={stored.checksums.md5}" if stored.checksums.md5 else ""
        headers["x-goog-hash"] = f"crc32c={stored.checksums.crc32c}{md5}"
    return {name: _CONTROL.sub(" ", value) for name, value in headers.items() if value}
