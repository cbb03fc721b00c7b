"""Converts messages to JSON and back, with the real service's error texts, and between v1 and v1beta1.

protobuf's `json_format` implements the JSON mapping. Only the error texts for invalid payloads are here.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from google.protobuf import json_format

from emulator.vertex.contract import Contract, HttpBinding, Package, Rpc, is_repeated, load, message_class
from emulator.vertex.errors import Internal, InvalidArgument

__all__ = [
    "Contract",
    "HttpBinding",
    "Package",
    "Rpc",
    "load",
    "is_repeated",
    "message_class",
    "to_json",
    "from_json",
    "convert",
    "only_in",
]

# Well-known types whose JSON is not an object of their fields.
_SPECIAL = frozenset(
    f"google.protobuf.{name}"
    for name in (
        "Any", "BoolValue", "BytesValue", "DoubleValue", "Duration", "FieldMask", "FloatValue",
        "Int32Value", "Int64Value", "ListValue", "StringValue", "Struct", "Timestamp", "UInt32Value",
        "UInt64Value", "Value",
    )
)  # fmt: skip
_SHOWN_CHARACTERS = 200


def to_json(message: Any, *, int_enums: bool = False) -> dict[str, Any]:
    """Return a message's JSON object: lowerCamel names, no unset fields, enums by name."""
    try:
        found: dict[str, Any] = json_format.MessageToDict(
            message, use_integers_for_enums=int_enums, descriptor_pool=load().pool
        )
    except (json_format.SerializeToJsonError, TypeError, ValueError) as error:
        raise Internal(f"{message.DESCRIPTOR.full_name} has no JSON form: {error}") from error
    return found


def from_json(cls: type[Any], payload: Any, *, at: str = "") -> Any:
    """Parse a JSON object into a message; names may be lowerCamel or snake_case.

    Args:
        cls: the message's class.
        payload: the JSON value.
        at: path of the payload in the request ("batch_prediction_job"), for error texts.

    Raises:
        InvalidArgument: names every wrong field.
    """
    if not isinstance(payload, Mapping):
        text = _invalid_value(at, cls.DESCRIPTOR, payload)
        raise InvalidArgument.at(text, [(at, text)])
    try:
        return _parse(cls, payload)
    except (json_format.ParseError, TypeError, ValueError, AttributeError, RecursionError) as error:
        problems = list(_problems(cls, payload, at)) or [(at, _invalid_value(at, cls.DESCRIPTOR, str(error)))]
        raise InvalidArgument.at("\n".join(text for _, text in problems), problems) from error


def _parse(cls: type[Any], payload: Mapping[str, Any]) -> Any:
    _check_objects(cls.DESCRIPTOR, payload)
    return json_format.ParseDict(payload, cls(), descriptor_pool=load().pool)


def _check_objects(descriptor: Any, payload: Mapping[str, Any]) -> None:
    """Raise ParseError if a message is not an object: protobuf would accept "" and [] as empty messages."""
    fields = _message_fields(descriptor)
    for key, value in payload.items():
        field = fields.get(key)
        if field is None or value is None:
            continue
        for item in value if field.is_list and isinstance(value, list) else [value]:
            if not isinstance(item, Mapping):
                raise json_format.ParseError(f"{key} must be an object")
            if not field.is_map:
                _check_objects(field.descriptor, item)


@dataclass(frozen=True)
class _MessageField:
    """A field whose values are messages of a type, or a map."""

    descriptor: Any
    is_list: bool
    is_map: bool


@cache
def _message_fields(descriptor: Any) -> Mapping[str, _MessageField]:
    """The fields whose JSON is an object, by both spellings of their names."""
    return {
        name: _MessageField(field.message_type, is_repeated(field), _is_map(field))
        for field in descriptor.fields
        if field.message_type is not None and not _is_special(field)
        for name in (field.name, field.camelcase_name)
    }


def convert(message: Any, cls: type[Any]) -> Any:
    """Convert a message to the other API version. Fields that version lacks are dropped."""
    twin = cls.FromString(message.SerializeToString())
    twin.DiscardUnknownFields()
    return twin


def only_in(message: Any, cls: type[Any]) -> list[str]:
    """Return the paths of set fields of `message` that `cls`, the other version's message, does not have."""
    return list(_missing_from(message, cls.DESCRIPTOR, ""))


def _missing_from(message: Any, twin: Any, prefix: str) -> Iterator[str]:
    for field, value in message.ListFields():
        path = f"{prefix}{field.name}"
        counterpart = twin.fields_by_number.get(field.number)
        if counterpart is None:
            yield path
        elif field.message_type is not None and not field.message_type.GetOptions().map_entry:
            values = value if is_repeated(field) else [value]
            for item in values:
                yield from _missing_from(item, counterpart.message_type, f"{path}.")


def _problems(cls: type[Any], payload: Any, at: str) -> Iterator[tuple[str, str]]:
    """Yield (field path, text) for each problem of a payload, by parsing its members one at a time."""
    if not isinstance(payload, Mapping):
        yield at, _invalid_value(at, cls.DESCRIPTOR, payload)
        return
    fields = cls.DESCRIPTOR.fields_by_name
    by_json_name = {field.json_name: field for field in fields.values()}
    seen: dict[str, str] = {}
    for key, value in payload.items():
        field = by_json_name.get(key) or fields.get(key)
        if field is None:
            yield at, _unknown_name(key, at, "Cannot find field.")
        elif value is not None and _oneof_taken(seen, field):
            yield at, _already_set(field.containing_oneof.name, key, at)
        elif not _parses(cls, {key: value}):
            yield from _field_problems(cls, key, field, value, at)


def _field_problems(cls: type[Any], key: str, field: Any, value: Any, at: str) -> Iterator[tuple[str, str]]:
    path = f"{at}.{field.name}" if at else field.name
    if _is_map(field):
        yield from _map_problems(cls, key, field, value, path)
    elif is_repeated(field):
        yield from _list_problems(cls, key, field, value, path)
    elif isinstance(value, list) and not _is_special(field):
        yield at, _unknown_name(key, at, "Proto field is not repeating, cannot start list.")
    else:
        yield from _value_problems(field, value, path)


def _map_problems(cls: type[Any], key: str, field: Any, value: Any, path: str) -> Iterator[tuple[str, str]]:
    entry_value = field.message_type.fields_by_name["value"]
    if not isinstance(value, Mapping):
        yield path, _invalid_value(path, field, value)
        return
    for name, item in value.items():
        if not _parses(cls, {key: {name: item}}):
            yield from _value_problems(entry_value, item, f"{path}[{json.dumps(str(name))}]")


def _list_problems(cls: type[Any], key: str, field: Any, value: Any, path: str) -> Iterator[tuple[str, str]]:
    if not isinstance(value, list):
        yield path, _invalid_value(path, field, value)
        return
    for index, item in enumerate(value):
        if not _parses(cls, {key: [item]}):
            yield from _value_problems(field, item, f"{path}[{index}]")


def _value_problems(field: Any, value: Any, path: str) -> Iterator[tuple[str, str]]:
    if field.message_type is not None and not _is_special(field) and isinstance(value, Mapping):
        found = list(_problems(message_class(field.message_type), value, path))
        yield from found or [(path, _invalid_value(path, field, value))]
    else:
        yield path, _invalid_value(path, field, value)


def _parses(cls: type[Any], payload: dict[str, Any]) -> bool:
    try:
        _parse(cls, payload)
    except (json_format.ParseError, TypeError, ValueError, AttributeError, RecursionError):
        return False
    return True


def _oneof_taken(seen: dict[str, str], field: Any) -> bool:
    """Return whether another member of the field's oneof came before; remembers this one."""
    oneof = field.containing_oneof
    return oneof is not None and seen.setdefault(oneof.name, field.name) != field.name


def _already_set(oneof: str, key: str, at: str) -> str:
    return (
        f"Invalid value at '{at or oneof}' (oneof), oneof field '{oneof}' is already set. Cannot set '{key}'"
    )


def _is_map(field: Any) -> bool:
    return bool(field.message_type is not None and field.message_type.GetOptions().map_entry)


def _is_special(field: Any) -> bool:
    return field.message_type is not None and field.message_type.full_name in _SPECIAL


def _unknown_name(name: str, at: str, why: str) -> str:
    where = f" at '{at}'" if at else ""
    return f"Invalid JSON payload received. Unknown name {_shown(name)}{where}: {why}"


def _invalid_value(path: str, expected: Any, value: Any) -> str:
    if isinstance(value, Mapping) and _is_scalar(expected):
        parent, _, name = path.rpartition(".")
        return f"Invalid value at '{parent or name}' ({name}), Starting an object on a scalar field"
    where = f" at '{path}'" if path else ""
    return f"Invalid value{where} ({_type_name(expected)}), {_shown(value)}"


def _is_scalar(expected: Any) -> bool:
    return hasattr(expected, "cpp_type") and expected.message_type is None


def _type_name(expected: Any) -> str:
    """Return the type of a message or field descriptor as the real service prints it."""
    named = expected
    if hasattr(expected, "cpp_type"):
        named = expected.message_type or expected.enum_type
        if named is None:
            return _SCALARS[expected.type]
    return f"type.googleapis.com/{named.full_name}"


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return "an object"
    if isinstance(value, list):
        return "a list"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"


_SCALARS: Mapping[int, str] = {
    1: "TYPE_DOUBLE",
    2: "TYPE_FLOAT",
    3: "TYPE_INT64",
    4: "TYPE_UINT64",
    5: "TYPE_INT32",
    6: "TYPE_FIXED64",
    7: "TYPE_FIXED32",
    8: "TYPE_BOOL",
    9: "TYPE_STRING",
    12: "TYPE_BYTES",
    13: "TYPE_UINT32",
    15: "TYPE_SFIXED32",
    16: "TYPE_SFIXED64",
    17: "TYPE_SINT32",
    18: "TYPE_SINT64",
}
