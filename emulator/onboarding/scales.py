"""The usual scores of each family of detectors, from which the thresholds of its tracker follow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from emulator.onboarding.guess import Guess

MIN_SCORE = 0.1


@dataclass(frozen=True)
class Scale:
    """Scores of a family: detections from `sure` on are matched first; those from `new` on begin a track."""

    family: str
    sure: float
    new: float

    @property
    def tracker(self) -> Mapping[str, object]:
        """Keys of `[tracker]`."""
        return {"high": self.sure, "low": MIN_SCORE, "new": self.new}

    def __str__(self) -> str:
        return (
            f"tracker high {self.sure}, new {self.new}: the scale of {self.family}; lower where objects are "
            "missed, higher where mistakes are followed, see `models check`"
        )


#: The values that the families' own demonstrations and trackers start with.
_SCALES: Mapping[str, Scale] = {
    "yolox": Scale("YOLOX, which ByteTrack was published with", 0.5, 0.6),
    "yolov5": Scale("YOLO models", 0.25, 0.25),
    "yolov8": Scale("YOLO models", 0.25, 0.25),
    "nanodet": Scale("NanoDet and PicoDet", 0.3, 0.35),
    "center": Scale("centre heatmaps", 0.3, 0.4),
    "detections": Scale("detectors that end in the graph", 0.4, 0.5),
}
_TABLE = Scale("YOLO models without suppression", 0.25, 0.25)
_SIGMOID = Scale("DETRs of sigmoid scores", 0.35, 0.45)
_SOFTMAX = Scale("DETRs of softmax scores", 0.5, 0.6)
_CELLS = Scale("detectors that score each cell", 0.3, 0.35)


def scale_of(guess: Guess) -> Scale:
    """The scale of a detector's family."""
    if guess.head == "detr":
        kinds = {"sigmoid": _SIGMOID, "softmax": _SOFTMAX}
        return kinds.get(str(guess.output.get("activation", "none")), _CELLS)
    if guess.head == "detections" and "columns" in guess.output:
        return _TABLE
    return _SCALES[guess.head]
