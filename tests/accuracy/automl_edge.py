"""Builds models laid out as AutoML Video edge exports, converts and adds them: they find what is there.

    python tests/accuracy/automl_edge.py [--out FOLDER]

Runs in an environment of its own with tensorflow-cpu and tf2onnx beside this project. An export of
mobile-versatile-1 is an SSD of the TF object detection API, as TFLite (TFLite_Detection_PostProcess) or as a
SavedModel. Both are rebuilt here around boxes that are known, with suppression in the graph.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import tensorflow as tf

from emulator.inference.heads import DETECTION_HEADS
from emulator.inference.objectives import open_predictor
from emulator.inference.onnx_model import OnnxModel
from emulator.inference.preprocess import ModelInput
from emulator.onboarding import read_labels, recognise, write_folder

SIZE = 256
LABELS = ("person", "bicycle", "car")
#: Corner y, x and corner y, x of what is there, relative; and its class, counted from 0.
THERE = {"car": (0.25, 0.375, 0.5, 0.75), "person": (0.05, 0.1, 0.3, 0.2)}
ANCHORS = np.array([[0.375, 0.5625, 0.25, 0.375], [0.175, 0.15, 0.25, 0.1], [0.7, 0.7, 0.1, 0.1]], np.float32)
SCORES = np.array([[0.02, 0.01, 0.9], [0.8, 0.01, 0.02], [0.01, 0.02, 0.01]], np.float32)


class Detector(tf.Module):
    """The end of an SSD whose network always sees the same."""

    @tf.function(input_signature=[tf.TensorSpec([1, SIZE, SIZE, 3], tf.uint8)])
    def saved(self, input_tensor: tf.Tensor) -> dict[str, tf.Tensor]:
        nothing = tf.reduce_mean(tf.cast(input_tensor, tf.float32)) * 0
        half = ANCHORS[:, 2:] / 2
        boxes = np.concatenate([ANCHORS[:, :2] - half, ANCHORS[:, :2] + half], 1) + nothing
        found = tf.image.combined_non_max_suppression(
            boxes[None, :, None], SCORES[None] + nothing, 10, 10, score_threshold=0.05
        )
        return {
            "detection_boxes": found.nmsed_boxes,
            "detection_scores": found.nmsed_scores,
            "detection_classes": found.nmsed_classes + 1,
            "num_detections": tf.cast(found.valid_detections, tf.float32),
        }

    @tf.function(input_signature=[tf.TensorSpec([1, SIZE, SIZE, 3], tf.float32)])
    def lite(self, normalized_input_image_tensor: tf.Tensor) -> tuple[tf.Tensor, ...]:
        nothing = tf.reduce_mean(normalized_input_image_tensor) * 0
        return _post_process()(tf.zeros([1, 3, 4]) + nothing, SCORES[None] + nothing, tf.constant(ANCHORS))


def _post_process() -> tf.types.experimental.GenericFunction:
    """What the converter makes TFLite_Detection_PostProcess of."""
    options = {
        "max_detections": "i: 10", "max_classes_per_detection": "i: 1", "use_regular_nms": "b: false",
        "nms_score_threshold": "f: 0.05", "nms_iou_threshold": "f: 0.6", "num_classes": "i: 3",
        "y_scale": "f: 10.0", "x_scale": "f: 10.0", "h_scale": "f: 5.0", "w_scale": "f: 5.0",
    }  # fmt: skip
    attributes = " ".join(f"attr {{ key: '{key}' value {{ {value} }} }}" for key, value in options.items())
    implements = f"name: 'TFLite_Detection_PostProcess' {attributes}"

    @tf.function(experimental_implements=implements)
    def end(boxes: tf.Tensor, scores: tf.Tensor, anchors: tf.Tensor) -> tuple[tf.Tensor, ...]:
        zero = tf.reduce_sum(boxes) + tf.reduce_sum(scores) + tf.reduce_sum(anchors)
        return tf.fill([1, 10, 4], zero), tf.fill([1, 10], zero), tf.fill([1, 10], zero), tf.fill([1], zero)

    return end


def save(folder: Path) -> dict[str, tuple[str, Path]]:
    """The two exports: what tf2onnx calls them, and where they are."""
    detector = Detector()
    tf.saved_model.save(detector, str(folder / "saved_model"), signatures={"serving_default": detector.saved})
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [detector.lite.get_concrete_function()], detector
    )
    converter.allow_custom_ops = True
    (folder / "model.tflite").write_bytes(converter.convert())
    return {
        "SavedModel": ("--saved-model", folder / "saved_model"),
        "TFLite": ("--tflite", folder / "model.tflite"),
    }


def found_in(path: Path, labels: Path, folder: Path) -> dict[str, tuple[float, ...]]:
    """Label -> box of what the added model finds, relative, y first."""
    manifest = write_folder(recognise(path, labels=read_labels(labels)), path, folder)
    open_predictor(manifest)
    model = OnnxModel(manifest.graph)
    head = DETECTION_HEADS[manifest.output.head](manifest, model)
    found = head.decode(model.run(head.names, ModelInput(manifest.input, model).blank()))
    names = [manifest.labels[number].display_name for number in found.classes.tolist()]
    rows = (found.boxes[:, [1, 0, 3, 2]] / SIZE).round(3).tolist()
    return dict(zip(names, map(tuple, rows), strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=None)
    arguments = parser.parse_args()
    folder = arguments.out or Path(tempfile.mkdtemp())
    labels = folder / "label_map.txt"
    labels.write_text("".join(f"{label}\n" for label in LABELS))
    wrong = 0
    for name, (flag, path) in save(folder).items():
        target = folder / f"{name}.onnx"
        command = [sys.executable, "-m", "tf2onnx.convert", flag, str(path), "--output", str(target)]
        subprocess.run([*command, "--opset", "17"], check=True, capture_output=True)
        found = found_in(target, labels, folder / f"{name}-model")
        right = found.keys() == THERE.keys() and all(
            np.allclose(found[label], box, atol=0.002) for label, box in THERE.items()
        )
        wrong += not right
        print(f"{name}: {'right' if right else 'WRONG'}: {found}")
    raise SystemExit(wrong)


if __name__ == "__main__":
    main()
