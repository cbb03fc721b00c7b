"""The gRPC surface: generic handlers over the same service and descriptors as REST.

Contract: job_service.proto, model_service.proto, google.longrunning, google.cloud.location. Errors carry
their `google.rpc.Status` in `grpc-status-details-bin`. The server also has the standard health and reflection
services.
"""

import logging
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote

import grpc
from google.protobuf.message import DecodeError

from emulator.api import access
from emulator.api.auth import Auth
from emulator.api.calls import Calls, ServiceMethods, not_emulated
from emulator.service.control import Incoming
from emulator.service.control.paces import MAX_HELD
from emulator.vertex.errors import ApiError, InvalidArgument
from emulator.vertex.messages import Rpc, load

_log = logging.getLogger(__name__)

# The pool creates threads on demand: 16 for calls that do not wait, the rest for held calls.
_THREADS = 16 + MAX_HELD
_MAX_MESSAGE = 10 * 1024 * 1024
# Clients refuse metadata over 8 KB and would then show no error at all.
_MAX_ERROR = 7000
_VERTEX = "/google.cloud.aiplatform."
_HEALTH = "/grpc.health.v1.Health/"
_MAX_ERROR_TEXT = 2500
_CUT = "... The rest is too long for gRPC; over REST all of it is told."
_SENT_AS_THEY_ARE = "".join(chr(code) for code in range(0x20, 0x7F) if code != ord("%"))
_STATUS_CODES = {code.value[0]: code for code in grpc.StatusCode}


class GrpcSurface(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpc comes without types
    """Answers Vertex's RPCs by calling the service."""

    def __init__(self, service: ServiceMethods) -> None:
        contract = load()
        self._calls = Calls(contract, service)
        self._handlers = {f"/{rpc.full_name}": self._handler(rpc) for rpc in contract.methods()}
        self.services = sorted(contract.services)

    def service(self, handler_call_details: Any) -> Any:
        """Return the handler of a method, or None if it belongs to another API."""
        method = handler_call_details.method
        handler = self._handlers.get(method)
        if handler is None and method.startswith(_VERTEX):
            name = method.removeprefix("/")
            return _refusing(not_emulated(name.replace("/", ".")), name)
        return handler

    def _handler(self, rpc: Rpc) -> Any:
        # The call itself parses the request, so that a malformed message gets a proper error.
        return grpc.unary_unary_rpc_method_handler(
            self._behavior(rpc), response_serializer=lambda message: message.SerializeToString()
        )

    def _behavior(self, rpc: Rpc) -> Callable[[bytes, Any], Any]:
        def answer(data: bytes, context: Any) -> Any:
            incoming = _incoming(context)
            call = _LoggedCall(rpc.full_name, incoming.headers or {})
            try:
                message = self._calls.call(rpc, lambda: _parse(rpc, data), rpc.version, incoming).message
            except ApiError as error:
                status = _fitting(error.to_status())
                details = ("grpc-status-details-bin", status.SerializeToString())
                context.set_trailing_metadata((details, call.metadata))
                call.log(error.status, error.message)
                context.abort(_STATUS_CODES[status.code], status.message)
            context.set_trailing_metadata((call.metadata,))
            call.log("OK")
            return message

        return answer


class GrpcServer:
    """The listening server: surface, health and reflection at one address."""

    def __init__(self, service: ServiceMethods, auth: Auth | None = None) -> None:
        self._surface = GrpcSurface(service)
        self._server: Any = grpc.server(
            ThreadPoolExecutor(_THREADS, thread_name_prefix="grpc"),
            handlers=(self._surface,),
            interceptors=(_AuthInterceptor(auth),) if auth and auth.token else (),
            options=(("grpc.max_receive_message_length", _MAX_MESSAGE),),
        )
        self._add_standard_services()

    def listen(self, address: str) -> None:
        """Listen in plain text at an address in gRPC's form: `unix:/path/of/socket` or `host:port`.

        Raises:
            OSError: the address cannot be used.
        """
        try:
            self._server.add_insecure_port(address)
        except RuntimeError as error:
            raise OSError(str(error)) from error

    def start(self) -> None:
        """Start answering."""
        self._server.start()

    def stop(self, grace_s: float) -> None:
        """Refuse new calls, give open ones `grace_s` seconds, then close the ports."""
        self._server.stop(grace_s).wait()

    def _add_standard_services(self) -> None:
        from grpc_health.v1 import health, health_pb2, health_pb2_grpc
        from grpc_reflection.v1alpha import reflection

        checks = health.HealthServicer()
        names = [*self._surface.services, health.SERVICE_NAME]
        for name in ("", *names):
            checks.set(name, health_pb2.HealthCheckResponse.SERVING)
        health_pb2_grpc.add_HealthServicer_to_server(checks, self._server)
        reflection.enable_server_reflection(
            (*self._surface.services, reflection.SERVICE_NAME), self._server, load().pool
        )


class _AuthInterceptor(grpc.ServerInterceptor):  # type: ignore[misc]
    """Requires the token in the metadata of every call except calls of the health service."""

    def __init__(self, auth: Auth) -> None:
        self._auth = auth

    def intercept_service(self, continuation: Callable[[Any], Any], details: Any) -> Any:
        """Return the handler of the call, or one that refuses it."""
        if not details.method.startswith(_HEALTH):
            metadata = dict(details.invocation_metadata)
            try:
                self._auth.check(metadata.get("authorization", ""))
            except ApiError as error:
                return _refusing(error, details.method.removeprefix("/"))
        return continuation(details)


class _LoggedCall:
    """One call, from its start to its line in the access log."""

    def __init__(self, method: str, headers: Mapping[str, str]) -> None:
        self._method = method
        self._id = access.request_id(headers.get(access.REQUEST_ID, ""))
        self._began = time.perf_counter()

    @property
    def metadata(self) -> tuple[str, str]:
        """The metadata item with the request id."""
        return access.ANSWERED_ID, self._id

    def log(self, status: str, reason: str = "") -> None:
        """Log the call with its status."""
        seconds = time.perf_counter() - self._began
        access.log_call("grpc", self._method, status, seconds, self._id, reason=reason)


def _refusing(error: ApiError, method: str) -> Any:
    """Return a handler that refuses a call, unary or streaming."""

    def refuse(_requests: Any, context: Any) -> Any:
        call = _LoggedCall(method, _incoming(context).headers or {})
        context.set_trailing_metadata((call.metadata,))
        call.log(error.status, error.message)
        context.abort(_STATUS_CODES[error.code], error.message)

    return grpc.stream_stream_rpc_method_handler(refuse)


def _incoming(context: Any) -> Incoming:
    headers = {name: value for name, value in context.invocation_metadata() if isinstance(value, str)}
    return Incoming("grpc", headers, context.time_remaining())


def _fitting(status: Any) -> Any:
    """Return a status short enough for clients. A longer one loses its details and the end of its message."""
    binary = 4 * status.ByteSize() // 3  # in base64
    if binary + len(_as_sent(status.message)) <= _MAX_ERROR:
        return status
    # Emulator: it is unknown how the real service shortens an error.
    kept, size = 0, 0
    for character in status.message:
        size += len(_as_sent(character))
        if size > _MAX_ERROR_TEXT:
            break
        kept += 1
    return type(status)(code=status.code, message=status.message[:kept] + _CUT)


def _as_sent(text: str) -> str:
    return quote(text, safe=_SENT_AS_THEY_ARE)


def _parse(rpc: Rpc, data: bytes) -> Any:
    try:
        return rpc.input.FromString(data)
    except DecodeError as error:
        raise InvalidArgument(
            f"The request is no {rpc.input.DESCRIPTOR.full_name} message: {error}."
        ) from error
