"""Resumable uploads: a session receives an object in several requests and survives lost connections."""

import re
import secrets
import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import quote

from emulator.gcs.bucket_store import Buckets
from emulator.gcs.draft import Draft
from emulator.gcs.errors import GcsError, invalid
from emulator.gcs.requests import Request, Response
from emulator.gcs.uploads import Target
from emulator.storage import GcsUri

_MOST_SESSIONS = 10_000
# Vertex: every request except the last brings at least this many bytes; whole multiples of it are kept.
_QUANTUM = 256 << 10
_RANGE = re.compile(r"bytes\s+(?:\*|(\d{1,18})-(\d{1,18}|\*))/(\d{1,18}|\*)")


@dataclass(frozen=True)
class ContentRange:
    """A Content-Range header, as in `bytes 0-99/200`, with `*` for an unknown number."""

    start: int | None  # None: the request asks for the progress
    end: int | None  # exclusive; None: to the end of the body
    total: int | None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse the header; without one the body is the whole object. Raises GcsError."""
        if not text:
            return cls(0, None, None)
        match = _RANGE.fullmatch(text.strip())
        if match is None:
            raise invalid(f"Failed to parse Content-Range header: {text!r}.")
        start, end, total = (int(part) if part and part != "*" else None for part in match.groups())
        return cls(start, None if end is None else end + 1, total)

    @property
    def is_last(self) -> bool:
        """Whether the object ends with this request's body."""
        if self.total is None or self.end is None:
            return self.total is self.end
        return self.end >= self.total

    def check_size(self) -> None:
        """Raise GcsError if this is not the last request and its body is too short."""
        if self.start is None or self.end is None or self.is_last:
            return
        size = self.end - self.start
        if size < _QUANTUM:
            raise invalid(
                "Invalid request. The number of bytes uploaded is required to be equal or greater than"
                f" {_QUANTUM}, except for the final request (it's recommended to be the exact multiple of"
                f" {_QUANTUM}). The received request contained {size} bytes, which does not meet this"
                " requirement."
            )


@dataclass
class Session:
    """One resumable upload. `lock` guards all its members."""

    id: str
    target: Target
    draft: Draft
    total: int | None = None  # the object's size, once a request has named it
    lock: threading.Lock = field(default_factory=threading.Lock)
    turn: int = 0  # sequence number of requests: only the latest may write
    finished: Response | None = None


class Sessions:
    """The open resumable uploads and the most recently finished ones."""

    def __init__(self, buckets: Buckets) -> None:
        self._buckets = buckets
        self._sessions: OrderedDict[str, Session] = OrderedDict()
        self._lock = threading.Lock()

    def begin(self, request: Request, bucket: str) -> Response:
        """Start an upload and answer with its URL. Raises GcsError."""
        body = request.json()
        media_type = request.headers.get("x-upload-content-type", "")
        target = Target.parse(self._buckets, request, bucket, body, media_type)
        session = self.start(target, request.headers.get("x-upload-content-length", ""))
        location = (
            f"{request.base}/upload/storage/v1/b/{bucket}/o?uploadType=resumable"
            f"&name={quote(target.uri.object, safe='')}&upload_id={session.id}"
        )
        return Response(200, b"", {"location": location, "x-guploader-uploadid": session.id})

    def start(self, target: Target, length: str = "") -> Session:
        """Create a session. `length`: the object's size in bytes, if the client gave it. Raises GcsError."""
        target.check(self._buckets)
        draft = self._buckets.draft(target.uri.bucket)
        session = Session(secrets.token_urlsafe(24), target, draft, _length(length))
        with self._lock:
            self._sessions[session.id] = session
            oldest = self._sessions.popitem(last=False)[1] if len(self._sessions) > _MOST_SESSIONS else None
        if oldest:
            oldest.draft.discard()
        return session

    def target(self, upload_id: str) -> GcsUri | None:
        """Return the object of an upload; None if there is no upload with this id."""
        with self._lock:
            session = self._sessions.get(upload_id)
        return session.target.uri if session else None

    def sink(self, request: Request) -> "ResumableSink":
        """Return the sink of a request that continues an upload or asks for its progress."""
        return ResumableSink(self, self._find(request), request)

    def cancel(self, request: Request) -> Response:
        """Cancel an upload."""
        session = self._find(request)
        self.forget(session)
        return Response(499)

    def finish(self, session: Session, request: Request) -> Response:
        """Publish the object. The session stays, for a client that missed the answer and asks again."""
        try:
            target = session.target.with_hashes(request.headers)
            session.finished = target.publish(self._buckets, session.draft, request.base)
        except BaseException:
            self.forget(session)
            raise
        return session.finished

    def forget(self, session: Session) -> None:
        """Delete a session and its bytes."""
        with self._lock:
            self._sessions.pop(session.id, None)
        session.draft.discard()

    def close(self) -> None:
        """Delete all sessions."""
        for session in list(self._sessions.values()):
            self.forget(session)

    def _find(self, request: Request) -> Session:
        upload_id = request.query.get("upload_id")
        with self._lock:
            session = self._sessions.get(upload_id)
        if session is None:
            message = f"There is no upload {upload_id[:100]!r}, or the server was restarted; start again."
            raise GcsError(404, "notFound", message)
        return session


class ResumableSink:
    """One request of a resumable upload. Bytes that have arrived survive a lost connection."""

    def __init__(self, sessions: Sessions, session: Session, request: Request) -> None:
        self._sessions = sessions
        self._session = session
        self._request = request
        self._range = ContentRange.parse(request.headers.get("content-range", ""))
        self._received = 0
        self._range.check_size()
        with session.lock:
            self._agree_on_total(session)
            if self._range.start is not None:  # a progress query must not interrupt an upload
                session.turn += 1
            self._turn = session.turn
            size = session.draft.size
            start = self._range.start if self._range.start is not None else size
            if start < size and not session.finished:
                session.draft.cut(start)  # the client resends from here, maybe other bytes
        if start > size and not session.finished:
            # On 503 a client asks for the progress and continues from there.
            raise GcsError(
                503,
                "backendError",
                "Invalid request. According to the Content-Range header, the upload offset is"
                f" {start} byte(s), which exceeds already uploaded size of {size} byte(s).",
            )

    def feed(self, data: bytes) -> None:
        if self._session.finished or self._range.start is None:
            return
        self._received += len(data)
        if self._range.end is not None and self._range.start + self._received > self._range.end:
            raise self._wrong_length()
        with self._session.lock:
            self._check_turn()
            self._session.draft.append(data)

    def finish(self) -> Response:
        session = self._session
        with session.lock:
            if session.finished:
                return session.finished
            self._check_turn()
            size, total = session.draft.size, self._total()
            if total is None:
                return self._incomplete(size)
            if size > total:
                raise invalid(f"Invalid request. {size} bytes have come in, more than the {total} announced.")
            if session.total not in (None, total):
                raise invalid(
                    f"Invalid request. {total} bytes have come in, not the {session.total} announced."
                )
            session.total = total
            complete = size == total
            return self._sessions.finish(session, self._request) if complete else self._incomplete(size)

    def _agree_on_total(self, session: Session) -> None:
        """Raise GcsError if the request names another object size than an earlier request."""
        told = self._range.total
        if told is not None and session.total not in (None, told) and not session.finished:
            raise invalid(
                f"Invalid request. The upload is of {session.total} bytes, as was said before; this request"
                f" says {told}."
            )

    def _total(self) -> int | None:
        """Return the object's size, None if unknown. Raises GcsError for a body of the wrong length."""
        span = self._range
        if span.start is None:
            return span.total
        if span.end is not None and span.start + self._received != span.end:
            raise self._wrong_length()
        # If the header names no end, the object ends with the body.
        ends_with_body = span.end is None and span.total is None
        return span.start + self._received if ends_with_body else span.total

    def abandon(self) -> None:
        """Keep the bytes: the client may continue the upload."""

    def _check_turn(self) -> None:
        if self._session.turn != self._turn:
            raise GcsError(409, "conflict", "Another request has continued this upload.")

    def _wrong_length(self) -> GcsError:
        return invalid(
            f"Invalid request. There were {self._received} byte(s) in the request body, which is not what its"
            f" Content-Range header {self._request.headers.get('content-range')!r} says."
        )

    def _incomplete(self, size: int) -> Response:
        headers = {"x-guploader-uploadid": self._session.id}
        if kept := size - size % _QUANTUM:
            headers["range"] = f"bytes=0-{kept - 1}"
        if self._request.headers.get("x-guploader-no-308", "").lower() == "yes":
            # Go's HTTP client would treat a 308 as a redirect.
            return Response(200, b"", {**headers, "x-http-status-code-override": "308"})
        return Response(308, b"", headers)


def _length(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None
