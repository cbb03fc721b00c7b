"""Sinks for bodies of the XML API: small bodies as a whole, an object's bytes piece by piece."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from emulator.gcs.configuration import check_bucket_allows, object_attributes, parameters
from emulator.gcs.draft import Draft
from emulator.gcs.encryption import encryption_attributes, key_digest
from emulator.gcs.errors import XmlError
from emulator.gcs.requests import Query, Response
from emulator.gcs.resources import OCTET_STREAM, xml_etag
from emulator.gcs.xml_documents import LONGEST_BODY, Element, document
from emulator.storage.checksums import Checksums
from emulator.storage.metadata import Attributes, StoredBucket, StoredObject

_ATTRIBUTE_HEADERS = {
    "cache-control": "cacheControl",
    "content-disposition": "contentDisposition",
    "content-encoding": "contentEncoding",
    "content-language": "contentLanguage",
    "content-type": "contentType",
    "x-goog-custom-time": "customTime",
    "x-goog-storage-class": "storageClass",
}
_METADATA = "x-goog-meta-"
_MOST_METADATA = 8192


class BodySink:
    """Keeps a small body and answers at its end."""

    def __init__(self, call: Callable[[bytes], Response]) -> None:
        self._call = call
        self._body = bytearray()
        self._size = 0

    def feed(self, data: bytes) -> None:
        self._size += len(data)
        if self._size <= LONGEST_BODY:  # a longer body is read to its end, but not kept
            self._body += data

    def finish(self) -> Response:
        if self._size > LONGEST_BODY:
            details = f"The body has {self._size} bytes, the limit here is {LONGEST_BODY}."
            raise XmlError(400, "EntityTooLarge", "The request body is too large.", details)
        return self._call(bytes(self._body))

    def abandon(self) -> None:
        self._body.clear()


@dataclass(frozen=True)
class Sizes:
    """The least and the greatest size of an upload in bytes."""

    least: int = 0
    most: int = 5 << 40

    @classmethod
    def parse(cls, text: str) -> Sizes:
        """Parse a range such as `0,1000`; an empty text sets no limit. Raises XmlError."""
        if not text:
            return cls()
        match = re.fullmatch(r"\s*(\d{1,18})\s*,\s*(\d{1,18})\s*", text, re.ASCII)
        if match is None:
            details = f"x-goog-content-length-range must be like 0,1000; it is {text[:40]!r}."
            raise XmlError(400, "InvalidArgument", "Invalid argument.", details)
        return cls(int(match[1]), int(match[2]))

    def check_most(self, size: int) -> None:
        """Raise XmlError if an upload exceeds the greatest size."""
        if size > self.most:
            text = "Your proposed upload exceeds the maximum allowed object size."
            raise XmlError(400, "EntityTooLarge", text, f"The limit here is {self.most} bytes.")

    def check_least(self, size: int) -> None:
        """Raise XmlError if a finished upload is below the least size."""
        if size < self.least:
            text = "Your proposed upload is smaller than the minimum allowed object size."
            raise XmlError(400, "EntityTooSmall", text, f"It has {size} bytes, {self.least} are needed.")


class ObjectSink:
    """Receives the bytes of an object or a part and compares their checksums with those in the headers."""

    def __init__(
        self,
        draft: Draft,
        headers: Mapping[str, str],
        publish: Callable[[Draft], Response],
        sizes: Sizes | None = None,
    ) -> None:
        self._draft = draft
        self._headers = headers
        self._publish = publish
        self._sizes = sizes or Sizes()

    def feed(self, data: bytes) -> None:
        self._sizes.check_most(self._draft.size + len(data))
        self._draft.append(data)

    def finish(self) -> Response:
        self._sizes.check_least(self._draft.size)
        check_hashes(self._headers, self._draft.checksums())
        return self._publish(self._draft)

    def abandon(self) -> None:
        self._draft.discard()


def check_hashes(headers: Mapping[str, str], computed: Checksums) -> None:
    """Compare every checksum in the headers. Raises XmlError."""
    found = {"md5": computed.md5, "crc32c": computed.crc32c}
    for kind, told in told_hashes(headers):
        if told != found[kind]:
            where = "Content-MD5 or x-goog-hash"
            text = f"The {kind.upper()} you specified in {where} did not match what we computed."
            details = f"The {kind.upper()} you specified was '{told}', but we computed '{found[kind]}'."
            raise XmlError(400, "BadDigest", text, details)


def told_hashes(headers: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return kind and value of each checksum that a client sent. Raises XmlError."""
    pairs = [("md5", headers["content-md5"].strip())] if "content-md5" in headers else []
    for entry in headers.get("x-goog-hash", "").split(","):
        kind, equals, value = entry.strip().partition("=")
        if kind.lower() in ("md5", "crc32c") and equals:
            pairs.append((kind.lower(), value.strip()))
    for kind, value in pairs:
        if not _is_digest(value, 16 if kind == "md5" else 4):
            text = "The Content-MD5 or checksum value that you specified is not valid."
            raise XmlError(400, "InvalidDigest", text, f"{kind.upper()} is {value[:80]!r}.")
    return pairs


def new_attributes(bucket: StoredBucket, headers: Mapping[str, str]) -> Attributes:
    """Return a new object's attributes from the headers, checked for the bucket. Raises GcsError."""
    canned = re.sub("-(.)", lambda match: match[1].upper(), headers.get("x-goog-acl", ""))
    said = {"predefinedAcl": canned, "kmsKeyName": headers.get("x-goog-encryption-kms-key-name", "")}
    attributes = {
        **object_attributes(_described_by(headers)),
        **parameters(Query(urlencode(said)), bucket.attributes),
        **encryption_attributes(key_digest(headers)),
    }
    check_bucket_allows(attributes, bucket)
    return attributes


def _described_by(headers: Mapping[str, str]) -> dict[str, Any]:
    """Return the fields of an object's resource that the headers give."""
    fields: dict[str, Any] = {
        field: headers[name] for name, field in _ATTRIBUTE_HEADERS.items() if headers.get(name)
    }
    metadata = {
        name.removeprefix(_METADATA): value for name, value in headers.items() if name.startswith(_METADATA)
    }
    if sum(len(name) + len(value) for name, value in metadata.items()) > _MOST_METADATA:
        text = "Your metadata headers exceed the maximum allowed metadata size."
        raise XmlError(400, "MetadataTooLarge", text, f"The limit is {_MOST_METADATA} bytes.")
    return {"contentType": OCTET_STREAM, **fields, "metadata": metadata or None}


def object_headers(stored: StoredObject) -> dict[str, str]:
    """Return the response headers that describe a stored object."""
    checksums = stored.checksums
    hashes = {"crc32c": checksums.crc32c, "md5": checksums.md5} if checksums else {}
    return {
        "etag": f'"{xml_etag(stored)}"',
        "x-goog-generation": str(stored.generation),
        "x-goog-metageneration": str(stored.metageneration),
        "x-goog-hash": ",".join(f"{kind}={value}" for kind, value in hashes.items() if value),
        "x-goog-stored-content-encoding": stored.attributes.get("contentEncoding", "identity"),
        "x-goog-stored-content-length": str(stored.size),
    }


def xml_response(
    name: str,
    content: str | Sequence[Element],
    namespace: str = "",
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Return a response with an XML document as its body."""
    kind = {"content-type": "application/xml; charset=UTF-8"}
    return Response(200, document(name, content, namespace), {**kind, **(headers or {})})


def number_between(query: Query, name: str, smallest: int, largest: int, default: int) -> int:
    """Return an integer parameter of at least `smallest`, capped at `largest`. Raises XmlError."""
    text = query.get(name)
    if not text:
        return default
    if not re.fullmatch(r"\d{1,18}", text, re.ASCII) or int(text) < smallest:
        details = f"{name} must be a number from {smallest} to {largest}, it is {text[:40]!r}."
        raise XmlError(400, "InvalidArgument", "Invalid argument.", details)
    return min(int(text), largest)


def _is_digest(value: str, size: int) -> bool:
    try:
        return len(base64.b64decode(value, validate=True)) == size
    except ValueError:
        return False
