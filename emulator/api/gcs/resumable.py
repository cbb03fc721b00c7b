"""Resumable uploads: sessions that take an object in several requests and survive cut connections."""

import re
import secrets
import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import quote

from emulator.api.gcs.errors import GcsError, invalid
from emulator.api.gcs.messages import Request, Response
from emulator.api.gcs.uploads import Target
from emulator.storage.buckets import Buckets
from emulator.storage.draft import Draft

_MOST_SESSIONS = 10_000
_RANGE = re.compile(r"bytes\s+(?:\*|(\d{1,18})-(\d{1,18}|\*))/(\d{1,18}|\*)")


@dataclass(frozen=True)
class ContentRange:
    """A Content-Range header: `bytes 0-99/200`, with `*` for what is not known."""

    start: int | None  # None: asks how far the upload is
    end: int | None  # excluded; None: as far as the body goes
    total: int | None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the header; without one the body is the whole object. Raises GcsError."""
        if not text:
            return cls(0, None, None)
        match = _RANGE.fullmatch(text.strip())
        if match is None:
            raise invalid(f"Failed to parse Content-Range header: {text!r}.")
        start, end, total = (int(part) if part and part != "*" else None for part in match.groups())
        return cls(start, None if end is None else end + 1, total)

    @property
    def is_whole(self) -> bool:
        """Whether the body is the whole object, however long it is."""
        return self.start == 0 and self.end is None and self.total is None


@dataclass
class Session:
    """One resumable upload. `lock` guards all of it."""

    id: str
    target: Target
    draft: Draft
    lock: threading.Lock = field(default_factory=threading.Lock)
    turn: int = 0  # counts requests, so that a cut one that lingers does not write any more
    finished: Response | None = None


class Sessions:
    """The resumable uploads that are under way, and the last that were finished."""

    def __init__(self, buckets: Buckets) -> None:
        self._buckets = buckets
        self._sessions: OrderedDict[str, Session] = OrderedDict()
        self._lock = threading.Lock()

    def begin(self, request: Request, bucket: str) -> Response:
        """Start an upload; answers with its address."""
        body = request.json()
        media_type = request.headers.get("x-upload-content-type", "")
        target = Target.parse(request, bucket, body, media_type)
        target.check(self._buckets)
        session = Session(secrets.token_urlsafe(24), target, self._buckets.draft(bucket))
        with self._lock:
            self._sessions[session.id] = session
            oldest = self._sessions.popitem(last=False)[1] if len(self._sessions) > _MOST_SESSIONS else None
        if oldest:
            oldest.draft.discard()
        location = (
            f"{request.base}/upload/storage/v1/b/{bucket}/o?uploadType=resumable"
            f"&name={quote(target.uri.object, safe='')}&upload_id={session.id}"
        )
        return Response(200, b"", {"location": location, "x-guploader-uploadid": session.id})

    def sink(self, request: Request) -> "ResumableSink":
        """Take a request that continues an upload, or asks how far it is. Raises GcsError."""
        return ResumableSink(self, self._find(request), request)

    def cancel(self, request: Request) -> Response:
        """Give an upload up."""
        session = self._find(request)
        self.forget(session)
        return Response(499)

    def finish(self, session: Session, request: Request) -> Response:
        """Make the object; the session stays, for a client that missed the answer."""
        try:
            target = session.target.with_hashes(request.headers)
            session.finished = target.publish(self._buckets, session.draft, request.base)
        except BaseException:
            self.forget(session)
            raise
        return session.finished

    def forget(self, session: Session) -> None:
        """Drop a session and its bytes."""
        with self._lock:
            self._sessions.pop(session.id, None)
        session.draft.discard()

    def close(self) -> None:
        """Drop all sessions."""
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
    """One request of a resumable upload. What has come in stays when the connection is cut."""

    def __init__(self, sessions: Sessions, session: Session, request: Request) -> None:
        self._sessions = sessions
        self._session = session
        self._request = request
        self._range = ContentRange.parse(request.headers.get("content-range", ""))
        self._received = 0
        with session.lock:
            if self._range.start is not None:  # a question how far the upload is disturbs no other request
                session.turn += 1
            if self._range.is_whole and not session.finished:
                session.draft.restart()  # what came in before may be of other bytes
            self._turn = session.turn
            size = session.draft.size
        start = self._range.start or 0
        if start > size and not session.finished:
            # A client that retries asks how far the upload is, and goes on from there.
            raise GcsError(
                503,
                "backendError",
                "Invalid request. According to the Content-Range header, the upload offset is"
                f" {start} byte(s), which exceeds already uploaded size of {size} byte(s).",
            )
        self._known = size - start  # bytes that came in before and are sent again

    def feed(self, data: bytes) -> None:
        if self._session.finished or self._range.start is None:
            return
        self._received += len(data)
        if self._range.end is not None and self._range.start + self._received > self._range.end:
            raise self._wrong_length()
        new = data[self._known :]
        self._known = max(0, self._known - len(data))
        with self._session.lock:
            self._check_turn()
            if new:
                self._session.draft.append(new)

    def finish(self) -> Response:
        session = self._session
        with session.lock:
            if session.finished:
                return session.finished
            self._check_turn()
            size, total = session.draft.size, self._total()
            if total is not None and size > total:
                raise invalid(f"Invalid request. {size} bytes have come in, more than the {total} announced.")
            complete = size == total
            return self._sessions.finish(session, self._request) if complete else self._incomplete(size)

    def _total(self) -> int | None:
        """The size of the object, as far as the request says it. Raises GcsError: its body is not as long."""
        span = self._range
        if span.start is None:
            return span.total
        if span.end is not None and span.start + self._received != span.end:
            raise self._wrong_length()
        # Where nothing says where the object ends, it ends with the body.
        ends_with_body = span.end is None and span.total is None
        return span.start + self._received if ends_with_body else span.total

    def abandon(self) -> None:
        """Keep what came in: the client may come back."""

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
        if size:
            headers["range"] = f"bytes=0-{size - 1}"
        if self._request.headers.get("x-guploader-no-308", "").lower() == "yes":
            # Go's HTTP client takes a 308 for a redirection.
            return Response(200, b"", {**headers, "x-http-status-code-override": "308"})
        return Response(308, b"", headers)
