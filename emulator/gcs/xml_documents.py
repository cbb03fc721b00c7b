"""Reads and writes the documents of Cloud Storage's XML API.

expat parses bodies piece by piece. A document type, unknown nesting or too many entries are refused as soon
as they begin, so a body cannot expand in memory.
"""

import re
from collections.abc import Sequence
from typing import NoReturn
from xml.parsers import expat
from xml.sax.saxutils import escape

from emulator.gcs.errors import XmlError

LISTING_NAMESPACE = "http://doc.s3.amazonaws.com/2006-03-01"
UPLOAD_NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
#: The maximum size of a body in bytes. A list of 10,000 parts takes about a megabyte.
LONGEST_BODY = 4 << 20

# An element: its name and its content, which is text or a sequence of elements.
Element = tuple[str, "str | Sequence[Element]"]
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_LONGEST_TEXT = 1024


def document(name: str, content: "str | Sequence[Element]", namespace: str = "") -> bytes:
    """Return a document. Characters that XML does not allow become U+FFFD."""
    attribute = f" xmlns='{namespace}'" if namespace else ""
    return f"<?xml version='1.0' encoding='UTF-8'?><{name}{attribute}>{_inside(content)}</{name}>".encode()


def read_entries(
    body: bytes, root: str, entry: str, fields: Sequence[str], most: int
) -> list[dict[str, str]]:
    """Parse `<root><entry><field>text</field>…</entry>…</root>` into one dictionary per entry.

    Raises:
        XmlError: the body has another shape or more than `most` entries.
    """
    return _Reader(root, entry, fields, most).read(body)


def read_fields(body: bytes, root: str, fields: Sequence[str]) -> dict[str, str]:
    """Parse `<root><field>text</field>…</root>`; an empty body gives {}. Raises XmlError."""
    if not body.strip():
        return {}
    return _Reader(root, "", fields, 1).read(body)[0]


class _Reader:
    """Parses one document of a known shape. If `entry` is given, the fields are one level deeper."""

    def __init__(self, root: str, entry: str, fields: Sequence[str], most: int) -> None:
        self._path = [root, entry] if entry else [root]
        self._fields = fields
        self._most = most
        self._open: list[str] = []
        self._text: list[str] = []
        self._entries: list[dict[str, str]] = [] if entry else [{}]
        self._parser = expat.ParserCreate(namespace_separator=" ")
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._characters
        self._parser.StartDoctypeDeclHandler = self._doctype

    def read(self, body: bytes) -> list[dict[str, str]]:
        if len(body) > LONGEST_BODY:
            self._refuse(f"It has {len(body)} bytes, the limit is {LONGEST_BODY}.")
        try:
            self._parser.Parse(body, True)
        except (expat.ExpatError, ValueError, LookupError) as error:  # LookupError: an unknown encoding
            self._refuse(f"It is not XML: {error}.")
        return self._entries

    def _start(self, name: str, _attributes: object) -> None:
        self._open.append(name.rpartition(" ")[2])
        depth = len(self._open)
        shape = [*self._path, *self._fields[:1]]
        if depth > len(shape) or (depth <= len(self._path) and self._open[-1] != self._path[depth - 1]):
            inside = f" in {self._open[-2][:80]}" if depth > 1 else ""
            self._refuse(f"The element {self._open[-1][:80]} is not expected{inside}.")
        if depth == len(self._path) == 2:
            if len(self._entries) == self._most:
                self._refuse(f"It has more than {self._most} elements {self._path[-1]}.")
            self._entries.append({})
        self._text.clear()

    def _end(self, _name: str) -> None:
        name = self._open.pop()
        if len(self._open) == len(self._path) and name in self._fields:
            self._entries[-1][name] = "".join(self._text).strip()
        self._text.clear()

    def _characters(self, text: str) -> None:
        if len(self._open) > len(self._path):
            self._text.append(text)
            if sum(map(len, self._text)) > _LONGEST_TEXT:
                self._refuse(f"The text of {self._open[-1]} exceeds {_LONGEST_TEXT} characters.")

    def _doctype(self, *_: object) -> None:
        self._refuse("It holds a document type; send the elements alone.")

    def _refuse(self, details: str) -> NoReturn:
        name = f"Malformed{self._path[0]}Request" if self._path[0].startswith("Complete") else "MalformedXML"
        message = "The XML you provided was not well-formed or did not validate against our published schema."
        raise XmlError(400, name, message, details)


def _written(element: Element) -> str:
    name, content = element
    return f"<{name}>{_inside(content)}</{name}>"


def _inside(content: "str | Sequence[Element]") -> str:
    if isinstance(content, str):
        return escape(_NOT_XML.sub("\ufffd", content))
    return "".join(map(_written, content))
