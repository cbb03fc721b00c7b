"""Training pictures: frames of encoded random clips, cached as JPEG files with their boxes."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import tempfile
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from network import INPUT, LABELS

from emulator.factory import CODECS, Encoder, Stage, random_clip

TRAIN_SEEDS = range(1_000_000, 2_000_000)
"""The tests and evaluate.py take theirs from below."""

PICTURES_PER_CLIP = 3
CHUNK = 16
SIZES = ((640, 360), (426, 240), (320, 180), (320, 240), (180, 320), (360, 640), (256, 256), (320, 180))
HARD = 0.3
"""Objects of which less is visible are neither demanded nor punished."""


@dataclass(frozen=True)
class Example:
    """A picture of the input's long side (BGR) and its objects: rows x_min, y_min, x_max, y_max in pixels,
    class, visible share."""

    picture: np.ndarray
    boxes: np.ndarray


def render_examples(seed: int) -> list[Example]:
    """Renders some frames of a random clip, encodes them as a user's file would be and decodes them."""
    rng = np.random.default_rng((seed, 5))
    size = SIZES[int(rng.integers(len(SIZES)))] if rng.random() < 0.95 else (1280, 720)
    clip = random_clip(seed, size=size, fps=10, duration=3.0)
    stage = Stage(clip)
    numbers = np.sort(rng.choice(clip.frame_count, PICTURES_PER_CLIP, replace=False))
    frames = [stage.frame(int(number)) for number in numbers]
    containers = [
        (suffix, codec) for suffix, codecs in CODECS.items() for codec in codecs if suffix != ".webm"
    ]
    suffix, codec = containers[int(rng.integers(len(containers)))]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"clip{suffix}"
        with Encoder(path, size=size, fps=clip.fps, codec=codec) as encoder:
            for frame in frames:
                encoder.write(frame.picture)
        video = cv2.VideoCapture(str(path))
        pictures = [video.read()[1] for _ in frames]
        video.release()
    return [_example(picture, frame.sightings, rng) for picture, frame in zip(pictures, frames, strict=True)]


def _example(picture: np.ndarray, seen: tuple, rng: np.random.Generator) -> Example:
    height, width = picture.shape[:2]
    ratio = INPUT / max(width, height)
    fitted = (round(width * ratio), round(height * ratio))
    how = cv2.INTER_LINEAR if rng.random() < 0.8 else cv2.INTER_AREA
    rows = [
        (one.x_min * fitted[0], one.y_min * fitted[1], one.x_max * fitted[0], one.y_max * fitted[1],
         LABELS.index(one.label), one.visible)
        for one in seen
    ]  # fmt: skip
    boxes = np.array(rows, dtype=np.float32).reshape(-1, 6)
    return Example(cv2.resize(picture, fitted, interpolation=how), boxes)


def _render_chunk(job: tuple[Path, int]) -> None:
    """Caches CHUNK clips as one file of JPEG pictures and boxes."""
    folder, first = job
    cv2.setNumThreads(1)
    target = folder / f"{first}.npz"
    if target.exists():
        return
    examples = [example for seed in range(first, first + CHUNK) for example in render_examples(seed)]
    jpegs = [cv2.imencode(".jpg", one.picture, [cv2.IMWRITE_JPEG_QUALITY, 97])[1] for one in examples]
    lengths = np.array([len(jpeg) for jpeg in jpegs])
    counts = np.array([len(one.boxes) for one in examples])
    temporary = target.with_suffix(".part.npz")
    np.savez(
        temporary,
        jpegs=np.concatenate(jpegs),
        lengths=lengths,
        boxes=np.concatenate([one.boxes for one in examples]),
        counts=counts,
    )
    temporary.rename(target)


def render_cache(folder: Path, clips: int, processes: int) -> None:
    """Renders what the cache lacks; interrupted, it goes on where it was."""
    folder.mkdir(parents=True, exist_ok=True)
    firsts = range(TRAIN_SEEDS.start, TRAIN_SEEDS.start + clips, CHUNK)
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        for number, _ in enumerate(pool.imap(_render_chunk, [(folder, first) for first in firsts]), start=1):
            if number % 10 == 0:
                print(f"rendered {number * CHUNK} of {clips} clips", flush=True)


class Cache:
    """The rendered examples in memory, still as JPEG."""

    def __init__(self, folder: Path) -> None:
        self._jpegs: list[np.ndarray] = []
        self._boxes: list[np.ndarray] = []
        for path in sorted(folder.glob("[0-9]*.npz")):
            if path.name.endswith(".part.npz"):
                continue
            with np.load(path) as chunk:
                self._jpegs += np.split(chunk["jpegs"], np.cumsum(chunk["lengths"])[:-1])
                self._boxes += np.split(chunk["boxes"], np.cumsum(chunk["counts"])[:-1])

    def __len__(self) -> int:
        return len(self._jpegs)

    def __getitem__(self, index: int) -> Example:
        return Example(cv2.imdecode(self._jpegs[index], cv2.IMREAD_COLOR), self._boxes[index])


PAD = 114


def augment(example: Example, canvas: tuple[int, int], rng: np.random.Generator) -> Example:
    """Flips, scales, shifts, recolours, blurs and compresses an example onto a canvas (height, width)."""
    picture, boxes = example.picture, example.boxes.copy()
    height, width = picture.shape[:2]
    if rng.random() < 0.5:
        picture = picture[:, ::-1]
        boxes[:, [0, 2]] = width - boxes[:, [2, 0]]
    scale_x = scale_y = min(canvas[1] / width, canvas[0] / height)
    zoomed = rng.random() < 0.5
    if zoomed:
        zoom = rng.uniform(0.75, 1.35)
        stretch = rng.uniform(0.92, 1.08)
        scale_x, scale_y = scale_x * zoom * stretch, scale_y * zoom / stretch
    room_x, room_y = canvas[1] - width * scale_x, canvas[0] - height * scale_y
    # As in the letterbox: centred, but for zoomed pictures anywhere.
    left = room_x * (rng.random() if zoomed else 0.5)
    top = room_y * (rng.random() if zoomed else 0.5)
    shift = np.array([[scale_x, 0, left], [0, scale_y, top]], dtype=np.float32)
    picture = cv2.warpAffine(
        np.ascontiguousarray(picture), shift, (canvas[1], canvas[0]), borderValue=(PAD, PAD, PAD)
    )
    boxes = _moved(boxes, scale_x, scale_y, left, top, canvas)
    return Example(_degraded(picture, rng), boxes)


def _moved(
    boxes: np.ndarray, scale_x: float, scale_y: float, left: float, top: float, canvas: tuple[int, int]
) -> np.ndarray:
    boxes[:, [0, 2]] = boxes[:, [0, 2]] * scale_x + left
    boxes[:, [1, 3]] = boxes[:, [1, 3]] * scale_y + top
    whole = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    boxes[:, [0, 2]] = boxes[:, [0, 2]].clip(0, canvas[1])
    boxes[:, [1, 3]] = boxes[:, [1, 3]].clip(0, canvas[0])
    left_over = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    boxes[:, 5] *= left_over / np.maximum(whole, 1e-6)
    sides = np.minimum(boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1])
    return boxes[(sides >= 4) & (boxes[:, 5] > 0.05)]


def _degraded(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    if rng.random() < 0.7:
        gain = rng.uniform(0.7, 1.3) * rng.uniform(0.88, 1.12, 3)
        table = np.clip(np.arange(256)[:, None] * gain + rng.uniform(-25, 25), 0, 255)
        picture = cv2.LUT(picture, table.astype(np.uint8).reshape(256, 1, 3))
    if rng.random() < 0.1:
        picture = cv2.cvtColor(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
    if rng.random() < 0.2:
        picture = cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.4, 1.3))
    if rng.random() < 0.2:
        grain = rng.normal(0, rng.uniform(2, 9), picture.shape)
        picture = np.clip(picture + grain, 0, 255).astype(np.uint8)
    if rng.random() < 0.25:
        jpeg = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(25, 90))])[1]
        picture = cv2.imdecode(jpeg, cv2.IMREAD_COLOR)
    return picture


def main() -> None:
    parser = argparse.ArgumentParser(description="Render the training pictures.")
    parser.add_argument("--clips", type=int, default=7200)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--cache", type=Path, default=Path(__file__).parent / "runs" / "cache")
    arguments = parser.parse_args()
    render_cache(arguments.cache, arguments.clips, arguments.processes)
    print(json.dumps({"examples": len(Cache(arguments.cache))}))


if __name__ == "__main__":
    main()
