"""Multipart uploads of the XML API: parts arrive in any order and become one object."""

import base64
import re
import secrets
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise

from emulator.gcs.bucket_store import Buckets
from emulator.gcs.conditions import Conditions
from emulator.gcs.draft import Draft
from emulator.gcs.errors import XmlError
from emulator.gcs.xml_documents import read_entries
from emulator.storage import GcsUri
from emulator.storage.checksums import Checksums
from emulator.storage.metadata import Attributes, StoredObject

MOST_PARTS = 10_000
LARGEST_PART = 5 << 30
_MOST_UPLOADS = 1000
_SMALLEST = 5 << 20


@dataclass(frozen=True)
class Part:
    """The bytes of one part, as last uploaded."""

    draft: Draft
    checksums: Checksums
    etag: str
    uploaded: datetime


@dataclass
class PartsUpload:
    """One upload. `lock` guards its parts and its completion."""

    id: str
    uri: GcsUri
    attributes: Attributes
    started: datetime
    parts: dict[int, Part] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)
    finished: StoredObject | None = None
    given_up: bool = False


class PartsUploads:
    """The open multipart uploads and the most recently completed ones."""

    def __init__(self, buckets: Buckets) -> None:
        self._buckets = buckets
        self._uploads: dict[str, PartsUpload] = {}
        self._lock = threading.Lock()

    def begin(self, uri: GcsUri, attributes: Attributes) -> PartsUpload:
        """Start an upload. Raises StorageError, InvalidUri and XmlError."""
        self._buckets.draft(uri.bucket).discard()  # checks that the bucket exists and is writable
        upload = PartsUpload(secrets.token_urlsafe(24), uri, attributes, datetime.now(UTC))
        with self._lock:
            for upload_id in [id_ for id_, known in self._uploads.items() if known.finished]:
                if len(self._uploads) >= _MOST_UPLOADS:
                    del self._uploads[upload_id]
            if len(self._uploads) >= _MOST_UPLOADS:
                message = "There are too many multipart uploads; complete or abort some."
                raise XmlError(429, "SlowDown", "Please reduce your request rate.", message)
            self._uploads[upload.id] = upload
        return upload

    def find(self, uri: GcsUri, upload_id: str) -> PartsUpload:
        """Return the upload with this id. Raises XmlError if the object has no such upload."""
        with self._lock:
            upload = self._uploads.get(upload_id)
        if upload is None or upload.uri != uri or upload.given_up:
            message = f"There is no upload {upload_id[:100]!r} of {uri}, or the server was restarted."
            raise XmlError(404, "NoSuchUpload", "The requested upload was not found.", message)
        return upload

    def under_way(self, bucket: str) -> list[PartsUpload]:
        """Return a bucket's open uploads, sorted by the object's name."""
        with self._lock:
            uploads = [upload for upload in self._uploads.values() if upload.uri.bucket == bucket]
        unfinished = [upload for upload in uploads if not upload.finished and not upload.given_up]
        return sorted(unfinished, key=lambda upload: (upload.uri.object.encode(), upload.started, upload.id))

    def add(self, upload: PartsUpload, number: int, draft: Draft) -> Part:
        """Take over the draft as a part, replacing one of the same number. Raises XmlError."""
        checksums = draft.checksums()
        part = Part(draft, checksums, f'"{hex_md5(checksums)}"', datetime.now(UTC))
        with upload.lock:
            if upload.finished or upload.given_up:
                draft.discard()
                raise XmlError(404, "NoSuchUpload", "The requested upload was not found.")
            before, upload.parts[number] = upload.parts.get(number), part
        if before:
            before.draft.discard()
        return part

    def complete(self, upload: PartsUpload, body: bytes, conditions: Conditions) -> StoredObject:
        """Assemble the object from the parts that the body lists. A repeated call gives the same answer."""
        asked = _read_parts(body)
        with upload.lock:
            if upload.given_up:
                raise XmlError(404, "NoSuchUpload", "The requested upload was not found.")
            if not upload.finished:
                chosen = list(_chosen(upload.parts, asked))
                upload.finished = self._join(upload, chosen, conditions)
                self._discard_parts(upload)
            return upload.finished

    def abort(self, upload: PartsUpload) -> None:
        """Delete an upload and its bytes."""
        with self._lock:
            self._uploads.pop(upload.id, None)
        with upload.lock:
            upload.given_up = True
            self._discard_parts(upload)

    def close(self) -> None:
        """Delete all uploads."""
        for upload in list(self._uploads.values()):
            self.abort(upload)

    def _join(self, upload: PartsUpload, parts: list[Part], conditions: Conditions) -> StoredObject:
        draft = self._buckets.draft(upload.uri.bucket)
        try:
            for part in parts:
                with part.draft.path.open("rb") as file:
                    draft.append_file(file)
            check = conditions.check_write
            return self._buckets.publish(draft, upload.uri, upload.attributes, check, len(parts))
        except FileNotFoundError:  # the bucket was deleted and created again meanwhile
            raise XmlError(404, "NoSuchUpload", "The requested upload was not found.") from None
        finally:
            draft.discard()

    @staticmethod
    def _discard_parts(upload: PartsUpload) -> None:
        for part in upload.parts.values():
            part.draft.discard()
        upload.parts.clear()


def part_number(text: str) -> int:
    """Parse the number of a part. Raises XmlError."""
    if re.fullmatch(r"\d{1,5}", text, re.ASCII) and 1 <= int(text) <= MOST_PARTS:
        return int(text)
    details = f"Part number must be an integer between 1 and {MOST_PARTS}, inclusive; it is {text[:40]!r}."
    raise XmlError(400, "InvalidArgument", "Invalid argument.", details)


def hex_md5(checksums: Checksums) -> str:
    """Return the MD5 in hexadecimal, the form of ETags; "" if there is none."""
    return base64.b64decode(checksums.md5).hex() if checksums.md5 else ""


def _read_parts(body: bytes) -> list[tuple[int, str]]:
    entries = read_entries(body, "CompleteMultipartUpload", "Part", ("PartNumber", "ETag"), MOST_PARTS)
    if not entries:
        message = "The XML you provided was not well-formed or did not validate against our published schema."
        raise XmlError(400, "MalformedCompleteMultipartUploadRequest", message, "It lists no part.")
    parts = [(part_number(entry.get("PartNumber", "")), entry.get("ETag", "")) for entry in entries]
    for (number, _), (following, _) in pairwise(parts):
        if following <= number:
            message = "The list of parts was not in ascending order. Parts must be ordered by part number."
            raise XmlError(400, "InvalidPartOrder", message, f"Part {following} comes after part {number}.")
    return parts


def _chosen(parts: Mapping[int, Part], asked: list[tuple[int, str]]) -> Iterator[Part]:
    for place, (number, etag) in enumerate(asked, 1):
        part = parts.get(number)
        if part is None or etag.strip('"') != part.etag.strip('"'):
            message = (
                "One or more of the specified parts could not be found. The part may not have been uploaded,"
                " or the specified entity tag may not match the part's entity tag."
            )
            has = f"its ETag is {part.etag}, not {etag[:80]!r}" if part else "it was not uploaded"
            raise XmlError(400, "InvalidPart", message, f"Part {number}: {has}.")
        if part.draft.size < _SMALLEST and place < len(asked):
            message = "Your proposed upload is smaller than the minimum allowed object size."
            details = f"Part {number} has {part.draft.size} bytes; all but the last need {_SMALLEST}."
            raise XmlError(400, "EntityTooSmall", message, details)
        yield part
