"""Training pictures: frames of random takes as the network sees them, and what is to be seen in them."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from scenes import LABELS, random_size, random_take

from emulator.factory import Frame, Stage

INPUT = 256
PAD = 114
CHUNK = 25  # takes in a file
FRAMES = 3  # pictures of a take
SEEN, UNSEEN = 0.5, 0.0  # the visible share from which a label is wanted; below it, it may be said or not


def take_samples(seed: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Pictures (FRAMES, INPUT, INPUT, 3), BGR, and per label 1: seen, 0: not, nan: hardly."""
    rng = np.random.default_rng((seed, 5))
    clip = random_take(seed, random_size(rng, training=True))
    stage = Stage(clip)
    quality = int(rng.integers(25, 95)) if rng.random() < 0.7 else None
    numbers = rng.choice(clip.frame_count, FRAMES, replace=False)
    frames = [stage.frame(int(number)) for number in numbers]
    pictures = np.stack([fitted(as_coded(frame, quality)) for frame in frames])
    return pictures, np.stack([wanted(frame) for frame in frames])


def as_coded(frame: Frame, quality: int | None) -> NDArray[np.uint8]:
    """Blurred and blocked as by a codec."""
    if quality is None:
        return frame.picture
    coded = cv2.imencode(".jpg", frame.picture, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR), np.uint8)


def fitted(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Letterboxed as model.toml says."""
    height, width = picture.shape[:2]
    ratio = INPUT / max(width, height)
    inner = (round(width * ratio), round(height * ratio))
    canvas = np.full((INPUT, INPUT, 3), PAD, np.uint8)
    left, top = (INPUT - inner[0]) // 2, (INPUT - inner[1]) // 2
    canvas[top : top + inner[1], left : left + inner[0]] = cv2.resize(
        picture, inner, interpolation=cv2.INTER_LINEAR
    )
    return canvas


def wanted(frame: Frame) -> NDArray[np.float32]:
    """What is to be said of a frame, per label."""
    answer = np.zeros(len(LABELS), np.float32)
    for seen in frame.sightings:
        place = LABELS.index(seen.label)
        answer[place] = np.fmax(answer[place], 1.0 if seen.visible >= SEEN else np.nan)
    return answer


def _render(job: tuple[Path, int]) -> None:
    path, first = job
    if path.exists():
        return
    cv2.setNumThreads(1)
    takes = [take_samples(seed) for seed in range(first, first + CHUNK)]
    partial = path.with_suffix(".part")
    with partial.open("wb") as file:
        pictures, answers = (np.concatenate(parts) for parts in zip(*takes, strict=True))
        np.savez(file, pictures=pictures, wanted=answers)
    partial.rename(path)


def rendered(folder: Path, seeds: range, workers: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """The pictures of those seeds' takes and what is wanted; what the folder lacks is rendered first."""
    folder.mkdir(parents=True, exist_ok=True)
    jobs = [(folder / f"{first:07d}.npz", first) for first in seeds[::CHUNK]]
    with ProcessPoolExecutor(workers) as pool:
        list(pool.map(_render, jobs))
    stored = [np.load(path) for path, _ in jobs]
    return np.concatenate([one["pictures"] for one in stored]), np.concatenate(
        [one["wanted"] for one in stored]
    )
