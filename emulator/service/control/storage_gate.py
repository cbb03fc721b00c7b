"""Middleware for every call of Cloud Storage: applies faults and writes the journal, like `calls`."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from emulator.instructions.faults import RpcFault
from emulator.service.context import Context
from emulator.service.control.faults import Faults
from emulator.service.control.gate import OBSERVER
from emulator.service.control.journal import STORAGE, Entry, Journal, shown_headers
from emulator.service.control.watch import Watch

_READS = ("get", "list", "getStorageLayout", "getIamPolicy", "testIamPermissions")
# Other parameters may hold a secret, such as a signature.
_SHOWN_PARAMETERS = (
    *("alt", "delimiter", "endOffset", "fields", "generation", "ifGenerationMatch"),
    *("ifGenerationNotMatch", "ifMetagenerationMatch", "ifMetagenerationNotMatch"),
    *("includeTrailingDelimiter", "list-type", "marker", "matchGlob", "max-keys", "maxResults"),
    *("pageToken", "prefix", "project", "projection", "startOffset", "uploadType", "versions"),
)
_MAX_PARAMETER = 1000


@dataclass(frozen=True)
class StorageCall:
    """A call of Cloud Storage.

    Attributes:
        method: such as `storage.objects.insert`.
        bucket: "" if the call is about none.
        object: "" if the call is about none.
        api: `json` or `xml`.
    """

    method: str
    bucket: str
    object: str
    api: str
    parameters: Mapping[str, str]
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def observes(self) -> bool:
        """Whether the call must leave no trace."""
        return OBSERVER in self.headers and self.method.rpartition(".")[2] in _READS


class StorageGate:
    """The middleware of all calls. `pause` sleeps, but ends early when the server stops."""

    def __init__(self, context: Context, watch: Watch, faults: Faults, journal: Journal) -> None:
        self._context = context
        self.pause = watch.pause
        self._faults = faults
        self._journal = journal

    def may_act(self, call: StorageCall) -> bool:
        """Whether a fault may apply to a call. Never reads the database, so event loops can ask."""
        return self._faults.may_hit_storage and not call.observes

    def fault(self, call: StorageCall) -> tuple[RpcFault, int]:
        """The fault that fires on a call, and its number; an empty fault and 0 if none does."""
        fault, number = self._faults.of_storage(call.method, call.bucket, call.object)
        return fault or RpcFault(), number

    def note(self, call: StorageCall, status: str, seconds: float, fault: int) -> None:
        """Add an answered call to the journal; `fault` is the number of the fault that fired, or 0."""
        if call.observes:
            return
        shown = {name: text for name, text in call.parameters.items() if name in _SHOWN_PARAMETERS}
        request = {"bucket": call.bucket, "object": call.object}
        request |= {name: text[:_MAX_PARAMETER] for name, text in shown.items()}
        entry = Entry(
            call.method,
            call.api,
            STORAGE,
            self._context.database.now(),
            shown_headers(call.headers),
            status=status,
            seconds=seconds,
            request={name: text for name, text in request.items() if text},
            faults=[fault] if fault else [],
        )
        self._journal.add(entry)
