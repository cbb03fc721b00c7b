"""What every call of Cloud Storage passes: faults on it, and the journal. As `calls` for those of Vertex."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from emulator.instructions.faults import RpcFault
from emulator.service.context import Context
from emulator.service.control.calls import OBSERVER
from emulator.service.control.faults import Faults
from emulator.service.control.journal import STORAGE, Entry, Journal, shown_headers
from emulator.service.control.watch import Watch

_READS = ("get", "list", "getStorageLayout", "getIamPolicy", "testIamPermissions")
# Everything else may hold a secret, as a signed URL does.
_SHOWN_PARAMETERS = (
    *("alt", "delimiter", "endOffset", "fields", "generation", "ifGenerationMatch"),
    *("ifGenerationNotMatch", "ifMetagenerationMatch", "ifMetagenerationNotMatch"),
    *("includeTrailingDelimiter", "list-type", "marker", "matchGlob", "max-keys", "maxResults"),
    *("pageToken", "prefix", "project", "projection", "startOffset", "uploadType", "versions"),
)
_MAX_PARAMETER = 1000


@dataclass(frozen=True)
class StorageCall:
    """A call of Cloud Storage: its method as in `storage.objects.insert`, what it is about ("" for nothing),
    and the API that it came through, `json` or `xml`."""

    method: str
    bucket: str
    object: str
    api: str
    parameters: Mapping[str, str]
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def observes(self) -> bool:
        """Whether it is to leave no trace."""
        return OBSERVER in self.headers and self.method.rpartition(".")[2] in _READS


class StorageGate:
    """Every call goes through it. `pause` lets time pass as long as the server goes on."""

    def __init__(self, context: Context, watch: Watch, faults: Faults, journal: Journal) -> None:
        self._context = context
        self.pause = watch.pause
        self._faults = faults
        self._journal = journal

    def may_act(self, call: StorageCall) -> bool:
        """Whether a fault may act on a call; never looks at the database, so that event loops can ask."""
        return self._faults.may_hit_storage and not call.observes

    def fault(self, call: StorageCall) -> tuple[RpcFault, int]:
        """What is planned for a call, and the plan's number; a fault that does nothing when that is 0."""
        fault, number = self._faults.of_storage(call.method, call.bucket, call.object)
        return fault or RpcFault(), number

    def note(self, call: StorageCall, status: str, seconds: float, fault: int) -> None:
        """Put a call that has been answered into the journal; `fault` is the number of the plan that hit."""
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
