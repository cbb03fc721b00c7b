"""Operations and locations as their services show them."""

import threading
import time
from types import SimpleNamespace

import pytest

from emulator.database import OperationRow
from emulator.service import Call, Service
from emulator.service.fidelity import RPCS
from emulator.service.identities import random_id
from emulator.service.operations import Operations
from emulator.vertex.errors import FailedPrecondition, InvalidArgument, NotFound
from emulator.vertex.names import LocationName
from tests.service.service_client import LOCATION, NUMBER, PARENT, Client, N

GET = "Operations/GetOperation"
LIST = "Operations/ListOperations"
WAIT = "Operations/WaitOperation"


def deleted_job(client: Client) -> str:
    """The name of a finished operation."""
    name = client.create()["name"]
    client.call("JobService/CancelBatchPredictionJob", {"name": name})
    return str(client.call("JobService/DeleteBatchPredictionJob", {"name": name})["name"])


def unfinished(client: Client, model: str | None = "mine") -> OperationRow:
    row = OperationRow(random_id(), NUMBER, LOCATION, model, client.database.clock(), False, b"")
    client.database.insert_operation(row)
    return row


def test_operations_are_listed_newest_first(client: Client) -> None:
    names = [deleted_job(client) for _ in range(3)]
    row = unfinished(client)
    listed = client.call(LIST, {"name": PARENT})["operations"]
    assert [operation["name"] for operation in listed] == [row.name, *names[::-1]]
    first = client.call(LIST, {"name": PARENT, "pageSize": 3})
    second = client.call(LIST, {"name": PARENT, "pageSize": 3, "pageToken": first["nextPageToken"]})
    assert [operation["name"] for operation in second["operations"]] == [names[0]]


@pytest.mark.parametrize(("text", "count"), [("done=true", 2), ("done=false", 1), ("", 3)])
def test_operations_are_filtered(client: Client, text: str, count: int) -> None:
    deleted_job(client)
    deleted_job(client)
    unfinished(client)
    assert len(client.call(LIST, {"name": PARENT, "filter": text})["operations"]) == count


def test_operations_of_a_model_are_listed_alone(client: Client) -> None:
    deleted_job(client)
    row = unfinished(client, "mine")
    (operation,) = client.call(LIST, {"name": f"{PARENT}/models/mine"})["operations"]
    assert operation["name"] == row.name == f"{N}/models/mine/operations/{row.id}"
    assert client.call(LIST, {"name": f"{PARENT}/models/other"}) == {}


def test_operation_is_found_with_and_without_its_model(client: Client) -> None:
    row = unfinished(client)
    for name in (f"{PARENT}/operations/{row.id}", row.name):
        assert client.call(GET, {"name": name})["name"] == row.name


@pytest.mark.parametrize("operation", ["1", str(2**63 - 1), str(2**63), "9" * 19, "9" * 30, "abc"])
def test_unknown_operation_is_not_found(client: Client, operation: str) -> None:
    for rpc in (GET, WAIT, "Operations/CancelOperation", "Operations/DeleteOperation"):
        with pytest.raises(NotFound, match=r"^The Operation does not exist"):
            client.call(rpc, {"name": f"{PARENT}/operations/{operation}"})


def test_no_operation_can_be_cancelled(client: Client) -> None:
    with pytest.raises(FailedPrecondition, match=r"is not cancellable\.$"):
        client.call("Operations/CancelOperation", {"name": deleted_job(client)})


def test_deleted_operation_is_forgotten(client: Client) -> None:
    name = deleted_job(client)
    assert client.call("Operations/DeleteOperation", {"name": name}) == {}
    with pytest.raises(NotFound):
        client.call(GET, {"name": name})


def test_wait_returns_when_its_timeout_is_over(client: Client) -> None:
    row = unfinished(client)
    began = time.monotonic()
    assert "done" not in client.call(WAIT, {"name": row.name, "timeout": "0.050s"})
    assert time.monotonic() - began >= 0.05


class Waiter:
    """A call that waits for an operation, for an hour if nothing ends it."""

    def __init__(
        self, operations: Operations, name: str, monkeypatch: pytest.MonkeyPatch, poll_s: float
    ) -> None:
        monkeypatch.setattr("emulator.service.operations._LONGEST_WAIT_S", 3600.0)
        monkeypatch.setattr("emulator.service.operations._POLL_S", poll_s)
        find, looked = operations.find, threading.Event()

        def find_and_tell(text: str) -> OperationRow:
            row = find(text)
            looked.set()
            return row

        monkeypatch.setattr(operations, "find", find_and_tell)
        self._found: list[OperationRow] = []
        self._thread = threading.Thread(
            target=lambda: self._found.append(operations.wait(name, 3600)), daemon=True
        )
        self._thread.start()
        assert looked.wait(60)

    def found(self) -> OperationRow:
        """What it was answered."""
        self._thread.join(60)
        assert self._found, "it still waits"
        return self._found[0]


def test_wait_returns_as_soon_as_the_operation_is_done(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    operations = Operations(client.context, client.service.watch)
    place = client.context.place(LocationName.parse(PARENT))
    row = operations.started(place, "mine", "UploadModelOperationMetadata", Call())
    waiter = Waiter(operations, row.name, monkeypatch, poll_s=3600)
    operations.succeed(row, client.context.v1.UploadModelResponse())
    assert waiter.found().done


def test_wait_sees_what_another_server_has_finished(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    row = unfinished(client)
    waiter = Waiter(Operations(client.context, client.service.watch), row.name, monkeypatch, poll_s=0.01)
    client.database.finish_operation(row.id, b"")
    assert waiter.found().done


def test_no_wait_is_longer_than_a_minute(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    row = unfinished(client)
    clock = iter([100.0, 159.9, 160.0])
    monkeypatch.setattr("emulator.service.operations.time", SimpleNamespace(monotonic=lambda: next(clock)))
    monkeypatch.setattr("emulator.service.operations._POLL_S", 0.001)
    assert not Operations(client.context, client.service.watch).wait(row.name, 3600).done
    assert list(clock) == []


def test_wait_ends_with_the_server(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    row = unfinished(client)
    waiter = Waiter(Operations(client.context, client.service.watch), row.name, monkeypatch, poll_s=0.01)
    client.service.watch.close()
    assert not waiter.found().done


def test_every_location_that_parses_exists(client: Client) -> None:
    location = client.call("Locations/GetLocation", {"name": "projects/my-project/locations/mars-west1"})
    assert location == {
        "name": f"projects/{NUMBER}/locations/mars-west1",
        "locationId": "mars-west1",
        "displayName": "mars-west1",
        "labels": {"cloud.googleapis.com/region": "mars-west1"},
    }
    with pytest.raises(InvalidArgument):
        client.call("Locations/GetLocation", {"name": "projects/my-project/locations/Mars West"})


def test_locations_are_listed_in_pages(client: Client) -> None:
    found: list[str] = []
    token = ""
    while True:
        request = {"name": "projects/my-project", "pageSize": 20, "pageToken": token}
        response = client.call("Locations/ListLocations", request)
        found += [location["locationId"] for location in response["locations"]]
        token = response.get("nextPageToken", "")
        if not token:
            break
    assert "us-central1" in found
    assert found == sorted(set(found))
    assert len(found) > 30
    with pytest.raises(InvalidArgument):
        client.call("Locations/ListLocations", {"name": "my-project"})


def test_service_has_the_rpcs_of_its_table(client: Client) -> None:
    assert set(client.service.methods()) == set(RPCS)


def test_service_is_built_without_touching_anything(client: Client) -> None:
    before = sorted(path for path in client.root.rglob("*"))
    Service(client.context)
    assert sorted(path for path in client.root.rglob("*")) == before
