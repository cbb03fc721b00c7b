"""Tells other programs that jobs have ended: sends what the outbox in the database holds, at least once."""

import base64
import contextlib
import http.client
import json
import logging
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import unquote, urlsplit, urlunsplit
from urllib.request import (
    HTTPHandler,
    HTTPRedirectHandler,
    HTTPSHandler,
    OpenerDirector,
    Request,
    build_opener,
)

from emulator import __version__
from emulator.database import DATABASE_OUTAGES, Database, JobRow, NotificationRow
from emulator.redaction import origin_only
from emulator.vertex.messages import to_json
from emulator.vertex.moments import moment

_log = logging.getLogger(__name__)

EVENT = "batchPredictionJob.ended"
MOST_ATTEMPTS = 16
_LONGEST_DELAY_S = 600
# A sender that has not reported by then has died: another one may send.
_REPORT_S = 5
# Another server on a shared database may have died with a claim.
_LOOK_S = 5.0
_STOP_S = 2.0
#: The answers by which a Pub/Sub push subscription takes a message as delivered.
_PUBSUB_TAKEN = (102, 200, 201, 202, 204)

Body = Mapping[str, Any]


def delay_s(attempts: int) -> int:
    """Return the seconds between an attempt that failed and the next, by how many have failed."""
    return min(1 << (attempts - 1), _LONGEST_DELAY_S)


def render(message: Any, row: JobRow) -> bytes:
    """Return a job as the REST surface answers it, as JSON. `message` is its v1 BatchPredictionJob."""
    names = {"modelDisplayName": row.model_display_name, "modelObjective": row.model_objective}
    return json.dumps({**to_json(message), **names}, separators=(",", ":"), ensure_ascii=False).encode()


def webhook(row: NotificationRow) -> Body:
    """Return the body of the format `webhook`."""
    return {
        "id": str(row.number),
        "type": EVENT,
        "time": moment(row.time_us),
        "state": row.state.proto_name,
        "attempt": row.attempts,
        "job": json.loads(row.document),
    }


def pubsub_push(row: NotificationRow) -> Body:
    """Return the body that a Pub/Sub push subscription sends, with the job as the message's data."""
    name = json.loads(row.document)["name"]
    project = name.split("/")[1]
    number, published = str(row.number), moment(row.time_us)
    return {
        "message": {
            "attributes": {"eventType": EVENT, "jobName": name, "state": row.state.proto_name},
            "data": base64.b64encode(row.document).decode(),
            # Vertex: Pub/Sub sends both spellings.
            "messageId": number,
            "message_id": number,
            "publishTime": published,
            "publish_time": published,
        },
        "subscription": f"projects/{project}/subscriptions/vertex-emulator",
    }


_BODIES: Mapping[str, Callable[[NotificationRow], Body]] = {"webhook": webhook, "pubsub-push": pubsub_push}


class Senders:
    """One thread for each address, so that an address that hangs delays no other."""

    def __init__(self, database: Database, urls: Sequence[str], style: str, timeout_s: int) -> None:
        self._senders = [
            _Sender(database, address, url, style, timeout_s) for address, url in enumerate(urls)
        ]

    def start(self) -> None:
        """Begin to send."""
        for sender in self._senders:
            sender.start()

    def wake(self) -> None:
        """Look at the outbox now."""
        for sender in self._senders:
            sender.wake()

    def stop(self) -> None:
        """Cut the attempts in progress. What is not delivered is sent by the next start."""
        for sender in self._senders:
            sender.stop()
        for sender in self._senders:
            sender.join(_STOP_S)


class _Sender(threading.Thread):
    """Sends the notifications of one address, one after the other."""

    def __init__(self, database: Database, address: int, url: str, style: str, timeout_s: int) -> None:
        super().__init__(name=f"notify-{address}", daemon=True)
        self._database = database
        self._address = address
        self._shown = origin_only(url)
        self._body = _BODIES[style]
        self._takes = _PUBSUB_TAKEN.__contains__ if style == "pubsub-push" else _is_success
        self._lease_us = (timeout_s + _REPORT_S) * 1_000_000
        self._post = _Post(url, timeout_s)
        self._changed = threading.Event()
        self._stopping = threading.Event()

    def wake(self) -> None:
        self._changed.set()

    def stop(self) -> None:
        self._stopping.set()
        self._changed.set()
        self._post.cut()

    def run(self) -> None:
        while not self._stopping.is_set():
            self._changed.clear()
            try:
                if not self._send_next():
                    self._changed.wait(self._pause_s())
            except DATABASE_OUTAGES:
                self._changed.wait(_LOOK_S)
            except Exception:
                if self._stopping.is_set():
                    return
                _log.exception("Notifications to %s stop for %g s.", self._shown, _LOOK_S)
                self._changed.wait(_LOOK_S)

    def _pause_s(self) -> float:
        due_us = self._database.next_notification_us(self._address)
        left_s = _LOOK_S if due_us is None else (due_us - self._database.now()) / 1_000_000
        return max(0.0, min(left_s, _LOOK_S))

    def _send_next(self) -> bool:
        """Make one attempt; False if none is due."""
        row = self._database.claim_notification(self._address, self._lease_us)
        if row is None:
            return False
        status, reason = self._post.send(json.dumps(self._body(row), ensure_ascii=False).encode())
        if self._takes(status):
            note = f"delivered to {self._shown} (HTTP {status}), attempt {row.attempts}"
            self._database.end_notification(row, note)
            _log.info("%s: notification %s", row.number, note)
        elif self._stopping.is_set():
            self._database.return_notification(row)
        else:
            self._failed(row, reason)
        return True

    def _failed(self, row: NotificationRow, reason: str) -> None:
        note = f"attempt {row.attempts} to {self._shown} failed: {reason}"
        if row.attempts >= MOST_ATTEMPTS:
            note = f"given up: {note}"
            self._database.end_notification(row, note)
        else:
            delay = delay_s(row.attempts)
            note = f"{note}; the next one in {delay} s"
            self._database.retry_notification(row, delay * 1_000_000, note)
        _log.warning("Notification %d: %s", row.number, note)


def _is_success(status: int) -> bool:
    return 200 <= status < 300


class _Post:
    """POSTs to one URL, one body at a time. Another thread may cut the connection."""

    def __init__(self, url: str, timeout_s: int) -> None:
        self._url, self._headers = _split(url)
        self._timeout_s = timeout_s
        self._socket: socket.socket | None = None
        self._is_late = False
        self._opener = _opener(self._keep)

    def send(self, body: bytes) -> tuple[int, str]:
        """Return the status of the answer and what is wrong with it; the status 0 if there is no answer."""
        request = Request(self._url, body, self._headers, method="POST")
        # The opener's own limit is for each piece that arrives. This one is for the whole answer.
        self._is_late = False
        limit = threading.Timer(self._timeout_s, self._cut_late)
        limit.daemon = True
        limit.start()
        try:
            with self._opener.open(request, timeout=self._timeout_s) as response:
                status: int = response.status
                # Headers that were cut off look complete.
                return (0, self._late()) if self._is_late else (status, _told(status))
        except HTTPError as error:
            error.close()
            return error.code, _told(error.code)
        except (OSError, http.client.HTTPException, ValueError) as error:
            late = self._is_late or isinstance(_cause(error), TimeoutError)
            return 0, self._late() if late else f"no answer ({_words(error)})"
        finally:
            limit.cancel()
            self._socket = None

    def _late(self) -> str:
        return f"no answer within {self._timeout_s} s"

    def cut(self) -> None:
        """End the attempt in progress, if there is one."""
        if (connected := self._socket) is not None:
            # It may be closed already.
            with contextlib.suppress(OSError):
                connected.shutdown(socket.SHUT_RDWR)

    def _cut_late(self) -> None:
        self._is_late = True
        self.cut()

    def _keep(self, connected: socket.socket) -> None:
        self._socket = connected


def _split(url: str) -> tuple[str, dict[str, str]]:
    """Return the URL to call, and the headers. A name and password in the URL become a header."""
    parts = urlsplit(url)
    headers = {
        "Content-Type": "application/json",
        "User-Agent": f"vertex-batch-emulator/{__version__}",
    }
    account, _, host = parts.netloc.rpartition("@")
    if account:
        headers["Authorization"] = f"Basic {base64.b64encode(unquote(account).encode()).decode()}"
    return urlunsplit((parts.scheme, host, parts.path or "/", parts.query, "")), headers


def _told(status: int) -> str:
    redirect = " (redirects are not followed)" if 300 <= status < 400 else ""
    phrase = next((one.phrase for one in HTTPStatus if one == status), "")
    return f"HTTP {status} {phrase}".rstrip() + redirect


def _cause(error: Exception) -> object:
    return error.reason if isinstance(error, URLError) else error


def _words(error: Exception) -> str:
    """Describe why there was no answer, without the text of errors that may quote the URL."""
    found = _cause(error)
    told = found.strerror if isinstance(found, OSError) else None
    return told or type(found).__name__


class _NoRedirect(HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        return None


def _opener(keep: Callable[[socket.socket], None]) -> OpenerDirector:
    """Return what opens URLs: it follows no redirect, and gives `keep` the socket of each connection."""

    class Plain(http.client.HTTPConnection):
        def connect(self) -> None:
            super().connect()
            keep(self.sock)

    class Tls(http.client.HTTPSConnection):
        def connect(self) -> None:
            super().connect()
            keep(self.sock)

    class ByHttp(HTTPHandler):
        def http_open(self, request: Request) -> http.client.HTTPResponse:
            return self.do_open(Plain, request)

    class ByHttps(HTTPSHandler):
        def https_open(self, request: Request) -> http.client.HTTPResponse:
            return self.do_open(Tls, request)

    return build_opener(_NoRedirect, ByHttp, ByHttps)
