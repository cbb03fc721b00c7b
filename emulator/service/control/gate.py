"""Middleware for every call of Vertex's API: applies faults and writes the journal."""

import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from emulator.instructions import InstructionError
from emulator.instructions.faults import RpcFault
from emulator.instructions.header import HEADER, Instructions, parse_instructions
from emulator.service.context import Context, HasToWait
from emulator.service.control.faults import Faults
from emulator.service.control.journal import Entry, Journal, shown_headers
from emulator.service.control.paces import Paces
from emulator.service.control.watch import Watch
from emulator.vertex.errors import CATALOGUE, ApiError, InvalidArgument, Unavailable
from emulator.vertex.names import project_number

OBSERVER = "x-goog-emulator-observer"
"""A read with this header leaves no trace: no fault applies to it, and the journal omits it."""

_READS = ("Get", "List")
_PROJECT = re.compile(r"projects/([^/]+)")


class ConnectionReset(Unavailable):
    """The connection must be reset. A surface that cannot reset it answers with this error."""


@dataclass(frozen=True)
class Incoming:
    """A call as its surface received it.

    Attributes:
        surface: name of the surface.
        headers: by lower-case name.
        time_left_s: the client's deadline in seconds, if it gave one.
        may_wait: whether the thread of this call may block.
    """

    surface: str = ""
    headers: Mapping[str, str] | None = None
    time_left_s: float | None = None
    may_wait: bool = True


@dataclass
class CallRecord:
    """A call in progress. Call `admit` as soon as its request is read."""

    gate: "Gate"
    entry: Entry
    observes: bool = False

    def admit(self, request: Any) -> Instructions:
        """Apply the faults to this call; returns the other instructions of its header.

        Raises:
            ApiError: a fault fails the call.
        """
        self.entry.request = request
        self.entry.project = self.gate.project_of(request)
        if self.observes:
            return Instructions()
        instructions = _instructions(self.entry.headers.get(HEADER, ""))
        fault, number = self.gate.faults.of_call(self.entry.key, self.entry.project)
        if fault is not None:
            self.entry.faults.append(number)
            _happen(fault, f"fault {number}", self.gate.pause)
        _happen(instructions.fault, HEADER, self.gate.pause)
        return instructions


class Gate:
    """The middleware of all calls. `pause` sleeps, but ends early when the server stops."""

    def __init__(
        self, context: Context, watch: Watch, paces: Paces, faults: Faults, journal: Journal
    ) -> None:
        self._context = context
        self.pause = watch.pause
        self._paces = paces
        self.faults = faults
        self._journal = journal

    def may_hold(self, headers: Mapping[str, str]) -> bool:
        """Whether a call may wait for long, so that it should not use a thread of the shared pool."""
        return HEADER in headers or self._paces.may_hold or self.faults.may_delay

    @contextmanager
    def call(self, key: str, version: str, incoming: Incoming) -> Iterator[CallRecord]:
        """Wrap one call: measures it and adds it to the journal, with its status."""
        headers = shown_headers(incoming.headers or {})
        entry = Entry(key, version, incoming.surface, self._context.database.now(), headers)
        observes = OBSERVER in (incoming.headers or {}) and key.rpartition("/")[2].startswith(_READS)
        began = time.perf_counter()
        try:
            self._paces.look()
            yield CallRecord(self, entry, observes)
        except ApiError as error:
            entry.status = error.status
            raise
        except HasToWait:
            observes = True  # the call is repeated in a thread that may block
            raise
        finally:
            entry.seconds = time.perf_counter() - began
            if not observes:
                self._journal.add(entry)

    def project_of(self, request: Any) -> str:
        """The number of the project that a request names, or ""."""
        fields = request.DESCRIPTOR.fields_by_name
        name = next((getattr(request, field) for field in ("name", "parent") if field in fields), "")
        if not name and "model" in fields and not isinstance(request.model, str):
            name = request.model.name
        found = _PROJECT.match(name)
        return project_number(found[1], self._context.project_numbers) if found else ""


def _instructions(text: str) -> Instructions:
    try:
        return parse_instructions(text)
    except InstructionError as error:
        raise InvalidArgument(str(error)) from None


def _happen(fault: RpcFault, origin: str, pause: Callable[[float], None]) -> None:
    if fault.delay_s:
        pause(fault.delay_s)
    if fault.reset:
        # The text of a gRPC client for a connection that was reset.
        raise ConnectionReset(fault.message or "Connection reset by peer")
    if fault.code:
        message = fault.message or f"This call fails because a fault was asked for ({origin})."
        raise CATALOGUE[fault.code](message)
