"""The use cases of the control surface: paces, faults, journal, steps of jobs, reset and snapshots."""

from emulator.service.control.canned import Canned
from emulator.service.control.example import Examples
from emulator.service.control.faults import Faults
from emulator.service.control.gate import CallRecord, ConnectionReset, Gate, Incoming
from emulator.service.control.history import History
from emulator.service.control.journal import Journal
from emulator.service.control.metrics import Metrics
from emulator.service.control.paces import Paces
from emulator.service.control.scopes import Scopes
from emulator.service.control.storage_gate import StorageCall, StorageGate
from emulator.service.control.watch import Watch

__all__ = [
    "CallRecord",
    "Canned",
    "ConnectionReset",
    "Examples",
    "Faults",
    "Gate",
    "History",
    "Incoming",
    "Journal",
    "Metrics",
    "Paces",
    "Scopes",
    "StorageCall",
    "StorageGate",
    "Watch",
]
