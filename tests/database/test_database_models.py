"""Models, versions and aliases: numbers are never reused, an alias names one version."""

import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from emulator.database import Database, ModelRow, NewModel
from tests.database.job_rows import Clock

PLACE = ("1", "us-central1")
MODEL = NewModel(
    model_id="m", display_name="Model", folder="/f1", digest="d1", document=b"one", description="text",
    labels={"a": "b"}, version_description="first", version_labels={"c": "d"},
)  # fmt: skip


def model(database: Database, model_id: str = "m") -> ModelRow:
    row = database.get_model(*PLACE, model_id)
    assert row is not None
    return row


def aliases(database: Database) -> dict[int, tuple[str, ...]]:
    return {version.version: version.aliases for version in model(database).versions}


def test_model_is_read_as_it_was_inserted(database: Database, clock: Clock) -> None:
    assert database.insert_model(*PLACE, MODEL, ["default", "best"])
    row = model(database)
    (version,) = row.versions
    assert (row.display_name, row.description, row.labels) == ("Model", "text", {"a": "b"})
    assert (version.version, version.aliases, version.description) == (1, ("default", "best"), "first")
    assert (version.labels, version.folder, version.digest) == ({"c": "d"}, "/f1", "d1")
    assert (version.document, version.source) == (b"one", None)
    assert row.create_time_us == version.create_time_us == clock()


def test_model_id_is_taken_once_per_location(database: Database) -> None:
    assert database.insert_model(*PLACE, MODEL, ["default"])
    assert not database.insert_model(*PLACE, MODEL, ["default"])
    assert database.insert_model("1", "europe-west4", MODEL, ["default"])
    assert database.insert_model("2", "us-central1", MODEL, ["default"])
    assert len(database.list_models(*PLACE)) == 1


def test_new_version_takes_its_aliases_from_the_others(database: Database, clock: Clock) -> None:
    database.insert_model(*PLACE, MODEL, ["default", "best"])
    clock.advance(5)
    second = replace(MODEL, folder="/f2", version_labels={})
    assert database.add_version(*PLACE, second, ["default"]) == 2
    assert aliases(database) == {1: ("best",), 2: ("default",)}
    assert model(database).update_time_us == clock()
    assert database.add_version(*PLACE, replace(MODEL, model_id="other"), []) is None


def test_version_numbers_are_not_reused(database: Database) -> None:
    database.insert_model(*PLACE, MODEL, ["default"])
    database.add_version(*PLACE, MODEL, [])
    assert database.delete_version(*PLACE, "m", 2)
    assert database.add_version(*PLACE, MODEL, []) == 3
    assert list(aliases(database)) == [1, 3]


def test_default_version_is_not_deleted(database: Database) -> None:
    database.insert_model(*PLACE, MODEL, ["default"])
    database.add_version(*PLACE, MODEL, [])
    assert not database.delete_version(*PLACE, "m", 1)
    assert not database.delete_version(*PLACE, "m", 7)
    assert list(aliases(database)) == [1, 2]


def test_merged_aliases_move(database: Database) -> None:
    database.insert_model(*PLACE, MODEL, ["default", "best", "old"])
    database.add_version(*PLACE, MODEL, ["new"])
    assert database.merge_aliases(*PLACE, "m", 2, add=["default", "best"], remove={"new", "unknown"})
    assert aliases(database) == {1: ("old",), 2: ("default", "best")}
    assert not database.merge_aliases(*PLACE, "m", 9, add=["x"], remove=set())


def test_updates_change_what_they_name(database: Database, clock: Clock) -> None:
    database.insert_model(*PLACE, MODEL, ["default"])
    clock.advance(3)
    assert database.update_model(*PLACE, "m", {"display_name": "New", "labels": {}})
    assert database.update_version(*PLACE, "m", 1, {"description": "better"})
    row = model(database)
    assert (row.display_name, row.description, row.labels, row.update_time_us) == ("New", "text", {}, clock())
    assert (row.versions[0].description, row.versions[0].labels) == ("better", {"c": "d"})
    assert not database.update_model(*PLACE, "none", {"display_name": "x"})
    assert not database.update_version(*PLACE, "m", 2, {"description": "x"})


def test_update_of_what_has_changed_since_it_was_seen_is_left_out(database: Database) -> None:
    database.insert_model(*PLACE, MODEL, ["default"])
    changes: list[Callable[[], object]] = [
        lambda: database.update_model(*PLACE, "m", {"display_name": "x"}),
        lambda: database.update_version(*PLACE, "m", 1, {"description": "x"}),
        lambda: database.merge_aliases(*PLACE, "m", 1, add=["x"], remove=set()),
        lambda: database.add_version(*PLACE, MODEL, []),
    ]
    for change in changes:
        row = model(database)
        assert change()
        changed = model(database)
        assert not database.update_model(*PLACE, "m", {"display_name": "y"}, (row, row.versions[0]))
        assert not database.update_version(*PLACE, "m", 1, {"description": "y"}, (row, row.versions[0]))
        assert model(database) == changed
    seen = changed, changed.versions[0]
    assert database.update_model(*PLACE, "m", {"display_name": "y"}, seen)
    database.delete_model(*PLACE, "m")
    assert not database.update_model(*PLACE, "m", {"display_name": "y"}, seen)


def test_deleted_model_is_gone_with_its_versions(database: Database) -> None:
    database.insert_model(*PLACE, MODEL, ["default"])
    database.add_version(*PLACE, replace(MODEL, folder="/f2"), [])
    assert database.version_folders() == {"/f1", "/f2"}
    assert database.delete_model(*PLACE, "m")
    assert not database.delete_model(*PLACE, "m")
    assert database.get_model(*PLACE, "m") is None
    assert database.version_folders() == set()
    assert database.insert_model(*PLACE, MODEL, ["default"])
    assert list(aliases(database)) == [1]


@pytest.mark.parametrize("deleted", [False, True])
def test_folder_model_is_seeded_once(database: Database, deleted: bool) -> None:
    source = replace(MODEL, source="folder")
    database.seed_models(*PLACE, [source])
    if deleted:
        database.delete_model(*PLACE, "m")
    database.seed_models(*PLACE, [source])
    assert len(database.list_models(*PLACE)) == (0 if deleted else 1)


def test_seeding_brings_a_changed_folder_up_to_date(database: Database, clock: Clock) -> None:
    database.seed_models(*PLACE, [replace(MODEL, source="folder")])
    moved = replace(
        MODEL, source="folder", folder="/moved", digest="d2", document=b"two", display_name="Moved"
    )
    database.seed_models(*PLACE, [moved])
    assert model(database).display_name == "Moved"
    clock.advance(1)
    database.update_model(*PLACE, "m", {"display_name": "Mine"})
    database.add_version(*PLACE, replace(MODEL, folder="/upload"), ["default"])
    database.seed_models(*PLACE, [replace(moved, digest="d3", document=b"three")])
    row = model(database)
    assert row.display_name == "Mine", "what a client changed stays"
    assert [(v.folder, v.digest, v.document) for v in row.versions] == [
        ("/moved", "d3", b"three"),
        ("/upload", "d1", b"one"),
    ]


def test_folder_model_leaves_an_uploaded_one_alone(database: Database) -> None:
    database.insert_model(*PLACE, MODEL, ["default"])
    database.seed_models(*PLACE, [replace(MODEL, source="folder", folder="/folder", digest="d2")])
    assert [version.folder for version in model(database).versions] == ["/f1"]


def test_models_are_listed_newest_first(database: Database, clock: Clock) -> None:
    for model_id in ("a", "b", "c"):
        database.insert_model(*PLACE, replace(MODEL, model_id=model_id), ["default"])
        clock.advance(1)
    assert [row.model_id for row in database.list_models(*PLACE)] == ["c", "b", "a"]


@pytest.mark.parametrize(
    "change",
    [
        lambda db: db.update_model(*PLACE, "m", {"display_name": "New"}),
        lambda db: db.update_version(*PLACE, "m", 1, {"description": "new"}),
        lambda db: db.merge_aliases(*PLACE, "m", 1, add=["new"], remove=set()),
        lambda db: db.add_version(*PLACE, MODEL, ["new"]),
        lambda db: db.seed_models(*PLACE, [replace(MODEL, source="m", folder="/f2", digest="d2")]),
        lambda db: db.delete_model(*PLACE, "m"),
        lambda db: db.delete_project(None),
        lambda db: db.restore({}),
    ],
)
def test_memory_of_a_model_ends_with_any_change(
    database: Database, change: Callable[[Database], object]
) -> None:
    database.seed_models(*PLACE, [replace(MODEL, source="m")])
    before = database.known_model(*PLACE, "m")
    assert before is not None
    assert database.known_model(*PLACE, "m") is before
    change(database)
    assert database.known_model(*PLACE, "m") == database.get_model(*PLACE, "m") != before


def test_memory_of_a_model_is_short(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    database.insert_model(*PLACE, MODEL, ["default"])
    before = database.known_model(*PLACE, "m")
    other = Database(database._engine.url.render_as_string(hide_password=False))
    if other.get_model(*PLACE, "m") is None:
        pytest.skip("in memory each has rows of its own")
    other.update_model(*PLACE, "m", {"display_name": "New"})
    other.close()
    assert database.known_model(*PLACE, "m") is before
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 1.1)
    found = database.known_model(*PLACE, "m")
    assert found is not None
    assert found.display_name == "New"


def test_names_of_any_length_and_with_nul_are_kept(database: Database) -> None:
    long = "ä" * 5000
    model = NewModel(
        "m", long, f"/{long}", long, b"", description="a\0b", labels={"a": long}, source="s" * 500
    )
    database.seed_models("1" * 128, "l" * 128, [model])
    found = database.get_model("1" * 128, "l" * 128, "m")
    assert found is not None
    assert (found.display_name, found.description) == (long, "a\ufffdb")
    assert (found.versions[0].digest, found.versions[0].folder) == (long, f"/{long}")
