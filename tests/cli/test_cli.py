"""The command line as a person uses it: real files, a real server, and what is printed."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tomllib
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from emulator.app import Emulator
from emulator.cli import build
from emulator.config import Settings
from emulator.factory import Clip, Object, render
from tests.inference.tiny_models import TRACKING_TOML, squares, tracking_folder, write_clip

ROOT = Path(__file__).parents[2]
PARENT = "projects/my-project/locations/us-central1"


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(build(), [str(argument) for argument in arguments], catch_exceptions=False)


@pytest.fixture(scope="module")
def cat_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cat walking for a second over a landscape."""
    path = tmp_path_factory.mktemp("clips") / "cat.mp4"
    cat = Object("cat", start=0.0, end=1.0, path=[(0.2, 0.3, 0.6, 0.8), (0.3, 0.3, 0.7, 0.8)])
    render(Clip(size=(320, 240), fps=10, duration=1.0, seed=3, background="landscape", objects=[cat]), path)
    return path


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    settings = Settings(port=0, data_dir=tmp_path_factory.mktemp("data"), workers=1)
    with Emulator(settings) as emulator:
        yield emulator


def create_job(emulator: Emulator, name: str) -> str:
    """Create a job over a missing input, which fails as soon as it runs."""
    body = {
        "displayName": name,
        "model": f"{PARENT}/models/video-object-tracking",
        "inputConfig": {"instancesFormat": "jsonl", "gcsSource": {"uris": ["gs://bucket/missing.jsonl"]}},
        "outputConfig": {
            "predictionsFormat": "jsonl",
            "gcsDestination": {"outputUriPrefix": "gs://bucket/output"},
        },
    }
    request = urllib.request.Request(
        f"{emulator.url}/v1/{PARENT}/batchPredictionJobs",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request) as response:
        return str(json.load(response)["name"])


@pytest.mark.parametrize("command", ["serve", "demo", "predict", "models", "jobs", "env"])
def test_every_command_has_help(command: str) -> None:
    result = run(command, "--help")
    assert result.exit_code == 0
    assert "Usage" in result.output


def test_models_list_shows_the_bundled_models(tmp_path: Path) -> None:
    result = run("models", "list", "--data-dir", tmp_path)
    assert result.exit_code == 0
    assert "video-object-tracking" in result.output
    assert "video action recognition" in result.output


def test_models_add_then_predict_with_the_added_model(tmp_path: Path, cat_clip: Path) -> None:
    bundled = ROOT / "models" / "video-object-tracking"
    added = run(
        "models", "add", bundled / "model.onnx", "--id", "mine", "--labels", bundled / "labels.txt",
        "--data-dir", tmp_path,
    )  # fmt: skip
    assert added.exit_code == 0, added.output
    assert (tmp_path / "models" / "mine" / "model.toml").is_file()
    again = run("models", "add", bundled / "model.onnx", "--id", "mine", "--data-dir", tmp_path)
    assert again.exit_code == 1
    assert "choose another name with --id" in again.output
    predicted = run("predict", "mine", cat_clip, "--data-dir", tmp_path)
    assert predicted.exit_code == 0, predicted.output


def test_models_add_replaces_a_model_by_force_once_the_new_one_has_run(tmp_path: Path) -> None:
    onnx = ROOT / "models" / "video-object-tracking" / "model.onnx"
    add = ("models", "add", onnx, "--id", "mine", "--data-dir", tmp_path)
    assert run(*add).exit_code == 0
    manifest = tmp_path / "models" / "mine" / "model.toml"
    manifest.write_text(manifest.read_text() + "# edited\n")
    broken = tmp_path / "broken.onnx"
    broken.write_text("no graph")
    refused = run("models", "add", broken, "--id", "mine", "--force", "--data-dir", tmp_path)
    assert refused.exit_code == 1
    assert "# edited" in manifest.read_text()
    assert run(*add, "--force").exit_code == 0
    assert "# edited" not in manifest.read_text()
    assert [path.name for path in manifest.parents[1].iterdir()] == ["mine"]


def test_models_remove_deletes_own_models_only(tmp_path: Path) -> None:
    bundled = ROOT / "models" / "video-object-tracking"
    shutil.copytree(bundled, tmp_path / "models" / "mine", ignore=shutil.ignore_patterns("*.py", "runs"))
    refused = run("models", "remove", "video-object-tracking", "--data-dir", tmp_path)
    assert refused.exit_code == 1
    assert "there are mine. Only models in that folder can be removed" in refused.stderr
    removed = run("models", "remove", "mine", "--data-dir", tmp_path)
    assert removed.stdout == f"Removed {tmp_path / 'models' / 'mine'}.\n"
    assert list((tmp_path / "models").iterdir()) == []


def test_models_check_tries_another_value(tmp_path: Path) -> None:
    folder = tracking_folder(tmp_path / "pale", TRACKING_TOML.replace("min_score = 0.3", "min_score = 0.9"))
    clip = write_clip(tmp_path / "clip.mp4", lambda _: squares(((60, 60, 220), 3, 3)), seconds=1)
    check = ("models", "check", folder, clip)
    result = run(
        *check, "--set", "output.min_score=0.1", "--set", "tracker.high=0.1", "--set", "tracker.new=0.1"
    )
    assert result.exit_code == 0, result.output
    assert "x red" in result.output
    assert "Scores in the clip's first 3 seconds" in result.output
    assert "rendered clip" not in result.output
    assert "min_score = 0.9" in (folder / "model.toml").read_text()
    unknown = run(*check, "--set", "output.min_scor=0.1")
    assert unknown.exit_code == 1
    assert "did you mean 'min_score'" in unknown.output


@pytest.mark.parametrize("command", [["models", "check"], ["models", "list"], ["predict"]])
def test_commands_without_a_server_leave_nothing_in_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cat_clip: Path, command: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    model: list[str | Path] = [] if command[-1] == "list" else ["video-object-tracking", cat_clip]
    result = run(*command, *model)
    assert result.exit_code == 0, result.output
    assert list(tmp_path.iterdir()) == []


def test_models_add_refuses_what_is_no_onnx_and_leaves_nothing(tmp_path: Path) -> None:
    file = tmp_path / "notes.onnx"
    file.write_text("no graph")
    result = run("models", "add", file, "--data-dir", tmp_path)
    assert result.exit_code == 1
    assert "notes.onnx" in result.output
    assert not (tmp_path / "models" / "notes").exists()


@pytest.mark.parametrize("model_id", ["a/b", "../../mine", "Mine", ""])
def test_models_add_refuses_what_is_no_model_id(tmp_path: Path, model_id: str) -> None:
    onnx = ROOT / "models" / "video-object-tracking" / "model.onnx"
    result = run("models", "add", onnx, "--id", model_id, "--data-dir", tmp_path / "data")
    assert result.exit_code == 1
    assert f"--id is {model_id!r}; it must be 1 to 63 of a-z" in result.output
    assert list(tmp_path.iterdir()) == []


def test_models_add_makes_an_id_of_any_file_s_name(tmp_path: Path) -> None:
    onnx = tmp_path / f"{'x' * 62} Final (2).ONNX"
    shutil.copyfile(ROOT / "models" / "video-object-tracking" / "model.onnx", onnx)
    result = run("models", "add", onnx, "--data-dir", tmp_path)
    assert result.exit_code == 0, result.output
    assert (tmp_path / "models" / ("x" * 62) / "model.toml").is_file()


def test_models_add_leaves_nothing_where_an_answer_makes_the_model_unusable(tmp_path: Path) -> None:
    onnx = ROOT / "models" / "video-object-tracking" / "model.onnx"
    result = run("models", "add", onnx, "--id", "mine", "--set", "input.color=GRAY", "--data-dir", tmp_path)
    assert result.exit_code == 1
    assert "[1, 1, " in result.output
    assert str(onnx) in result.output
    assert ".new-" not in result.output
    assert not (tmp_path / "models" / "mine").exists()


def test_models_add_names_the_known_label_sets(tmp_path: Path) -> None:
    onnx = ROOT / "models" / "video-object-tracking" / "model.onnx"
    result = run("models", "add", onnx, "--labels", "coco81", "--data-dir", tmp_path)
    assert result.exit_code == 1
    assert "coco80" in result.output


def test_models_add_takes_answers_to_what_it_asked(tmp_path: Path) -> None:
    onnx = ROOT / "models" / "video-object-tracking" / "model.onnx"
    labels = tmp_path / "config.json"
    labels.write_text('{"id2label": {"0": "cat", "1": "dog", "2": "car", "3": "bird"}}')
    result = run(
        "models", "add", onnx, "--id", "mine", "--labels", labels, "--head", "yolox",
        "--set", "output.min_score=0.25", "--set", "input.color=RGB", "--data-dir", tmp_path,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    written = tomllib.loads((tmp_path / "models" / "mine" / "model.toml").read_text())
    assert written["output"]["min_score"] == 0.25
    assert written["input"]["color"] == "RGB"
    assert (tmp_path / "models" / "mine" / "labels.txt").read_text() == "cat\ndog\ncar\nbird\n"


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ("width=640", "write it as SECTION.KEY=VALUE"),
        ("input.width", "write it as SECTION.KEY=VALUE"),
        ("input.widht=640", "did you mean 'width'"),
        ("output.min_score=7", "it must be a number from 0 to 1"),
        ("input.width=wide", "--set input.width is 'wide'; it must be a whole number from 8 to 8192"),
        ("input.others=ones", "it must be a table such as"),
        ("inputs.width=640", "unknown section 'inputs'; did you mean 'input'?"),
    ],
)
def test_models_add_refuses_answers_that_do_not_fit(tmp_path: Path, answer: str, message: str) -> None:
    onnx = ROOT / "models" / "video-object-tracking" / "model.onnx"
    result = run(
        "models", "add", onnx, "--id", "mine", "--set", answer, "--head", "yolox", "--data-dir", tmp_path
    )
    assert result.exit_code == 1
    assert message in result.output
    assert not (tmp_path / "models" / "mine").exists()


def test_models_check_tells_the_best_score_where_it_finds_nothing(tmp_path: Path) -> None:
    folder = tracking_folder(tmp_path / "pale", TRACKING_TOML.replace("min_score = 0.3", "min_score = 0.9"))
    clip = write_clip(tmp_path / "clip.mp4", lambda _: squares(((60, 60, 220), 3, 3)), seconds=1)
    result = run("models", "check", folder, clip, "--data-dir", tmp_path)
    assert result.exit_code == 0, result.output
    assert re.search(r"The best score in its first seconds is 0\.\d+ \(red\).* in \[input\]", result.output)


def test_models_check_without_a_video_says_what_it_ran_on(tmp_path: Path) -> None:
    result = run("models", "check", "video-object-tracking", "--data-dir", tmp_path)
    assert result.exit_code == 0, result.output
    assert "No video was given: this is a rendered clip." in result.output


def test_models_check_draws_what_it_finds(tmp_path: Path, cat_clip: Path) -> None:
    result = run(
        "models",
        "check",
        "video-object-tracking",
        cat_clip,
        "--draw",
        tmp_path / "drawn",
        "--data-dir",
        tmp_path,
    )
    assert result.exit_code == 0, result.output
    assert "x cat, best confidence" in result.output
    assert list((tmp_path / "drawn").glob("*.png"))


def test_predict_prints_lines_in_the_wire_form(tmp_path: Path, cat_clip: Path) -> None:
    result = run(
        "predict", "video-object-tracking", cat_clip, "--confidence-threshold", "0.5", "--data-dir", tmp_path
    )
    assert result.exit_code == 0, result.output
    line = json.loads(result.stdout)
    assert line["instance"]["content"] == str(cat_clip)
    assert {prediction["displayName"] for prediction in line["prediction"]} == {"cat"}


def test_predict_takes_the_flags_of_classification(tmp_path: Path, cat_clip: Path) -> None:
    flags = ["--shot-classification", "--no-segment-classification", "--confidence-threshold", "0.5"]
    result = run("predict", "video-classification", cat_clip, *flags, "--data-dir", tmp_path)
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)["prediction"]
    assert {(one["displayName"], one["type"]) for one in found} == {("cat", "shot-classification")}


def test_models_check_runs_and_draws_a_classifier(tmp_path: Path, cat_clip: Path) -> None:
    drawn = tmp_path / "drawn"
    result = run("models", "check", "video-classification", cat_clip, "--draw", drawn, "--data-dir", tmp_path)
    assert result.exit_code == 0, result.output
    assert "1 x cat" in " ".join(result.output.split())
    assert [path.suffix for path in drawn.iterdir()] == [".png"]


def test_predict_writes_a_folder_as_a_job_does(tmp_path: Path, cat_clip: Path) -> None:
    bucket = tmp_path / "buckets" / "bucket"
    bucket.mkdir(parents=True)
    (bucket / "cat.mp4").write_bytes(cat_clip.read_bytes())
    instances = tmp_path / "in.jsonl"
    lines = [
        {"content": "gs://bucket/cat.mp4", "mimeType": "video/mp4", "timeSegmentStart": "0s"},
        {"content": "gs://bucket/dog.mp4", "mimeType": "video/mp4"},
    ]
    instances.write_text("".join(json.dumps(line) + "\n" for line in lines))
    output = tmp_path / "output"
    result = run("predict", "video-object-tracking", instances, "--output", output, "--data-dir", tmp_path)
    assert result.exit_code == 1
    assert "1 instance could not be predicted" in result.output
    assert sorted(path.name for path in output.iterdir()) == ["errors_00001.jsonl", "predictions_00001.jsonl"]
    assert "gs://bucket/dog.mp4" in (output / "errors_00001.jsonl").read_text()
    (output / "predictions_00002.jsonl").write_text("of an earlier run")
    (output / "notes.txt").write_text("mine")
    instances.write_text(json.dumps(lines[0]))
    result = run("predict", "video-object-tracking", instances, "--output", output, "--data-dir", tmp_path)
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in output.iterdir()) == ["notes.txt", "predictions_00001.jsonl"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["no-such-model", "clip.mp4"], "Known models: video-"),
        (["video-object-tracking", "missing.mp4"], "missing.mp4"),
        (["video-object-tracking", "clip.mp4", "--start", "1.2"], 'Give seconds followed by "s"'),
        (["video-object-tracking", "clip.mp4", "--confidence-threshold", "2"], "confidenceThreshold"),
    ],
)
def test_predict_says_what_is_wrong(tmp_path: Path, arguments: list[str], message: str) -> None:
    result = run("predict", *arguments, "--data-dir", tmp_path)
    assert result.exit_code == 1
    assert message in " ".join(result.output.split())


def test_jobs_are_listed_described_and_cancelled(emulator: Emulator) -> None:
    name = create_job(emulator, "nightly")
    listed = run("jobs", "list", "--server", emulator.url, "--project", "my-project")
    assert listed.exit_code == 0, listed.output
    assert "nightly" in listed.output
    described = run("jobs", "describe", name, "--server", emulator.url)
    assert json.loads(described.stdout)["name"] == name
    page = f"/console/{name.replace('batchPredictionJobs', 'batch-predictions')}"
    assert described.stderr == f"Console: {emulator.url}{page}\n"
    by_id = run(
        "jobs", "describe", name.rpartition("/")[2], "--server", emulator.url, "--project", "my-project"
    )
    assert json.loads(by_id.stdout)["name"] == name


def test_wait_for_the_server_and_for_a_job(emulator: Emulator) -> None:
    result = run("wait", "--server", emulator.url)
    assert (result.exit_code, result.stdout) == (0, "Ready.\n")
    name = create_job(emulator, "awaited")
    result = run("jobs", "wait", name, "--server", emulator.url)
    assert result.stdout == f"{name} is JOB_STATE_FAILED.\n"


def test_wait_takes_the_port_that_serve_takes(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    # What `env` left for another server does not count beside a port.
    monkeypatch.setenv("VERTEX_EMULATOR_CLIENT_OF", "http://127.0.0.1:9")
    port = emulator.url.rpartition(":")[2]
    result = run("wait", "--port", port)
    assert (result.exit_code, result.stdout) == (0, "Ready.\n"), result.stderr
    both = run("wait", "--port", port, "--server", "http://127.0.0.1:9")
    assert both.exit_code == 2
    assert "give one of them" in both.stderr


def test_wait_for_a_job_prints_the_name_it_has(emulator: Emulator) -> None:
    name = create_job(emulator, "awaited")
    result = run(
        "jobs", "wait", name.rpartition("/")[2], "--server", emulator.url, "--project", "another-project"
    )
    assert result.stdout == f"{name} is JOB_STATE_FAILED.\n"


DEAD_PROXY = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "all_proxy"), "http://127.0.0.1:9")


@pytest.mark.parametrize("command", [["wait", "--timeout", "0"], ["jobs", "list", "--project", "p"]])
def test_server_is_reached_past_the_proxy_of_the_environment(emulator: Emulator, command: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "emulator", *command, "--server", emulator.url],
        env={**os.environ, **DEAD_PROXY, "no_proxy": "", "NO_PROXY": ""},
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stderr


CLIENT = """
import sys, urllib.request, grpc, requests

port, grpc_port = sys.argv[1:]
for host in ("127.0.0.1", "localhost"):
    url = f"http://{host}:{port}/_emulator/health"
    print(urllib.request.urlopen(url, timeout=60).status, requests.get(url, timeout=60).status_code)
    with grpc.insecure_channel(f"{host}:{grpc_port}") as channel:
        grpc.channel_ready_future(channel).result(timeout=60)
"""


def test_clients_reach_the_server_past_the_proxy_with_what_env_prints(emulator: Emulator) -> None:
    ports = [str(address).rpartition(":")[2] for address in (emulator.url, emulator.grpc_address)]
    printed = run("env", "--shell", "json", "--port", ports[0], "--data-dir", emulator.settings.data_dir)
    done = subprocess.run(
        [sys.executable, "-c", CLIENT, *ports],
        env={**os.environ, **json.loads(printed.stdout), **DEAD_PROXY},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "200 200\n" * 2), done.stderr


@pytest.mark.parametrize("command", [["wait", "--timeout", "0"], ["jobs", "list", "--project", "p"]])
def test_what_the_grpc_port_says_is_shown(emulator: Emulator, command: list[str]) -> None:
    result = run(*command, "--server", f"http://{emulator.grpc_address}")
    assert result.exit_code == 1
    assert f"400 Bad Request: This port speaks gRPC only. REST is at {emulator.url}." in result.stderr
    assert ".." not in result.stderr


@pytest.mark.parametrize(
    ("server", "message"),
    [
        ("localhost:8080", "localhost:8080 is no address of a server; write it as http://"),
        ("http://127.0.0.1:port", "No emulator answers at http://127.0.0.1:port"),
    ],
)
def test_address_that_is_none_is_named(server: str, message: str) -> None:
    result = run("jobs", "list", "--server", server, "--project", "p")
    assert result.exit_code == 1
    assert message in result.stderr


def test_waiting_for_no_server_ends_with_its_timeout() -> None:
    result = run("wait", "--server", "http://127.0.0.1:9", "--timeout", "0")
    assert result.exit_code == 1
    assert "no emulator answers" in result.stderr


def test_jobs_say_what_the_server_says(emulator: Emulator) -> None:
    result = run("jobs", "cancel", "123", "--server", emulator.url, "--project", "my-project")
    assert result.exit_code == 1
    assert "does not exist" in result.output


def test_jobs_without_a_server_say_how_to_start_one() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    result = run("jobs", "list", "--server", f"http://127.0.0.1:{port}", "--project", "p")
    assert result.exit_code == 1
    assert "vertex-emulator serve" in result.output


def serve(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "emulator", "serve", *arguments]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT, env={**os.environ}
    )


def test_serve_says_when_it_is_ready_and_ends_on_sigterm(tmp_path: Path) -> None:
    process = serve("--port", "0", "--data-dir", str(tmp_path), "--workers", "1")
    assert process.stdout is not None
    url = process.stdout.readline().split()[-1]
    with urllib.request.urlopen(f"{url}/v1/{PARENT}/models") as response:
        assert response.status == 200
    process.send_signal(signal.SIGTERM)
    _, log = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "Traceback" not in log


def test_request_that_the_end_cuts_short_leaves_no_traceback(tmp_path: Path) -> None:
    process = serve("--port", "0", "--data-dir", str(tmp_path))
    assert process.stdout is not None
    host, _, port = process.stdout.readline().split()[-1].removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        head = f"POST /v1/{PARENT}/batchPredictionJobs HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n"
        connection.sendall(head.encode() + b"{")
        with urllib.request.urlopen(f"http://{host}:{port}/v1/{PARENT}/models") as response:
            assert response.status == 200  # by now the other one is under way
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "Cancel 1 running task" in log
    assert "Traceback" not in log


def test_serve_on_a_taken_port_is_one_clear_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process = serve("--port", str(port), "--data-dir", str(tmp_path))
        _, log = process.communicate(timeout=120)
    assert process.returncode == 1
    assert f"Port {port} of 127.0.0.1 cannot be had" in log
    assert "Traceback" not in log


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--tls-port", "8443"], "tls_port is 8443, but TLS is off. Add --tls"),
        (["--grpc-port", "8081", "--no-grpc"], "grpc_port is 8081, but gRPC is off."),
    ],
)
def test_port_of_what_is_off_is_refused(tmp_path: Path, flags: list[str], said: str) -> None:
    process = serve("--port", "0", *flags, "--data-dir", str(tmp_path))
    _, log = process.communicate(timeout=120)
    assert process.returncode == 1
    assert said in " ".join(log.split())


def test_folder_of_buckets_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    process = serve("--port", "0", "--storage-dir", str(tmp_path / "file"), "--data-dir", str(tmp_path))
    _, log = process.communicate(timeout=120)
    assert process.returncode == 1
    assert f"The folder of buckets {tmp_path}/file cannot be used" in log
    assert "Name another with --storage-dir" in log


def test_second_server_on_a_data_folder_warns_and_the_next_one_does_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = Settings(port=0, data_dir=tmp_path, bundled_models=False, workers=1)
    with Emulator(settings):
        assert "Another server" not in caplog.text
        with Emulator(settings):
            assert f"Another server (process {os.getpid()} of {socket.gethostname()}) works on" in caplog.text
    caplog.clear()
    with Emulator(settings):
        assert "Another server" not in caplog.text


@pytest.mark.slow
def test_demo_predicts_what_the_documentation_shows(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "emulator", "demo", "--data-dir", str(tmp_path)]
    result = subprocess.run(
        command,
        env={**os.environ, **DEAD_PROXY},
        capture_output=True,
        text=True,
        timeout=180,
        cwd=ROOT,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "JOB_STATE_SUCCEEDED" in result.stdout


def test_serve_says_at_once_which_models_cannot_be_run(tmp_path: Path) -> None:
    """A provider that is not there: the server names what is missing and the models, and so does wait."""
    process = serve("--port", "0", "--data-dir", str(tmp_path), "--workers", "1", "--provider", "openvino")
    try:
        assert process.stdout is not None
        assert process.stderr is not None
        url = process.stdout.readline().split()[-1]
        waited = run("wait", "--server", url, "--timeout", "300")
        assert waited.exit_code == 1
        for model in ("video-action-recognition", "video-classification", "video-object-tracking"):
            assert model in waited.stderr
        assert "No model can be run" in waited.stderr
        assert "provider openvino was asked for" in waited.stderr
    finally:
        process.send_signal(signal.SIGTERM)
        out, log = process.communicate(timeout=60)
    assert "Ready" not in out
    assert "Not ready: No model can be run." in log


def test_serve_says_when_a_worker_can_take_a_job(tmp_path: Path) -> None:
    process = serve("--port", "0", "--data-dir", str(tmp_path), "--workers", "1")
    try:
        assert process.stdout is not None
        first = process.stdout.readline()
        assert first.startswith("Vertex emulator listening at http://127.0.0.1:")
        for line in process.stdout:
            if line == "Ready: a worker can take a job.\n":
                break
        assert run("wait", "--server", first.split()[-1], "--timeout", "0").stdout == "Ready.\n"
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
