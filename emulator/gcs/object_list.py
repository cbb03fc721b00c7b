"""Lists objects, with prefix, delimiter, offsets, glob patterns and pages."""

import base64
import heapq
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Self

from emulator.gcs.bucket_store import Buckets
from emulator.gcs.errors import invalid
from emulator.gcs.requests import Query
from emulator.storage import ObjectInfo
from emulator.storage.metadata import StoredObject
from emulator.storage.uri import wildcard_pattern

_PAGE = 1000
_BRACES = re.compile(r"\{([^{}]*)\}")
_MOST_PATTERNS = 100
_LONGEST_PATTERN = 4096
AFTER_ALL = "\U0010ffff"


@dataclass(frozen=True)
class Page:
    """One page of a listing: objects, and prefixes that each stand for a folder."""

    items: list[ObjectInfo | StoredObject]  # a StoredObject is a noncurrent version
    prefixes: list[str]
    next_token: str


@dataclass(frozen=True)
class Listing:
    """The parameters of a list request."""

    prefix: str
    delimiter: str
    start: str
    end: str
    globs: tuple[re.Pattern[str], ...]
    limit: int
    resume: str  # the end of the previous page: no earlier name is listed
    versions: bool
    soft_deleted: bool
    trailing: bool  # an object that ends in the delimiter is listed besides its prefix

    @classmethod
    def parse(cls, query: Query) -> Self:
        """Read the parameters. Raises GcsError."""
        return cls(
            query.get("prefix"),
            query.get("delimiter"),
            query.get("startOffset"),
            query.get("endOffset"),
            _globs(query.get("matchGlob")),
            page_size(query),
            _read_token(query.get("pageToken")),
            query.flag("versions"),
            query.flag("softDeleted"),
            query.flag("includeTrailingDelimiter"),
        )

    def page(self, buckets: Buckets, bucket: str) -> Page:
        """Return the next page."""
        items: list[ObjectInfo | StoredObject] = []
        prefixes: list[str] = []
        end = ""
        for entry in self._entries(buckets, bucket):
            if len(items) + len(prefixes) == self.limit:
                return Page(items, prefixes, _write_token(end))
            # The next page starts after the last entry; after a folder, behind everything in it.
            if isinstance(entry, str):
                prefixes.append(entry)
                end = entry + AFTER_ALL
            else:
                items.append(entry)
                end = _place(entry) if self.versions or self.soft_deleted else entry.uri.object
                end += "\0"
        return Page(items, prefixes, "")

    def _entries(self, buckets: Buckets, bucket: str) -> Iterator[ObjectInfo | StoredObject | str]:
        last = ""
        for info in self._objects(buckets, bucket):
            name = info.uri.object
            if self.end and name >= self.end:
                return
            if self.globs and not any(glob.fullmatch(name) for glob in self.globs):
                continue
            folder = self._folder(name)
            if not folder or (self.trailing and name == folder):
                yield info
            if folder and folder != last:
                last = folder
                yield folder

    def _objects(self, buckets: Buckets, bucket: str) -> Iterator[ObjectInfo | StoredObject]:
        """Yield the objects and versions in order, before they are grouped into folders or matched."""
        start = max(self.start, self.resume)
        shallow = self.delimiter == "/" and not self.globs
        if not (self.versions or self.soft_deleted):
            yield from buckets.list(bucket, self.prefix, start=start, shallow=shallow)
            return
        kept = buckets.list_versions(bucket, self.prefix, soft_deleted=self.soft_deleted)
        first_name = start.partition("\0")[0]
        current = buckets.list(bucket, self.prefix, start=first_name, shallow=shallow)
        entries: list[Iterable[ObjectInfo | StoredObject]] = [kept]
        if not self.soft_deleted:
            entries.insert(0, current)
        both = heapq.merge(*entries, key=_place)
        # If a crash came between keeping a version and replacing it, the version appears twice.
        for place, same in groupby(both, key=_place):
            if place >= start:
                yield next(same)

    def _folder(self, name: str) -> str:
        rest = name[len(self.prefix) :]
        if not self.delimiter or self.delimiter not in rest:
            return ""
        return self.prefix + rest.partition(self.delimiter)[0] + self.delimiter


def _place(entry: ObjectInfo | StoredObject) -> str:
    """Return the sort key of versions: name, then generation."""
    time_us = entry.generation if isinstance(entry, StoredObject) else max(1, entry.updated_us)
    return f"{entry.uri.object}\0{time_us:020}"


def page_size(query: Query) -> int:
    """Return the page size from `maxResults`. Raises GcsError."""
    asked = query.number("maxResults")
    if asked is not None and asked < 0:
        raise invalid(f"Invalid value for maxResults: {asked} is negative.", location="maxResults")
    return min(asked or _PAGE, _PAGE)


def _globs(text: str) -> tuple[re.Pattern[str], ...]:
    """Compile a matchGlob pattern: gsutil's wildcards and `{a,b}`."""
    if len(text) > _LONGEST_PATTERN:
        raise invalid(f"Invalid value for matchGlob: over {_LONGEST_PATTERN} characters.")
    patterns = [text] if text else []
    while any(_BRACES.search(pattern) for pattern in patterns):
        patterns = [expanded for pattern in patterns for expanded in _expand(pattern)]
        if len(patterns) > _MOST_PATTERNS:
            raise invalid(f"Invalid value for matchGlob: over {_MOST_PATTERNS} alternatives.")
    return tuple(wildcard_pattern(pattern) for pattern in patterns)


def _expand(pattern: str) -> list[str]:
    braces = _BRACES.search(pattern)
    if not braces:
        return [pattern]
    before, after = pattern[: braces.start()], pattern[braces.end() :]
    return [f"{before}{choice}{after}" for choice in braces[1].split(",")]


def _write_token(end: str) -> str:
    return base64.urlsafe_b64encode(end.encode()).decode()


def _read_token(token: str) -> str:
    try:
        return base64.b64decode(token.encode(), altchars=b"-_", validate=True).decode()
    except ValueError:
        raise invalid(f"Invalid value for pageToken: {token[:100]!r}.", location="pageToken") from None
