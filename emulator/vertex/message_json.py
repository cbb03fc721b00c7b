"""Messages as JSON objects: what `json_format.MessageToDict` returns, in a third of the time.

That function finds out anew for every field of every message how it is written; here that is done once per
message type. Where protobuf's rules are more than a line (floats, Any, wrappers) it still does the work.
"""

import base64
import math
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from google.protobuf import json_format
from google.protobuf.descriptor import FieldDescriptor

from emulator.vertex.contract import is_repeated, load

Write = Callable[[Any], Any]

# Types whose JSON is one text, which their class knows how to write.
_TEXTS = frozenset(f"google.protobuf.{name}" for name in ("Duration", "FieldMask", "Timestamp"))
_PROTOBUFS_OWN = "google.protobuf."
_LONG_TYPES = frozenset({FieldDescriptor.CPPTYPE_INT64, FieldDescriptor.CPPTYPE_UINT64})
_FLOAT_TYPES = frozenset({FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE})


def json_object(message: Any, *, int_enums: bool) -> Any:
    """Return the JSON of a message: an object, but for well-known types that are written otherwise.

    Raises what `MessageToDict` raises: SerializeToJsonError, TypeError or ValueError.
    """
    return _writer(message.DESCRIPTOR, int_enums)(message)


@cache
def _writer(descriptor: Any, int_enums: bool) -> Write:
    if descriptor.full_name in _TEXTS:
        return lambda message: message.ToJsonString()
    if descriptor.full_name == "google.protobuf.Value":
        return _value
    if descriptor.full_name.startswith(_PROTOBUFS_OWN) or any(
        field.cpp_type in _FLOAT_TYPES for field in descriptor.fields
    ):
        return lambda message: _protobufs_own(message, int_enums)
    # Filled by the first message that has the field: message types refer to each other in circles.
    fields: dict[int, tuple[str, Write]] = {}

    def write(message: Any) -> dict[str, Any]:
        found = {}
        for field, value in message.ListFields():
            known = fields.get(field.number)
            if known is None:
                known = fields[field.number] = field.json_name, _field_writer(field, int_enums)
            found[known[0]] = known[1](value)
        return found

    return write


def _protobufs_own(message: Any, int_enums: bool) -> Any:
    return json_format.MessageToDict(message, use_integers_for_enums=int_enums, descriptor_pool=load().pool)


def _value(message: Any) -> Any:
    """Write a google.protobuf.Value, as model parameters are."""
    kind = message.WhichOneof("kind")
    if kind == "struct_value":
        fields = message.struct_value.fields
        return {key: _value(fields[key]) for key in fields}
    if kind == "list_value":
        return [_value(value) for value in message.list_value.values]
    if kind in ("string_value", "bool_value"):
        return getattr(message, kind)
    if kind == "number_value" and math.isfinite(message.number_value):
        return message.number_value
    return _protobufs_own(message, False)


def _field_writer(field: Any, int_enums: bool) -> Write:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        write_value = _value_writer(field.message_type.fields_by_name["value"], int_enums)
        return lambda entries: {_key(key): write_value(entries[key]) for key in entries}
    write = _value_writer(field, int_enums)
    return (lambda values: [write(value) for value in values]) if is_repeated(field) else write


def _value_writer(field: Any, int_enums: bool) -> Write:
    if field.message_type is not None:
        return _writer(field.message_type, int_enums)
    if field.enum_type is not None:
        return _enum_writer(field.enum_type, int_enums)
    if field.cpp_type in _LONG_TYPES:
        return str
    if field.type == FieldDescriptor.TYPE_BYTES:
        return lambda value: base64.b64encode(value).decode()
    return lambda value: value


def _enum_writer(enum: Any, int_enums: bool) -> Write:
    if enum.full_name == "google.protobuf.NullValue":
        return lambda _: None
    names: Mapping[int, str] = {} if int_enums else {value.number: value.name for value in enum.values}
    return lambda number: names.get(number, number)


def _key(key: Any) -> str:
    return str(key).lower() if isinstance(key, bool) else str(key)
