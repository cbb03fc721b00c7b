"""Loads Google's messages, services and HTTP bindings from `descriptors.binpb` into a private descriptor
pool.

A private pool lets the emulator share a process with the official SDK, whose messages are in the default
pool.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

API_PACKAGES: Mapping[str, str] = {
    "v1": "google.cloud.aiplatform.v1",
    "v1beta1": "google.cloud.aiplatform.v1beta1",
}
_DESCRIPTORS = Path(__file__).with_name("descriptors.binpb")
_OUTPUT_ONLY = 3


@dataclass(frozen=True)
class HttpBinding:
    """One `google.api.http` rule; `body` is "" (none), "*" (the whole request) or a field of the request."""

    method: str
    path_template: str
    body: str


@dataclass(frozen=True)
class Rpc:
    """One method of a service, such as `google.cloud.aiplatform.v1.JobService/GetBatchPredictionJob`.

    `service` is the short name, "JobService". `version` is the version of the messages. The mixins Operations
    and Locations have unversioned messages: their `version` is "v1", although they also have `/v1beta1` and
    `/ui` bindings.
    """

    full_name: str
    name: str
    service: str
    version: str
    input_descriptor: Any
    output_descriptor: Any
    bindings: tuple[HttpBinding, ...]

    # Created lazily: the classes of all requests and responses take longer than everything else here.
    @property
    def input(self) -> type[Any]:
        """The class of the request."""
        return message_class(self.input_descriptor)

    @property
    def output(self) -> type[Any]:
        """The class of the response."""
        return message_class(self.output_descriptor)


class Package:
    """The message and enum types of one proto package as attributes: `contract.v1.BatchPredictionJob`."""

    def __init__(self, contract: "Contract", name: str) -> None:
        self._contract = contract
        self.name = name

    def __getattr__(self, name: str) -> Any:
        try:
            found = self._contract.message(f"{self.name}.{name}")
        except KeyError as error:
            raise AttributeError(f"{self.name} has no message {name}") from error
        setattr(self, name, found)
        return found


class Contract:
    """All descriptors that the emulator uses. Made once, by `load()`."""

    def __init__(self, serialized: bytes) -> None:
        self.pool = descriptor_pool.DescriptorPool()
        names: list[str] = []
        for file in descriptor_pb2.FileDescriptorSet.FromString(serialized).file:
            self.pool.AddSerializedFile(file.SerializeToString())
            names.extend(f"{file.package}.{service.name}" for service in file.service)
        self.services: Mapping[str, Any] = {name: self.pool.FindServiceByName(name) for name in names}
        self.v1 = Package(self, API_PACKAGES["v1"])
        self.v1beta1 = Package(self, API_PACKAGES["v1beta1"])
        self.rpc = Package(self, "google.rpc")
        self.longrunning = Package(self, "google.longrunning")
        self.location = Package(self, "google.cloud.location")
        self.protobuf = Package(self, "google.protobuf")

    def message(self, full_name: str) -> type[Any]:
        """Return the class of a message by its full name. Raises KeyError."""
        return message_class(self.pool.FindMessageTypeByName(full_name))

    def package(self, version: str) -> Package:
        """Return the Vertex AI messages of "v1" or "v1beta1"."""
        return {"v1": self.v1, "v1beta1": self.v1beta1}[version]

    def methods(self) -> Iterator[Rpc]:
        """Yield every RPC: JobService and ModelService of both versions, Operations, Locations."""
        return iter(self._rpcs)

    def behaviors(self, field: Any) -> frozenset[int]:
        """Return the `google.api.FieldBehavior` numbers of a field descriptor."""
        options = self._options("FieldOptions", field)
        return frozenset(options.Extensions[self.pool.FindExtensionByName("google.api.field_behavior")])

    def is_output_only(self, field: Any) -> bool:
        return _OUTPUT_ONLY in self.behaviors(field)

    @cached_property
    def _rpcs(self) -> tuple[Rpc, ...]:
        return tuple(self._rpc(method) for service in self.services.values() for method in service.methods)

    def _rpc(self, method: Any) -> Rpc:
        service = method.containing_service
        return Rpc(
            full_name=f"{service.full_name}/{method.name}",
            name=method.name,
            service=service.name,
            version="v1beta1" if service.full_name.startswith(f"{API_PACKAGES['v1beta1']}.") else "v1",
            input_descriptor=method.input_type,
            output_descriptor=method.output_type,
            bindings=tuple(self._bindings(method)),
        )

    def _bindings(self, method: Any) -> Iterator[HttpBinding]:
        extension = self.pool.FindExtensionByName("google.api.http")
        options = self._options("MethodOptions", method)
        if not options.HasExtension(extension):
            return
        first = options.Extensions[extension]
        for rule in (first, *first.additional_bindings):
            verb = rule.WhichOneof("pattern")
            yield HttpBinding(verb.upper(), getattr(rule, verb), rule.body)

    def _options(self, kind: str, descriptor: Any) -> Any:
        # Descriptors return options as messages of the default pool, which does not know these extensions.
        return self.message(f"google.protobuf.{kind}").FromString(descriptor.GetOptions().SerializeToString())


def message_class(descriptor: Any) -> type[Any]:
    """Return the class of a message descriptor, the same class each time."""
    found: type[Any] = message_factory.GetMessageClass(descriptor)
    return found


def is_repeated(field: Any) -> bool:
    """Tell whether a field descriptor is a list or a map."""
    # protobuf before 6.30 has only `label`, which later releases deprecate.
    found = getattr(field, "is_repeated", None)
    return bool(field.label == field.LABEL_REPEATED if found is None else found)


@cache
def load() -> Contract:
    """Return the contract. The first call reads it."""
    return Contract(_DESCRIPTORS.read_bytes())
