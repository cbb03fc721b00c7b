"""Models that carry states from clip to clip: recognised from the graph, in order, anew for each segment."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper, save

from emulator.inference.manifest import ManifestError, ModelUnusable, load_manifest, parse_manifest
from emulator.inference.objectives import open_predictor
from emulator.inference.predictor import Predictor, Segment
from emulator.onboarding import recognise, write_folder
from emulator.vertex.objectives.action_recognition import ActionPrediction
from emulator.vertex.objectives.classification import ClassificationPrediction
from emulator.vertex.parameters import ModelParameters
from tests.inference.tiny_models import WHITE, Picture, Watch, f32, recorded, write_clip

LABELS = ("third", "brighter")
SIZE = 16
NAMES = {"state_count": "state_count_out", "state_last": "state_last_out"}


def stream(path: Path, names: Mapping[str, str] = NAMES, frames: int = 1) -> Path:
    """Two scores of a clip [1, frames, 16, 16, 3]: how near it is to the third one since they were zero,
    and how much brighter it is than the clip before."""
    (count, next_count), (last, next_last) = names.items()
    node = helper.make_node
    nodes = [
        node("Add", [count, "one whole"], [next_count]),
        node("Cast", [next_count], ["float count"], to=TensorProto.FLOAT),
        node("Sub", ["float count", "three"], ["away"]),
        node("Mul", ["away", "away"], ["squared"]),
        node("Neg", ["squared"], ["negative"]),
        node("Exp", ["negative"], ["third"]),
        node("ReduceMean", ["image"], [next_last], axes=[1, 2, 3, 4], keepdims=0),
        node("Sub", [next_last, last], ["change"]),
        node("Clip", ["change", "zero", "one"], ["brighter"]),
        node("Concat", ["third", "brighter"], ["flat"], axis=0),
        node("Unsqueeze", ["flat", "first axis"], ["scores"]),
    ]
    constants = {
        "one whole": np.array([1], np.int32),
        "three": f32([3]),
        "zero": f32(0),
        "one": f32(1),
        "first axis": np.array([0]),
    }

    def info(name: str, kind: int, shape: list[int]) -> Any:
        return helper.make_tensor_value_info(name, kind, shape)

    graph = helper.make_graph(
        nodes,
        "stream",
        [
            info("image", TensorProto.FLOAT, [1, frames, SIZE, SIZE, 3]),
            info(count, TensorProto.INT32, [1]),
            info(last, TensorProto.FLOAT, [1]),
        ],
        [
            info(next_last, TensorProto.FLOAT, [1]),
            info("scores", TensorProto.FLOAT, [1, 2]),
            info(next_count, TensorProto.INT32, [1]),
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), str(path))
    return path


def bright_from(seconds: float) -> Picture:
    picture = np.zeros((SIZE, SIZE, 3), np.uint8)
    picture[:] = WHITE if seconds >= 1.59 else (0, 0, 0)
    return picture


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clips") / "clip.mp4", bright_from, seconds=4)


def opened(folder: Path, head: str | None = None, **graph: Any) -> Predictor:
    path = stream(folder / "net.onnx", **graph)
    return open_predictor(write_folder(recognise(path, labels=LABELS, head=head), path, folder / "model"))


def moments(predictor: Predictor, clip: Path, *segments: Segment) -> list[list[tuple[str, float]]]:
    found: dict[int, list[tuple[str, float]]] = {}
    for index, outcome in predictor.predict(clip, segments, ModelParameters(), Watch()):
        assert isinstance(outcome, list)
        actions = [one for one in outcome if isinstance(one, ActionPrediction)]
        found[index] = sorted((one.label.display_name, one.time_us / 1e6) for one in actions)
    return [found[index] for index in range(len(segments))]


def test_a_stream_is_recognised_by_the_names_of_its_states(tmp_path: Path) -> None:
    found = recognise(stream(tmp_path / "net.onnx"), labels=LABELS)
    document = tomllib.loads(found.manifest)
    assert document["input"]["states"] == NAMES
    assert document["input"]["layout"] == "NTHWC"
    assert document["actions"]["step"] == 1
    assert document["actions"]["moment"] == 1.0
    assert any("states carried from clip to clip" in line for line in found.findings)


@pytest.mark.parametrize(
    "names",
    [
        {"past_count": "present_count", "past_last": "present_last"},
        {"count:0": "count:1", "last:0": "last:1"},
        {"serving_default_state_a:0": "state_a", "serving_default_state_b:0": "state_b"},
    ],
)
def test_frameworks_name_states_in_their_own_ways(tmp_path: Path, names: Mapping[str, str]) -> None:
    found = recognise(stream(tmp_path / "net.onnx", names), labels=LABELS)
    assert tomllib.loads(found.manifest)["input"]["states"] == names


def test_states_whose_outputs_have_no_names_are_taken_in_order_and_told(tmp_path: Path) -> None:
    names = {"state_count": "Identity_1", "state_last": "Identity_2"}
    found = recognise(stream(tmp_path / "net.onnx", names), labels=LABELS)
    assert tomllib.loads(found.manifest)["input"]["states"] == names
    assert any(
        line.startswith("states state_count from Identity_1") and "--set input.states" in line
        for line in found.assumptions
    )


def test_each_segment_begins_with_states_of_zero(tmp_path: Path, clip: Path) -> None:
    """At 5 clips a second the third one is 0.4 s after a segment's start, whatever the other segments."""
    predictor = opened(tmp_path)
    segments = [
        Segment(start, end) for start, end in ((0, None), (1_000_000, 3_000_000), (800_000, 1_400_000))
    ]
    expected = [
        [("brighter", 1.6), ("third", 0.4)],
        [("brighter", 1.6), ("third", 1.4)],
        [("third", 1.2)],
    ]
    assert moments(predictor, clip, *segments) == expected
    for segment, alone in zip(segments, expected, strict=True):
        assert moments(predictor, clip, segment) == [alone]


def test_many_segments_at_a_time_do_not_share_their_states(tmp_path: Path, clip: Path) -> None:
    segments = [Segment(start * 200_000, None) for start in range(15)]
    found = moments(opened(tmp_path), clip, *segments)
    thirds = [[at for label, at in one if label == "third"] for one in found]
    assert thirds == [[round(start * 0.2 + 0.4, 1)] for start in range(15)]


def test_clips_of_a_stream_follow_one_another(tmp_path: Path, clip: Path) -> None:
    """Clips of two frames at 5 a second end every 0.4 s: the third after 1.0 s, counted from 0.2 s."""
    predictor = opened(tmp_path, frames=2)
    assert predictor.manifest.actions.step == 2  # type: ignore[attr-defined]
    ((third,),) = [
        [at for label, at in one if label == "third"] for one in moments(predictor, clip, Segment(0, None))
    ]
    assert third == 1.0


def test_a_stream_classifies_segments(tmp_path: Path, clip: Path) -> None:
    predictor = opened(tmp_path, head="scores")
    segments = [Segment(0, 1_000_000), Segment(500_000, 1_500_000), Segment(1_000_000, 2_000_000)]
    expected = float(np.mean(np.exp(-((np.arange(1, 6) - 3.0) ** 2))))
    for index, outcome in predictor.predict(clip, segments, ModelParameters(), Watch()):
        assert isinstance(outcome, list)
        scores = {
            one.label.display_name: one.confidence
            for one in outcome
            if isinstance(one, ClassificationPrediction)
        }
        # Within the middle segment lie the points 0.6 to 1.4; its first clip is the one at 0.4, before it.
        wanted = expected if index != 1 else float(np.mean(np.exp(-((np.arange(2, 7) - 3.0) ** 2))))
        assert scores["third"] == pytest.approx(wanted, abs=1e-5)


def test_a_stream_is_shown_its_clips_one_by_one(tmp_path: Path) -> None:
    path = stream(tmp_path / "net.onnx")
    manifest = write_folder(recognise(path, labels=LABELS), path, tmp_path / "model")
    plan = open_predictor(manifest, batches_help=True).batches(8, ModelParameters())
    assert (plan.size, plan.note) == (1, "one by one: a stream is shown its clips one after another")


def test_states_that_never_come_out_are_zero_and_told(tmp_path: Path) -> None:
    others = {f"state_{number}": ((1, 2, 4, 4, 8), np.float32) for number in range(2)}
    path = recorded(
        tmp_path / "net.onnx", {"logits": f32([[3, -1]])}, shape=(1, 1, SIZE, SIZE, 3), others=others
    )
    found = recognise(path, labels=LABELS)
    assert tomllib.loads(found.manifest)["input"]["others"] == dict.fromkeys(others, "zeros")
    assert any("state_0 is fed with zeros for every clip: no output" in line for line in found.assumptions)
    open_predictor(write_folder(found, path, tmp_path / "model"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("step = 1", "step = 2"), r"\[actions\] step is 2, but a stream .* frames, 1"),
        (('"state_last_out"', '"nowhere"'), r"has no output 'nowhere'"),
        (('"state_last"', '"nowhere"'), r"has no input 'nowhere'"),
    ],
)
def test_a_manifest_that_does_not_fit_its_states_is_refused(
    tmp_path: Path, change: tuple[str, str], message: str
) -> None:
    path = stream(tmp_path / "net.onnx")
    write_folder(recognise(path, labels=LABELS), path, tmp_path / "model")
    toml = tmp_path / "model" / "model.toml"
    lines = [line for line in toml.read_text().splitlines() if not line.startswith("#")]
    toml.write_text("\n".join(lines).replace(*change))
    with pytest.raises(ModelUnusable, match=message):
        open_predictor(load_manifest(tmp_path / "model"))


def test_a_detector_takes_no_states(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("cat\n")
    document = {
        "model": {"objective": "object_tracking", "id": "x"},
        "input": {"width": 64, "height": 64, "states": {"a": "b"}},
        "output": {"head": "yolov8"},
    }
    with pytest.raises(ManifestError, match=r"\[input\] states is for classifiers"):
        parse_manifest(document, tmp_path)
    document["input"]["states"] = ["a"]  # type: ignore[index]
    with pytest.raises(ManifestError, match=r'a table such as { state_in = "state_out" }'):
        parse_manifest(document, tmp_path)
