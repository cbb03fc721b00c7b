"""The HTTP kit of every surface: request, response, bounded body, query string, hand-off to threads."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Self, TypeVar, TypeVarTuple
from urllib.parse import parse_qsl

from starlette.types import Receive, Scope, Send

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

#: Extension of a request's ASGI scope: a function that resets the connection.
RESET = "emulator.reset"
_FORM = "application/x-www-form-urlencoded"
#: The most bytes of a body that is kept in memory.
MAX_BODY = 10 * 1024 * 1024
_PIECE = 1 << 20
#: The header that names the method which a POST means.
METHOD_OVERRIDE = "x-http-method-override"


class ClientGone(Exception):
    """The connection ended before the body did."""


@dataclass(frozen=True)
class HttpRequest:
    """A request as it was received. `path` is percent-encoded; `headers` are by lower-case name."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes | None = b""  # None if it exceeds MAX_BODY

    def as_meant(self) -> "HttpRequest":
        """Apply X-HTTP-Method-Override. Google's API clients POST with this header if their HTTP library does
        not support the method, or if the URL of a GET would be too long: its parameters are then a form."""
        override = self.headers.get(METHOD_OVERRIDE)
        if override is None or self.method != "POST":
            return self
        meant = replace(self, method=override.strip().upper())
        if meant.method != "GET" or not is_form(self.headers) or self.body is None:
            return meant
        return meant.with_form("replace")

    def with_form(self, errors: str) -> Self:
        """Return the request with its form's fields as query parameters. `errors`: as of `bytes.decode`."""
        form = (self.body or b"").decode(errors=errors)
        return replace(self, query="&".join(filter(None, (self.query, form))), body=b"")


@dataclass(frozen=True)
class HttpResponse:
    """A response whose body is in memory."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


def overridden_method(method: str, headers: Mapping[str, str]) -> str:
    """Return the method that a request means: X-HTTP-Method-Override of a POST, else its own."""
    return headers.get(METHOD_OVERRIDE, "").strip().upper() or method if method == "POST" else method


def is_form(headers: Mapping[str, str]) -> bool:
    """Return whether the body is an HTML form of the URL's encoding."""
    return headers.get("content-type", "").partition(";")[0].strip().lower() == _FORM


def headers_of(scope: Scope) -> dict[str, str]:
    """Return the headers by lower-case name; of a repeated one, the last value."""
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}


def joined_headers_of(scope: Scope) -> dict[str, str]:
    """Return the headers by lower-case name; the values of a repeated one are joined by commas."""
    headers: dict[str, str] = {}
    for name, value in scope["headers"]:
        key, text = name.decode("latin-1"), value.decode("latin-1")
        headers[key] = f"{headers[key]},{text}" if key in headers else text
    return headers


def raw_path(scope: Scope, errors: str) -> str:
    """Return the percent-encoded path. `errors`: what to do with bytes that are not UTF-8."""
    path: bytes = scope.get("raw_path") or scope["path"].encode()
    return path.decode(errors=errors)


def parse_query(text: str, *, errors: str = "replace", most: int | None = None) -> dict[str, list[str]]:
    """Return the values of each parameter of a query string or form, in their order.

    Raises:
        ValueError: there are more than `most` parameters.
    """
    parameters: dict[str, list[str]] = {}
    for name, value in parse_qsl(text, keep_blank_values=True, errors=errors, max_num_fields=most):
        parameters.setdefault(name, []).append(value)
    return parameters


async def read_body(receive: Receive) -> bytes | None:
    """Return the whole body; None if it exceeds MAX_BODY, after reading it to its end."""
    chunks: list[bytes] = []
    length = 0
    while True:
        event = await receive()
        chunk = event.get("body", b"")
        length += len(chunk)
        if length <= MAX_BODY:
            chunks.append(chunk)
        if event["type"] == "http.disconnect" or not event.get("more_body", False):
            break
    return b"".join(chunks) if length <= MAX_BODY else None


async def body_pieces(receive: Receive, *, limit: int | None = None) -> AsyncIterator[bytes]:
    """Yield the body in pieces of about a megabyte: handing smaller ones to a thread would be wasteful.

    Raises:
        ClientGone: the connection ended early; the bytes received until then have been yielded.
    """
    buffer = bytearray()
    total = 0
    while True:
        event = await receive()
        gone = event["type"] == "http.disconnect"
        buffer += event.get("body", b"")
        more = event.get("more_body", False) and not gone
        if buffer and (len(buffer) >= _PIECE or not more):
            total += len(buffer)
            if limit is None or total <= limit:
                yield bytes(buffer)
            buffer.clear()
        if gone:
            raise ClientGone
        if not more:
            return


async def disconnected(receive: Receive) -> None:
    """Return once the client is gone."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def send_response(send: Send, response: HttpResponse, *, head: bool) -> None:
    """Send a response with its length. `head`: without its body, as HEAD asks."""
    length = (b"content-length", b"%d" % len(response.body))
    headers = [(name.encode(), value.encode()) for name, value in response.headers.items()]
    await send({"type": "http.response.start", "status": response.status, "headers": [*headers, length]})
    await send({"type": "http.response.body", "body": b"" if head else response.body})


async def reset_connection(scope: Scope, receive: Receive) -> None:
    """Reset the connection of a request without an answer, as a broken network does."""
    reset = scope.get("extensions", {}).get(RESET)
    if reset is not None:
        reset()
        await disconnected(receive)


class Threads:
    """A pool of threads for calls that block only shortly; see in_own_thread for the others."""

    def __init__(self, size: int, name: str) -> None:
        self._executor = ThreadPoolExecutor(size, thread_name_prefix=name)

    async def run(self, work: Callable[[*Ts], T], *args: *Ts) -> T:
        """Return what `work` returns, called in a thread of the pool."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, work, *args)

    def close(self, *, wait: bool = False) -> None:
        """Start nothing more. `wait`: return once the running calls have ended."""
        self._executor.shutdown(wait=wait, cancel_futures=True)


async def in_own_thread(work: Callable[[*Ts], T], *args: *Ts) -> T:
    """Return what `work` returns, called in a new thread, so that waiting calls block neither others nor the
    shutdown.

    Raises what `work` raises.
    """
    loop = asyncio.get_running_loop()
    answered: asyncio.Future[T] = loop.create_future()

    def settle(worked: Future[T]) -> None:
        if answered.done():  # the client may be gone
            return
        if (error := worked.exception()) is not None:
            answered.set_exception(error)
        else:
            answered.set_result(worked.result())

    def run() -> None:
        worked: Future[T] = Future()
        try:
            worked.set_result(work(*args))
        except BaseException as error:
            worked.set_exception(error)
        with suppress(RuntimeError):  # the loop may be closed
            loop.call_soon_threadsafe(settle, worked)

    threading.Thread(target=run, name="waiting-call", daemon=True).start()
    return await answered
