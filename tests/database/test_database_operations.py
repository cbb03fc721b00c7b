"""Operations are kept until a client deletes them."""

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
