"""Preconditions: `ifGenerationMatch` and its kin in the query, If-Match and If-None-Match in the headers."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Self
from urllib.parse import urlencode

from emulator.api.gcs.errors import NotModified, condition_not_met, not_found
from emulator.api.gcs.messages import Query
from emulator.api.gcs.resources import bucket_etag, object_etags
from emulator.storage import GcsUri
from emulator.storage.metadata import StoredBucket, StoredObject


@dataclass(frozen=True)
class Conditions:
    """What must hold of an object or a bucket, for a request to be carried out."""

    generation: int | None = None
    generation_match: int | None = None
    generation_not_match: int | None = None
    metageneration_match: int | None = None
    metageneration_not_match: int | None = None
    match: str = ""
    none_match: str = ""

    @classmethod
    def parse(cls, query: Query, headers: Mapping[str, str]) -> Self:
        """Read those of the object or bucket that the request is about."""
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
        """Read those of the object that is copied."""
        return cls(
            query.number("sourceGeneration"),
            query.number("ifSourceGenerationMatch"),
            query.number("ifSourceGenerationNotMatch"),
            query.number("ifSourceMetagenerationMatch"),
            query.number("ifSourceMetagenerationNotMatch"),
        )

    @classmethod
    def parse_xml(cls, query: Query, headers: Mapping[str, str]) -> Self:
        """Read those of the XML API, which has them in headers."""
        values = _numbers(headers, "x-goog-if-generation-match", "x-goog-if-metageneration-match")
        etags = headers.get("if-match", ""), headers.get("if-none-match", "")
        return cls(query.number("generation"), values[0], None, values[1], None, *etags)

    @classmethod
    def parse_xml_source(cls, headers: Mapping[str, str]) -> Self:
        """Read those of the object that the XML API copies."""
        source = "x-goog-copy-source"
        conditions = f"{source}-if-generation-match", f"{source}-if-metageneration-match"
        generation, match, metageneration = _numbers(headers, f"{source}-generation", *conditions)
        return cls(generation, match, None, metageneration)

    def check_read(self, stored: StoredObject) -> None:
        """Raise GcsError 404 or 412, or NotModified."""
        self._check_generation(stored)
        if not self._matches(stored):
            raise condition_not_met()
        if not self._differs(stored):
            raise NotModified

    def check_change(self, stored: StoredObject | None) -> None:
        """Raise GcsError when an object that must be there may not be changed, deleted or copied."""
        assert stored is not None
        self._check_generation(stored)
        self.check_write(stored)

    def check_write(self, stored: StoredObject | None) -> None:
        """Raise GcsError 412 when an object may not be put where there is this one, or none."""
        if not self._matches(stored) or not self._differs(stored):
            raise condition_not_met()

    def check_bucket(self, bucket: StoredBucket, *, reading: bool = False) -> None:
        """Raise GcsError 412, or NotModified, of a bucket."""
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
    """Whether the list of ETags in a header names one of these; `default` when there is no header."""
    if not header:
        return default
    listed = {entry.strip().removeprefix("W/").strip('"') for entry in header.split(",")}
    return bool(etags) and ("*" in listed or not listed.isdisjoint(etags))
