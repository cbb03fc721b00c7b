"""Converts HTTP bodies and query parameters to the JSON object of a request message, and writes JSON answers.

Contract: protobuf's JSON mapping and the `google.api.http` rules. Errors have the wording of Google's front
end.
"""

import codecs
import json
import re
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from emulator.http import MAX_BODY
from emulator.http import parse_query as parse_parameters
from emulator.vertex.errors import InvalidArgument
from emulator.vertex.messages import is_repeated

_MAX_PARAMETERS = 1000
_PRETTY = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE

# Vertex: every Google API accepts these parameters, each also with a leading `$`.
_SYSTEM_PARAMETERS = frozenset(
    {
        ".xgafv",
        "access_token",
        "alt",
        "callback",
        "fields",
        "key",
        "oauth_token",
        "prettyPrint",
        "quotaUser",
        "uploadType",
        "upload_protocol",
        "userIp",
    }
)
# What a text contains if orjson writes a number in it otherwise than `json`: 1e-05 as 0.00001, 1e-07 as 1e-7,
# NaN as null.
_WRITTEN_OTHERWISE = (b"0.0000", b"e-", b"null")
_FIELD_MASK = "google.protobuf.FieldMask"
# The types of a query parameter: a scalar (""), or a message whose JSON is a string.
_TEXT_KINDS = frozenset({"", _FIELD_MASK, "google.protobuf.Duration", "google.protobuf.Timestamp"})


@dataclass(frozen=True)
class ResponseOptions:
    """The response format that the caller requested."""

    pretty: bool = True
    int_enums: bool = False


@dataclass(frozen=True)
class Query:
    """A query string, with the parameters of every Google API separated from those of the method."""

    parameters: Mapping[str, list[str]]
    options: ResponseOptions


def parse_query(text: str) -> Query:
    """Split a query string.

    Raises:
        InvalidArgument: too many parameters, or an `alt` that is not JSON.
    """
    try:
        found = parse_parameters(text, most=_MAX_PARAMETERS)
    except ValueError:
        raise InvalidArgument(f"The URL has more than {_MAX_PARAMETERS} query parameters.") from None
    parameters: dict[str, list[str]] = {}
    pretty, int_enums = True, False
    for name, values in found.items():
        system_name = name.removeprefix("$")
        if system_name not in _SYSTEM_PARAMETERS:
            parameters[name] = values
        elif system_name == "prettyPrint":
            pretty = values[-1].lower() not in ("false", "0")
        elif system_name == "alt":
            int_enums = [_int_enums(value) for value in values][-1]
    return Query(parameters, ResponseOptions(pretty, int_enums))


def _int_enums(alt: str) -> bool:
    encoding, *settings = alt.lower().split(";")
    if encoding not in ("json", ""):
        raise InvalidArgument(f"alt={alt} is not emulated: answers are JSON; use alt=json or leave it out.")
    return "enum-encoding=int" in settings


def bind_query(request: dict[str, Any], descriptor: Any, query: Query, *, strict: bool) -> None:
    """Add the query's parameters to `request`, the JSON object of the message that `descriptor` describes.

    Raises:
        InvalidArgument: `strict` is set and the message has no such field.
    """
    for name, values in query.parameters.items():
        if not _bind(request, descriptor, name.split("."), values) and strict:
            raise unknown_parameter(name)


def unknown_parameter(name: str) -> InvalidArgument:
    """Return the front end's error for a query parameter that is no field of the request message."""
    description = (
        f"Invalid JSON payload received. Unknown name {json.dumps(name)}: Cannot bind query parameter."
        f" Field '{name}' could not be found in request message."
    )
    return InvalidArgument.at(description, [("", description)])


def _bind(request: dict[str, Any], descriptor: Any, path: list[str], values: list[str]) -> bool:
    fields = _resolve(descriptor, path)
    if not fields:
        return False
    *parents, field = fields
    for parent in parents:
        request = request.setdefault(parent.name, {})
    if field.message_type and field.message_type.full_name == _FIELD_MASK:
        # Vertex: field paths are camelCase; the Node client sends snake_case, which protobuf's JSON refuses.
        request[field.name] = ",".join(_camel_case(value) for value in values)
    else:
        converted = [_boolean(value) for value in values] if field.type == field.TYPE_BOOL else values
        request[field.name] = converted if is_repeated(field) else converted[-1]
    return True


def _resolve(descriptor: Any, path: list[str]) -> list[Any]:
    """Return the field descriptors along a path; empty if its last field cannot be a query parameter."""
    name, *rest = path
    field = descriptor.fields_by_name.get(name) or descriptor.fields_by_camelcase_name.get(name)
    if field is None:
        return []
    kind = field.message_type.full_name if field.message_type else ""
    if not rest:
        return [field] if kind in _TEXT_KINDS else []
    if kind in _TEXT_KINDS or is_repeated(field):
        return []
    found = _resolve(field.message_type, rest)
    return [field, *found] if found else []


def _boolean(text: str) -> bool | str:
    return {"true": True, "false": False}.get(text.lower(), text)


def _camel_case(text: str) -> str:
    return re.sub(r"_([a-z0-9])", lambda found: found[1].upper(), text)


def parse_body(body: bytes, headers: Mapping[str, str], *, strict: bool) -> dict[str, Any]:
    """Read a request body as a JSON object; an empty body is an empty object.

    Args:
        headers: the request headers by lower-case name.

    Raises:
        InvalidArgument: the body is not one JSON object in the encoding that the headers name.
    """
    media_type, _, parameters = headers.get("content-type", "").partition(";")
    text = _decode(_decompress(body, headers.get("content-encoding", "identity")), parameters)
    if not text or text.isspace():
        return {}
    if strict and media_type.strip().lower() == "application/x-www-form-urlencoded":
        # Vertex: a form's fields are query parameters. `curl -d` without a header sends a form.
        raise unknown_parameter(text[:100])
    try:
        value = json.loads(
            text, object_pairs_hook=_object, parse_constant=_constant, parse_float=_finite, parse_int=_integer
        )
    except RecursionError:
        raise InvalidArgument("Invalid JSON payload received. It is nested too deeply.") from None
    except json.JSONDecodeError as error:
        raise InvalidArgument(
            f"Invalid JSON payload received. {error.msg} at line {error.lineno}, column {error.colno}."
        ) from None
    if r"\ud" in text.lower() and not _is_unicode(value):
        raise InvalidArgument("Invalid JSON payload received. A string has half of a surrogate pair.")
    if not isinstance(value, dict):
        raise InvalidArgument(
            f"Invalid JSON payload received. The body must be a JSON object, not {_KINDS[type(value)]}."
        )
    return value


def _is_unicode(value: object) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


_KINDS = {
    list: "an array",
    str: "a string",
    int: "a number",
    float: "a number",
    bool: "a boolean",
    type(None): "null",
}


def _object(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for key, item in pairs:
        if key in value:
            raise InvalidArgument(
                f'Invalid JSON payload received. The name "{key}" occurs twice in one object.'
            )
        value[key] = item
    return value


def _constant(name: str) -> float:
    raise InvalidArgument(f"Invalid JSON payload received. {name} is not a JSON number.")


def _finite(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise InvalidArgument(f"Invalid JSON payload received. The number {text[:30]} is too large.")
    return number


def _integer(text: str) -> int:
    # A double has at most 308 digits before the point; Python itself would accept thousands.
    if len(text) > 308:
        raise InvalidArgument(f"Invalid JSON payload received. The number {text[:30]}... is too large.")
    return int(text)


def _decompress(body: bytes, encoding: str) -> bytes:
    encoding = encoding.strip().lower()
    if encoding in ("identity", ""):
        return body
    if encoding not in ("gzip", "x-gzip"):
        raise InvalidArgument(f"The Content-Encoding {encoding!r} is not supported; send gzip or plain JSON.")
    reader = zlib.decompressobj(wbits=31)
    try:
        plain = reader.decompress(body, MAX_BODY + 1)
    except zlib.error as error:
        raise InvalidArgument(f"The body is not valid gzip: {error}.") from None
    if len(plain) > MAX_BODY:
        raise too_large()
    if not reader.eof:
        raise InvalidArgument("The gzip body ends too early.")
    return plain


def too_large() -> InvalidArgument:
    """Return the front end's error for a body that is too long."""
    return InvalidArgument(f"Request payload size exceeds the limit: {MAX_BODY} bytes.")


def _decode(body: bytes, content_type_parameters: str) -> str:
    found = re.search(r"charset\s*=\s*\"?([^\s;\"]+)", content_type_parameters, re.IGNORECASE)
    charset = found[1] if found else "utf-8"
    try:
        name = codecs.lookup(charset).name
        text = body.decode("utf-8-sig" if name == "utf-8" else name)
        text.encode()  # some decoders, such as utf-16-surrogatepass, accept lone surrogates
    except LookupError:
        raise InvalidArgument(f"The charset {charset!r} is not known; send UTF-8.") from None
    except UnicodeError as error:
        raise InvalidArgument(
            f"Invalid JSON payload received. The body is not valid {charset}: {error}."
        ) from None
    return text


def dump_json(value: object, *, pretty: bool) -> bytes:
    """Return a JSON answer; with `pretty`, indented by two spaces as Vertex does."""
    try:
        written = orjson.dumps(value, option=_PRETTY if pretty else None)
    except orjson.JSONEncodeError:  # an integer of more than 64 bits
        return _dump_slowly(value, pretty)
    if any(part in written for part in _WRITTEN_OTHERWISE):
        return _dump_slowly(value, pretty)
    return written


def _dump_slowly(value: object, pretty: bool) -> bytes:
    if pretty:
        return f"{json.dumps(value, indent=2, ensure_ascii=False)}\n".encode()
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def write_item(value: object) -> orjson.Fragment:
    """Return an item of a list that is a member of the answer, written as `dump_json` with `pretty` does."""
    return orjson.Fragment(dump_json(value, pretty=True).rstrip(b"\n").replace(b"\n", b"\n    "))


def dump_items(value: object) -> bytes:
    """Return a JSON answer as `dump_json` with `pretty` does. Its numbers are in written items only."""
    return orjson.dumps(value, option=_PRETTY)
