"""The commands and programs of docs/leaving-automl.md run on a job as the service leaves it."""

import json
import re
import shlex
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import pytest
from typer.testing import CliRunner

from emulator.cli import build
from emulator.factory import Clip as Rendered
from emulator.factory import Object, render
from tests.cli.test_record import Old, make
from tests.comparison.made import line, track, write
from tests.docs.options import serve_options
from tests.docs.pages import blocks, runs
from tests.inference.corpus import Clip, constant

PAGE = "docs/leaving-automl.md"
RECORD, FETCH, COMPARE, ANNOTATED, SWEEP, EXPORT, CI = blocks(PAGE, "sh")
PROGRAMS = blocks(PAGE, "python")
PIPELINE = """
from google.cloud import aiplatform


def my_pipeline(model, instances):
    return aiplatform.BatchPredictionJob.submit(
        job_display_name="mine",
        model_name=model,
        gcs_source=instances,
        gcs_destination_prefix=instances.rsplit("/", 1)[0],
    )


"""


@pytest.fixture
def old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Old:
    """A job whose output directory is called as on the page."""
    old = make(tmp_path, "object_tracking")
    words = shlex.split(RECORD.text)
    directory = words[words.index("--output-dir") + 1]
    old.change(outputInfo={"gcsOutputDirectory": f"gs://acme-prod-data/out/{directory}"})
    old.output.rename(tmp_path / directory)
    monkeypatch.chdir(tmp_path)
    return old


def command(line: str, **more: str) -> str:
    result = CliRunner().invoke(build(), shlex.split(line)[1:], catch_exceptions=False, **more)  # type: ignore[arg-type]
    return result.output


def printed(line: str) -> str:
    """What a command that succeeds writes to standard output."""
    result = CliRunner().invoke(build(), shlex.split(line)[1:], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


@runs(RECORD, *PROGRAMS)
def test_a_recording_is_made_and_a_test_uses_it(old: Old) -> None:
    record, _ = RECORD.text.splitlines()
    assert "The recording is in recording" in command(record)
    (options,) = serve_options(RECORD.text)
    assert options["seed_dir"] == "recording"
    for block in PROGRAMS:
        named = re.match(r"# (\S+\.py)\n", block.text)
        assert named
        text = block.text if named[1] == "conftest.py" else PIPELINE + block.text
        (old.folder / named[1]).write_text(text)
    (old.folder / "pytest.ini").write_text("[pytest]\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:schemathesis", "-p", "no:cacheprovider"],
        cwd=old.folder,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert "1 passed" in done.stdout, done.stdout + done.stderr


@runs(FETCH)
def test_fetching_asks_first(old: Old) -> None:
    printed = command(FETCH.text, input="n\n")
    assert "aiplatform.googleapis.com" in printed
    assert not old.recorded().exists()


@runs(COMPARE)
def test_new_output_is_compared_with_the_recording(old: Old) -> None:
    command(RECORD.text.splitlines()[0])
    (new,) = old.folder.glob("prediction-*")
    new.rename(old.folder / "new-output")
    Path("videos").mkdir()
    plain, as_json, judged, html = COMPARE.text.splitlines()
    assert "all" in printed(plain)
    assert json.loads(printed(as_json.partition(" > ")[0]))["all"]["f1"] == 1
    assert "all" in printed(judged)
    printed(html)
    assert "There is no mismatch." in Path("report.html").read_text()


@runs(ANNOTATED)
def test_new_output_is_compared_with_annotations(old: Old) -> None:
    (output,) = old.folder.glob("prediction-*")
    output.rename(old.folder / "new-output")
    video = "gs://acme-prod-data/videos/a.mp4"
    edges = {"xMin": "0.08", "xMax": "0.34", "yMin": "0", "yMax": "0.86"}
    boxes = [{"displayName": "car", "timeOffset": "1.2s", "instanceId": "1", **edges}]
    members = {"videoGcsUri": video, "temporalBoundingBoxAnnotations": boxes}
    use = {"dataItemResourceLabels": {"aiplatform.googleapis.com/ml_use": "test"}}
    (old.folder / "import.jsonl").write_text(json.dumps(members | use) + "\n")
    (old.folder / "import.csv").write_text(f"TEST,{video},Car,1,1.2,0.08,0,,,0.34,0.86,,\n")
    for text in ANNOTATED.text.splitlines():
        assert re.search(r"^car +1 +0 +", printed(text), re.MULTILINE)


@runs(EXPORT)
def test_predictions_go_to_other_tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("videos").mkdir()
    Clip("a.mp4", constant(60), Fraction(1, 30)).write(Path("videos"))
    boxes = dict.fromkeys((0.1, 0.2, 0.3), (0.1, 0.2, 0.3, 0.4))
    write(Path("new-output", "predictions_00001.jsonl"), line("gs://bucket/a.mp4", track("car", boxes)))
    for text in EXPORT.text.splitlines():
        printed(text)
    assert {path.name for path in Path().iterdir()} == {
        "videos", "new-output", "predictions.csv", "predictions.json", "mot", "cvat", "tasks.json"
    }  # fmt: skip


@pytest.fixture
def annotated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clip that the bundled model knows, of which every fifth moment is annotated."""
    monkeypatch.chdir(tmp_path)
    Path("buckets/my-bucket").mkdir(parents=True)
    video = "gs://my-bucket/a.mp4"
    places = [(0.1, 0.2, 0.4, 0.7), (0.5, 0.2, 0.8, 0.7)]
    cat = Object("cat", 0.2, 1.7, places)
    clip = Rendered(size=(320, 180), fps=10, duration=2.0, seed=3, background="plain", objects=[cat])
    (found,) = render(clip, "buckets/my-bucket/a.mp4").object_tracking()
    boxes = [{"displayName": "cat", "instanceId": "1", **frame} for frame in found["frames"][::5]]
    use = {"dataItemResourceLabels": {"aiplatform.googleapis.com/ml_use": "test"}}
    members = {"videoGcsUri": video, "temporalBoundingBoxAnnotations": boxes, **use}
    Path("import.jsonl").write_text(json.dumps(members) + "\n")
    Path("input.jsonl").write_text(json.dumps({"content": video, "mimeType": "video/mp4"}) + "\n")


@runs(SWEEP)
def test_threshold_is_chosen(annotated: None) -> None:
    plain, judged, both = SWEEP.text.splitlines()
    thresholds = [f"0.{tenth}" for tenth in range(1, 10)]
    assert [row.split()[0] for row in printed(plain).splitlines()[1:]] == thresholds
    table = printed(judged)
    assert [row.split()[0] for row in table.splitlines()[1:-1]] == thresholds
    assert {"tracks", "F1", "HOTA"} < set(table.splitlines()[0].split())
    assert "The best F1 is 1.000, with confidenceThreshold" in table
    found = json.loads(printed(both.partition(" > ")[0]))
    assert len(found["rows"]) == 6
    assert set(found["best"]["values"]) == {"confidenceThreshold", "tracker.buffer"}


@runs(CI)
def test_acceptance_test_is_green(annotated: None) -> None:
    predict, compare = CI.text.splitlines()
    printed(predict)
    assert "HOTA" in printed(compare)
    assert "<h2>Figures</h2>" in Path("report.html").read_text()
