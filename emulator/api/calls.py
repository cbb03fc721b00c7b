"""Passes calls of v1 and v1beta1 to the service, which handles v1 messages only. REST and gRPC use it."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from google.protobuf.message import Message

from emulator.service import Call, HasToWait, Reply
from emulator.service.control import CallRecord, Gate, Incoming
from emulator.vertex.errors import ApiError, Internal, Unimplemented
from emulator.vertex.messages import Contract, Rpc, convert, only_in

_log = logging.getLogger(__name__)

Method = Callable[[Any, Call], Message | Reply]


class ServiceMethods(Protocol):
    """The part of the service that a surface needs."""

    def methods(self) -> Mapping[str, Method]:
        """Return the emulated methods by `Service/Method`.

        They take v1 messages and return them, some with the extra members of REST (a Reply).
        """

    def is_brief(self, key: str, query: str, body: bytes) -> bool:
        """Return whether a call of `Service/Method` is faster than handing it to a thread; see Service."""

    @property
    def gate(self) -> Gate:
        """The middleware of every call: it applies faults and writes the journal."""


@dataclass(frozen=True)
class Answer:
    """A response in the version of the call, and the members that REST adds to its JSON; see Reply."""

    message: Message
    extras: Mapping[str, Any]


class Calls:
    """Dispatches RPCs to the methods of the service."""

    def __init__(self, contract: Contract, service: ServiceMethods) -> None:
        self._contract = contract
        self._service = service
        self._methods = service.methods()
        self.gate = service.gate

    def emulated(self, rpc: Rpc) -> bool:
        """Return whether the service implements this RPC."""
        return _key(rpc) in self._methods

    def is_brief(self, rpc: Rpc, query: str, body: bytes) -> bool:
        """Return whether a call with this query and body is faster than handing it to a thread."""
        return self._service.is_brief(_key(rpc), query, body)

    def check(self, rpc: Rpc) -> None:
        """Raise Unimplemented if the service does not implement this RPC."""
        if not self.emulated(rpc):
            raise not_emulated(rpc.full_name.replace("/", "."))

    def call(self, rpc: Rpc, read: Callable[[], Message], version: str, incoming: Incoming) -> Answer:
        """Apply injected faults, then answer one call. `read` returns the request message.

        Raises:
            ApiError: the service's error; any other exception becomes Internal and is logged with its
                traceback.
            HasToWait: the call must wait, but `incoming.may_wait` is false.
        """
        with self.gate.call(_key(rpc), version, incoming) as record:
            self.check(rpc)
            try:
                request, call = self._read(rpc, read, version, record, incoming)
                return _answer(rpc, self._methods[_key(rpc)](request, call))
            except (ApiError, HasToWait):
                raise
            except Exception as error:
                _log.exception("%s failed", rpc.full_name)
                # Emulator: the message names the cause, which the real service hides: this is a developer's
                # tool.
                text = f"{type(error).__name__} in {rpc.name}: {error}. The log has the traceback."
                raise Internal(text) from error

    def _read(
        self, rpc: Rpc, read: Callable[[], Message], version: str, record: CallRecord, incoming: Incoming
    ) -> tuple[Message, Call]:
        """Return the request as a v1 message, with the call."""
        request, v1_input = read(), self._v1_twin(rpc.input)
        instructions = record.admit(request)
        is_v1 = v1_input is rpc.input
        call = Call(
            version,
            beta_only_fields=() if is_v1 else tuple(only_in(request, v1_input)),
            instructions=instructions,
            time_left_s=incoming.time_left_s,
            may_wait=incoming.may_wait,
        )
        return (request if is_v1 else convert(request, v1_input)), call

    def _v1_twin(self, message_type: type[Message]) -> type[Message]:
        name: str = message_type.DESCRIPTOR.full_name
        twin = name.replace(".v1beta1.", ".v1.", 1)
        return message_type if twin == name else self._contract.message(twin)


def not_emulated(what: str) -> Unimplemented:
    """Return the error for a call to a part of Vertex AI that is not emulated."""
    return Unimplemented(
        f"{what} is not emulated. This emulator serves batch prediction for video models: jobs, models,"
        " their operations and locations."
    )


def _answer(rpc: Rpc, reply: Message | Reply) -> Answer:
    message, extras = reply if isinstance(reply, Reply) else (reply, {})
    return Answer(message if isinstance(message, rpc.output) else convert(message, rpc.output), extras)


def _key(rpc: Rpc) -> str:
    return rpc.full_name.rpartition(".")[2]
