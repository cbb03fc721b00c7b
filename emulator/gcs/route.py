"""The Cloud Storage surface as an ASGI route. It streams bodies and does its work in threads."""

import asyncio
import logging
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import BinaryIO, TypeVar

from starlette.applications import Starlette
from starlette.routing import BaseRoute
from starlette.routing import Match as RouteMatch
from starlette.types import Message, Receive, Scope, Send

from emulator.gcs.addressing import is_virtual_host, is_xml
from emulator.gcs.batch import answer_batch
from emulator.gcs.bucket_store import Buckets
from emulator.gcs.cors import BucketCors
from emulator.gcs.describe import Describe, faulty, status_of
from emulator.gcs.errors import GcsError, invalid, required
from emulator.gcs.requests import MAX_JSON, Media, Query, Request, Response
from emulator.gcs.resumable import Sessions
from emulator.gcs.surface import DOWNLOAD_PREFIX, JSON_PREFIX, GcsSurface, guarded
from emulator.gcs.uploads import Sink, media_sink, multipart_sink
from emulator.gcs.xml_surface import XmlSurface, continues_resumable, guarded_xml
from emulator.http import reset_connection
from emulator.instructions.faults import RpcFault
from emulator.service.control import StorageCall, StorageGate
from emulator.storage import GcsUri, LocalStore, StorageError

_log = logging.getLogger(__name__)
T = TypeVar("T")

_UPLOAD_PREFIXES = ("/upload/storage/v1/", "/resumable/upload/storage/v1/")
_BATCH_PREFIX = "/batch/storage/v1"
# Node's client omits `/storage/v1` if STORAGE_EMULATOR_HOST is set. No bucket can have the name `b`.
_BARE_PREFIX = "/b/"
_PREFIXES = (f"{JSON_PREFIX}/", f"{DOWNLOAD_PREFIX}/", *_UPLOAD_PREFIXES, _BATCH_PREFIX, _BARE_PREFIX)
_AUTHORITY = re.compile(r"[A-Za-z0-9._-]+(:\d{1,5})?|\[[0-9A-Fa-f:.]+\](:\d{1,5})?")
_PORT = re.compile(r":\d{1,5}$")
_PREFIX = re.compile(r"(/[A-Za-z0-9._~-]+)*")
_USUAL_PORTS = {"http": "80", "https": "443"}
_THREADS = 16
# An upload's first request names the object within this many bytes of its body.
_HEAD = 16 << 10
_NONE = (RpcFault(), 0)
_PIECE = 1 << 20
_SENT_PIECE = 256 << 10
# Objects are untrusted content on the emulator's own origin: their scripts must not run there.
_SANDBOX = {"content-security-policy": "sandbox", "x-content-type-options": "nosniff"}


# Runs a call and turns an exception into an error response.
_Guard = Callable[[Callable[[], Response]], Awaitable[Response]]


class ClientGone(Exception):
    """The connection ended before the body did."""


class GcsRoute(BaseRoute):
    """The route of requests below the JSON API's prefixes and of the XML API's (see `addressing`)."""

    def __init__(self, store: LocalStore, gate: StorageGate) -> None:
        self._store = store
        self._gate = gate
        self._buckets = Buckets(store)
        self._surface = GcsSurface(self._buckets)
        self._sessions = Sessions(self._buckets)
        self._xml = XmlSurface(self._buckets, self._surface.objects, self._sessions)
        self._describe = Describe(self._surface, self._sessions)
        self.cors = BucketCors(self._buckets)
        self._executor = ThreadPoolExecutor(_THREADS, thread_name_prefix="gcs")

    def close(self) -> None:
        """Delete open uploads and end the threads. Call it after the server has stopped."""
        self._executor.shutdown(cancel_futures=True)
        self._sessions.close()
        self._xml.close()

    def continues_upload(self, scope: Scope) -> bool:
        """Return whether a request continues a resumable upload. Vertex: its URL needs no other proof."""
        request = _request(scope)
        target = self._sessions.target(request.query.get("upload_id"))
        if target is None:
            return False
        if not is_virtual_host(scope) and _is_json(scope):
            return request.path.startswith(_UPLOAD_PREFIXES)
        # Check the rest of the request too: otherwise the parameter would authorize any request.
        return is_xml(scope, self._store.has_bucket) and continues_resumable(request, target)

    def matches(self, scope: Scope) -> tuple[RouteMatch, Scope]:
        """Match the JSON API's prefixes and the requests of the XML API."""
        if scope["type"] != "http":
            return RouteMatch.NONE, {}
        ours = _is_json(scope) or is_xml(scope, self._store.has_bucket)
        return (RouteMatch.FULL if ours else RouteMatch.NONE), {}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Apply injected faults, then answer one request."""
        request = _request(scope)
        is_json = not is_virtual_host(scope) and _is_json(scope)
        if is_json and request.path.startswith(_BATCH_PREFIX):
            # Each part of a batch is a call with faults and a journal entry of its own.
            answered: Response | None = await self._answered(request, is_json, receive)
        else:
            head, receive = await _head(request, is_json, receive)
            call = self._describe.json(request, head) if is_json else self._describe.xml(request)
            answered = await self._pass_gate(call, request, is_json, receive)
            if answered is None:
                await reset_connection(scope, receive)
        if answered is not None:
            await self._send(request, answered, receive, send)

    async def _pass_gate(
        self, call: StorageCall, request: Request, is_json: bool, receive: Receive
    ) -> Response | None:
        """Answer a call, or fail it as an injected fault says. None: reset the connection."""
        began, status = time.perf_counter(), "CANCELLED"
        fault, number = await self._run(lambda: self._gate.fault(call)) if self._gate.may_act(call) else _NONE
        try:
            if fault.delay_s:
                await asyncio.sleep(fault.delay_s)
            if fault.reset:
                status = "UNAVAILABLE"
                return None
            if fault.code:
                async for _ in _pieces(receive):  # clients read the answer only after sending everything
                    pass
                response: Response | None = faulty(request, fault, number, is_json=is_json)
            else:
                response = await self._answered(request, is_json, receive)
            status = status_of(response.status) if response else status
            return response
        except ClientGone:
            return None
        finally:
            self._gate.note(call, status, time.perf_counter() - began, number)

    async def _answered(self, request: Request, is_json: bool, receive: Receive) -> Response | None:
        """Answer without faults. None: the client is gone."""
        try:
            if not is_json:
                return await self._answer_xml(request, receive)
            if request.path.startswith(_UPLOAD_PREFIXES):
                return await self._upload(request, receive)
            return await self._call(request, receive)
        except ClientGone:
            return None

    async def _answer_xml(self, request: Request, receive: Receive) -> Response:
        def guard(call: Callable[[], Response]) -> Awaitable[Response]:
            return self._run(lambda: guarded_xml(request, call))

        return await self._stream(lambda: self._xml.open(request), receive, guard)

    async def _call(self, request: Request, receive: Receive) -> Response:
        body = bytearray()
        async for piece in _pieces(receive):
            if len(body) <= MAX_JSON:  # read a longer body to its end, but do not keep it
                body += piece
        whole = replace(request, body=bytes(body)).with_form_as_query()
        return await self._run(lambda: self._answer(whole))

    def _answer(self, request: Request) -> Response:
        if len(request.body) > MAX_JSON:
            return guarded(request, lambda: _raise(invalid(f"The body exceeds {MAX_JSON} bytes.")), None)
        if request.path.startswith(_BATCH_PREFIX):
            return guarded(request, lambda: answer_batch(request, self._answer_part), None)
        return self._surface.answer(request)

    def _answer_part(self, request: Request) -> Response:
        if not request.path.startswith(f"{JSON_PREFIX}/"):
            raise invalid(f"{request.path[:200]} is not possible in a batch.")
        call = self._describe.json(request)
        began = time.perf_counter()
        fault, number = self._gate.fault(call) if self._gate.may_act(call) else _NONE
        self._gate.pause(fault.delay_s)
        if fault.code or fault.reset:  # a single part cannot have its connection reset
            response = faulty(request, fault, number, is_json=True)
        else:
            response = self._surface.answer(request)
        self._gate.note(call, status_of(response.status), time.perf_counter() - began, number)
        return response

    async def _upload(self, request: Request, receive: Receive) -> Response:
        uri = GcsUri(_bucket_of(request), request.query.get("name"))
        if request.query.get("uploadType") == "resumable" and not request.query.get("upload_id"):
            body = b"".join([piece async for piece in _pieces(receive, limit=MAX_JSON)])
            begin = Request(request.method, request.path, request.query, request.headers, request.base, body)
            return await self._guarded(request, lambda: self._sessions.begin(begin, uri.bucket), uri)
        if request.verb == "DELETE":
            return await self._guarded(request, lambda: self._sessions.cancel(request), uri)

        def guard(call: Callable[[], Response]) -> Awaitable[Response]:
            return self._guarded(request, call, uri)

        return await self._stream(lambda: self._sink(request, uri.bucket), receive, guard)

    def _sink(self, request: Request, bucket: str) -> Sink:
        kind = request.query.get("uploadType")
        if request.query.get("upload_id"):
            return self._sessions.sink(request)
        if request.verb not in ("POST", "PUT"):
            raise GcsError(405, "methodNotAllowed", f"{request.verb} is not possible here; use POST or PUT.")
        if kind == "multipart":
            return multipart_sink(self._buckets, request, bucket)
        if kind == "media":
            return media_sink(self._buckets, request, bucket)
        raise required("uploadType") if not kind else invalid(f"Invalid upload type {kind!r}.")

    async def _stream(self, open_sink: Callable[[], Sink], receive: Receive, guard: _Guard) -> Response:
        """Open a sink and stream the body into it. On failure the sink is abandoned."""
        sink: Sink | None = None

        def opened() -> Response:
            nonlocal sink
            sink = open_sink()
            return Response(200)

        response = await guard(opened)
        return response if sink is None else await self._receive(sink, receive, guard)

    async def _receive(self, sink: Sink, receive: Receive, guard: _Guard) -> Response:
        ended = False
        try:
            async for piece in _pieces(receive):
                failure = await guard(partial(_fed, sink, piece))
                if failure.status != 200:
                    return failure
            response = await guard(sink.finish)
            ended = response.status < 400
            return response
        finally:
            if not ended:
                sink.abandon()

    async def _send(self, request: Request, response: Response, receive: Receive, send: Send) -> None:
        headers = {"vary": "Origin, X-Origin", **response.headers, **_SANDBOX}
        body = response.body
        if isinstance(body, bytes) and response.status not in (204, 304):
            headers["content-length"] = str(len(body))
        start: Message = {
            "type": "http.response.start",
            "status": response.status,
            "headers": [(name.encode(), value.encode(errors="replace")) for name, value in headers.items()],
        }
        if isinstance(body, bytes) or request.method == "HEAD":
            if isinstance(body, Media):
                body.file.close()
            shown = body if isinstance(body, bytes) and request.method != "HEAD" else b""
            await send(start)
            await send({"type": "http.response.body", "body": shown})
            return
        try:
            await send(start)
            await self._send_media(body, receive, send)
        finally:
            body.file.close()

    async def _send_media(self, media: Media, receive: Receive, send: Send) -> None:
        # ASGI reports a lost client only on receive, not on send.
        gone = asyncio.ensure_future(_disconnected(receive))
        try:
            if media.length is None:
                await self._send_all(media.file, gone, send)
                return
            left = media.length
            await self._run(partial(media.file.seek, media.start))
            while left and not gone.done():
                data = await self._run(partial(media.file.read, min(left, _SENT_PIECE)))
                if not data:
                    _log.error("A file became shorter while it was downloaded; the connection is closed.")
                    return
                left -= len(data)
                await send({"type": "http.response.body", "body": data, "more_body": left > 0})
            if not media.length:
                await send({"type": "http.response.body", "body": b""})
        finally:
            gone.cancel()
            with suppress(asyncio.CancelledError):
                await gone

    async def _send_all(self, file: BinaryIO, gone: asyncio.Future[None], send: Send) -> None:
        """Send a file of unknown length. On an error, close the connection before the body's end."""
        more = True
        while more and not gone.done():
            try:
                data = await self._run(partial(file.read, _SENT_PIECE))
            except StorageError as error:
                _log.error("A download is cut off: %s", error)
                return
            more = bool(data)
            await send({"type": "http.response.body", "body": data, "more_body": more})

    async def _guarded(self, request: Request, call: Callable[[], Response], uri: GcsUri) -> Response:
        return await self._run(lambda: guarded(request, call, uri, reading=False))

    async def _run(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, call)


def mount(app: Starlette, store: LocalStore, gate: StorageGate) -> GcsRoute:
    """Add the surface to an application, after its existing routes. The caller closes the returned route."""
    route = GcsRoute(store, gate)
    app.router.routes.insert(0, _VirtualHosts(route))
    app.router.routes.append(route)
    return route


class _VirtualHosts(BaseRoute):
    """The route of all paths at a host that names a bucket, in front of all other routes."""

    def __init__(self, route: GcsRoute) -> None:
        self._route = route

    def matches(self, scope: Scope) -> tuple[RouteMatch, Scope]:
        """Match requests whose Host names a bucket."""
        return (RouteMatch.FULL if is_virtual_host(scope) else RouteMatch.NONE), {}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        await self._route.handle(scope, receive, send)


async def _head(request: Request, is_json: bool, receive: Receive) -> tuple[bytes, Receive]:
    """Return the first bytes of the body, and a `receive` that replays the body from its beginning.

    The bytes are read only if the name of a new object or bucket is in the body and not in the URL, else b"".
    """
    names_in_body = request.path.startswith(_UPLOAD_PREFIXES) or request.path == f"{JSON_PREFIX}/b"
    if not is_json or request.method != "POST" or not names_in_body or request.query.get("name"):
        return b"", receive
    events: list[Message] = []
    head = b""
    while len(head) < _HEAD and (not events or events[-1].get("more_body", False)):
        events.append(await receive())
        head += events[-1].get("body", b"")

    async def replay() -> Message:
        return events.pop(0) if events else await receive()

    return head[:_HEAD], replay


def _is_json(scope: Scope) -> bool:
    path: str = scope["path"]
    return path.startswith(_PREFIXES) or path == _BARE_PREFIX[:-1]


def _request(scope: Scope) -> Request:
    headers: dict[str, str] = {}
    for name, value in (
        (name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]
    ):
        # Some headers may be repeated, such as X-Goog-Hash.
        headers[name] = f"{headers[name]},{value}" if name in headers else value
    path = (scope.get("raw_path") or scope["path"].encode()).decode(errors="surrogateescape")
    if f"{path}/".startswith(_BARE_PREFIX) and not is_virtual_host(scope):
        path = JSON_PREFIX + path
    return Request(
        method=scope["method"],
        path=path,
        query=Query(scope["query_string"].decode(errors="surrogateescape")),
        headers=headers,
        base=_base(scope, headers),
    )


def _base(scope: Scope, headers: Mapping[str, str]) -> str:
    """Return the server's URL as the client sees it: from Host, or from a proxy's X-Forwarded headers."""
    host, port = scope.get("server") or ("localhost", None)
    authority = headers.get("host") or (f"{host}:{port}" if port else host)
    forwarded = {
        name: headers.get(f"x-forwarded-{name}", "").split(",")[0].strip()
        for name in ("proto", "host", "port", "prefix")
    }
    scheme = scope.get("scheme", "http")
    if forwarded["proto"] in ("http", "https"):
        scheme = forwarded["proto"]
    if _AUTHORITY.fullmatch(forwarded["host"]):
        authority = forwarded["host"]
        if forwarded["port"].isdigit() and not _PORT.search(authority):
            authority += "" if forwarded["port"] == _USUAL_PORTS[scheme] else f":{forwarded['port']}"
    prefix = forwarded["prefix"].rstrip("/")
    return f"{scheme}://{authority}{prefix if _PREFIX.fullmatch(prefix) else ''}"


def _bucket_of(request: Request) -> str:
    """Return the bucket of an upload's path, `…/b/{bucket}/o`; "" if there is none."""
    segments = request.path.rstrip("/").split("/")
    return segments[-2] if len(segments) >= 3 and segments[-3] == "b" and segments[-1] == "o" else ""


def _fed(sink: Sink, piece: bytes) -> Response:
    sink.feed(piece)
    return Response(200)


def _raise(error: Exception) -> Response:
    raise error


async def _pieces(receive: Receive, *, limit: int | None = None) -> AsyncIterator[bytes]:
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


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
