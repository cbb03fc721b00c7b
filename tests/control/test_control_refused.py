"""Snapshots and seeds that are refused: in words, within bounds, and nothing has changed."""

import io
import json
import os
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import String, Text

from emulator.app import CannotStart, Emulator
from emulator.database import TABLES
from emulator.database.schema import Words
from emulator.service.control import snapshot as limits
from tests.control.project import Project, client_of, make_settings
from tests.control.test_control_state import listed, running, write_seed

Entries = dict[str, bytes]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A project with a job, a canned model, a fault and objects: a row in most tables."""
    folder = tmp_path_factory.mktemp("refused")
    with Emulator(make_settings(folder)) as emulator, client_of(emulator) as http:
        project = Project(emulator, http, emulator.settings.buckets, id="my-project")
        line = {"video": "*", "prediction": []}
        body = {"parent": project.parent, "modelId": "pets", "objective": "object_tracking", "lines": [line]}
        project.control("POST", "canned", body)
        project.control("POST", "faults", {"on": "rpc", "method": "DeleteModel", "code": 7})
        project.pace("immediate")
        project.finish(project.create(model="pets"))
        gone = project.finish(project.create(model="pets"))
        project.call("DELETE", f"/v1/{gone['name']}")
        yield project


@pytest.fixture(scope="module")
def good(server: Project) -> Entries:
    """The entries of a snapshot that can be loaded."""
    with zipfile.ZipFile(io.BytesIO(server.http.get("/_emulator/snapshot").content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def packed(entries: Entries, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return file.getvalue()


def everything(project: Project) -> Any:
    """All that can be seen: rows over the wire and in the snapshot, files in the folders."""
    data = project.emulator.settings.data_dir
    files = {
        str(path): path.read_bytes() if path.is_file() else None
        for name in ("buckets", "models", "uploads")
        for path in sorted((data / name).rglob("*"))
    }
    with zipfile.ZipFile(io.BytesIO(project.http.get("/_emulator/snapshot").content)) as archive:
        rows = json.loads(archive.read("rows.json"))
    for job in rows["batch_prediction_jobs"]:
        # A server takes a running job, and lets go of it, at any time.
        del job["owner"], job["lease_expires_us"]
    return listed(project), project.control("GET", "faults"), files, rows


def message_of(project: Project, content: bytes) -> str:
    """What the refusal of a snapshot says."""
    response = project.http.put("/_emulator/snapshot", content=content)
    error = response.json()["error"]
    assert (response.status_code, error["status"]) == (400, "INVALID_ARGUMENT"), error
    assert len(error["message"]) < 1000
    return str(error["message"])


def refused(project: Project, content: bytes) -> str:
    """Load a snapshot, see that nothing has changed, and return the message."""
    before = everything(project)
    message = message_of(project, content)
    assert everything(project) == before
    assert not list(project.emulator.settings.data_dir.rglob(".vbe-swap-*"))
    return message


def with_rows(entries: Entries, change: Callable[[Any], object]) -> bytes:
    rows = json.loads(entries["rows.json"])
    change(rows)
    return packed({**entries, "rows.json": json.dumps(rows).encode()})


def test_the_snapshot_itself_can_be_loaded(server: Project, good: Entries) -> None:
    before = everything(server)
    response = server.http.put("/_emulator/snapshot", content=packed(good))
    assert response.status_code == 200, response.text
    after = everything(server)
    noted = [row for row in after[3]["control_notes"] if row["name"] != "replacement"]
    assert (*after[:3], {**after[3], "control_notes": noted}) == before


def spoil(table: str, column: str, new: dict[str, Any] | None, rows: Any) -> None:
    """Take a column of the last row away, or give it another value."""
    del rows[table][-1][column]
    if new is not None:
        rows[table][-1][column] = new["value"]


@pytest.mark.parametrize("table", TABLES)
def test_rows_that_are_no_rows_of_their_table(server: Project, good: Entries, table: str) -> None:
    """For every table that there is: what a row must have follows from the tables themselves."""
    rows = json.loads(good["rows.json"])[table]
    assert f"its table {table} is missing" in refused(server, with_rows(good, lambda all_: all_.pop(table)))
    if not rows:
        pytest.skip("no row to spoil")
    before = everything(server)
    for column in TABLES[table].c:
        where = f"row {len(rows)} of {table}: its column {column.name} "
        missing = with_rows(good, partial(spoil, table, column.name, None))
        assert f"{where}is missing" in message_of(server, missing)
        wrong = with_rows(
            good, partial(spoil, table, column.name, {"value": 1.5 if column.nullable else None})
        )
        assert where in message_of(server, wrong)
    unknown = with_rows(good, lambda all_: all_[table][-1].update(newer=1))
    assert "it has an unknown column 'newer'" in message_of(server, unknown)
    twice = with_rows(good, lambda all_: all_[table].append(all_[table][0]))
    assert "the rows do not fit together: UNIQUE constraint failed" in message_of(server, twice)
    assert everything(server) == before


@pytest.mark.parametrize(
    ("table", "changes", "words"),
    [
        ("batch_prediction_jobs", {"state": 99}, "its column state does not fit"),
        ("batch_prediction_jobs", {"id": 1 << 70}, "a whole number of 64 bits"),
        ("batch_prediction_jobs", {"attempts": True}, "a whole number of 32 bits"),
        ("batch_prediction_jobs", {"pace": "a\0b"}, "a text without NUL"),
        ("batch_prediction_jobs", {"pace": "\ud800"}, "surrogates not allowed"),
        ("batch_prediction_jobs", {"document": {"bytes": "?"}}, "its column document does not fit"),
        ("batch_prediction_jobs", {"document": {"bytes": "/////w=="}}, "its column document does not fit"),
        ("batch_prediction_jobs", {"partial_failures": {"frames": 5}}, "partial_failures does not fit"),
        ("model_versions", {"model_id": "nobody"}, "FOREIGN KEY constraint failed"),
    ],
)
def test_damaged_values(server: Project, good: Entries, table: str, changes: Any, words: str) -> None:
    assert words in refused(server, with_rows(good, lambda rows: rows[table][-1].update(changes)))


def test_a_row_of_a_job_that_is_not_there(server: Project, good: Entries) -> None:
    texts = (String, Text, Words)
    row = {column.name: "" if isinstance(column.type, texts) else 5 for column in TABLES["shards"].c}
    orphan = with_rows(good, lambda rows: rows["shards"].append(row))
    assert "FOREIGN KEY constraint failed" in refused(server, orphan)


def test_labels_that_look_like_bytes_come_back(tmp_path: Path) -> None:
    with running(tmp_path) as project:
        name = project.create(labels={"bytes": "aaaa"})
        job = project.finish(name)
        content = project.http.get("/_emulator/snapshot").content
        assert project.http.put("/_emulator/snapshot", content=content).status_code == 200
        assert project.get(name) == job


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (b"", "rows.json lacks a '{'"),
        (b"[]", "rows.json lacks a '{'"),
        (b'{"shards": [', "rows.json is no JSON"),
        (b'{"nothing": []}', "it has an unknown table 'nothing'"),
        (b'{"shards": [], "shards": []}', "it has the table shards twice"),
        (b'{"shards": [1]}', "row 1 of shards: it is no object"),
        (b'{"shards": [' + b"[" * 100_000, "rows.json is nested too deeply"),
        (b'{"shards": [{"a": "' + b" " * (limits.MOST_ROW_BYTES + 1_000_000), "has a row over 16 MiB"),
        (b'{"shards": [{"a": ' + b"1" * 100_000 + b"}]}", "Exceeds the limit"),
        (b"\xff", "can't decode byte"),
    ],
)
def test_rows_that_are_no_json(server: Project, good: Entries, rows: bytes, words: str) -> None:
    assert words in refused(server, packed({**good, "rows.json": rows}))


@pytest.mark.parametrize(
    "name",
    [
        "buckets/" + "a" * 300,
        "buckets/" + "a/" * 2000 + "b",
        "buckets/bucket/../../outside",
        "/buckets/bucket/a",
        "buckets//a",
        "elsewhere/a",
        "buckets",
        "buckets/.vbe-swap-new-1/a",
        "buckets/bucket/a.mp4/below-a-file",
    ],
)
def test_entries_that_no_folder_could_hold(server: Project, good: Entries, name: str) -> None:
    head = json.loads(good["snapshot.json"])
    head["times"][name] = 0
    entries = {**good, name: b"x", "snapshot.json": json.dumps(head).encode()}
    assert "Nothing changed" in refused(server, packed(entries))


def test_heads_that_do_not_fit(server: Project, good: Entries) -> None:
    head = json.loads(good["snapshot.json"])
    other = next(iter(head["times"]))
    times = head["times"]
    for changed, words in (
        ([], "has no times of files"),
        ({**head, "times": {**times, other: 1 << 80}}, "has no times of files"),
        ({**head, "times": {**times, other: "x"}}, "has no times of files"),
        ({**head, "times": {**times, "buckets/more": 1}}, "tells of other files"),
        ({**head, "times": {}}, "tells of other files"),
        ({**head, "schema": head["schema"] - 1}, "are older than those of"),
        ({**head, "schema": head["schema"] + 1}, "Load it with that version"),
        ({**head, "schema": "x"}, "Load it with that version"),
        ({**head, "format": 9}, "Load it with that version"),
    ):
        assert words in refused(server, packed({**good, "snapshot.json": json.dumps(changed).encode()}))


def test_zip_files_of_other_kinds(server: Project, good: Entries) -> None:
    assert "encrypted or packed otherwise" in refused(server, packed(good, zipfile.ZIP_LZMA))
    encrypted = bytearray(packed(good))
    at = encrypted.index(b"PK\1\2")
    encrypted[at + 8] |= 1
    assert "encrypted or packed otherwise" in refused(server, bytes(encrypted))
    file = io.BytesIO(packed(good))
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(file, "a") as archive:
        archive.writestr("rows.json", b"{}")
    assert "it has an entry twice" in refused(server, file.getvalue())


def bomb(name: str, size: int) -> bytes:
    """A zip file whose entry unpacks to so many blanks, made without unpacking them here: pieces that are
    compressed once and stand there many times."""
    piece = 1 << 20
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    first = packer.compress(b" " * piece) + packer.flush(zlib.Z_FULL_FLUSH)
    body = first * (size // piece) + zlib.compressobj(9, zlib.DEFLATED, -15).flush()
    encoded = name.encode()
    fields = (20, 0, 8, 0, 33, 0, len(body), size // piece * piece)
    local = struct.pack("<IHHHHHIIIHH", 0x04034B50, *fields, len(encoded), 0) + encoded + body
    central = (
        struct.pack("<IHHHHHHIIIHHHHHII", 0x02014B50, 20, *fields, len(encoded), 0, 0, 0, 0, 0, 0) + encoded
    )
    end = struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, 1, 1, len(central), len(local), 0)
    return local + central + end


def peak_memory() -> int:
    """The most that this process, the server in it, has had in memory, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="measures with Linux's /proc")
@pytest.mark.parametrize("name", ["rows.json", "snapshot.json", "buckets/bucket/a"])
def test_bombs_are_refused_within_bounds(server: Project, name: str) -> None:
    content = bomb(name, 1500 << 20)
    assert len(content) < 3_000_000
    everything(server)
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    before = peak_memory()
    assert "it unpacks to 1,572,864,000 bytes" in refused(server, content)
    assert peak_memory() - before < 100 << 20


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="measures with Linux's /proc")
@pytest.mark.parametrize(
    ("name", "words"), [("rows.json", "no item named"), ("snapshot.json", "larger than 16 MiB")]
)
def test_large_entries_are_read_within_bounds(server: Project, name: str, words: str) -> None:
    content = bomb(name, 200 << 20)
    everything(server)
    Path("/proc/self/clear_refs").write_text("5")
    before = peak_memory()
    assert words in refused(server, content)
    assert peak_memory() - before < 100 << 20


def test_a_list_of_entries_that_would_fill_the_memory(server: Project) -> None:
    size = limits.MOST_LIST_BYTES + 1
    end = struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, 0xFFFF, 0xFFFF, size, 0, 0)
    assert "the list of its entries is larger than 32 MiB" in refused(server, b" " * size + end)


# Seeds


def files_below(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("jobs.jsonl", '{"parent": "x"}'),
        ("jobs.jsonl", "[" * 100_000),
        ("control.json", "{"),
        ("RECORDING.md", "Format 2."),
    ],
)
def test_a_seed_that_is_refused_leaves_the_buckets_alone(tmp_path: Path, file: str, text: str) -> None:
    seed = write_seed(tmp_path)
    (seed / file).write_text(text)
    settings = make_settings(tmp_path, seed_dir=seed)
    (settings.buckets / "seeded").mkdir()
    (settings.buckets / "seeded" / "in.jsonl").write_text("mine")
    before = files_below(settings.buckets)
    with pytest.raises(CannotStart, match=file), running(tmp_path, seed_dir=seed):
        pass
    assert files_below(settings.buckets) == before
    assert not list(settings.data_dir.rglob(".vbe-swap-*"))


def test_a_reset_to_a_seed_that_is_refused_changes_nothing(tmp_path: Path) -> None:
    seed = write_seed(tmp_path)
    with running(tmp_path, seed_dir=seed) as project:
        created, _ = listed(project)
        project.finish(created)
        project.pace("running=hold")
        held = project.create(model="pets")
        project.wait(held, "RUNNING", held=True)
        good = (seed / "jobs.jsonl").read_text()
        (seed / "jobs.jsonl").write_text(f"{good}no JSON\n")
        before = everything(project)
        error = project.error("POST", "/_emulator/reset", {})
        assert error["status"] == "FAILED_PRECONDITION"
        assert "jobs.jsonl line 3: " in error["message"]
        assert everything(project) == before
        assert project.state(held) == "RUNNING"
        (seed / "jobs.jsonl").write_text(good)
        assert project.control("POST", "reset")["seeded"] is True
        assert len(listed(project)) == 2
        assert {path.name for path in project.buckets.iterdir()} == {"seeded"}


def test_strangers_in_a_seed_are_left_out(tmp_path: Path) -> None:
    seed = write_seed(tmp_path)
    bucket = seed / "buckets" / "seeded"
    os.mkfifo(bucket / "pipe")
    (bucket / ".#in.jsonl").symlink_to("user@host.1234:1")
    (bucket / "loop").symlink_to("loop")
    (bucket / "above").symlink_to("..")
    (bucket / "zero").symlink_to("/dev/zero")
    (bucket / "link.jsonl").symlink_to("in.jsonl")
    (bucket / os.fsdecode(b"caf\xe9")).write_text("x")
    with running(tmp_path, seed_dir=seed) as project:
        assert len(listed(project)) == 2
        assert {path.name for path in (project.buckets / "seeded").iterdir()} == {"in.jsonl", "link.jsonl"}
        assert project.http.get("/seeded/link.jsonl").content == (bucket / "in.jsonl").read_bytes()


@pytest.mark.parametrize("file", ["jobs.jsonl", "control.json"])
def test_a_seed_file_that_is_none(tmp_path: Path, file: str) -> None:
    seed = write_seed(tmp_path)
    (seed / file).unlink()
    os.mkfifo(seed / file)
    with pytest.raises(CannotStart, match="it is a named pipe"), running(tmp_path, seed_dir=seed):
        pass
    (seed / file).unlink()
    (seed / file).symlink_to("nowhere")
    with (
        pytest.raises(CannotStart, match="it is a link that leads nowhere"),
        running(tmp_path, seed_dir=seed),
    ):
        pass


def test_a_seed_adds_to_buckets_that_are_there(tmp_path: Path) -> None:
    seed = write_seed(tmp_path)
    settings = make_settings(tmp_path)
    (settings.buckets / "seeded").mkdir()
    (settings.buckets / "seeded" / "mine").write_text("mine")
    (settings.buckets / "seeded" / "in.jsonl").write_text("mine")
    with running(tmp_path, seed_dir=seed) as project:
        found = files_below(project.buckets / "seeded")
        assert found["mine"] == b"mine"
        assert found["in.jsonl"] == (seed / "buckets" / "seeded" / "in.jsonl").read_bytes()
        assert (project.buckets / "bucket" / "a.mp4").is_file()


def test_a_seed_is_not_led_out_of_the_buckets_by_a_link(tmp_path: Path) -> None:
    """A link in a bucket leads elsewhere, and the seed has a file below it: nothing is written there."""
    seed, outside = tmp_path / "seed", tmp_path / "outside"
    outside.mkdir()
    write_seed(seed)
    (seed / "buckets" / "bucket" / "sub").mkdir(parents=True)
    (seed / "buckets" / "bucket" / "sub" / "x").write_text("seed")
    with running(tmp_path) as project:
        (project.buckets / "bucket" / "sub").symlink_to(outside)
    with pytest.raises(CannotStart, match="leads out of the folder"), running(tmp_path, seed_dir=seed):
        pass
    assert list(outside.iterdir()) == []
    (tmp_path / "data" / "buckets" / "bucket" / "sub").unlink()
    with running(tmp_path, seed_dir=seed) as project:
        assert (project.buckets / "bucket" / "sub" / "x").read_text() == "seed"


def test_a_list_of_entries_is_not_hidden_by_its_own_record(
    server: Project, good: Entries, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MOST_LIST_BYTES", 10)
    data = bytearray(packed(good))
    at = data.rfind(b"PK\5\6")
    data[at + 16 : at + 20] = b"PK\5\6"
    assert "the list of its entries is larger than" in refused(server, bytes(data))
