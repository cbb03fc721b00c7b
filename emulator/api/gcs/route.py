"""The Cloud Storage surface on the application: reads and sends bodies as streams, works in threads."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import TypeVar

from starlette.applications import Starlette
from starlette.routing import BaseRoute
from starlette.routing import Match as RouteMatch
from starlette.types import Message, Receive, Scope, Send

from emulator.api.gcs.batch import answer_batch
from emulator.api.gcs.errors import GcsError, invalid, required
from emulator.api.gcs.messages import MAX_JSON, Media, Query, Request, Response
from emulator.api.gcs.resumable import Sessions
from emulator.api.gcs.surface import DOWNLOAD_PREFIX, JSON_PREFIX, GcsSurface, guarded
from emulator.api.gcs.uploads import Sink, media_sink, multipart_sink
from emulator.storage import GcsUri, LocalStore
from emulator.storage.buckets import Buckets

_log = logging.getLogger(__name__)
T = TypeVar("T")

_UPLOAD_PREFIXES = ("/upload/storage/v1/", "/resumable/upload/storage/v1/")
_BATCH_PREFIX = "/batch/storage/v1"
# Node's client leaves out `/storage/v1` where STORAGE_EMULATOR_HOST is set. No bucket can be called `b`.
_BARE_PREFIX = "/b/"
_PREFIXES = (f"{JSON_PREFIX}/", f"{DOWNLOAD_PREFIX}/", *_UPLOAD_PREFIXES, _BATCH_PREFIX, _BARE_PREFIX)
_THREADS = 16
_PIECE = 1 << 20
_SENT_PIECE = 256 << 10


class ClientGone(Exception):
    """The connection ended before the body did."""


class GcsRoute(BaseRoute):
    """Everything below Cloud Storage's prefixes, and `GET /bucket/object`."""

    def __init__(self, store: LocalStore) -> None:
        self._store = store
        self._buckets = Buckets(store)
        self._surface = GcsSurface(self._buckets)
        self._sessions = Sessions(self._buckets)
        self._executor = ThreadPoolExecutor(_THREADS, thread_name_prefix="gcs")

    def close(self) -> None:
        """Drop unfinished uploads and the threads; after the server has stopped."""
        self._executor.shutdown(cancel_futures=True)
        self._sessions.close()

    def matches(self, scope: Scope) -> tuple[RouteMatch, Scope]:
        """Take Cloud Storage's prefixes, and reads below the name of a bucket that exists."""
        if scope["type"] != "http":
            return RouteMatch.NONE, {}
        path = scope["path"]
        ours = path.startswith(_PREFIXES) or path == _BARE_PREFIX[:-1] or self._is_plain_read(scope)
        return (RouteMatch.FULL if ours else RouteMatch.NONE), {}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request = _request(scope)
        try:
            if request.path.startswith(_UPLOAD_PREFIXES):
                response = await self._upload(request, receive)
            else:
                response = await self._call(request, receive)
        except ClientGone:
            return
        await self._send(request, response, receive, send)

    def _is_plain_read(self, scope: Scope) -> bool:
        bucket, _, name = scope["path"].lstrip("/").partition("/")
        return scope["method"] in ("GET", "HEAD") and bool(name) and self._store.has_bucket(bucket)

    async def _call(self, request: Request, receive: Receive) -> Response:
        body = bytearray()
        async for piece in _pieces(receive):
            if len(body) <= MAX_JSON:  # a longer one is read to its end all the same
                body += piece
        request = Request(
            request.method, request.path, request.query, request.headers, request.base, bytes(body)
        )
        return await self._run(lambda: self._answer(request))

    def _answer(self, request: Request) -> Response:
        if len(request.body) > MAX_JSON:
            return guarded(request, lambda: _raise(invalid(f"The body exceeds {MAX_JSON} bytes.")), None)
        if request.path.startswith(_BATCH_PREFIX):
            return guarded(request, lambda: answer_batch(request, self._answer_part), None)
        if request.path.startswith((JSON_PREFIX, DOWNLOAD_PREFIX)):
            return self._surface.answer(request)
        return self._surface.answer_xml(request)

    def _answer_part(self, request: Request) -> Response:
        if not request.path.startswith(f"{JSON_PREFIX}/"):
            raise invalid(f"{request.path[:200]} is not possible in a batch.")
        return self._surface.answer(request)

    async def _upload(self, request: Request, receive: Receive) -> Response:
        uri = GcsUri(_bucket_of(request), request.query.get("name"))
        if request.query.get("uploadType") == "resumable" and not request.query.get("upload_id"):
            body = b"".join([piece async for piece in _pieces(receive, limit=MAX_JSON)])
            begin = Request(request.method, request.path, request.query, request.headers, request.base, body)
            return await self._guarded(request, lambda: self._sessions.begin(begin, uri.bucket), uri)
        if request.verb == "DELETE":
            return await self._guarded(request, lambda: self._sessions.cancel(request), uri)
        sink: Sink | None = None

        def opened() -> Response:
            nonlocal sink
            sink = self._sink(request, uri.bucket)
            return Response(200)

        response = await self._guarded(request, opened, uri)
        return response if sink is None else await self._receive(request, sink, uri, receive)

    def _sink(self, request: Request, bucket: str) -> Sink:
        kind = request.query.get("uploadType")
        if request.query.get("upload_id"):
            return self._sessions.sink(request)
        if request.verb != "POST":
            raise GcsError(405, "methodNotAllowed", f"{request.verb} is not possible here; use POST.")
        if kind == "multipart":
            return multipart_sink(self._buckets, request, bucket)
        if kind == "media":
            return media_sink(self._buckets, request, bucket)
        raise required("uploadType") if not kind else invalid(f"Invalid upload type {kind!r}.")

    async def _receive(self, request: Request, sink: Sink, uri: GcsUri, receive: Receive) -> Response:
        """Pass the body to the sink, however it ends."""
        ended = False
        try:
            async for piece in _pieces(receive):
                failure = await self._guarded(request, partial(_fed, sink, piece), uri)
                if failure.status != 200:
                    return failure
            response = await self._guarded(request, sink.finish, uri)
            ended = response.status < 400
            return response
        finally:
            if not ended:
                sink.abandon()

    async def _send(self, request: Request, response: Response, receive: Receive, send: Send) -> None:
        headers = {"vary": "Origin, X-Origin", **response.headers}
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
        # Sending to a client that is gone raises nothing; only receiving tells.
        gone = asyncio.ensure_future(_disconnected(receive))
        try:
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

    async def _guarded(self, request: Request, call: Callable[[], Response], uri: GcsUri) -> Response:
        return await self._run(lambda: guarded(request, call, uri, reading=False))

    async def _run(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, call)


def mount(app: Starlette, store: LocalStore) -> GcsRoute:
    """Add the surface to an application, behind all routes it has; close what is returned."""
    route = GcsRoute(store)
    app.router.routes.append(route)
    return route


def _request(scope: Scope) -> Request:
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    host, port = scope.get("server") or ("localhost", None)
    authority = headers.get("host") or (f"{host}:{port}" if port else host)
    path = (scope.get("raw_path") or scope["path"].encode()).decode(errors="surrogateescape")
    if f"{path}/".startswith(_BARE_PREFIX):
        path = JSON_PREFIX + path
    return Request(
        method=scope["method"],
        path=path,
        query=Query(scope["query_string"].decode(errors="surrogateescape")),
        headers=headers,
        base=f"{scope.get('scheme', 'http')}://{authority}",
    )


def _bucket_of(request: Request) -> str:
    """The bucket of an upload: `…/b/{bucket}/o`."""
    segments = request.path.rstrip("/").split("/")
    return segments[-2] if len(segments) >= 3 and segments[-3] == "b" and segments[-1] == "o" else ""


def _fed(sink: Sink, piece: bytes) -> Response:
    sink.feed(piece)
    return Response(200)


def _raise(error: Exception) -> Response:
    raise error


async def _pieces(receive: Receive, *, limit: int | None = None) -> AsyncIterator[bytes]:
    """Yield the body in pieces of about a megabyte, so that no hop to a thread is for a few bytes.

    Raises:
        ClientGone: after what had come in when the connection ended.
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
