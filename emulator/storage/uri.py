"""`gs://bucket/object` names: syntax, Cloud Storage's naming rules and wildcards.

Contract: Cloud Storage bucket and object naming rules; gsutil's wildcard page.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

SCHEME = "gs://"
MAX_OBJECT_BYTES = 1024

_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]*[a-z0-9]")
_IP_ADDRESS = re.compile(r"\d{1,3}(\.\d{1,3}){3}")
_WILDCARD = re.compile(r"[*?\[]")
_BRACKET = re.compile(r"\[([!^]?)([^\]/]+)\]")
_IN_FOLDER = "[^/]*?"
_FOLDERS = "(?:.*?/)??"
_BUCKET_RULES = (
    "use 3 to 63 lowercase letters, digits, dashes, underscores and dots, with a letter or digit at both ends"
)


class InvalidUri(ValueError):
    """The text is not a usable gs:// name; the message says why."""


@dataclass(frozen=True, order=True)
class GcsUri:
    """The name of an object, or of a prefix if `object` is empty or ends in `/`."""

    bucket: str
    object: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse `gs://bucket/object`. Wildcards are allowed in the object. Raises InvalidUri."""
        uri = cls._split(text)
        if not uri.object:
            raise InvalidUri(f'"{text}" names a bucket but no object; write gs://bucket/object.')
        return uri

    @classmethod
    def parse_prefix(cls, text: str) -> Self:
        """Parse `gs://bucket`, `gs://bucket/` or `gs://bucket/folder[/]`; adds a missing final slash."""
        uri = cls._split(text)
        # Vertex: adds a missing final slash to an outputUriPrefix (io.proto, GcsDestination).
        if uri.object and not uri.object.endswith("/"):
            return cls(uri.bucket, uri.object + "/")
        return uri

    @classmethod
    def _split(cls, text: str) -> Self:
        if not text.startswith(SCHEME):
            raise InvalidUri(f'"{text}" is not a Cloud Storage URI; it must start with {SCHEME}.')
        bucket, _, name = text.removeprefix(SCHEME).partition("/")
        check_bucket(bucket, text)
        _check_object(name, text)
        return cls(bucket, name)

    @property
    def has_wildcards(self) -> bool:
        """Whether the object contains `*`, `?` or `[`."""
        return _WILDCARD.search(self.object) is not None

    @property
    def wildcard_free_prefix(self) -> str:
        """The part of the object before its first wildcard."""
        return _WILDCARD.split(self.object, maxsplit=1)[0]

    def __truediv__(self, name: str) -> GcsUri:
        """The object `name` below this prefix."""
        joiner = "" if not self.object or self.object.endswith("/") else "/"
        return GcsUri(self.bucket, self.object + joiner + name)

    def __str__(self) -> str:
        return f"{SCHEME}{self.bucket}/{self.object}"


def wildcard_pattern(object_pattern: str) -> re.Pattern[str]:
    """Compile gsutil wildcards: `*`, `?`, `[a-z]` and `[!a]` stay within a folder, `**` crosses folders.

    Raises InvalidUri.
    """
    try:
        return re.compile(_expression(_pieces(object_pattern)), re.DOTALL)
    except re.error as error:  # [z-a]
        raise InvalidUri(f'"{object_pattern}" holds a wildcard that cannot be read: {error}.') from error


def _pieces(pattern: str) -> list[tuple[str, list[str]]]:
    """Split a pattern: what may precede each piece, and the piece's expressions by character."""
    pieces: list[tuple[str, list[str]]] = [("", [])]
    rest = pattern
    while rest:
        piece = pieces[-1][1]
        begins_folder = piece[-1] == "/" if piece else rest == pattern
        if rest.startswith("**/") and begins_folder:
            pieces.append((_FOLDERS, []))
            rest = rest[3:]
        elif rest.startswith("**"):
            # `**` matches any folders, then any characters within one folder.
            pieces += [(_FOLDERS, []), (_IN_FOLDER, [])]
            rest = rest.lstrip("*")
        elif rest[0] == "*":
            pieces.append((_IN_FOLDER, []))
            rest = rest[1:]
        else:
            character, rest = _character(rest)
            piece.append(character)
    return pieces


def _character(rest: str) -> tuple[str, str]:
    """The expression for the first character, and the rest of the pattern."""
    if rest[0] == "?":
        return "[^/]", rest[1:]
    if bracket := _BRACKET.match(rest):
        members = re.sub(r"([\\\[\]^&|~])", r"\\\1", bracket[2])
        return f"(?!/)[{'^' if bracket[1] else ''}{members}]", rest[bracket.end() :]
    return re.escape(rest[0]), rest[1:]


def _expression(pieces: list[tuple[str, list[str]]]) -> str:
    """The regular expression for the pieces; each piece matches at its first possible place only.

    Without this (atomic groups), a few stars would backtrack for ever. No match is missed: a later place in
    the same folder leaves less to the next piece, and the pieces up to the next `**` match folder by folder.
    """
    chunks = [""]
    for number, (before, piece) in enumerate(pieces, 1):
        text = before + "".join(piece)
        if before == _FOLDERS:
            chunks.append(text)
        else:  # the last piece must also reach the end, which its first place may not
            chunks[-1] += text if number == len(pieces) else f"(?>{text})"
    *most, last = chunks
    return "".join(f"(?>{chunk})" for chunk in most) + last


def check_bucket(bucket: str, text: str) -> None:
    """Raise InvalidUri, quoting `text`, if Cloud Storage would refuse the bucket name."""
    if not bucket:
        raise InvalidUri(f'"{text}" names no bucket; write gs://bucket/object.')
    labels = bucket.split(".")
    longest = 63 if len(labels) == 1 else 222
    if (
        not 3 <= len(bucket) <= longest
        or _BUCKET.fullmatch(bucket) is None
        or not all(1 <= len(label) <= 63 for label in labels)
        or _IP_ADDRESS.fullmatch(bucket)
    ):
        raise InvalidUri(f'"{text}": "{bucket}" is not a bucket name; {_BUCKET_RULES}.')


def _check_object(name: str, text: str) -> None:
    if any(character in name for character in "\0\r\n"):
        raise InvalidUri(f"{text!r}: an object name must not hold NUL or line breaks.")
    if name in (".", "..") or name.startswith(".well-known/acme-challenge/"):
        raise InvalidUri(f'"{text[:80]}": Cloud Storage has no object of that name; choose another.')
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        raise InvalidUri(f"{text!r}: an object name must be valid UTF-8.") from None
    if size > MAX_OBJECT_BYTES:
        raise InvalidUri(
            f'"{text[:80]}…": the object name takes {size} bytes, the limit is {MAX_OBJECT_BYTES}.'
        )
