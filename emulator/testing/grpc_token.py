"""A plain-text gRPC channel that sends a bearer token: gRPC sends its own credentials over TLS only."""

from typing import Any

import grpc


def with_token(channel: Any, token: str) -> Any:
    """Return the channel, adding the token to the metadata of each call."""
    return grpc.intercept_channel(channel, _Token(token))


class _Token(grpc.UnaryUnaryClientInterceptor):  # type: ignore[misc]
    def __init__(self, token: str) -> None:
        self._entry = ("authorization", f"Bearer {token}")

    def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        """Send a call with the token."""
        metadata = [*(details.metadata or ()), self._entry]
        return continuation(_Details(details, metadata), request)


class _Details(grpc.ClientCallDetails):  # type: ignore[misc]
    """A call's details with other metadata."""

    def __init__(self, details: Any, metadata: list[tuple[str, str]]) -> None:
        self.method, self.timeout, self.credentials = details.method, details.timeout, details.credentials
        self.wait_for_ready, self.compression = details.wait_for_ready, details.compression
        self.metadata = metadata


def async_token(token: str) -> Any:
    """An interceptor that adds the token on an asynchronous channel."""
    return _AsyncToken(token)


class _AsyncToken(grpc.aio.UnaryUnaryClientInterceptor):  # type: ignore[misc]
    def __init__(self, token: str) -> None:
        self._entry = ("authorization", f"Bearer {token}")

    async def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        """Send a call with the token."""
        metadata = grpc.aio.Metadata(*(details.metadata or ()), self._entry)
        changed = grpc.aio.ClientCallDetails(
            details.method, details.timeout, metadata, details.credentials, details.wait_for_ready
        )
        return await continuation(changed, request)
