"""How log lines look: what clients and files bring into them cannot forge a line or steer a terminal."""

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
"""The attribute of a record that holds values for programs, by name; JSON lines have them as members."""


def set_up(level: str, layout: str, form: LogFormat = "text", *, gathered: bool = False) -> None:
    """Log to standard error from here on; for a process of the emulator's own.

    gathered: write lines below WARNING some milliseconds late, many at a time; for servers.
    """
    # No line tells of them, and they cost more than the rest of a record.
    logging._srcfile = None  # as the logging HOWTO has it, "Optimization"
    logging.logThreads = logging.logMultiprocessing = False
    handler = GatheringHandler() if gathered else logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if form == "json" else LineFormatter(layout))
    logging.basicConfig(level=level.upper(), handlers=[handler])


def form_in_use() -> LogFormat:
    """The format that this process logs in; the processes that it starts log in the same one."""
    is_json = any(isinstance(handler.formatter, JsonFormatter) for handler in logging.getLogger().handlers)
    return "json" if is_json else "text"


class GatheringHandler(logging.StreamHandler[TextIO]):
    """Writes lines below WARNING together, in a thread of its own; other lines at once, in their order.

    A write to a file lets the process's other threads run first, so an event loop that wrote a line per call
    would mostly wait for its turn. It would also stand still while nobody reads the pipe.
    """

    def __init__(self) -> None:
        super().__init__()
        # The oldest lines go when nobody has read standard error for so long.
        self._records: deque[logging.LogRecord] = deque(maxlen=_MOST_LINES)
        self._writing = threading.Lock()
        self._news = threading.Event()
        threading.Thread(target=self._write, name="log", daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        """Take a record."""
        self._records.append(record)
        if record.levelno >= logging.WARNING:
            self.flush()
        elif not self._news.is_set():
            self._news.set()

    def flush(self) -> None:
        """Write what has been taken so far; also called at the end of the process."""
        with self._writing:
            lines = []
            with contextlib.suppress(IndexError):
                while True:
                    lines.append(self._line(self._records.popleft()))
            # A closed terminal or pipe: nobody is there who could be told.
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
    """Writes a record as one line with control characters escaped; lines of a traceback are indented."""

    def __init__(self, layout: str) -> None:
        super().__init__(layout)
        self._second = (0, "")

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802
        """Write the local time to the millisecond; the text of a second is made once."""
        second, text = self._second
        if second != int(record.created):
            second = int(record.created)
            text = time.strftime(datefmt or self.default_time_format, time.localtime(second))
            self._second = second, text
        return f"{text},{int(record.msecs):03d}"

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's own name
        """Write the record's own line."""
        return escaped(super().formatMessage(record))

    def formatException(self, ei: _Failure) -> str:  # noqa: N802
        """Write a traceback: what an exception says may have line breaks."""
        return "\n".join(f"  {escaped(line)}" for line in super().formatException(ei).split("\n"))


class JsonFormatter(logging.Formatter):
    """Writes a record as one line of JSON, with the member names of Cloud Logging: `severity`, `message`,
    `time`. A traceback is the member `exception`."""

    def format(self, record: logging.LogRecord) -> str:
        """Write the record."""
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
        # ASCII: half characters of a client's have an escape, and no terminal is steered.
        return json.dumps(line, default=str)


def escaped(text: str) -> str:
    """Return a text with every character escaped that is not printable: controls, line breaks of any kind,
    marks that reverse the reading direction, half characters."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in text
    )
