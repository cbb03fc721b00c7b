"""Operations are kept until a client deletes them; of those that are done, the newest."""

import pytest

from emulator.database import Database, OperationRow


def operation(number: int, model: str | None = None, done: bool = False) -> OperationRow:
    return OperationRow(number, "1", "l", model, number, done, b"document")


def test_operations_are_listed_by_location_and_model(database: Database) -> None:
    for row in (operation(1), operation(2, "m"), operation(3, "other")):
        database.insert_operation(row)
    assert {row.id for row in database.list_operations("1", "l")} == {1, 2, 3}
    assert {row.id for row in database.list_operations("1", "l", model="m")} == {2}
    assert database.list_operations("1", "elsewhere") == []


def test_operation_name_says_which_model_it_is_on() -> None:
    assert operation(1).name == "projects/1/locations/l/operations/1"
    assert operation(2, "m").name == "projects/1/locations/l/models/m/operations/2"


def test_deleted_operation_cannot_be_finished(database: Database) -> None:
    database.insert_operation(operation(1))
    assert database.delete_operation(1)
    assert not database.delete_operation(1)
    assert not database.finish_operation(1, b"")
    assert database.get_operation(1) is None


def test_only_the_newest_operations_that_are_done_are_kept(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("emulator.database.operations.MAX_DONE", 3)
    database.insert_operation(operation(1))
    for number in range(2, 9):
        database.insert_operation(operation(number, done=True))
    assert {row.id for row in database.list_operations("1", "l")} == {1, 6, 7, 8}
    assert database.finish_operation(1, b"done")
    database.insert_operation(operation(9))
    assert {row.id for row in database.list_operations("1", "l")} == {6, 7, 8, 9}
