"""`vertex-emulator predict --sweep`: each row is what a prediction of its own comes to, and the model runs
once."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from emulator.cli import build
from emulator.inference.onnx_model import OnnxModel
from emulator.onboarding import recognise, write_folder
from tests.comparison.made import line, write
from tests.conftest import TEST_CACHE, decodes
from tests.inference.test_recall import CLIPS, damage, encode
from tests.inference.test_streams import LABELS, stream
from tests.inference.tiny_models import (
    GREEN,
    RED,
    Picture,
    actions_folder,
    classification_folder,
    squares,
    tracking_folder,
    write_clip,
)

FAINT_RED, FAINT_GREEN = (0, 0, 150), (0, 190, 0)


def moving_squares(seconds: float) -> Picture:
    """A red square all the time, a faint one at first, and a green one that is away from 0.8 s to 1.3 s."""
    placed = [(RED, 1, 1)]
    if seconds < 0.95:
        placed.append((FAINT_RED, 5, 1))
    if not 0.75 < seconds < 1.25:
        placed.append((FAINT_GREEN, 3, 6))
    return squares(*placed)


def flashes(seconds: float) -> Picture:
    """White flashes of different brightness."""
    shade = {5: 255, 12: 150, 20: 138}.get(round(seconds * 10), 0)
    return np.full((16, 16, 3), shade, np.uint8)


def colours(seconds: float) -> Picture:
    """Red, then a faint red, then green."""
    picture = np.zeros((16, 16, 3), np.uint8)
    picture[:] = RED if seconds < 0.95 else (0, 0, 120) if seconds < 1.95 else GREEN
    return picture


MODELS: Mapping[str, tuple[Callable[[Path], Path], Callable[[float], Picture], str]] = {
    "tracks": (tracking_folder, moving_squares, "0.3:0.9:0.1"),
    "actions": (actions_folder, flashes, "0.2:0.9:0.1"),
    "labels": (classification_folder, colours, "0.1:0.9:0.2"),
}


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def make(noun: str) -> Sequence[str]:
    """Write model and clip; returns how `predict` begins."""
    write_model, draw, _ = MODELS[noun]
    write_model(Path("model"))
    write_clip(Path("clip.mp4"), draw, seconds=2.7, size=64)
    more = ["--one-sec-interval-classification"] if noun == "labels" else []
    return ["model", "clip.mp4", "--data-dir", "data", *more]


def run(*words: object) -> Result:
    return CliRunner().invoke(build(), [str(word) for word in words], catch_exceptions=False)


def printed(*words: object) -> str:
    done = run(*words)
    assert done.exit_code == 0, done.output
    return done.stdout


def swept(*words: object) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(printed("predict", *words, "--json"))
    return found


def refusal(*words: object) -> str:
    done = run("predict", *words)
    assert done.exit_code == 1, done.output
    assert not done.stdout
    return " ".join(done.stderr.split())


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one with each run of a graph."""
    counted: list[int] = []
    usual = OnnxModel.run

    def run_and_count(self: OnnxModel, *arguments: Any) -> Any:
        counted.append(1)
        return usual(self, *arguments)

    monkeypatch.setattr(OnnxModel, "run", run_and_count)
    return counted


@pytest.mark.parametrize("noun", MODELS)
def test_each_row_is_what_a_prediction_of_its_own_comes_to(noun: str) -> None:
    words, values = make(noun), MODELS[noun][2]
    write(Path("expected.jsonl"), printed("predict", *words, "--confidence-threshold", 0.7))
    found = swept(*words, "--sweep", f"confidenceThreshold={values}", "--expected", "expected.jsonl")
    counted = []
    for row in found["rows"]:
        threshold = row["values"]["confidenceThreshold"]
        write(Path("found.jsonl"), printed("predict", *words, "--confidence-threshold", threshold))
        (one,) = map(json.loads, Path("found.jsonl").read_text().splitlines())
        assert row["predictions"] == len(one["prediction"])
        assert sum(row["byLabel"].values()) == row["predictions"]
        objective = ["--objective", found["objective"]]
        alone = json.loads(printed("compare", "expected.jsonl", "found.jsonl", "--json", *objective))
        assert {name: row[name] for name in alone["all"]} == alone["all"]
        assert row["labels"] == alone["labels"]
        figures = {name: one for name, one in alone["metrics"]["figures"].items() if name != "best_f1"}
        assert row["metrics"] == figures
        counted.append(row["predictions"])
    assert counted == sorted(counted, reverse=True)
    assert len(set(counted)) > 2, "the values make a difference"
    assert 0.7 in [row["values"]["confidenceThreshold"] for row in found["rows"] if row["f1"] == 1]
    assert found["best"] == [row for row in found["rows"] if row["f1"] == 1][-1]


@pytest.mark.parametrize("noun", MODELS)
@decodes
def test_the_model_runs_once(noun: str, runs: list[int]) -> None:
    words, values = make(noun), MODELS[noun][2]
    printed("predict", *words)
    once = len(runs)
    runs.clear()
    done = run("predict", *words, "--sweep", f"confidenceThreshold={values}")
    assert (done.exit_code, done.stderr) == (0, "")
    assert len(runs) == once
    assert not Path("data").exists()


@decodes
def test_settings_of_the_tracker_are_tried_on_the_same_detections(runs: list[int]) -> None:
    words = make("tracks")
    printed("predict", *words)
    once = len(runs)
    runs.clear()
    buffers = ["--sweep", "tracker.buffer=0.1,1", "--sweep", "confidenceThreshold=0.3,0.7"]
    found = swept(*words, *buffers)
    assert len(runs) == once + 1, "one more run proves that the graph loads with the other value"
    rows = [(*row["values"].values(), row["byLabel"].get("green", 0)) for row in found["rows"]]
    assert rows == [(0.1, 0.3, 2), (0.1, 0.7, 2), (1, 0.3, 1), (1, 0.7, 1)]
    assert "buffer" not in Path("model/model.toml").read_text()


def test_table_has_a_row_for_each_value_and_names_the_best(tmp_path: Path) -> None:
    words = make("tracks")
    text = printed("predict", *words, "--sweep", "confidenceThreshold=0.3:0.9:0.3")
    rows = [text_line.split() for text_line in text.splitlines()]
    assert rows[0] == ["confidenceThreshold", "tracks"]
    assert [row[0] for row in rows[1:]] == ["0.3", "0.6", "0.9"]
    write(Path("expected.jsonl"), printed("predict", *words, "--confidence-threshold", 0.6))
    judged = [*words, "--sweep", "confidenceThreshold=0.3:0.9:0.3", "--expected", tmp_path / "expected.jsonl"]
    text = printed("predict", *judged)
    head = text.splitlines()[0].split()
    assert head[1:8] == ["tracks", "matched", "missed", "extra", "precision", "recall", "F1"]
    assert head[8:] == ["HOTA", "IDF1", "MOTA"]
    assert text.endswith("The best F1 is 1.000, with confidenceThreshold 0.6.\n")
    write(Path("expected.jsonl"), line("clip.mp4", end="inf", start="0s"))
    assert "The F1 is 0 at every value" in printed(
        "predict", *judged[:-4], "--sweep", "confidenceThreshold=0.3", "--expected", "expected.jsonl"
    )


def test_no_row_is_judged_by_fewer_stretches_than_another() -> None:
    """Annotations expect a class of each second that is classified: those that the threshold hides too."""
    words = [*make("labels"), "--no-segment-classification"]
    spans = [{"displayName": "red", "startTime": "0s", "endTime": "1.9s"}]
    annotated = {"videoGcsUri": "gs://bucket/clip.mp4", "timeSegmentAnnotations": spans}
    write(Path("import.jsonl"), json.dumps(annotated))
    found = swept(*words, "--sweep", "confidenceThreshold=0.1:0.9:0.4", "--expected", "import.jsonl")
    assert [(row["matched"], row["missed"]) for row in found["rows"]] == [(2, 0), (1, 1), (1, 1)]


def test_values_keep_the_order_they_were_given_in() -> None:
    found = swept(*make("tracks"), "--sweep", "maxPredictions=1,3,2")
    assert [row["values"]["maxPredictions"] for row in found["rows"]] == [1, 3, 2]


@pytest.mark.skipif(TEST_CACHE != "", reason="the cache is elsewhere, or none")
def test_the_cache_of_a_data_folder_is_used() -> None:
    words = make("tracks")
    Path("data").mkdir()
    printed("predict", *words)
    done = run("predict", *words, "--sweep", "confidenceThreshold=0.3:0.9:0.3")
    assert "27 of 27 grid points from the cache." in done.stderr
    off = run("predict", *words, "--sweep", "confidenceThreshold=0.3:0.9:0.3", "--prediction-cache-mb", 0)
    assert (off.stdout, off.stderr) == (done.stdout, "")


def in_shots() -> Sequence[str]:
    return [*make("labels"), "--shot-classification"]


def with_states() -> Sequence[str]:
    words = make("actions")
    path = stream(Path("net.onnx"))
    write_folder(recognise(path, labels=LABELS), path, Path("carries"))
    return ["carries", *words[1:]]


def damaged() -> Sequence[str]:
    words = make("tracks")
    name = "30 a second.mp4"
    encode(Path(name), CLIPS[name])
    damage(Path(name), 0.7)
    return [words[0], name, *words[2:]]


@decodes
@pytest.mark.parametrize(
    ("begin", "why"),
    [
        (in_shots, "shots need every frame"),
        (with_states, "it carries states from clip to clip"),
        (damaged, "a video is damaged"),
    ],
)
def test_what_cannot_be_kept_is_inferred_again_and_said_once(
    begin: Callable[[], Sequence[str]], why: str, runs: list[int]
) -> None:
    words = begin()
    printed("predict", *words)
    once = len(runs)
    runs.clear()
    done = run("predict", *words, "--sweep", "confidenceThreshold=0.3:0.9:0.3")
    assert done.exit_code == 0
    assert len(runs) > 2 * once
    assert done.stderr.count(f"The model runs again for each value: {why}") == 1


def test_a_failed_instance_is_told_once_and_the_others_count() -> None:
    make("tracks")
    Path("buckets/bucket").mkdir(parents=True)
    Path("clip.mp4").rename("buckets/bucket/clip.mp4")
    instances = [{"content": f"gs://bucket/{name}.mp4", "mimeType": "video/mp4"} for name in ("clip", "none")]
    write(Path("in.jsonl"), *(json.dumps(instance) + "\n" for instance in instances))
    words = ["model", "in.jsonl", "--data-dir", "data", "--storage-dir", "buckets"]
    done = run("predict", *words, "--sweep", "confidenceThreshold=0.3,0.9")
    assert done.exit_code == 1
    assert done.stderr.count("gs://bucket/none.mp4") == 1
    assert "1 instance could not be predicted." in done.stderr
    assert [text.split() for text in done.stdout.splitlines()][1:] == [["0.3", "3"], ["0.9", "1"]]


def test_a_canned_model_has_nothing_to_sweep() -> None:
    words = make("tracks")
    Path("canned").mkdir()
    toml = '[model]\nobjective = "object_tracking"\ncanned = "answers.jsonl"\n'
    Path("canned/model.toml").write_text(toml)
    write(Path("canned/answers.jsonl"), json.dumps({"video": "*", "prediction": []}))
    said = refusal("canned", *words[1:], "--sweep", "confidenceThreshold=0.1,0.2")
    assert "canned is canned: it gives the same answers at any value" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["--sweep", "confidenceThreshold"],
            "'confidenceThreshold' names no values; write NAME=FROM:TO:STEP",
        ),
        (["--sweep", "confidenceThreshold=0.9:0.1:0.1"], "ends at 0.1, before it starts at 0.9"),
        (["--sweep", "confidenceThreshold=0:1:0.0001"], "more than 200 values; take a larger step"),
        (["--sweep", "confidenceThreshold=0.5:1.5:0.5"], "Expected a number from 0 to 1, got 1.5"),
        (["--sweep", "confidenceThreshold=high"], 'Expected a number from 0 to 1, got "high"'),
        (["--sweep", "threshold=0.1,0.2"], "names 'threshold'. Without running squares again"),
        (
            ["--sweep", "input.width=64,32"],
            "it takes confidenceThreshold, minBoundingBoxSize, maxPredictions,",
        ),
        (["--sweep", "tracker.new=0.5,2"], "--sweep tracker.new is 2; "),
        (["--sweep", "tracker.new=0.1,0.2", "--sweep", "tracker.new=0.3"], "names tracker.new twice"),
        (["--sweep", "tracker.new=0:1:0.01", "--sweep", "tracker.low=0:1:0.1"], "makes 1,111 rows"),
        (["--sweep", "maxPredictions=1,2", "--max-predictions", "3"], "maxPredictions is given by an option"),
        (["--sweep", "maxPredictions=1,2", "--output", "out"], "--output is for predictions"),
        (["--expected", "x.jsonl"], "--expected is for --sweep"),
        (["--json"], "--json is for --sweep"),
        (["--sweep", "maxPredictions=1,2", "--within", "0"], "--within: say with --expected what"),
        (["--sweep", "maxPredictions=1", "--expected", "no.jsonl"], "no.jsonl cannot be read"),
        (
            ["--sweep", "maxPredictions=1", "--expected", "actions.jsonl"],
            "actions.jsonl is about action_recog",
        ),
        (["--sweep", "maxPredictions=1", "--expected", "other.jsonl"], "no video and segment in common"),
    ],
)
def test_bad_input_is_refused_in_words(words: list[str], said: str) -> None:
    begin = make("tracks")
    action = {"displayName": "hit", "timeSegmentStart": "1s", "timeSegmentEnd": "1s", "confidence": 1}
    write(Path("actions.jsonl"), line("clip.mp4", action))
    write(Path("other.jsonl"), line("gs://bucket/other.mp4"))
    assert said in refusal(*begin, *words)
    assert not Path("out").exists()
