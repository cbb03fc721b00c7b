"""Opening a database: created when missing, refused with the remedy when it cannot be used."""

import sqlite3
from pathlib import Path

import pytest

from emulator.database import Database, DatabaseUnusable, OperationRow
from tests.database.job_rows import Clock


def refused(url: str) -> str:
    with pytest.raises(DatabaseUnusable) as caught:
        Database(url)
    return str(caught.value)


def test_rows_survive_reopening(database_url: str, clock: Clock) -> None:
    if database_url == "sqlite://":
        pytest.skip("memory forgets")
    operation = OperationRow(7, "1", "l", "m", clock(), False, b"document")
    first = Database(database_url)
    first.insert_operation(operation)
    first.close()
    second = Database(database_url)
    assert second.get_operation(7) == operation
    second.close()


def test_two_servers_share_one_database(database_url: str) -> None:
    if database_url == "sqlite://":
        pytest.skip("memory is not shared")
    one, other = Database(database_url), Database(database_url)
    one.insert_operation(OperationRow(1, "1", "l", None, 5, False, b""))
    assert other.finish_operation(1, b"done")
    assert not one.finish_operation(1, b"again")
    found = one.get_operation(1)
    assert found is not None
    assert (found.done, found.document) == (True, b"done")
    assert other.unfinished_operations() == []
    one.close()
    other.close()


def test_missing_folders_are_made(tmp_path: Path) -> None:
    Database(f"sqlite:///{tmp_path}/a/b/emulator.db").close()
    assert (tmp_path / "a/b/emulator.db").exists()


@pytest.mark.parametrize("version", [0, 999])
def test_other_schema_version_is_refused(tmp_path: Path, version: int) -> None:
    path = tmp_path / "emulator.db"
    Database(f"sqlite:///{path}").close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE schema_version SET version = ?", (version,))
    connection.close()
    message = refused(f"sqlite:///{path}")
    assert str(path) in message
    assert f"schema version {version}" in message
    assert "move the file away" in message


def test_database_of_another_program_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE bookmarks (id INTEGER)")
    connection.close()
    message = refused(f"sqlite:///{path}")
    assert "belongs to another program" in message
    assert "bookmarks" in message
    with sqlite3.connect(path) as connection:
        tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    connection.close()
    assert tables == [("bookmarks",)], "nothing was added"


@pytest.mark.parametrize("content", [b"not a database at all" * 100, b"SQLite format 3\0" + b"\xff" * 500])
def test_file_that_is_no_database_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "emulator.db"
    path.write_bytes(content)
    message = refused(f"sqlite:///{path}")
    assert str(path) in message
    assert "move the file away" in message
    assert path.read_bytes() == content


def test_folder_in_place_of_the_file_is_refused(tmp_path: Path) -> None:
    message = refused(f"sqlite:///{tmp_path}")
    assert "writable, or name another database" in message


def test_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert str(tmp_path) in refused(f"sqlite:///{tmp_path}/file/emulator.db")


def test_read_only_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "emulator.db"
    Database(f"sqlite:///{path}").close()
    message = refused(f"sqlite:///file:{path}?mode=ro&uri=true")
    assert "readonly" in message
    assert "make the file and its folder writable" in message


@pytest.mark.parametrize(
    ("url", "part"),
    [
        ("emulator.db", "is not a database URL"),
        ("nosuch://host/name", "install the driver"),
        ("postgresql+nosuch://host/name", "install the driver"),
    ],
)
def test_url_without_a_driver_is_refused(url: str, part: str) -> None:
    message = refused(url)
    assert part in message
    assert url.partition(":")[0] in message


def test_unreachable_server_is_refused_without_its_password() -> None:
    pytest.importorskip("psycopg")
    message = refused("postgresql+psycopg://user:secret@127.0.0.1:1/name?connect_timeout=2")
    assert "see that the server runs" in message
    assert "secret" not in message


@pytest.mark.parametrize("lock", ["BEGIN IMMEDIATE", "BEGIN EXCLUSIVE"])
def test_file_that_another_program_writes_to_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lock: str
) -> None:
    monkeypatch.setattr("emulator.database.connection._BUSY_TIMEOUT_MS", 100)
    url = f"sqlite:///{tmp_path / 'a.db'}"
    Database(url).close()
    other = sqlite3.connect(tmp_path / "a.db")
    other.execute(lock)
    with pytest.raises(DatabaseUnusable, match="locked; another program holds the file"):
        Database(url)
    other.close()
    Database(url).close()


def test_connection_that_is_in_use_is_closed_when_it_is_given_back(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'a.db'}")
    with database._read() as connection:
        raw = connection.connection.driver_connection
        database.close()
    assert raw is not None
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        raw.execute("SELECT 1")
