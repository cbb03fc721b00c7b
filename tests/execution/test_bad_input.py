"""What bad input gets: an error line where one instance is concerned, a failed job where all are."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from emulator.vertex.instances import MAX_LINE_BYTES
from emulator.vertex.job_state import JobState
from tests.execution.workplace import (
    Workplace,
    error_of,
    line,
    partial_failures_of,
    write_tiny_model,
    write_video,
)
from tests.inference.tiny_models import recorded

GOOD = line("good.mp4")


def run_with_good_line(workplace: Workplace, bad: str) -> tuple[int, str]:
    """Run a bad line between blank lines and a good one: its error's code and message."""
    workplace.video("good.mp4", 0.3)
    row = workplace.run([GOOD, "", bad])
    assert row.state is JobState.SUCCEEDED, error_of(row)
    assert (row.successful, row.failed) == (1, 1)
    [entry] = workplace.errors(row)
    [failure] = partial_failures_of(row)
    assert failure[0] == entry["error"]["code"]
    assert failure[1].endswith(entry["error"]["message"])
    assert " line 3: " in failure[1]
    return entry["error"]["code"], entry["error"]["message"]


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        pytest.param('{"content": ', "JSON", id="unreadable JSON"),
        pytest.param("[1, 2]", "object", id="not an object"),
        pytest.param('{"mimeType": "video/mp4"}', '"content" is missing', id="no content"),
        pytest.param(line("/etc/passwd"), "/etc/passwd", id="traversal by absolute name"),
        pytest.param(line("http://example.com/a.mp4"), "http://example.com/a.mp4", id="another scheme"),
        pytest.param(line("gs://Bad_Bucket/a.mp4"), "Bad_Bucket", id="impossible bucket"),
        pytest.param(line("gs://bucket/../../etc/passwd"), "../../etc/passwd does not exist", id="traversal"),
        pytest.param(line("gs://bucket/a\0b.mp4"), "NUL|content", id="NUL"),
        pytest.param(line("good.mp4", mimeType="video/webm"), "video/webm", id="mime type"),
        pytest.param(line("good.mp4", "2s", "1s"), "before", id="start after end"),
        pytest.param(line("good.mp4", "1s", "1s"), "before", id="start equals end"),
        pytest.param(line("good.mp4", "-1s"), "-1s", id="negative"),
        pytest.param(line("good.mp4", "0.1"), "0.1", id="no unit"),
        pytest.param(line("good.mp4", "NaN"), "NaN", id="NaN"),
        pytest.param(line("good.mp4", "60s", "70s"), "60", id="past the end"),
    ],
)
def test_bad_line_becomes_an_error_line(workplace: Workplace, bad: str, said: str) -> None:
    code, message = run_with_good_line(workplace, bad)
    # Names that no folder can hold are names all the same: such objects are not there.
    assert code in ((5,) if "passwd" in bad else (3, 11))
    assert any(text in message for text in said.split("|")), message


def test_unreadable_line_is_named_by_number(workplace: Workplace) -> None:
    _, message = run_with_good_line(workplace, "{oops")
    assert "line 3" in message.lower()


def test_line_over_a_megabyte_is_refused_unread(workplace: Workplace) -> None:
    workplace.video("good.mp4", 0.3)
    long = line("good.mp4", padding="x" * MAX_LINE_BYTES)
    row = workplace.run([GOOD, "", long, GOOD])
    assert (row.successful, row.failed) == (2, 1)
    [entry] = workplace.errors(row)
    assert entry["error"]["code"] == 3
    assert "Line 3 is longer than 1,000,000 bytes" in entry["error"]["message"]
    assert len(entry["instance"]) < 2000


def test_missing_video_is_not_found(workplace: Workplace) -> None:
    code, message = run_with_good_line(workplace, line("missing.mp4"))
    assert code == 5
    assert "gs://bucket/missing.mp4 does not exist" in message


def test_folder_as_video_is_not_found(workplace: Workplace) -> None:
    workplace.put("folder/a.mp4", b"x")
    code, message = run_with_good_line(workplace, line("folder"))
    assert code == 5
    assert "is a folder" in message


def test_link_out_of_the_storage_folder_is_refused(workplace: Workplace, tmp_path: Path) -> None:
    (workplace.bucket / "link.mp4").symlink_to(write_video(tmp_path / "outside.mp4"))
    code, message = run_with_good_line(workplace, line("link.mp4"))
    assert code == 3
    assert "symbolic link" in message


def truncated(path: Path) -> None:
    data = write_video(path, 3).read_bytes()
    path.write_bytes(data[: len(data) // 2])


def one_pixel(path: Path) -> None:
    encode_with_av(path, "png", "rgb24", (1, 1))


def sixteen_bits(path: Path) -> None:
    encode_with_av(path, "ffv1", "gray16le", (64, 48))


def encode_with_av(path: Path, codec: str, pixel_format: str, size: tuple[int, int]) -> None:
    av = pytest.importorskip("av")
    with av.open(str(path), "w", format="matroska" if codec == "ffv1" else "mov") as container:
        stream = container.add_stream(codec, rate=10)
        stream.width, stream.height = size
        stream.pix_fmt = pixel_format
        for number in range(5):
            picture = np.full((size[1], size[0], 3), 20 * number, np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=pixel_format)
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def audio_only(path: Path) -> None:
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda path: path.write_bytes(b""), id="zero bytes"),
        pytest.param(lambda path: path.write_text("hello\n" * 100), id="text"),
        pytest.param(truncated, id="truncated"),
        pytest.param(audio_only, id="audio only"),
    ],
)
def test_unreadable_video_is_an_error_line(workplace: Workplace, make: Callable[[Path], object]) -> None:
    make(workplace.bucket / "bad.mp4")
    code, message = run_with_good_line(workplace, line("bad.mp4"))
    assert code == 3
    assert message.startswith("gs://bucket/bad.mp4: ")


@pytest.mark.parametrize("make", [one_pixel, sixteen_bits])
def test_strange_video_gets_an_answer(workplace: Workplace, make: Callable[[Path], None]) -> None:
    make(workplace.bucket / "strange.mp4")
    workplace.video("good.mp4", 0.3)
    row = workplace.run([GOOD, line("strange.mp4")])
    assert row.state is JobState.SUCCEEDED
    assert row.successful + row.failed == 2
    assert all(entry["error"]["code"] == 3 for entry in workplace.errors(row))


def test_video_failure_concerns_each_of_its_instances(workplace: Workplace) -> None:
    workplace.put("bad.mp4", b"")
    workplace.video("good.mp4", 0.3)
    row = workplace.run([line("bad.mp4"), GOOD, line("bad.mp4", "0.1s")])
    assert (row.successful, row.failed) == (1, 2)
    assert [entry["timeSegmentStart"] for entry in workplace.errors(row)] == ["0s", "0.1s"]


@pytest.mark.parametrize("data", [b"", b"\n\n \r\n\t\n", b"\xef\xbb\xbf", b"\xef\xbb\xbf\r\n"])
def test_input_without_instances_fails_the_job(workplace: Workplace, data: bytes) -> None:
    workplace.start()
    row = workplace.finish(workplace.submit(workplace.put("in.jsonl", data)))
    assert row.state is JobState.FAILED
    code, message = error_of(row)
    assert code == 3
    assert "gs://bucket/in.jsonl" in message
    assert "one JSON object a line" in message
    assert row.output_directory is None
    assert row.incomplete == -1


def test_empty_file_among_others_is_a_partial_failure(workplace: Workplace) -> None:
    workplace.video("good.mp4", 0.3)
    workplace.start()
    uris = workplace.put("in/a.jsonl", GOOD), workplace.put("in/empty.jsonl", "")
    row = workplace.finish(workplace.submit(*uris))
    assert row.state is JobState.SUCCEEDED
    assert (row.successful, row.failed) == (1, 0)
    assert partial_failures_of(row) == [
        (3, "gs://bucket/in/empty.jsonl holds no instance; it was passed over.")
    ]


def test_bom_and_crlf_are_taken(workplace: Workplace) -> None:
    workplace.video("good.mp4", 0.3)
    workplace.start()
    data = "\ufeff" + GOOD + "\r\n\r\n" + line("good.mp4", "0.1s")
    row = workplace.finish(workplace.submit(workplace.put("in.jsonl", data)))
    assert (row.successful, row.failed) == (2, 0)
    assert workplace.predictions(row)[0]["instance"] == json.loads(GOOD)


def test_single_quoted_line_is_taken_unless_strict(workplace: Workplace) -> None:
    workplace.video("good.mp4", 0.3)
    quoted = GOOD.replace('"', "'")
    assert workplace.run([quoted]).successful == 1
    workplace.dispatchers.pop().stop()
    workplace.start(strict=True)
    row = workplace.run([quoted])
    assert row.state is JobState.FAILED


def test_a_file_of_lines_that_lack_the_same_warns_no_more_than_twenty_times(
    workplace: Workplace, caplog: pytest.LogCaptureFixture
) -> None:
    workplace.video("a.mp4", 0.2)
    with caplog.at_level("WARNING", logger="emulator.execution.inputs"):
        row = workplace.run(['{"content": "gs://bucket/a.mp4"}'] * 1000)
    assert row.successful == 1000
    messages = [record.getMessage() for record in caplog.records if record.name.endswith("inputs")]
    assert len(messages) == 21
    assert "line 20: " in messages[19]
    assert messages[20].startswith("980 warnings more like these of 1000 instances")


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("gs://bucket/missing.jsonl", "gs://bucket/missing.jsonl does not exist"),
        ("gs://no-such-bucket/in.jsonl", "gs://no-such-bucket/in.jsonl does not exist"),
        ("gs://bucket/*.jsonl", "No input object matches gs://bucket/*.jsonl"),
        ("gs://bucket/in", "gs://bucket/in is a folder"),
    ],
)
def test_missing_input_fails_the_job(workplace: Workplace, uri: str, said: str) -> None:
    workplace.put("in/a.jsonl", GOOD)
    workplace.start()
    row = workplace.finish(workplace.submit(uri))
    assert row.state is JobState.FAILED
    code, message = error_of(row)
    assert code == 5
    assert said in message


def test_input_outside_the_storage_folder_is_not_read(workplace: Workplace) -> None:
    (workplace.folder / "secret").write_text(GOOD)
    workplace.start()
    row = workplace.finish(workplace.submit("gs://bucket/../../secret"))
    code, message = error_of(row)
    assert code == 5
    assert "gs://bucket/../../secret does not exist" in message
    assert row.state is JobState.FAILED


def not_onnx(model: Path) -> None:
    (model / "model.onnx").write_text("this is no graph")


def wrong_shape(model: Path) -> None:
    text = (model / "model.toml").read_text()
    (model / "model.toml").write_text(text.replace("width = 32", "width = 64"))


def no_labels(model: Path) -> None:
    (model / "labels.txt").unlink()


def fewer_labels_than_classes(model: Path) -> None:
    recorded(model / "model.onnx", {"output": np.zeros((1, 1, 9), np.float32)}, shape=(1, 3, 32, 32))


def nan_outputs(model: Path) -> None:
    recorded(model / "model.onnx", {"output": np.full((1, 1, 6), np.nan, np.float32)}, shape=(1, 3, 32, 32))


def weights_left_behind(model: Path) -> None:
    graph = onnx.load(model / "model.onnx")
    for tensor in graph.graph.initializer:
        # Only raw data can be external.
        tensor.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor), tensor.name))
    external = {"save_as_external_data": True, "location": "weights.bin", "size_threshold": 0}
    onnx.save(graph, str(model / "model.onnx"), **external)
    (model / "weights.bin").unlink()


def custom_operator(model: Path) -> None:
    graph = onnx.load(model / "model.onnx")
    graph.opset_import.append(onnx.helper.make_opsetid("com.acme", 1))
    graph.graph.node[0].domain, graph.graph.node[0].op_type = "com.acme", "Shazam"
    onnx.save(graph, str(model / "model.onnx"))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (fewer_labels_than_classes, "correct [input] width and height, [output] strides or the labels file"),
        (nan_outputs, "NaN or infinite numbers"),
        (weights_left_behind, "its weights are in weights.bin, which must lie beside it"),
        (custom_operator, "asks for the operator com.acme:Shazam"),
        (not_onnx, "cannot be loaded as an ONNX model"),
        (wrong_shape, "32"),
        (no_labels, "labels.txt"),
        (shutil.rmtree, "model.toml"),
    ],
)
def test_unusable_model_fails_the_job(
    workplace: Workplace, tmp_path: Path, spoil: Callable[[Path], None], said: str
) -> None:
    workplace.video("good.mp4", 0.3)
    model = write_tiny_model(tmp_path / "model")
    spoil(model)
    row = workplace.run([GOOD], model=model)
    assert row.state is JobState.FAILED
    code, message = error_of(row)
    assert code == 9
    assert said in message
    assert row.successful == 0


def test_model_is_read_again_when_its_files_change(workplace: Workplace, tmp_path: Path) -> None:
    workplace.video("good.mp4", 0.3)
    model = write_tiny_model(tmp_path / "model")
    assert workplace.run([GOOD], model=model).state is JobState.SUCCEEDED
    not_onnx(model)
    assert workplace.run([GOOD], model=model).state is JobState.FAILED


def test_object_in_place_of_the_output_folder_stays(workplace: Workplace) -> None:
    workplace.video("good.mp4", 0.3)
    workplace.put("out", "an object, not a folder")
    row = workplace.run([GOOD])
    assert row.state is JobState.SUCCEEDED
    assert sorted(workplace.files(row)) == ["predictions_00001.jsonl"]
    assert (workplace.bucket / "out").read_text() == "an object, not a folder"


FULL_DISK = """
import sys
from pathlib import Path
sys.path[:0] = sys.argv[2].split(":")
from tests.execution.workplace import *
from tests.postgresql import database_url
from emulator.execution.shards import ModelUse

folder = Path(sys.argv[1])
store = LocalStore(folder / "buckets")
pool = ProcessExecutor(1)
pool.start()
place = Workplace(folder, folder / "model", pool, Database(database_url(folder)), store)
place.start()
row = place.run([line("good.mp4")], prefix="gs://small/out")
print(row.state.name, *error_of(row))
print(row.output_directory)
small = (folder / "buckets" / "small").rglob("*")
print([path.name for path in small if path.is_file() and path.name != "fill"])
place.dispatchers[0].stop()
pool.stop()
"""


def test_full_disk_fails_the_job(tmp_path: Path) -> None:
    unshare = shutil.which("unshare")
    if unshare is None or subprocess.run([unshare, "-Urm", "true"], check=False).returncode:
        pytest.skip("needs `unshare -Urm` to mount a small file system")
    small = tmp_path / "buckets" / "small"
    small.mkdir(parents=True)
    write_tiny_model(tmp_path / "model")
    write_video(tmp_path / "buckets" / "bucket" / "good.mp4", 30)
    paths = f"{Path(__file__).parent}:{Path(__file__).parents[2]}"
    (tmp_path / "job.py").write_text(FULL_DISK)
    script = (
        f"mount -t tmpfs -o size=64k tmpfs {small} && head -c 56k /dev/zero > {small}/fill"
        f" && {sys.executable} {tmp_path}/job.py {tmp_path} {paths}"
    )
    done = subprocess.run([unshare, "-Urm", "sh", "-c", script], capture_output=True, text=True, check=False)
    first, directory, files = done.stdout.splitlines()
    assert first.startswith("FAILED 9 gs://small/out/prediction-tiny-"), done.stderr
    assert "the disk is full" in first
    assert directory.startswith("gs://small/out/prediction-tiny-")
    assert files == "[]"


@pytest.mark.parametrize("count", [2_000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_many_lines(workplace: Workplace, count: int) -> None:
    workplace.video("good.mp4", 0.3)
    lines = [line("good.mp4", f"0.{number % 3}s") for number in range(count)]
    lines[count // 2] = "{"
    workplace.start()
    row = workplace.finish(workplace.submit_lines(lines), timeout_s=300)
    assert row.state is JobState.SUCCEEDED
    assert (row.successful, row.failed, row.incomplete) == (count - 1, 1, 0)
    files = workplace.files(row)
    assert files["predictions_00001.jsonl"].count(b"\n") == count - 1
    assert f"line {count // 2 + 1}" in workplace.errors(row)[0]["error"]["message"].lower()
