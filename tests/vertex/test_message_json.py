"""The JSON of messages against protobuf's own `json_format`, for every message type of the contract."""

from collections.abc import Iterator
from typing import Any

import pytest
from google.protobuf import json_format
from google.protobuf.descriptor import FieldDescriptor

from emulator.vertex.contract import is_repeated, load
from emulator.vertex.message_json import json_object

CONTRACT = load()
_DEPTH = 3
_SAMPLES: dict[int, list[Any]] = {
    FieldDescriptor.CPPTYPE_STRING: ['é\U0001f600\u2028\\"', ""],
    FieldDescriptor.CPPTYPE_BOOL: [True, False],
    FieldDescriptor.CPPTYPE_FLOAT: [0.1, float("inf")],
    FieldDescriptor.CPPTYPE_DOUBLE: [2.0, float("nan")],
    FieldDescriptor.CPPTYPE_INT32: [-5, 0],
    FieldDescriptor.CPPTYPE_UINT32: [5, 0],
    FieldDescriptor.CPPTYPE_INT64: [-(2**60), 0],
    FieldDescriptor.CPPTYPE_UINT64: [2**63, 0],
    FieldDescriptor.CPPTYPE_ENUM: [1, 77],
}


def message_types() -> Iterator[Any]:
    """Every message type that a request or response is made of."""
    waiting = [
        descriptor
        for rpc in CONTRACT.methods()
        for descriptor in (rpc.input_descriptor, rpc.output_descriptor)
    ]
    seen: dict[str, Any] = {}
    while waiting:
        descriptor = waiting.pop()
        if descriptor.full_name in seen or descriptor.GetOptions().map_entry:
            continue
        seen[descriptor.full_name] = descriptor
        waiting += [field.message_type for field in descriptor.fields if field.message_type is not None]
    yield from seen.values()


def fill(message: Any, sample: int, depth: int = _DEPTH) -> None:
    """Set every field; of a oneof the last one stays."""
    name = message.DESCRIPTOR.full_name
    if name == "google.protobuf.Any":
        message.Pack(CONTRACT.v1.BatchPredictionJob(display_name="packed", state=3))
        return
    if name in ("google.protobuf.Timestamp", "google.protobuf.Duration"):
        message.FromMilliseconds(1_700_000_000_123 + sample)
        return
    for field in message.DESCRIPTOR.fields:
        if name != "google.protobuf.Value" or field.name == ("string_value", "null_value")[sample]:
            _fill_field(message, field, sample, depth)


def _fill_field(message: Any, field: Any, sample: int, depth: int) -> None:
    if field.message_type is None:
        value = _scalar(field, sample)
        if is_repeated(field):
            getattr(message, field.name).extend([value, value])
        else:
            setattr(message, field.name, value)
    elif depth > 0:
        _fill_message(message, field, sample, depth - 1)


def _fill_message(message: Any, field: Any, sample: int, depth: int) -> None:
    inner = getattr(message, field.name)
    if field.message_type.GetOptions().map_entry:
        key, value = (field.message_type.fields_by_name[name] for name in ("key", "value"))
        if value.message_type is None:
            inner[_scalar(key, sample)] = _scalar(value, sample)
        else:
            fill(inner[_scalar(key, sample)], sample, depth)
    elif is_repeated(field):
        fill(inner.add(), sample, depth)
    else:
        inner.SetInParent()
        fill(inner, sample, depth)


def _scalar(field: Any, sample: int) -> Any:
    if field.type == FieldDescriptor.TYPE_BYTES:
        return [b"\x00\xff", b""][sample]
    if field.enum_type is not None and field.enum_type.full_name == "google.protobuf.NullValue":
        return 0
    return _SAMPLES[field.cpp_type][sample]


def outcome(write: Any) -> Any:
    """What it returns, or the kind of its error. Not a number equals nothing, so it is compared as text."""
    try:
        return repr(write())
    except (json_format.SerializeToJsonError, TypeError, ValueError) as error:
        return type(error)


@pytest.mark.parametrize("sample", [0, 1])
@pytest.mark.parametrize("int_enums", [False, True])
def test_every_message_is_written_as_protobuf_writes_it(sample: int, int_enums: bool) -> None:
    count = 0
    for descriptor in message_types():
        message = CONTRACT.message(descriptor.full_name)()
        fill(message, sample)
        theirs = outcome(
            lambda message=message: json_format.MessageToDict(
                message, use_integers_for_enums=int_enums, descriptor_pool=CONTRACT.pool
            )
        )
        ours = outcome(lambda message=message: json_object(message, int_enums=int_enums))
        assert ours == theirs, descriptor.full_name
        count += not isinstance(theirs, type)
    assert count > 400


@pytest.mark.parametrize(
    "value",
    ["", "é", 2.0, 1e300, -0.0, True, None, [], {}, [1, "a", [None]], {"a": {"b": [0.5, {"c": False}]}}],
)
def test_values_are_written_as_protobuf_writes_them(value: Any) -> None:
    message = json_format.ParseDict(value, CONTRACT.protobuf.Value(), descriptor_pool=CONTRACT.pool)
    theirs = json_format.MessageToDict(message, descriptor_pool=CONTRACT.pool)
    assert repr(json_object(message, int_enums=False)) == repr(theirs)


@pytest.mark.parametrize("number", [float("inf"), float("-inf"), float("nan")])
def test_value_that_json_cannot_hold_is_refused_likewise(number: float) -> None:
    message = CONTRACT.protobuf.Value(number_value=number)
    with pytest.raises(ValueError, match="number_value"):
        json_object(message, int_enums=False)


def test_value_without_a_kind_is_null() -> None:
    assert json_object(CONTRACT.protobuf.Value(), int_enums=False) is None
