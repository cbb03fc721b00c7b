"""What the server's user may not read or write is called that, and hides nothing else."""

import subprocess
from pathlib import Path

import pytest

from tests.storage.permissions import unprivileged

PROGRAM = """
import sys
from pathlib import Path
from emulator.storage import GcsUri, LocalStore
from emulator.gcs.bucket_store import Buckets

store = LocalStore(Path(sys.argv[1]))


def write(uri):
    with store.write(uri) as file:
        file.write(b"x")


def use_file(uri):
    with store.local_path(uri) as path:
        return path.name


def names(found):
    return [info.uri.object for info in found]


def attempt(call):
    try:
        print(call())
    except Exception as error:
        print(f"{type(error).__name__}: {error}")
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A bucket with an object beside two folders that are closed: to entering, and to entering alone."""
    bucket = tmp_path / "bucket"
    for name in ("in.jsonl", "lost+found/a", "named/a"):
        (bucket / name).parent.mkdir(parents=True, exist_ok=True)
        (bucket / name).write_text("x")
    (bucket / "link").symlink_to("lost+found/a")
    (bucket / "lost+found").chmod(0)
    (bucket / "named").chmod(0o400)
    (tmp_path / "closed").mkdir(mode=0)
    return tmp_path


def outcome(root: Path, call: str) -> tuple[str, str]:
    """What a call prints, with the root left out, and what it logs."""
    program = f"{PROGRAM}\nattempt(lambda: {call})"
    done = subprocess.run(
        unprivileged(program, str(root)), capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout.strip().replace(str(root), "ROOT"), done.stderr.replace(str(root), "ROOT")


@pytest.mark.parametrize(
    ("call", "uri", "closed"),
    [
        (
            'store.open_read(GcsUri("bucket", "lost+found/a"))',
            "gs://bucket/lost+found/a",
            "bucket/lost+found",
        ),
        ('store.stat(GcsUri("closed", "deep/down/a"))', "gs://closed/deep/down/a", "closed"),
        ('store.delete(GcsUri("bucket", "lost+found/a"))', "gs://bucket/lost+found/a", "bucket/lost+found"),
    ],
)
def test_what_may_not_be_entered_is_not_read(root: Path, call: str, uri: str, closed: str) -> None:
    cause = f"permission is denied; give the server's user access to ROOT/{closed}."
    assert outcome(root, call)[0] == f"AccessDenied: {uri} cannot be read: {cause}"


@pytest.mark.parametrize(
    ("call", "uri"),
    [
        ('write(GcsUri("closed", "a"))', "gs://closed/a"),
        ('store.check_writable(GcsUri("closed", "out/"))', "gs://closed/out/"),
        ('Buckets(store).draft("closed")', "gs://closed/"),
    ],
)
def test_what_may_not_be_entered_is_not_written(root: Path, call: str, uri: str) -> None:
    cause = "below ROOT: permission is denied; give the server's user write access."
    assert outcome(root, call)[0] == f"AccessDenied: {uri} cannot be written {cause}"


def test_closed_bucket_is_a_bucket_and_stops_no_start(root: Path) -> None:
    assert outcome(root, "list(store.buckets())")[0] == "['bucket', 'closed']"
    assert outcome(root, "store.remove_leftovers()")[0] == "None"


def test_file_that_may_not_be_read_is_refused_before_it_is_decoded(root: Path) -> None:
    (root / "bucket" / "in.jsonl").chmod(0)
    expected = (
        "AccessDenied: gs://bucket/in.jsonl cannot be read: permission is denied; give the server's user"
        " access to ROOT/bucket/in.jsonl."
    )
    assert outcome(root, 'use_file(GcsUri("bucket", "in.jsonl"))')[0] == expected


def test_root_that_may_not_be_read_is_refused(root: Path) -> None:
    root.chmod(0o100)
    printed, _ = outcome(root, "list(store.buckets())")
    root.chmod(0o700)
    assert printed == (
        "AccessDenied: The buckets cannot be listed: permission is denied; give the server's user access to"
        " ROOT."
    )


@pytest.mark.parametrize(
    "call", ['names(store.list("bucket"))', 'names(store.glob(GcsUri("bucket", "*.jsonl")))']
)
def test_closed_folder_is_left_out_of_a_list_and_logged(root: Path, call: str) -> None:
    printed, logged = outcome(root, call)
    assert printed == "['in.jsonl']"
    for folder in ("lost+found", "named"):
        assert (
            f"gs://bucket/{folder}/ cannot be listed: permission is denied; give the server's user access to"
            f" ROOT/bucket/{folder}. It is left out of the list."
        ) in logged


@pytest.mark.parametrize("folder", ["lost+found", "named"])
def test_closed_folder_that_is_asked_for_is_refused(root: Path, folder: str) -> None:
    refused = f"permission is denied; give the server's user access to ROOT/bucket/{folder}."
    printed, _ = outcome(root, f'names(store.list("bucket", "{folder}/"))')
    assert printed == f"AccessDenied: gs://bucket/{folder}/ cannot be listed: {refused}"
    printed, _ = outcome(root, f'names(store.glob(GcsUri("bucket", "{folder}/*.jsonl")))')
    assert printed == f"AccessDenied: gs://bucket/{folder}/*.jsonl cannot be read: {refused}"
