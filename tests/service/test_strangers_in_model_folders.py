"""What strangers put into model folders: one bad folder is left out with words, the others are served."""

import errno
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from emulator.inference.canned import MOST_BYTES, load_canned
from emulator.inference.manifest import MOST_ENTRIES, ManifestError, load_manifest
from emulator.registry import Registry
from emulator.vertex.errors import FailedPrecondition, InvalidArgument
from tests.execution.servers import call, serving
from tests.execution.workplace import write_tiny_model
from tests.service.service_client import PARENT, Client
from tests.storage.permissions import unprivileged

CANNED = '[model]\nobjective = "object_tracking"\ncanned = "canned.jsonl"\n'
LIST = "ModelService/ListModels"
MODELS = "/v1/projects/p/locations/us-central1/models"


# Runs several commands and prints what each says and ends with.
IN_ONE_PROCESS = """
import json, sys
from typer.testing import CliRunner
from emulator.cli import build
run = CliRunner().invoke
done = [run(build(), arguments, catch_exceptions=False) for arguments in json.loads(sys.argv[1])]
print(json.dumps([[one.exit_code, one.output] for one in done]))
"""


def write_canned(folder: Path, lines: str = '{"video": "*", "prediction": []}\n') -> Path:
    folder.mkdir(parents=True)
    (folder / "model.toml").write_text(CANNED)
    (folder / "canned.jsonl").write_text(lines)
    return folder


def fifo_at(name: str) -> Callable[[Path], None]:
    def put(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        os.mkfifo(folder / name)

    return put


def folder_at(name: str) -> Callable[[Path], None]:
    def put(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).mkdir()

    return put


def text_at(name: str, text: str) -> Callable[[Path], None]:
    def put(folder: Path) -> None:
        (folder / name).write_text(text)

    return put


def link_at(name: str, target: str) -> Callable[[Path], None]:
    def put(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(target)

    return put


def socket_at(name: str) -> Callable[[Path], None]:
    def put(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        here = Path.cwd()
        os.chdir(folder)  # the path of a socket is short
        try:
            with socket.socket(socket.AF_UNIX) as made:
                made.bind(name)
        finally:
            os.chdir(here)

    return put


def toml_with(text: str) -> Callable[[Path], None]:
    def put(folder: Path) -> None:
        manifest = folder / "model.toml"
        manifest.write_text(manifest.read_text() + text)

    return put


def toml_replacing(old: str, new: str) -> Callable[[Path], None]:
    def put(folder: Path) -> None:
        manifest = folder / "model.toml"
        manifest.write_text(manifest.read_text().replace(old, new))

    return put


# A stranger, and what is said of the model's folder.
BAD: dict[str, tuple[Callable[[Path], None], str]] = {
    "manifest-pipe": (fifo_at("model.toml"), "it is a named pipe, not a regular file"),
    "manifest-socket": (socket_at("model.toml"), "it is a socket, not a regular file"),
    "manifest-folder": (folder_at("model.toml"), "it is a folder, not a regular file"),
    "manifest-device": (link_at("model.toml", "/dev/zero"), "it is a device, not a regular file"),
    "manifest-dangling": (link_at("model.toml", "nowhere"), "it is a link that leads nowhere"),
    "manifest-loop": (link_at("model.toml", "model.toml"), os.strerror(errno.ELOOP)),
    "manifest-nested": (text_at("model.toml", "a=" + "[" * 100_000), "2,000 are the most"),
    "manifest-nested-less": (text_at("model.toml", "a=" + "[" * 1_990), "it is nested too deeply"),
    "manifest-one-key": (text_at("model.toml", ".".join("a" * 20_000) + "=1"), "2,000 are the most"),
    "manifest-many-keys": (
        text_at("model.toml", "".join(f"model.a.b.c{number}=1\n" for number in range(20_000))),
        "larger than 256 KiB",
    ),
    "manifest-quoted-keys": (
        text_at("model.toml", '"a"' + ".'a'" * 20_000 + "=1"),
        "20,001 keys, dots, tables and lists; 2,000 are the most",
    ),
    "manifest-of-labels": (toml_with("[labels]\nids = [" + "1," * 3_000_000 + "]"), "larger than 256 KiB"),
    "manifest-number": (
        toml_replacing("width = 32", f"width = 0x{'f' * 8000}"),
        "[input] width is a number of thousands of digits",
    ),
    "manifest-nul": (
        toml_replacing("[model]", '[model]\nfile = "a\\u0000/b.onnx"'),
        "it must name a file inside the model's folder",
    ),
    "labels-pipe": (fifo_at("labels.txt"), "it is a named pipe, not a regular file"),
    "labels-dangling": (link_at("labels.txt", "nowhere"), "it is a link that leads nowhere"),
    "labels-many": (text_at("labels.txt", "a\n" * 3_000_000), "larger than 4 MiB"),
    "labels-short": (text_at("labels.txt", "a\n" * 1_000_000), "100,000 labels are the most"),
    "graph-pipe": (fifo_at("model.onnx"), "it is a named pipe, not a regular file"),
    "graph-folder": (folder_at("model.onnx"), "it is a folder, not a regular file"),
    "graph-dangling": (link_at("model.onnx", "nowhere"), "does not exist"),
}
# Strangers that are none of the model's business.
HARMLESS: dict[str, Callable[[Path], None]] = {
    "name-not-utf8": text_at(os.fsdecode(b"caf\xe9.txt"), "x"),
    "name-of-lines": text_at("a\nb", "x"),
    "emacs-link": link_at(".#model.toml", "user@host.1234:1"),
    "dangling-link": link_at("backup", "nowhere"),
    "link-loop": link_at("loop", "loop"),
    "link-to-itself": link_at("here", "."),
    "link-to-everything": link_at("root", "/"),
    "pipe": fifo_at("pipe"),
    "socket": socket_at("socket"),
    "hidden-files": lambda folder: many_files(folder / ".git", MOST_ENTRIES + 10),
}


def many_files(folder: Path, number: int) -> None:
    folder.mkdir()
    first = folder / "0"
    first.touch()
    for link in range(1, number):
        os.link(first, folder / str(link))


def registry_with(tmp_path: Path, put: Callable[[Path], None]) -> Registry:
    """The models `good` and `other`, where a stranger comes to the latter."""
    write_tiny_model(tmp_path / "models" / "good")
    put(write_tiny_model(tmp_path / "models" / "other"))
    return Registry([tmp_path / "models"], tmp_path / "uploads")


def ids(registry: Registry) -> list[str]:
    return [source.id for source in registry.catalogue().sources]


@pytest.mark.parametrize("stranger", BAD)
def test_one_bad_folder_is_left_out_with_words(tmp_path: Path, stranger: str) -> None:
    put, words = BAD[stranger]
    registry = registry_with(tmp_path, put)
    catalogue = registry.catalogue()
    assert [source.id for source in catalogue.sources] == ["good"]
    (problem,) = catalogue.problems
    assert words in problem
    assert str(tmp_path / "models" / "other") in problem
    assert len(problem) < 2_000


@pytest.mark.parametrize("stranger", BAD)
def test_a_folder_that_is_mended_is_served(tmp_path: Path, stranger: str) -> None:
    registry = registry_with(tmp_path, BAD[stranger][0])
    assert ids(registry) == ["good"]
    shutil.rmtree(tmp_path / "models" / "other")
    write_tiny_model(tmp_path / "models" / "other")
    assert ids(registry) == ["good", "other"]
    assert not registry.catalogue().problems


@pytest.mark.parametrize("stranger", HARMLESS)
def test_files_that_are_none_of_ours_do_not_count(tmp_path: Path, stranger: str) -> None:
    registry = registry_with(tmp_path, HARMLESS[stranger])
    assert ids(registry) == ["good", "other"]
    before = registry.catalogue()
    (tmp_path / "models" / "other" / "labels.txt").write_text("something else\n")
    assert registry.catalogue() != before
    assert not registry.catalogue().problems


def test_a_folder_with_too_many_files_is_left_out(tmp_path: Path) -> None:
    registry = registry_with(tmp_path, lambda folder: many_files(folder / "pictures", MOST_ENTRIES + 1))
    assert ids(registry) == ["good"]
    assert "more than 10,000 files; keep a model in a folder of its own" in registry.catalogue().problems[0]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (b"caf\xe9", r"caf\xe9: the folder's name must be printable UTF-8; rename it"),
        (b"a\nb", r"a\nb: the folder's name must be printable UTF-8; rename it"),
    ],
)
def test_a_folder_whose_name_cannot_be_kept_is_left_out(tmp_path: Path, name: bytes, words: str) -> None:
    write_canned(tmp_path / "good")
    folder = write_canned(tmp_path / os.fsdecode(name))
    (folder / "model.toml").write_text(CANNED.replace("[model]", '[model]\nid = "other"'))
    catalogue = Registry([tmp_path], tmp_path / "uploads").catalogue()
    assert [source.id for source in catalogue.sources] == ["good"]
    assert catalogue.problems[0].endswith(words)


def test_folders_of_models_that_are_none(tmp_path: Path) -> None:
    write_canned(tmp_path / "good" / "model")
    (tmp_path / "file").write_text("x")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "loop").symlink_to("loop")
    (tmp_path / "full" / "link").symlink_to("nowhere")
    os.mkfifo(tmp_path / "full" / "pipe")
    write_canned(tmp_path / "full" / "other")
    folders = [tmp_path / name for name in ("file", "pipe", "loop", "missing", "full", "good")]
    catalogue = Registry(folders, tmp_path / "uploads").catalogue()
    assert [source.id for source in catalogue.sources] == ["other", "model"]
    assert [problem.removeprefix("the models folder ") for problem in catalogue.problems] == [
        f"{tmp_path}/file cannot be read: Not a directory",
        f"{tmp_path}/pipe cannot be read: Not a directory",
        f"{tmp_path}/loop cannot be read: Too many levels of symbolic links",
        f"{tmp_path}/missing cannot be read: No such file or directory",
        f"{tmp_path}/full/loop cannot be read: Too many levels of symbolic links",
    ]


def test_a_folder_that_may_not_be_entered_hides_no_other(tmp_path: Path) -> None:
    for name in ("a", "closed", "z"):
        write_canned(tmp_path / "models" / name)
    program = (
        "import sys, json; from pathlib import Path; from emulator.registry import Registry;"
        "found = Registry([Path(sys.argv[1])], Path('none')).catalogue();"
        "print(json.dumps([[source.id for source in found.sources], found.problems]))"
    )
    closed = tmp_path / "models" / "closed"
    closed.chmod(0)
    try:
        command = unprivileged(program, str(tmp_path / "models"))
        ran = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    finally:
        closed.chmod(0o755)
    assert json.loads(ran.stdout) == [["a", "z"], [f"{closed} cannot be read: Permission denied"]]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"video": "*", "prediction": ' + "[" * 100_000, "canned.jsonl line 1: it is nested too deeply"),
        (
            '{"video": "*", "prediction": [{"id": "1", "displayName": "a", "confidence": 1'
            + "0" * 4000
            + ', "frames": [{"timeOffset": "1s", "xMin": 0, "xMax": 0, "yMin": 0, "yMax": 0}]}]}',
            "canned.jsonl line 1: int too large to convert to float",
        ),
        (r'{"video": "*", "error": {"code": 3, "message": "\ud800"}}', "canned.jsonl line 1: 'utf-8'"),
    ],
)
def test_lines_of_canned_predictions_that_no_program_should_read(
    tmp_path: Path, line: str, words: str
) -> None:
    manifest = load_manifest(write_canned(tmp_path / "pets", line))
    with pytest.raises(ManifestError, match=re.escape(words)):
        load_canned(manifest)


def test_strangers_beside_canned_predictions(tmp_path: Path) -> None:
    folder = write_canned(tmp_path / "pets")
    (folder / "canned.jsonl").unlink()
    os.mkfifo(folder / "canned.jsonl")
    with pytest.raises(ManifestError, match="it is a named pipe"):
        load_canned(load_manifest(folder))
    (folder / "canned.jsonl").unlink()
    (folder / "canned.jsonl").mkdir()
    (folder / "canned.jsonl" / "a.jsonl").write_text('{"video": "*", "prediction": []}\n')
    os.mkfifo(folder / "canned.jsonl" / "b.jsonl")
    (folder / "canned.jsonl" / "c.jsonl").symlink_to("nowhere")
    assert len(load_canned(load_manifest(folder))) == 1
    with (folder / "canned.jsonl" / "d.jsonl").open("wb") as file:
        file.truncate(MOST_BYTES)
    with pytest.raises(ManifestError, match="larger than 64 MiB"):
        load_canned(load_manifest(folder))


def test_a_broken_folder_is_not_read_again_and_again(tmp_path: Path) -> None:
    """Reading a large file of canned predictions takes seconds, and every call looks at the folders."""
    many = '{"video": "*", "prediction": []}\n' * 20_000
    folder = write_canned(tmp_path / "models" / "pets", f"{many}no JSON\n")
    registry = Registry([tmp_path / "models"], tmp_path / "uploads")
    first = registry.catalogue().problems
    assert "line 20001" in first[0]
    (folder / "canned.jsonl").write_text(many)
    assert ids(registry) == ["pets"]
    (folder / "canned.jsonl").write_text(f"{many}still no JSON\n")
    assert ids(registry) == []


def test_a_server_serves_the_good_model_among_strangers(tmp_path: Path) -> None:
    """A real server process, over REST: it starts, lists, says what it left out, and is ready."""
    models = tmp_path / "models"
    write_canned(models / "good")
    for name, (put, _) in BAD.items():
        put(write_tiny_model(models / name))
    for name, harmless in HARMLESS.items():
        harmless(write_canned(models / f"with-{name}"))
    write_canned(models / os.fsdecode(b"caf\xe9"))
    with serving(tmp_path) as (_, url):
        listed = call(f"{url}{MODELS}?pageSize=100")["models"]
        expected = {"good", *(f"with-{name}" for name in HARMLESS)}
        assert {model["displayName"] for model in listed} == expected
        answer = subprocess.run(
            ["curl", "-sS", f"{url}{MODELS}/unknown"], capture_output=True, check=True, timeout=30
        )
        message = json.loads(answer.stdout)["error"]["message"]
        assert json.loads(answer.stdout)["error"]["code"] == 404
        assert "Left out:" in message
        deadline = time.monotonic() + 60
        while not (ready := json.loads(_ready(url)))["ready"]:
            assert time.monotonic() < deadline, ready
        assert {model["id"] for model in ready["models"]} == expected


def _ready(url: str) -> bytes:
    return subprocess.run(
        ["curl", "-sS", f"{url}/_emulator/ready"], capture_output=True, check=True, timeout=30
    ).stdout


def test_the_command_line_answers_on_strangers(tmp_path: Path) -> None:
    good = write_canned(tmp_path / "data" / "models" / "good")
    pipe, graph = tmp_path / "pipe.jsonl", tmp_path / "graph.onnx"
    for path in (pipe, graph, tmp_path / "clip.mp4", tmp_path / "config.toml", tmp_path / "labels.txt"):
        os.mkfifo(path)
    bad = write_canned(tmp_path / "bad")
    (bad / "model.toml").unlink()
    os.mkfifo(bad / "model.toml")
    nested = tmp_path / "nested.toml"
    nested.write_text("a=" + "[" * 1_000_000)
    (tmp_path / "data" / "models" / "link").symlink_to("nowhere")
    real = write_tiny_model(tmp_path / "real") / "model.onnx"
    data = ["--data-dir", str(tmp_path / "data")]
    cases: list[tuple[list[str], str]] = [
        (["predict", str(good), str(pipe), *data], "it is a named pipe, not a regular file"),
        (["models", "check", str(bad), *data], "it is a named pipe, not a regular file"),
        (["models", "add", str(graph), *data], "it is a named pipe, not a regular file"),
        (["models", "add", str(real), "--id", "link", *data], "There is a model in"),
        (["models", "add", str(real), "--labels", str(tmp_path / "labels.txt"), *data], "named pipe"),
        (["serve", "--config", str(tmp_path / "config.toml"), *data], "it is a named pipe"),
        (["serve", "--config", str(nested), *data], "larger than 256 KiB"),
        (["models", "list", "--models-dirs", str(nested), *data], "Not a directory"),
    ]
    ran = subprocess.run(
        [sys.executable, "-c", IN_ONE_PROCESS, json.dumps([arguments for arguments, _ in cases])],
        stdout=subprocess.PIPE,
        text=True,
        timeout=120,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    for (status, output), (arguments, words) in zip(json.loads(ran.stdout), cases, strict=True):
        assert status == 1, (arguments, output)
        assert words in output, (arguments, output)


@pytest.mark.parametrize(
    ("put", "words"),
    [
        (fifo_at("labels.txt"), "labels.txt cannot be read"),
        (fifo_at("model.toml"), "model.toml does not exist"),
        (link_at("model.onnx", "/dev/zero"), "model.onnx, which does not exist"),
        (text_at("model.toml", "a=" + "[" * 100_000), "2,000 are the most"),
        (text_at("model.toml", ".".join("a" * 20_000) + "=1"), "2,000 are the most"),
        (text_at("labels.txt", "a\n" * 3_000_000), "larger than 4 MiB"),
    ],
)
def test_an_upload_among_strangers_fails_with_words(
    client: Client, put: Callable[[Path], None], words: str
) -> None:
    artifact_uri = client.put_model("model-bucket", "exported")
    put(client.root / "buckets" / "model-bucket" / "exported")
    body = {"displayName": "Mine", "artifactUri": artifact_uri}
    operation = client.call("ModelService/UploadModel", {"parent": PARENT, "model": body})
    done = client.call("Operations/WaitOperation", {"name": operation["name"]})
    assert words in done["error"]["message"]
    assert done["error"]["code"] in (3, 9)
    listed = client.call(LIST, {"parent": PARENT})["models"]
    assert {model["displayName"] for model in listed} == {"Traffic", "Swings"}


def test_an_upload_does_not_list_a_bucket_without_end(client: Client) -> None:
    artifact_uri = client.put_model("model-bucket", "exported")
    many_files(client.root / "buckets" / "model-bucket" / "exported" / "pictures", 1_000)
    body = {"displayName": "Mine", "artifactUri": artifact_uri}
    operation = client.call("ModelService/UploadModel", {"parent": PARENT, "model": body})
    done = client.call("Operations/WaitOperation", {"name": operation["name"]})
    assert "more than 100 objects" in done["error"]["message"]


def test_canned_predictions_of_a_directory_among_strangers(client: Client) -> None:
    folder = client.root / "buckets" / "model-bucket" / "out"
    folder.mkdir(parents=True)
    (folder / "a.jsonl").write_text('{"video": "*", "prediction": []}\n')
    os.mkfifo(folder / "b.jsonl")
    (folder / "c.jsonl").symlink_to("nowhere")
    body = {
        "parent": PARENT,
        "modelId": "pets",
        "objective": "object_tracking",
        "directory": "gs://model-bucket/out",
    }
    assert client.service.canned.add(body)["lines"] == 1
    with (folder / "d.jsonl").open("wb") as file:
        file.truncate(MOST_BYTES)
    with pytest.raises(FailedPrecondition, match="larger than 64 MiB"):
        client.service.canned.add(body)
    nested = {**body, "lines": ['{"video": "*", "prediction": ' + "[" * 100_000]}
    del nested["directory"]
    with pytest.raises(InvalidArgument, match="line 1: it is nested too deeply"):
        client.service.canned.add(nested)
