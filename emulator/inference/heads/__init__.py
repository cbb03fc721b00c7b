"""Output heads: one class per `[output] head` turns a graph's tensors into detections or scores."""

from collections.abc import Mapping

from emulator.inference.heads.clip import ClipHead
from emulator.inference.heads.detections import DetectionHead, Detections, suppress
from emulator.inference.heads.finished import DetectionsHead, DetrHead
from emulator.inference.heads.grids import CenterHead, NanodetHead
from emulator.inference.heads.yolo import YoloV5Head, YoloV8Head, YoloxHead

__all__ = [
    "DETECTION_HEADS",
    "CenterHead",
    "ClipHead",
    "DetectionHead",
    "Detections",
    "DetectionsHead",
    "DetrHead",
    "NanodetHead",
    "YoloV5Head",
    "YoloV8Head",
    "YoloxHead",
    "suppress",
]

#: `[output] head` -> class, for detectors.
DETECTION_HEADS: Mapping[str, type[DetectionHead]] = {
    "yolox": YoloxHead,
    "yolov5": YoloV5Head,
    "yolov8": YoloV8Head,
    "nanodet": NanodetHead,
    "detr": DetrHead,
    "detections": DetectionsHead,
    "center": CenterHead,
}
