"""Preconditions: `ifGenerationMatch` and the like in the query, If-Match and If-None-Match in the headers."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Self
from urllib.parse import urlencode

from emulator.gcs.errors import NotModified, condition_not_met, not_found
from emulator.gcs.requests import Query
from emulator.gcs.resources import bucket_etag, object_etags
from emulator.storage import GcsUri
from emulator.storage.metadata import StoredBucket, StoredObject


@dataclass(frozen=True)
class Conditions:
    """The preconditions of a request on an object or a bucket."""

    generation: int | None = None
    generation_match: int | None = None
    generation_not_match: int | None = None
    metageneration_match: int | None = None
    metageneration_not_match: int | None = None
    match: str = ""
    none_match: str = ""

    @classmethod
    def parse(cls, query: Query, headers: Mapping[str, str]) -> Self:
        """Read the preconditions on the object or bucket that the URL names."""
        return cls(
            query.number("generation"),
            query.number("ifGenerationMatch"),
            query.number("ifGenerationNotMatch"),
            query.number("ifMetagenerationMatch"),
            query.number("ifMetagenerationNotMatch"),
            headers.get("if-match", ""),
            headers.get("if-none-match", ""),
        )

    @classmethod
    def parse_source(cls, query: Query) -> Self:
        """Read the preconditions on the source of a copy."""
        return cls(
            query.number("sourceGeneration"),
            query.number("ifSourceGenerationMatch"),
            query.number("ifSourceGenerationNotMatch"),
            query.number("ifSourceMetagenerationMatch"),
            query.number("ifSourceMetagenerationNotMatch"),
        )

    @classmethod
    def parse_xml(cls, query: Query, headers: Mapping[str, str]) -> Self:
        """Read the preconditions of the XML API, which are headers."""
        values = _numbers(headers, "x-goog-if-generation-match", "x-goog-if-metageneration-match")
        etags = headers.get("if-match", ""), headers.get("if-none-match", "")
        return cls(query.number("generation"), values[0], None, values[1], None, *etags)

    @classmethod
    def parse_xml_source(cls, headers: Mapping[str, str]) -> Self:
        """Read the XML API's preconditions on the source of a copy."""
        source = "x-goog-copy-source"
        conditions = f"{source}-if-generation-match", f"{source}-if-metageneration-match"
        generation, match, metageneration = _numbers(headers, f"{source}-generation", *conditions)
        return cls(generation, match, None, metageneration)

    def check_read(self, stored: StoredObject) -> None:
        """Check a read. Raises GcsError (404 another generation, 412) and NotModified."""
        self._check_generation(stored)
        if not self._matches(stored):
            raise condition_not_met()
        if not self._differs(stored):
            raise NotModified

    def check_change(self, stored: StoredObject | None) -> None:
        """Check a change, deletion or copy of an existing object. Raises GcsError (404, 412)."""
        assert stored is not None
        self._check_generation(stored)
        self.check_write(stored)

    def check_write(self, stored: StoredObject | None) -> None:
        """Check a write over `stored`, which is None if there is no object. Raises GcsError (412)."""
        if not self._matches(stored) or not self._differs(stored):
            raise condition_not_met()

    def check_bucket(self, bucket: StoredBucket, *, reading: bool = False) -> None:
        """Check a call on a bucket. Raises GcsError (412) and, when reading, NotModified."""
        metageneration, etags = bucket.metageneration, (bucket_etag(bucket),)
        if self.metageneration_match not in (None, metageneration) or not _names(self.match, etags, True):
            raise condition_not_met()
        if self.metageneration_not_match == metageneration or _names(self.none_match, etags, False):
            raise NotModified if reading else condition_not_met()

    def _check_generation(self, stored: StoredObject) -> None:
        if self.generation not in (None, stored.generation):
            uri = stored.uri
            raise not_found(GcsUri(uri.bucket, f"{uri.object}#{self.generation}"))

    def _matches(self, stored: StoredObject | None) -> bool:
        generation = stored.generation if stored else 0
        if self.generation_match not in (None, generation):
            return False
        metageneration = stored.metageneration if stored else None
        if self.metageneration_match not in (None, metageneration):
            return False
        return _names(self.match, object_etags(stored) if stored else (), True)

    def _differs(self, stored: StoredObject | None) -> bool:
        if self.generation_not_match == (stored.generation if stored else 0):
            return False
        if stored is None:
            return self.metageneration_not_match is None
        if self.metageneration_not_match == stored.metageneration:
            return False
        return not _names(self.none_match, object_etags(stored), False)


def _numbers(headers: Mapping[str, str], *names: str) -> list[int | None]:
    query = Query(urlencode({name: headers[name] for name in names if name in headers}))
    return [query.number(name) for name in names]


def _names(header: str, etags: Collection[str], default: bool) -> bool:
    """Return whether a header's list of ETags contains one of `etags`; `default` if there is no header."""
    if not header:
        return default
    listed = {entry.strip().removeprefix("W/").strip('"') for entry in header.split(",")}
    return bool(etags) and ("*" in listed or not listed.isdisjoint(etags))
