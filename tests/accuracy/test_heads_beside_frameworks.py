"""Heads beside the post-processing of the frameworks that export them, on the same tensors.

PyTorch, torchvision and transformers are not among the project's needs: `make test-accuracy` installs them in
an environment of their own. YOLO, NanoDet and TFLite heads have their published formulas in
`tests/inference/test_head_formulas.py`; here torchvision's own suppression is what they are held against.
"""

from __future__ import annotations

import importlib.util
import os
from itertools import chain
from pathlib import Path

import numpy as np
import pytest

from emulator.inference.heads import DETECTION_HEADS
from emulator.inference.loaded import LoadedModel, LoadOptions
from emulator.inference.onnx_model import OnnxModel
from emulator.inference.video import FrameSource
from emulator.onboarding import recognise, write_folder
from tests.accuracy.heads_on_tensors import HEIGHT, LEAST, WIDTH, Outputs, assert_same, head_for, in_pixels

torch = pytest.importorskip("torch", reason="`make test-accuracy` installs the frameworks")
torchvision = pytest.importorskip("torchvision", reason="`make test-accuracy` installs the frameworks")
transformers = pytest.importorskip("transformers", reason="`make test-accuracy` installs the frameworks")

pytestmark = [
    pytest.mark.accuracy,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

TENSORS = 50
CLASSES, QUERIES = 7, 100


def queries(seed: int, columns: int) -> Outputs:
    rng = np.random.default_rng(seed)
    boxes = np.concatenate([rng.random((QUERIES, 2)), rng.uniform(0.02, 0.6, (QUERIES, 2))], axis=1)
    logits = rng.normal(-2, 2, (QUERIES, columns))
    return {"logits": logits[None].astype(np.float32), "pred_boxes": boxes[None].astype(np.float32)}


@pytest.mark.parametrize(
    ("processor", "model", "activation"),
    [
        ("DetrImageProcessor", "DetrObjectDetectionOutput", "softmax"),
        ("RTDetrImageProcessor", "RTDetrObjectDetectionOutput", "sigmoid"),
    ],
)
def test_detr_heads_are_transformers_own(tmp_path: Path, processor: str, model: str, activation: str) -> None:
    """D-FINE has RT-DETR's processor."""
    columns = CLASSES + (activation == "softmax")
    head = head_for(
        tmp_path,
        CLASSES,
        f'head = "detr"\nactivation = "{activation}"\nmax_detections = {QUERIES}',
        queries(0, columns),
    )
    theirs = getattr(transformers, processor)()
    compared = 0
    for seed in range(TENSORS):
        outputs = queries(seed, columns)
        tensors = {name: torch.from_numpy(value) for name, value in outputs.items()}
        answer = type(model, (), tensors)
        (expected,) = theirs.post_process_object_detection(
            answer, threshold=LEAST, target_sizes=[(HEIGHT, WIDTH)]
        )
        found = head(outputs)
        compared += assert_same(found, expected["boxes"], expected["scores"], expected["labels"])
    assert compared > TENSORS


@pytest.mark.parametrize("head_name", ["yolov8", "yolov5"])
def test_suppression_is_torchvisions_own(tmp_path: Path, head_name: str) -> None:
    """Candidates of many classes in crowds, boxes up to the size of the picture."""

    def make(seed: int) -> Outputs:
        rng = np.random.default_rng(seed)
        crowd = rng.uniform(0, (WIDTH, HEIGHT), (12, 2)).repeat(70, axis=0)
        boxes = np.concatenate(
            [crowd + rng.normal(0, 6, crowd.shape), rng.uniform(20, 300, crowd.shape)], axis=1
        )
        scores = rng.random((len(boxes), CLASSES)) ** 3
        if head_name == "yolov5":
            rows = np.concatenate([boxes, rng.random((len(boxes), 1)), scores], axis=1)
            return {"out": rows[None].astype(np.float32)}
        return {"out": np.concatenate([boxes, scores], axis=1).T[None].astype(np.float32)}

    head = head_for(
        tmp_path, CLASSES, f'head = "{head_name}"\nnms_iou = 0.45\nmax_detections = 1000', make(0)
    )
    compared = 0
    for seed in range(TENSORS):
        outputs = make(seed)
        rows = torch.from_numpy(outputs["out"][0])
        rows = rows if head_name == "yolov5" else rows.T
        scores = rows[:, 5:] * rows[:, 4:5] if head_name == "yolov5" else rows[:, 4:]
        best, classes = scores.max(1)
        kept = best >= LEAST
        boxes = torchvision.ops.box_convert(rows[kept, :4], "cxcywh", "xyxy")
        best, classes = best[kept], classes[kept]
        stay = torchvision.ops.batched_nms(boxes, best, classes, 0.45)
        compared += assert_same(head(outputs), boxes[stay], best[stay], classes[stay])
    assert compared > 20 * TENSORS


@pytest.mark.assets
@pytest.mark.skipif(not os.environ.get("EMULATOR_REAL_ASSETS"), reason="EMULATOR_REAL_ASSETS is not set")
def test_a_trained_yolov8_is_read_as_it_is_published(tmp_path: Path) -> None:
    """`nudenet` comes with one whose batch, height and width are free; labels are in its metadata."""
    package = importlib.util.find_spec("nudenet")
    assert package is not None
    assert package.origin is not None
    weights = Path(package.origin).parent / "320n.onnx"
    manifest = write_folder(recognise(weights), weights, tmp_path / "model")
    model = LoadedModel(manifest, DETECTION_HEADS[manifest.output.head], LoadOptions())
    video = Path(os.environ["EMULATOR_REAL_ASSETS"]) / "one-by-one-person-detection.mp4"
    with FrameSource(video) as source:
        items = [[sample.data] for sample in source.sample(2_000_000, [(0, None)], model.input.fit)]
    batches = [model.batches.run(items[first : first + 8], size=8) for first in range(0, len(items), 8)]
    compared = 0
    for item, outputs in zip(items, chain(*batches), strict=True):
        ((rows,),) = model.batches.run([item], size=1)
        np.testing.assert_allclose(outputs[0], rows, atol=1e-3)
        scores, classes = torch.from_numpy(rows[0, 4:]).max(0)
        kept = scores >= manifest.output.min_score
        boxes = torchvision.ops.box_convert(torch.from_numpy(rows[0, :4]).T[kept], "cxcywh", "xyxy")
        stay = torchvision.ops.batched_nms(boxes, scores[kept], classes[kept], manifest.output.nms_iou)
        found = in_pixels(model.head.decode([rows]), manifest)
        compared += assert_same(found, boxes[stay], scores[kept][stay], classes[kept][stay])
    assert compared > 50


@pytest.mark.filterwarnings("ignore")
def test_torchvisions_detections_are_taken_as_they_are(tmp_path: Path) -> None:
    """Real exports: an SSDlite of random weights, whose post-processing is in the graph."""
    torch.manual_seed(0)
    model = torchvision.models.detection.ssdlite320_mobilenet_v3_large(
        weights=None, weights_backbone=None, num_classes=5, score_thresh=0.0, topk_candidates=50
    )
    names = ["boxes", "scores", "labels"]
    torch.onnx.export(
        model.eval(),
        ([torch.rand(3, 320, 320)],),
        str(tmp_path / "net.onnx"),
        dynamo=False,
        opset_version=17,
        input_names=["images"],
        output_names=names,
        dynamic_axes={name: {0: "n"} for name in names},
    )
    found = recognise(tmp_path / "net.onnx", labels=list("abcd"), answers={"output.min_score": 0.0})
    manifest = write_folder(found, tmp_path / "net.onnx", tmp_path / "model")
    onnx_model = OnnxModel(manifest.graph)
    head = DETECTION_HEADS["detections"](manifest, onnx_model)
    compared = 0
    for seed in range(TENSORS):
        picture = np.random.default_rng(seed).random((3, 320, 320), np.float32)
        boxes, scores, labels = onnx_model.run(names, {"images": picture})
        decoded = head.decode(onnx_model.run(head.names, {"images": picture}))
        compared += assert_same(in_pixels(decoded, manifest), boxes, scores, labels - 1)
    assert compared > 20 * TENSORS
