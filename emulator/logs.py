"""Log formatting. Text from clients and files can neither forge a log line nor control a terminal."""

import contextlib
import json
import logging
import threading
import time
from collections import deque
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Literal, TextIO

LogFormat = Literal["text", "json"]

_Failure = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]
_GATHERED_S = 0.02
_MOST_LINES = 10_000
FIELDS = "fields"
"""The attribute of a record with structured values, by name; they become members of JSON lines."""


def set_up(level: str, layout: str, form: LogFormat = "text", *, gathered: bool = False) -> None:
    """Log to standard error from now on. Only for the emulator's own processes.

    `gathered` batches lines below WARNING and writes them some milliseconds late; for servers.
    """
    # No log line shows these values, and they cost more than the rest of a record.
    logging._srcfile = None  # as the logging HOWTO has it, "Optimization"
    logging.logThreads = logging.logMultiprocessing = False
    handler = GatheringHandler() if gathered else logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if form == "json" else LineFormatter(layout))
    logging.basicConfig(level=level.upper(), handlers=[handler])


def form_in_use() -> LogFormat:
    """The log format of this process; its child processes use the same one."""
    is_json = any(isinstance(handler.formatter, JsonFormatter) for handler in logging.getLogger().handlers)
    return "json" if is_json else "text"


class GatheringHandler(logging.StreamHandler[TextIO]):
    """Writes lines below WARNING in batches, from its own thread; other lines at once, in order.

    A write to a file releases the GIL. An event loop that wrote a line per call would mostly wait to get it
    back, and would block while nobody reads the pipe.
    """

    def __init__(self) -> None:
        super().__init__()
        # Bounded: the oldest lines are dropped if standard error is not read for long.
        self._records: deque[logging.LogRecord] = deque(maxlen=_MOST_LINES)
        self._writing = threading.Lock()
        self._news = threading.Event()
        threading.Thread(target=self._write, name="log", daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        """Queue a record."""
        self._records.append(record)
        if record.levelno >= logging.WARNING:
            self.flush()
        elif not self._news.is_set():
            self._news.set()

    def flush(self) -> None:
        """Write the queued records; also called when the process ends."""
        with self._writing:
            lines = []
            with contextlib.suppress(IndexError):
                while True:
                    lines.append(self._line(self._records.popleft()))
            # The terminal or pipe is closed: the error cannot be reported anywhere.
            with contextlib.suppress(OSError, ValueError):
                self.stream.write("".join(lines))
                self.stream.flush()

    def _line(self, record: logging.LogRecord) -> str:
        try:
            return self.format(record) + self.terminator
        except Exception:
            self.handleError(record)
            return ""

    def _write(self) -> None:
        while True:
            self._news.wait()
            time.sleep(_GATHERED_S)
            self._news.clear()
            self.flush()


class LineFormatter(logging.Formatter):
    """Formats a record as one line with control characters escaped; traceback lines are indented."""

    def __init__(self, layout: str) -> None:
        super().__init__(layout)
        self._second = (0, "")

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802
        """Format the local time to the millisecond; caches the text of the current second."""
        second, text = self._second
        if second != int(record.created):
            second = int(record.created)
            text = time.strftime(datefmt or self.default_time_format, time.localtime(second))
            self._second = second, text
        return f"{text},{int(record.msecs):03d}"

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's own name
        """Format the record's own line."""
        return escaped(super().formatMessage(record))

    def formatException(self, ei: _Failure) -> str:  # noqa: N802
        """Format a traceback; exception messages may contain line breaks."""
        return "\n".join(f"  {escaped(line)}" for line in super().formatException(ei).split("\n"))


class JsonFormatter(logging.Formatter):
    """Formats a record as one line of JSON with Cloud Logging's members: `severity`, `message`, `time`.

    A traceback is the member `exception`.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Format the record."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "severity": record.levelname,
            "logger": record.name,
            "process": record.process,
            "message": record.getMessage(),
            **getattr(record, FIELDS, {}),
        }
        if record.exc_info and record.exc_info[0] is not None:
            line["exception"] = self.formatException(record.exc_info)
        # ASCII: lone surrogates from clients are escaped, and so are control characters for terminals.
        return json.dumps(line, default=str)


def escaped(text: str) -> str:
    """Return a text with all unprintable characters escaped.

    These are control characters, all kinds of line breaks, marks that reverse the reading direction, and lone
    surrogates.
    """
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in text
    )
