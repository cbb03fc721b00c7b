"""How near a job comes to its hard limit, and what the loop that one would write instead takes.

LIMIT is what no program that decodes with OpenCV and infers with onnxruntime on this machine can undercut:
every core busy with nothing but decoding (grab only), then with nothing but `session.run`. Everything else
counts as overhead: colour conversion, resizing, post-processing, tracking, scheduling.

The naive loop is what tutorials have: `cv2.read` for every frame, a session with onnxruntime's defaults,
boxes decoded for every cell of the grids, `cv2.dnn.NMSBoxes` class by class. Its tracker is ours, which costs
less than those that people use. Decoding keeps all cores busy there too; what it loses is
lost by doing one thing after the other. The table has the model's share of the limit beside it.

The detector is YOLOX-nano at 416 pixels where EMULATOR_REAL_ASSETS is set, else the bundled one with an input
of that size. (With the 256 pixels of its own it costs little more than a third of that.)

Cells: object tracking at 720p and 1080p, on every frame and on every third; action recognition at 720p; each
of them again with PyAV as the decoder, in the same rounds and against the same limit.
Goals: tracking at most 1.20 in the worst cell and 1.12 in the best, actions 1.12, CPU time 1.12 times the
limit's; with PyAV 1.12 in every cell; at least 1.7 times as fast as the naive loop.
"""

import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import clips
import cv2
import numpy as np
import onnxruntime as ort
from measure import arguments, interleaved, median, paired, report

from emulator.config import DecoderChoice
from emulator.inference.bytetrack import ByteTrack
from emulator.inference.decoding import VideoOptions
from emulator.inference.heads import Detections
from emulator.inference.manifest import ModelManifest
from emulator.inference.objectives import open_predictor
from emulator.inference.onnx_model import OnnxModel
from emulator.inference.pipeline import core_count
from emulator.inference.predictor import Segment, Unwatched
from emulator.inference.preprocess import ModelInput
from emulator.vertex.parameters import ModelParameters

SIZES = {"720p": ((1280, 720), 900), "1080p": ((1920, 1080), 600)}
CLIP_FRAMES = 16
#: Each with what its cells' names begin with.
DECODERS: dict[DecoderChoice, str] = {"opencv": "", "av": "PyAV, "}


@dataclass(frozen=True)
class Cost:
    """What a sample took: seconds on the clock, and of all cores together."""

    wall_s: float
    cpu_s: float
    model_share: float = 0.0


def cost(work: Callable[[], object]) -> Cost:
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return Cost(time.perf_counter() - wall, time.process_time() - cpu)


class Job:
    """The same work three ways: at its limit, by the product, and by the naive loop."""

    def __init__(self, video: Path, manifest: ModelManifest, every: int) -> None:
        self.video, self.manifest, self.every = video, manifest, every
        self._predictors = {
            decoder: open_predictor(manifest, video=VideoOptions(decoder)) for decoder in DECODERS
        }
        self._session = OnnxModel(manifest.graph)
        self._default_session = ort.InferenceSession(str(manifest.graph), providers=["CPUExecutionProvider"])
        feed = ModelInput(manifest.input, self._session).blank()
        self._feed = {name: tensor.copy() for name, tensor in feed.items()}
        self._input = next(iter(self._feed))

    def limit(self) -> Cost:
        """Decoding on every core at once, per video; then every model call, from as many callers as cores."""
        cores = core_count()
        decoding = cost(lambda: together([self._grab] * cores))
        calls = self.calls()
        inferring = cost(lambda: together([self._infer] * cores, calls))
        wall_s, cpu_s = decoding.wall_s / cores + inferring.wall_s, decoding.cpu_s / cores + inferring.cpu_s
        return Cost(wall_s, cpu_s, inferring.cpu_s / cpu_s)

    def product(self, decoder: DecoderChoice = "opencv") -> Cost:
        """What a worker does with a shard."""
        predict = self._predictors[decoder].predict
        return cost(lambda: list(predict(self.video, WHOLE, ModelParameters(), Unwatched())))

    def naive(self) -> Cost:
        """The loop that everybody writes: one frame after the other, libraries as they come."""
        cv2.setNumThreads(-1)
        try:
            return cost(self.loop)
        finally:
            cv2.setNumThreads(1)

    def loop(self) -> None:
        raise NotImplementedError

    def calls(self) -> int:
        """How often the model has to be run."""
        raise NotImplementedError

    def frames(self) -> Iterable[tuple[int, clips.Picture]]:
        """Frame by frame, as everybody writes it."""
        capture, number = cv2.VideoCapture(str(self.video)), 0
        while True:
            found, picture = capture.read()
            if not found:
                break
            yield number, np.asarray(picture, np.uint8)
            number += 1
        capture.release()

    def frame_count(self) -> int:
        return int(cv2.VideoCapture(str(self.video)).get(cv2.CAP_PROP_FRAME_COUNT))

    def run_default(self, tensor: Any) -> Any:
        return self._default_session.run(None, {self._input: tensor})

    def _grab(self, _calls: "Calls") -> None:
        capture = cv2.VideoCapture(str(self.video), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
        while capture.grab():
            pass
        capture.release()

    def _infer(self, calls: "Calls") -> None:
        while calls.take():
            self._session.run([], self._feed)


class Tracking(Job):
    """Object tracking on every `every`-th frame of a video of 30 frames a second."""

    def calls(self) -> int:
        return -(-self.frame_count() // self.every)

    def loop(self) -> None:
        manifest, track = self.manifest, self.tracker()
        width, height = manifest.input.width, manifest.input.height
        cells = grid(width, height, manifest.output.strides)
        for number, picture in self.frames():
            if number % self.every:
                continue
            ratio = min(width / picture.shape[1], height / picture.shape[0])
            size = round(picture.shape[1] * ratio), round(picture.shape[0] * ratio)
            padded = np.full((height, width, 3), 114, np.uint8)
            padded[: size[1], : size[0]] = cv2.resize(picture, size)
            tensor = np.ascontiguousarray(padded.transpose(2, 0, 1)[None]).astype(np.float32)
            found = self._detections(self.run_default(tensor)[0][0], cells, size)
            track(found, number * 1_000_000 // clips.FPS)

    def tracker(self) -> Callable[[Detections, int], object]:
        """The naive loop's: takes the detections of a frame and its time."""
        return ByteTrack(self.manifest.tracker).update

    def _detections(self, rows: Any, cells: Any, size: tuple[int, int]) -> Detections:
        output = self.manifest.output
        sides = np.exp(rows[:, 2:4]) * cells[:, 2:]
        least = (rows[:, :2] + cells[:, :2]) * cells[:, 2:] - sides / 2
        boxes, scores = np.concatenate([least, sides], axis=1), rows[:, 4:5] * rows[:, 5:]
        found: list[tuple[Any, float, int]] = []
        for label in range(scores.shape[1]):
            likely = scores[:, label] > output.min_score
            if likely.any():
                of_label, confidences = boxes[likely], scores[likely, label]
                kept = cv2.dnn.NMSBoxes(
                    of_label.tolist(), confidences.tolist(), output.min_score, output.nms_iou
                )
                found += [(of_label[index], float(confidences[index]), label) for index in kept]
        found.sort(key=lambda one: -one[1])
        xywh = np.array([box for box, _, _ in found], np.float32).reshape(-1, 4)
        corners = np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1)
        return Detections(
            boxes=np.asarray(corners / np.array(size * 2), np.float32),
            scores=np.array([confidence for _, confidence, _ in found], np.float32),
            classes=np.array([label for _, _, label in found], np.int64),
        )


def grid(width: int, height: int, strides: Sequence[int]) -> Any:
    """Column, row and stride of each cell (N, 3)."""
    levels = []
    for stride in strides:
        x, y = np.meshgrid(np.arange(width // stride), np.arange(height // stride))
        levels.append(np.stack([x.ravel(), y.ravel(), np.full(x.size, stride)], axis=1))
    return np.concatenate(levels)


class Actions(Job):
    """Action recognition: clips of 16 frames, 5 a second, one every 0.8 s."""

    def calls(self) -> int:
        points = self.frame_count() * 5 // clips.FPS
        return points // self.manifest.actions.step

    def loop(self) -> None:
        step, width, height = (
            self.manifest.actions.step,
            self.manifest.input.width,
            self.manifest.input.height,
        )
        window: list[clips.Picture] = []
        for number, picture in self.frames():
            if number % (clips.FPS // 5):
                continue
            window = [*window[1 - CLIP_FRAMES :], picture]
            if len(window) == CLIP_FRAMES and number // (clips.FPS // 5) % step == 0:
                resized = np.stack([cv2.resize(frame, (width, height)) for frame in window])
                tensor = resized.transpose(3, 0, 1, 2)[None].astype(np.float32) / 255
                self.run_default(tensor)


class Calls:
    """How many calls are left, shared by the threads that make them."""

    def __init__(self, count: int) -> None:
        self._left, self._lock = count, threading.Lock()

    def take(self) -> bool:
        with self._lock:
            self._left -= 1
            return self._left >= 0


def together(works: Sequence[Callable[[Calls], None]], count: int = 0) -> None:
    calls = Calls(count)
    with ThreadPoolExecutor(len(works)) as pool:
        for future in [pool.submit(work, calls) for work in works]:
            future.result()


WHOLE = [Segment(0, None)]


def jobs(folder: Path) -> dict[str, Job]:
    made: dict[str, Job] = {}
    detectors = {every: clips.detector(folder, clips.FPS // every) for every in (1, 3)}
    for name, (size, frames) in SIZES.items():
        video = clips.cached_clip(size, frames)
        for every, manifest in detectors.items():
            which = "every frame" if every == 1 else f"every {every}rd frame"
            made[f"tracking, {name}, {which}"] = Tracking(video, manifest, every)
    made["actions, 720p"] = Actions(
        clips.cached_clip(*SIZES["720p"]), clips.action_model(folder), clips.FPS // 5
    )
    return made


def main() -> None:
    options = arguments(__doc__)
    cv2.setNumThreads(1)  # as a worker does
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as name:
        for cell, job in jobs(Path(name)).items():
            samplers = {"limit": job.limit, "naive": job.naive}
            samplers |= {decoder: partial(job.product, decoder) for decoder in DECODERS}
            samples = interleaved(options.rounds, samplers, guard=not options.no_guard)
            wall = {key: [sample.wall_s for sample in taken] for key, taken in samples.items()}
            cpu = {key: [sample.cpu_s for sample in taken] for key, taken in samples.items()}
            rows += [
                {
                    "cell": prefix + cell,
                    "limit s": median(wall["limit"]),
                    "model's share": median([sample.model_share for sample in samples["limit"]]),
                    "job / limit": paired(wall[decoder], wall["limit"]),
                    "CPU job / limit": paired(cpu[decoder], cpu["limit"]),
                    "naive / limit": paired(wall["naive"], wall["limit"]),
                    "naive / job": paired(wall["naive"], wall[decoder]),
                }
                for decoder, prefix in DECODERS.items()
            ]
    report("Pipeline against its hard limit and the naive loop", rows, options.json)


if __name__ == "__main__":
    main()
