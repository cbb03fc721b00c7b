"""One line of the input file: a video and a time segment (schema/predict/instance)."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

# The longest line that the reader passes on, in bytes without the line break.
MAX_LINE_BYTES = 1_000_000
MIME_TYPES = ("video/mp4", "video/avi", "video/quicktime")

_INVALID_ARGUMENT = 3
_MEMBERS = {
    "content": "content",
    "mimeType": "mime_type",
    "timeSegmentStart": "time_segment_start",
    "timeSegmentEnd": "time_segment_end",
}
_NAMES = {spelling: name for name, snake in _MEMBERS.items() for spelling in (name, snake)}
_GCS_OBJECT = re.compile(r"gs://[^/]+/.+", re.DOTALL)
_OFFSET = re.compile(r"([0-9]{1,9})(?:\.([0-9]{1,40}))?s")
_END_OF_VIDEO = ("inf", "Infinity")
_SHOWN_CHARACTERS = 200

_JSON_STRING = r'"[^"\\]*(?:\\.[^"\\]*)*"'
_BLANKS = re.compile(rf"({_JSON_STRING})|\s+", re.DOTALL)
_PYTHON_TOKEN = re.compile(
    rf"(?P<json>{_JSON_STRING})|'(?P<quoted>[^'\\]*(?:\\.[^'\\]*)*)'|(?P<word>\b(?:None|True|False)\b)",
    re.DOTALL,
)
_ESCAPE_OR_QUOTE = re.compile(r'\\.|"', re.DOTALL)
_PYTHON_WORDS = {"None": "null", "True": "true", "False": "false"}


@dataclass(frozen=True)
class InstanceFailure:
    """Why an instance has no predictions: a google.rpc code and a message that names cause and remedy."""

    code: int
    message: str


class InstanceError(Exception):
    """An invalid line. `code` is a google.rpc code; `message` names line and remedy.

    `raw` is for the errors file: the instance as compact JSON, or the line itself if it is not JSON.
    """

    def __init__(self, code: int, message: str, raw: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.raw = raw

    @property
    def failure(self) -> InstanceFailure:
        """Why the instance of this line fails."""
        return InstanceFailure(self.code, self.message)


@dataclass(frozen=True)
class Instance:
    """The content of one line: the segment [start_us, end_us) of a video; end None means to the video's end.

    `raw` is the line as compact JSON, with values and order kept. `warnings` list accepted deviations from
    the documentation. `mime_type` is empty if the line has none.
    """

    content: str
    mime_type: str
    start_us: int
    end_us: int | None
    raw: str
    warnings: tuple[str, ...] = ()


def parse_instance_line(raw: bytes, line_number: int, *, strict: bool = False) -> Instance:
    """Parse one line without its line break. Raises InstanceError; `strict` turns warnings into errors."""
    return _Line(raw, line_number, strict).parse()


class _Line:
    """The parser of one line; problems and warnings get its line number."""

    def __init__(self, line: bytes, number: int, strict: bool) -> None:
        self._line = line
        self._number = number
        self._strict = strict
        self._raw = line.decode(errors="replace")
        self._warnings: list[str] = []

    def parse(self) -> Instance:
        members = self._members(self._read())
        content = self._content(members.get("content"))
        mime_type = self._mime_type(members.get("mimeType"))
        start_us = self._start(members.get("timeSegmentStart"))
        end_us = self._end(members.get("timeSegmentEnd"))
        if end_us is not None and start_us >= end_us:
            start, end = members.get("timeSegmentStart") or "0s", members["timeSegmentEnd"]
            self._fail(f'timeSegmentStart "{start}" must lie before timeSegmentEnd "{end}"')
        return Instance(content, mime_type, start_us, end_us, self._raw, tuple(self._warnings))

    def _read(self) -> Any:
        try:
            text = self._line.decode()
        except UnicodeDecodeError as error:
            self._fail(f"The line is not UTF-8 (byte {error.start}). Save the file as UTF-8")
        try:
            found = _load_json(text)
        except (ValueError, RecursionError) as error:
            found, text = self._read_python(text, error)
        self._raw = _without_blanks(text)
        return found

    def _read_python(self, text: str, error: Exception) -> tuple[Any, str]:
        """Parse a line written as a Python dict, like the documentation's only sample."""
        translated = _PYTHON_TOKEN.sub(_to_json_token, text)
        try:
            found = _load_json(translated)
        except (ValueError, RecursionError):
            reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
            self._fail(
                f"The line is not a JSON object: {reason}. Write one object per line, "
                'such as {"content": "gs://bucket/video.mp4", "mimeType": "video/mp4"}'
            )
        # Vertex: the sample on the documentation pages has single quotes, which are invalid JSON.
        self._warn("The line is a Python dict, not JSON. Use double quotes")
        return found, translated

    def _members(self, found: Any) -> Mapping[str, Any]:
        if not isinstance(found, dict):
            self._fail(f"The line is {_kind(found)}. Write one JSON object per line")
        members = {}
        for key, value in found.items():
            name = _NAMES.get(key)
            if name is None:
                self._warn(f'Unknown member "{_shown(key)}". An instance has {", ".join(_MEMBERS)}')
            # Null and "" stand for an unset string in protobuf's JSON.
            elif value is not None and value != "":
                members[name] = value
        return members

    def _content(self, value: Any) -> str:
        remedy = "Give the Cloud Storage URI of a video, gs://bucket/object"
        if value is None:
            self._fail(f'"content" is missing. {remedy}')
        if not isinstance(value, str):
            self._fail(f'"content" is {_kind(value)}. {remedy}')
        if not _GCS_OBJECT.fullmatch(value) or _has_surrogate(value):
            self._fail(f'"content" is "{_shown(value)}". {remedy}')
        if value.endswith("/"):
            self._fail(f'"content" is "{_shown(value)}", a directory. {remedy}')
        return value

    def _mime_type(self, value: Any) -> str:
        known = ", ".join(MIME_TYPES)
        if value is None:
            self._warn(f'"mimeType" is missing. Give one of {known}')
            return ""
        if not isinstance(value, str):
            self._fail(f'"mimeType" is {_kind(value)}. Give one of {known}')
        if value not in MIME_TYPES:
            self._fail(f'"mimeType" "{_shown(value)}" is not supported. Give one of {known}')
        return value

    def _start(self, value: Any) -> int:
        if value in _END_OF_VIDEO:
            self._fail(f'"timeSegmentStart" is "{value}". Only timeSegmentEnd may be the end of the video')
        return 0 if value is None else self._offset_us("timeSegmentStart", value)

    def _end(self, value: Any) -> int | None:
        if value is None or value in _END_OF_VIDEO:
            return None
        return self._offset_us("timeSegmentEnd", value)

    def _offset_us(self, name: str, value: Any) -> int:
        """Return microseconds. Digits after the sixth are rounded half up."""
        remedy = 'Give seconds followed by "s", such as "1.2s"'
        if name == "timeSegmentEnd":
            remedy += ', or "Infinity" for the end of the video'
        if not isinstance(value, str):
            self._fail(f'"{name}" is {_kind(value)}. {remedy}')
        found = _OFFSET.fullmatch(value)
        if found is None:
            negative = _OFFSET.fullmatch(value.removeprefix("-"))
            problem = ", which is negative" if negative else ""
            self._fail(f'"{name}" is "{_shown(value)}"{problem}. {remedy}')
        seconds, fraction = found[1], found[2] or ""
        if len(fraction) > 6:
            self._warn(f'"{name}" "{value}" is more precise than a microsecond. Give at most six decimals')
        digits = f"{fraction:0<7}"
        return int(seconds) * 1_000_000 + (int(digits[:7]) + 5) // 10

    def _warn(self, text: str) -> None:
        if self._strict:
            self._fail(text)
        self._warnings.append(f"Line {self._number}: {text}.")

    def _fail(self, text: str) -> NoReturn:
        raise InstanceError(_INVALID_ARGUMENT, f"Line {self._number}: {text}.", self._raw)


def _without_blanks(text: str) -> str:
    """Return JSON text without whitespace between tokens."""
    if "\\" in text:
        return _BLANKS.sub(r"\1", text)
    # Without escapes, every second piece between quotes is a string. Splitting is ten times as fast as the
    # regex.
    pieces = text.split('"')
    pieces[::2] = ["".join(piece.split()) for piece in pieces[::2]]
    return '"'.join(pieces)


def _load_json(text: str) -> Any:
    return json.loads(text, parse_constant=_refuse_constant)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON value")


def _to_json_token(found: re.Match[str]) -> str:
    if found["quoted"] is not None:
        return f'"{_ESCAPE_OR_QUOTE.sub(_to_json_escape, found["quoted"])}"'
    return _PYTHON_WORDS[found["word"]] if found["word"] else found[0]


def _to_json_escape(found: re.Match[str]) -> str:
    return {'"': '\\"', "\\'": "'"}.get(found[0], found[0])


def _kind(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case int() | float():
            return f"the number {_shown(repr(value))}"
        case str():
            return "a string"
        case list():
            return "a list"
        case _:
            return "an object"


def _has_surrogate(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)


def _shown(text: str) -> str:
    """Return a text for a message: shortened, and with escapes for what UTF-8 cannot encode."""
    shown = text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"
    return shown.encode(errors="backslashreplace").decode()
