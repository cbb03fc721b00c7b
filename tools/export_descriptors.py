"""Write `descriptors.binpb` from the installed SDK: `python -m tools.export_descriptors`.

For development. The SDK has no service descriptors at run time: the RPCs are read from its gRPC transports,
their HTTP bindings from its REST transports, and put back as services with `google.api.http` options.
"""

import argparse
import importlib
import inspect
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

DESCRIPTORS = Path(__file__).parents[1] / "emulator" / "vertex" / "descriptors.binpb"
# The SDK release that the set was exported from.
RELEASE = DESCRIPTORS.with_name("descriptors.release")

_VERSIONS = ("v1", "v1beta1")
_SERVICES = ("JobService", "ModelService")
_OPERATIONS = "google.longrunning.Operations"
_MIXINS = {_OPERATIONS: "google/longrunning/operations.proto", "google.cloud.location.Locations": ""}
# Vertex binds operations below every kind of resource; the emulator has these.
_COLLECTIONS = {"projects", "locations", "models", "operations"}
_SCHEMAS = ("object_tracking", "action_recognition", "classification")
_EXTRA_MODULES = (
    "google.api.annotations_pb2",
    "google.api.field_behavior_pb2",
    "google.rpc.error_details_pb2",
    "google.rpc.code_pb2",
    "google.longrunning.operations_pb2",
    "google.cloud.location.locations_pb2",
    "google.protobuf.wrappers_pb2",
)
_BEHAVIORS = {"Required.": 2, "Output only.": 3, "Input only.": 4, "Immutable.": 5}
_DOCUMENTED_FIELD = re.compile(
    r"^    (\w+) \([^\n]*\):\n\s+((?:(?:Required|Output only|Input only|Immutable)\.\s*)+)", re.M
)


def export() -> Any:
    """Return the FileDescriptorSet of the installed SDK, dependencies before dependents."""
    from google.protobuf import descriptor_pb2

    files = _Files()
    for module in _EXTRA_MODULES:
        files.add(importlib.import_module(module).DESCRIPTOR)
    for kind in ("instance", "params", "prediction"):
        for schema in _SCHEMAS:
            name = f"google.cloud.aiplatform.v1.schema.predict.{kind}_v1.types.video_{schema}"
            files.add_types(importlib.import_module(name))
    mixin_bindings: dict[str, list[dict[str, str]]] = {}
    for version in _VERSIONS:
        types = importlib.import_module(f"google.cloud.aiplatform_{version}.types")
        for module_name in ("job_service", "model_service", "batch_prediction_job", "model", "operation"):
            files.add_types(importlib.import_module(f"{types.__name__}.{module_name}"))
        behaviors = dict(_field_behaviors(vars(types).values()))
        for service in _SERVICES:
            files.add_service(version, service, mixin_bindings)
        files.set_behaviors(behaviors)
    files.bind_mixins(mixin_bindings)
    return descriptor_pb2.FileDescriptorSet(file=files.in_dependency_order())


class _Files:
    """The files collected so far, as mutable FileDescriptorProtos."""

    def __init__(self) -> None:
        self._by_name: dict[str, Any] = {}

    def add(self, file: Any) -> None:
        from google.protobuf import descriptor_pb2

        if file.name in self._by_name:
            return
        proto = descriptor_pb2.FileDescriptorProto()
        file.CopyToProto(proto)
        proto.ClearField("source_code_info")
        if not proto.public_dependency:
            # proto-plus lists them in an order that changes between runs.
            proto.dependency.sort()
        for message in _messages(proto.message_type):
            for field in message.field:
                # proto-plus appends "_" where Google's name is a Python keyword or built-in.
                field.name = field.name.rstrip("_")
                field.ClearField("json_name")
        self._by_name[file.name] = proto
        for dependency in file.dependencies:
            self.add(dependency)

    def add_types(self, module: Any) -> None:
        for name in module.__protobuf__.manifest:
            kind = getattr(module, name)
            # Only messages have a descriptor in proto-plus; they pull in the files of the enums they use.
            if hasattr(kind, "pb"):
                self.add(kind.pb().DESCRIPTOR.file)

    def add_service(self, version: str, service: str, mixins: dict[str, list[dict[str, str]]]) -> None:
        snake = re.sub(r"(?<!^)(?=[A-Z])", "_", service).lower()
        file = self._by_name[f"google/cloud/aiplatform_{version}/types/{snake}.proto"]
        descriptor = file.service.add(name=service)
        dependencies = {"google/api/annotations.proto"}
        for path, request, response, bindings in _rpcs(version, service, snake):
            full_service, _, name = path.strip("/").partition("/")
            if full_service in _MIXINS:
                known = mixins.setdefault(f"{full_service}.{name}", [])
                known.extend(binding for binding in bindings if binding not in known)
            elif full_service.endswith(f".{service}"):
                self.add(request.file)
                self.add(response.file)
                dependencies |= {request.file.name, response.file.name}
                method = descriptor.method.add(
                    name=name, input_type=f".{request.full_name}", output_type=f".{response.full_name}"
                )
                _bind(method, bindings)
        present = {file.name, *file.dependency}
        file.dependency.extend(sorted(dependencies - present))

    def bind_mixins(self, bindings: Mapping[str, list[dict[str, str]]]) -> None:
        for file in self._by_name.values():
            for service in file.service:
                for method in service.method:
                    found = bindings.get(f"{file.package}.{service.name}.{method.name}")
                    if found is not None:
                        _bind(method, [binding for binding in found if _is_emulated(binding["uri"])])

    def set_behaviors(self, behaviors: Mapping[tuple[str, str], list[int]]) -> None:
        extension = importlib.import_module("google.api.field_behavior_pb2").field_behavior
        for file in self._by_name.values():
            used = False
            for owner, field in _fields(file):
                for behavior in behaviors.get((owner, field.name), ()):
                    field.options.Extensions[extension].append(behavior)
                    used = True
            if used:
                file.dependency.append("google/api/field_behavior.proto")

    def in_dependency_order(self) -> list[Any]:
        ordered: dict[str, Any] = {}

        def visit(name: str) -> None:
            if name not in ordered:
                for dependency in self._by_name[name].dependency:
                    visit(dependency)
                ordered[name] = self._by_name[name]

        for name in sorted(self._by_name):
            visit(name)
        return list(ordered.values())


def _rpcs(version: str, service: str, snake: str) -> Iterator[tuple[str, Any, Any, list[dict[str, str]]]]:
    """Yield (path, request descriptor, response descriptor, HTTP bindings) of each RPC of a service."""
    package = f"google.cloud.aiplatform_{version}.services.{snake}.transports"
    grpc_transport = getattr(importlib.import_module(f"{package}.grpc"), f"{service}GrpcTransport")
    rest_transport = getattr(importlib.import_module(f"{package}.rest_base"), f"_Base{service}RestTransport")
    recorder = _Recorder()
    transport = object.__new__(grpc_transport)
    transport._stubs = {}
    transport._logged_channel = recorder
    for name, member in inspect.getmembers(grpc_transport):
        if isinstance(member, property) and name not in ("grpc_channel", "host", "operations_client", "kind"):
            getattr(transport, name)
    for path, request, response in recorder.calls:
        base = getattr(rest_transport, f"_Base{path.rpartition('/')[2]}", None)
        bindings = base._get_http_options() if base is not None and hasattr(base, "_get_http_options") else []
        yield path, request, response, bindings


class _Recorder:
    """A stand-in for a transport's gRPC channel that records its calls."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any, Any]] = []

    def unary_unary(self, path: str, request_serializer: Any, response_deserializer: Any) -> None:
        request = getattr(request_serializer, "__self__", None)
        response = getattr(response_deserializer, "__self__", None)
        self.calls.append((path, _descriptor(request), _descriptor(response)))


def _descriptor(message_class: Any) -> Any:
    if message_class is None:
        return None
    return (message_class.pb() if hasattr(message_class, "pb") else message_class).DESCRIPTOR


def _bind(method: Any, bindings: list[dict[str, str]]) -> None:
    http = importlib.import_module("google.api.annotations_pb2").http
    rule_class = importlib.import_module("google.api.http_pb2").HttpRule
    method.options.ClearExtension(http)
    if not bindings:
        return
    rules = [rule_class(**{b["method"]: b["uri"]}, body=b.get("body", "")) for b in bindings]
    first = method.options.Extensions[http]
    first.CopyFrom(rules[0])
    first.additional_bindings.extend(rules[1:])


def _is_emulated(template: str) -> bool:
    """Tell whether a template names only collections that the emulator has."""
    inside = re.search(r"\{\w+=(.*?)\}", template)
    return inside is not None and set(inside.group(1).split("/")) - {"*"} <= _COLLECTIONS


def _field_behaviors(types: Iterable[Any]) -> Iterator[tuple[tuple[str, str], list[int]]]:
    """Yield ((message, field), behaviors) from the docstrings: the SDK drops `google.api.field_behavior`."""
    for kind in types:
        if inspect.isclass(kind) and hasattr(kind, "pb") and kind.__doc__:
            owner = kind.pb().DESCRIPTOR.full_name
            for name, prefix in _DOCUMENTED_FIELD.findall(inspect.cleandoc(kind.__doc__)):
                yield (owner, name.rstrip("_")), [n for text, n in _BEHAVIORS.items() if text in prefix]
            nested = [member for key, member in vars(kind).items() if not key.startswith("_")]
            yield from _field_behaviors(nested)


def _messages(messages: Iterable[Any]) -> Iterator[Any]:
    for message in messages:
        yield message
        yield from _messages(message.nested_type)


def _fields(file: Any) -> Iterator[tuple[str, Any]]:
    def walk(prefix: str, messages: Iterable[Any]) -> Iterator[tuple[str, Any]]:
        for message in messages:
            name = f"{prefix}.{message.name}"
            for field in message.field:
                yield name, field
            yield from walk(name, message.nested_type)

    return walk(file.package, file.message_type)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", nargs="?", type=Path, default=DESCRIPTORS)
    output: Path = parser.parse_args().output
    output.write_bytes(export().SerializeToString(deterministic=True))
    if output == DESCRIPTORS:
        RELEASE.write_text(installed_version("google-cloud-aiplatform") + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
