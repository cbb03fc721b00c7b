"""Clips as the network sees them: frames of the 0.1 s grid at the input's size, and when actions happen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from scenes import LABELS, random_clip

from emulator.factory import Clip, Figure, Stage

INTERVAL_S = 0.1
WIDTH, HEIGHT = 96, 64
WINDOW = 15
CELLS = (HEIGHT // 16, WIDTH // 16)
HALF_WINDOW = WINDOW // 2
CALM = 4  # one clip in so many has no action at all


@dataclass(frozen=True)
class Sampled:
    """frames: RGB uint8 (n, HEIGHT, WIDTH, 3) at k * INTERVAL_S.

    moments: label index, seconds, and the relative place of the body's middle.
    """

    frames: NDArray[np.uint8]
    moments: tuple[tuple[int, float, float, float], ...]


def sampled(clip: Clip, rng: np.random.Generator) -> Sampled:
    """Renders only the frames that the grid asks for; blurred and blocked as a codec and a resize would."""
    stage = Stage(clip)
    points = math.ceil(clip.duration / INTERVAL_S)
    interpolation = cv2.INTER_AREA if rng.random() < 0.5 else cv2.INTER_LINEAR
    quality = int(rng.integers(25, 95)) if rng.random() < 0.6 else None
    pictures: dict[int, NDArray[np.uint8]] = {}
    for point in range(points):
        number = stage.schedule.answering(point)
        if number not in pictures:
            picture = stage.frame(number).picture
            if quality is not None:
                coded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
                picture = cv2.imdecode(coded, cv2.IMREAD_COLOR)
            small = cv2.resize(picture, (WIDTH, HEIGHT), interpolation=interpolation)
            pictures[number] = cv2.cvtColor(small, cv2.COLOR_BGR2RGB)
    frames = np.stack([pictures[stage.schedule.answering(point)] for point in range(points)])
    return Sampled(frames, moments_of(clip))


def moments_of(clip: Clip) -> tuple[tuple[int, float, float, float], ...]:
    """What `Sampled.moments` says of a clip."""
    found = []
    for figure in clip.objects:
        for one in figure.moments:
            assert isinstance(figure, Figure)
            walked = figure.walked(one.time) * math.cos(math.radians(figure.turn)) * figure.height
            step = walked * clip.size[1] / clip.size[0]
            x = figure.position[0] + (-step if figure.faces_left else step)
            found.append((LABELS.index(one.label), one.time, x, figure.position[1] - 0.5 * figure.height))
    return tuple(found)


def render_to(path: Path, seed: int) -> None:
    """One training clip into a file, unless it is there already."""
    if path.exists():
        return
    sample = sampled(
        random_clip(seed, acting=seed % CALM != 0, training=True), np.random.default_rng((seed, 99))
    )
    partial = path.with_suffix(".part")
    with partial.open("wb") as file:
        np.savez(file, frames=sample.frames, moments=np.array(sample.moments, float).reshape(-1, 4))
    partial.rename(path)


def load(path: Path) -> Sampled:
    """A clip that `render_to` wrote."""
    with np.load(path) as stored:
        moments = tuple((int(label), float(t), float(x), float(y)) for label, t, x, y in stored["moments"])
        return Sampled(stored["frames"], moments)


def clip_files(folder: Path, seeds: Sequence[int]) -> list[Path]:
    """Where the clips of those seeds lie."""
    return [folder / f"{seed:06d}.npz" for seed in seeds]


class Rendering:
    """Renders clips into a folder in processes of its own; those that are there already are kept."""

    def __init__(self, folder: Path, seeds: Sequence[int], workers: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._pool = ProcessPoolExecutor(workers)
        files = clip_files(folder, seeds)
        self._jobs = [self._pool.submit(render_to, *job) for job in zip(files, seeds, strict=True)]

    def wait(self, count: int) -> None:
        """Until the first `count` clips are there."""
        for job in self._jobs[:count]:
            job.result()

    def close(self) -> None:
        """Gives up what is not rendered yet."""
        self._pool.shutdown(cancel_futures=True)


class Stock:
    """The clips of a folder that are rendered already."""

    def __init__(self, folder: Path, seeds: Sequence[int]) -> None:
        self._waiting = clip_files(folder, seeds)
        self.clips: list[Sampled] = []
        self.acting: list[Sampled] = []
        self.refresh()

    def refresh(self) -> None:
        """Takes in what has been finished since."""
        ready = [path for path in self._waiting if path.exists()]
        self.clips += [load(path) for path in ready]
        self.acting = [clip for clip in self.clips if clip.moments]
        self._waiting = [path for path in self._waiting if path not in ready]


def windows(frames: NDArray[np.uint8], first: int, count: int) -> NDArray[np.uint8]:
    """The frames of `count` windows centred at frame `first` and after; the outermost frames are repeated."""
    wanted = np.arange(first - HALF_WINDOW, first + count + HALF_WINDOW)
    return frames[np.clip(wanted, 0, len(frames) - 1)]


def nearness(sample: Sampled, moment: int, sigma: float) -> NDArray[np.float32]:
    """How near each frame is to a moment: 1 at it, falling off over `sigma` seconds."""
    times = np.arange(len(sample.frames)) * INTERVAL_S
    return np.exp(-((times - sample.moments[moment][1]) ** 2) / (2 * sigma**2)).astype(np.float32)
