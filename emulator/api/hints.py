"""Texts for clients that speak the wrong protocol or send a head that no server can read."""

from dataclasses import dataclass
from http import HTTPStatus

#: The maximum size of a request line with its headers, in bytes.
MAX_HEAD = 64 * 1024


@dataclass(frozen=True)
class Addresses:
    """The address of each surface (`host:port`, None if off), and hints for clients at the wrong one."""

    http: str
    grpc: str | None = None
    tls: str | None = None

    @property
    def tls_on_grpc(self) -> str:
        """The text for a TLS hello on the plain-text gRPC port."""
        return (
            f"A client opened the plain-text gRPC port {self.grpc} with TLS. Make its channel plain text"
            f' (Python: grpc.insecure_channel("{self.grpc}"); Java: usePlaintext(); Go:'
            f" insecure.NewCredentials(); Node: credentials.createInsecure()), or {self._use_tls}."
        )

    @property
    def tls_on_http(self) -> str:
        """The text for a TLS hello on the plain-text REST port."""
        return (
            f"A client opened the plain-text port {self.http} with TLS. Give it the address with its scheme,"
            f' http://{self.http} (Python: api_transport="rest", too), or {self._use_tls}.'
        )

    @property
    def grpc_on_http(self) -> str:
        """The text for plain-text HTTP/2 on the REST port."""
        plain = f"in plain text at {self.grpc}" if self.grpc else "off in plain text: leave out --no-grpc"
        over_tls = f", over TLS at {self.tls}" if self.tls else ""
        return (
            f"A client opened the REST port {self.http} with gRPC (HTTP/2), which is {plain}{over_tls}."
            f" REST is HTTP/1.1 at http://{self.http}."
        )

    @property
    def http_on_grpc(self) -> str:
        """The text for an HTTP/1 request on the gRPC port."""
        return f"This port speaks gRPC only. REST is at http://{self.http}."

    @property
    def plain_on_tls(self) -> str:
        """The text for plain text on the TLS port."""
        plain = f"http://{self.http}" + (f" (gRPC: {self.grpc})" if self.grpc else "")
        return f"This port speaks TLS: use https://{self.tls}, or in plain text {plain}."

    @property
    def _use_tls(self) -> str:
        if self.tls:
            return f"use the TLS port, {self.tls}"
        return "start the emulator with --tls and use the TLS port"


def not_ascii() -> str:
    """Return the error text for a path that is not percent-encoded."""
    return (
        "The request line holds characters outside ASCII; percent-encode them as UTF-8, as in %C3%A9 for é"
        " (RFC 3986, section 2)."
    )


def head_too_large() -> str:
    """Return the error text for a request line and headers that are too long."""
    return f"The request line and the headers exceed {MAX_HEAD} bytes; send fewer or shorter headers."


def bad_request(text: str) -> bytes:
    """Return a whole HTTP/1.1 answer: 400 with a plain text, after which the connection is closed."""
    return plain_answer(400, text)


def plain_answer(status: int, text: str) -> bytes:
    """Return a whole HTTP/1.1 answer with a plain text, after which the connection is closed."""
    body = f"{text}\n".encode()
    head = (
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nContent-Type: text/plain; charset=utf-8\r\n"
        f"Connection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body
