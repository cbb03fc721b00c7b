"""Long-running operations: the other services create them, clients read them here.

Contract: google/longrunning/operations.proto.
"""

import threading
import time
from typing import Any

from emulator.database import OperationRow
from emulator.service.context import Call, Context, Place, id_number
from emulator.service.control.watch import Watch
from emulator.service.listing import Ordering, Paging
from emulator.vertex.errors import Aborted, ApiError, FailedPrecondition, NotFound
from emulator.vertex.listing import FieldKind, OrderKey, parse_filter
from emulator.vertex.names import LocationName, ModelName, OperationName

_FILTER_FIELDS = {"done": FieldKind.STRING}
_NEWEST_FIRST = Ordering((OrderKey("create_time", True), OrderKey("id", True)))
_ABANDONED_US = 3600 * 1_000_000
_POLL_S = 0.5
_LONGEST_WAIT_S = 60.0


class Operations:
    """Creates and finishes operations, and wakes waiting calls."""

    def __init__(self, context: Context, watch: Watch) -> None:
        self._context = context
        self._watch = watch
        self._finished = threading.Condition()

    def deleted(self, place: Place, call: Call) -> Any:
        """Store and return a finished operation for a deletion."""
        operation = self._new("DeleteOperationMetadata", call)
        operation.done = True
        operation.response.Pack(self._context.contract.protobuf.Empty())
        return self.message(self._insert(place, None, operation))

    def started(self, place: Place, model_id: str, metadata: str, call: Call) -> OperationRow:
        """Store a running operation on a model; `metadata` names its message type."""
        return self._insert(place, model_id, self._new(metadata, call))

    def succeed(self, row: OperationRow, response: Any) -> None:
        """Finish an operation with its response."""
        operation = self._touched(row)
        operation.response.Pack(response)
        self._finish(row, operation)

    def fail(self, row: OperationRow, error: ApiError) -> None:
        """Finish an operation with an error."""
        operation = self._touched(row)
        operation.error.CopyFrom(error.to_status())
        self._finish(row, operation)

    def abort_unfinished(self) -> None:
        """Fail the operations that a dead server left unfinished, so that no client waits for them."""
        database = self._context.database
        # Another server may still work on a recent one.
        age_us = _ABANDONED_US if database.is_shared else 0
        for row in database.unfinished_operations():
            if row.create_time_us <= database.clock() - age_us:
                text = "The server stopped before the operation was finished. Start it again."
                self.fail(row, Aborted(text))

    def message(self, row: OperationRow) -> Any:
        """The Operation message of a row."""
        operation = self._context.contract.longrunning.Operation.FromString(row.document)
        operation.name = row.name
        return operation

    def find(self, text: str) -> OperationRow:
        """The operation with that name. Raises NotFound."""
        name = OperationName.parse(text)
        place = self._context.place(name)
        number = id_number(name.operation)
        row = self._context.database.get_operation(number) if number is not None else None
        if row is None or (row.project, row.location) != (place.project, place.location):
            raise NotFound(f"The Operation does not exist. No {place}/operations/{name.operation}.")
        return row

    def wait(self, text: str, seconds: float) -> OperationRow:
        """Wait for an operation; returns it when it is done, after `seconds`, or when the server stops."""
        deadline = time.monotonic() + min(seconds, _LONGEST_WAIT_S)
        with self._finished:
            while True:
                row = self.find(text)
                left = deadline - time.monotonic()
                if row.done or left <= 0 or self._watch.closed:
                    return row
                # Poll: another server on the database cannot notify this one, and neither does this server's
                # stop.
                self._finished.wait(min(left, _POLL_S))

    def _new(self, metadata_type: str, call: Call) -> Any:
        operation = self._context.contract.longrunning.Operation()
        # Vertex: the metadata has the version of the call; the Python SDK refuses the other one.
        metadata = getattr(self._context.contract.package(call.api_version), metadata_type)()
        now = self._context.database.clock()
        metadata.generic_metadata.create_time.FromMicroseconds(now)
        metadata.generic_metadata.update_time.FromMicroseconds(now)
        operation.metadata.Pack(metadata)
        return operation

    def _insert(self, place: Place, model_id: str | None, operation: Any) -> OperationRow:
        row = OperationRow(
            id=self._context.new_id(place.project),
            project=place.project,
            location=place.location,
            model=model_id,
            create_time_us=self._context.database.clock(),
            done=operation.done,
            document=operation.SerializeToString(),
        )
        self._context.database.insert_operation(row)
        return row

    def _touched(self, row: OperationRow) -> Any:
        operation = self._context.contract.longrunning.Operation.FromString(row.document)
        metadata = self._context.contract.message(operation.metadata.type_url.rpartition("/")[2])()
        operation.metadata.Unpack(metadata)
        metadata.generic_metadata.update_time.FromMicroseconds(self._context.database.clock())
        operation.metadata.Pack(metadata)
        operation.done = True
        return operation

    def _finish(self, row: OperationRow, operation: Any) -> None:
        with self._finished:
            self._context.database.finish_operation(row.id, operation.SerializeToString())
            self._finished.notify_all()


class OperationService:
    """The calls of `google.longrunning.Operations`."""

    def __init__(self, context: Context, operations: Operations) -> None:
        self._context = context
        self._operations = operations

    def get_operation(self, request: Any, _call: Call) -> Any:
        """Read one operation."""
        return self._operations.message(self._operations.find(request.name))

    def list_operations(self, request: Any, _call: Call) -> Any:
        """List a page of the operations of a location or of one of its models, newest first."""
        name, model = request.name, None
        if "/models/" in name:
            model_name = ModelName.parse(name)
            place, model = self._context.place(model_name), model_name.model
        else:
            place = self._context.place(LocationName.parse(name, field="name"))
        paging = Paging.of(request, str(place), model or "", request.filter)
        wanted = parse_filter(request.filter, _FILTER_FIELDS)
        rows = self._context.database.list_operations(place.project, place.location, model=model)
        matching = [row for row in rows if wanted.matches({"done": str(row.done).lower()})]
        page = _NEWEST_FIRST.page(matching, lambda row: (row.create_time_us, row.id), paging)
        response = self._context.contract.longrunning.ListOperationsResponse(
            next_page_token=page.next_page_token
        )
        response.operations.extend(self._operations.message(row) for row in page.rows)
        return response

    def wait_operation(self, request: Any, _call: Call) -> Any:
        """Wait for one operation until it is done or the timeout (at most a minute) has passed."""
        timeout = request.timeout.ToMilliseconds() / 1000 if request.HasField("timeout") else _LONGEST_WAIT_S
        return self._operations.message(self._operations.wait(request.name, timeout))

    def cancel_operation(self, request: Any, _call: Call) -> Any:
        """Refuse: uploads and deletions cannot be cancelled."""
        row = self._operations.find(request.name)
        # Vertex: the end of the text for an operation of this kind (recorded training operation).
        raise FailedPrecondition(f"The operation {row.name} is not cancellable.")

    def delete_operation(self, request: Any, _call: Call) -> Any:
        """Delete an operation's record; its work goes on."""
        self._context.database.delete_operation(self._operations.find(request.name).id)
        return self._context.contract.protobuf.Empty()
