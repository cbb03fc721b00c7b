"""Listing objects: prefix, delimiter, offsets, glob patterns and pages."""

import base64
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

from emulator.api.gcs.errors import invalid
from emulator.api.gcs.messages import Query
from emulator.storage import ObjectInfo
from emulator.storage.buckets import Buckets
from emulator.storage.uri import wildcard_pattern

_PAGE = 1000
_BRACES = re.compile(r"\{([^{}]*)\}")
_MOST_PATTERNS = 100
_LONGEST_PATTERN = 4096
_AFTER_ALL = "\U0010ffff"


@dataclass(frozen=True)
class Page:
    """One page of a listing: objects, and the prefixes that stand for whole folders."""

    items: list[ObjectInfo]
    prefixes: list[str]
    next_token: str


@dataclass(frozen=True)
class Listing:
    """What a list request asks for."""

    prefix: str
    delimiter: str
    start: str
    end: str
    globs: tuple[re.Pattern[str], ...]
    limit: int
    resume: str  # where the page before has ended: no name before it is listed

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
        )

    def page(self, buckets: Buckets, bucket: str) -> Page:
        """Walk the bucket until the page is full."""
        items: list[ObjectInfo] = []
        prefixes: list[str] = []
        end = ""
        for entry in self._entries(buckets, bucket):
            if len(items) + len(prefixes) == self.limit:
                return Page(items, prefixes, _write_token(end))
            # After a folder everything in it is over, after an object its name.
            if isinstance(entry, str):
                prefixes.append(entry)
                end = entry + _AFTER_ALL
            else:
                items.append(entry)
                end = entry.uri.object + "\0"
        return Page(items, prefixes, "")

    def _entries(self, buckets: Buckets, bucket: str) -> Iterator[ObjectInfo | str]:
        start = max(self.start, self.resume)
        shallow = self.delimiter == "/" and not self.globs
        last = ""
        for info in buckets.list(bucket, self.prefix, start=start, shallow=shallow):
            name = info.uri.object
            if self.end and name >= self.end:
                return
            if self.globs and not any(glob.fullmatch(name) for glob in self.globs):
                continue
            folder = self._folder(name)
            if not folder:
                yield info
            elif folder != last:
                last = folder
                yield folder

    def _folder(self, name: str) -> str:
        rest = name[len(self.prefix) :]
        if not self.delimiter or self.delimiter not in rest:
            return ""
        return self.prefix + rest.partition(self.delimiter)[0] + self.delimiter


def page_size(query: Query) -> int:
    """Read `maxResults`. Raises GcsError."""
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
