"""Clips, their actors, and the truth: what is visible, where and when.

A `Clip` is one shot; `film.py` joins several.

Time. Frame n of a clip shows the moment n / fps. Predictions lie on a grid of 0.1 s. The frame nearest to a
grid point answers it; of two equally near ones, the earlier. A frame *belongs* to the grid points that it
answers and to the grid point nearest to its own time. An actor with `start` and `end` is drawn on the frames
that belong to a grid point in [start, end], both ends included. So if the rate is at least 10 fps and start
and end are on the grid, a tracker first sees the actor exactly at `start` and last sees it exactly at `end`;
`start == end` is an object of a single moment. Below 10 fps one frame answers several grid points, and the
truth says which.

Boxes. The truth's box encloses the visible pixels. A pixel is visible if it lies inside the picture, the
actor covers at least half of it, and no later actor in the list covers half of it. The truth leaves out
frames in which less than `MIN_VISIBLE` of the actor's pixels are visible. Coordinates are pixel edges divided
by the picture's size.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from emulator.comparison.lines import TRUTH_SUFFIX
from emulator.factory.backgrounds import Background, Camera, Light, SensorNoise
from emulator.factory.encode import Encoder, FactoryError, Picture, check_fps, check_size, choose_codec
from emulator.vertex.predictions import duration_text

GRID_US = 100_000
MIN_VISIBLE = 0.15
HALF = 128


@dataclass(frozen=True)
class Layer:
    """The pixels that an actor puts into a picture.

    image: BGR uint8 (h, w, 3). alpha: uint8 (h, w), 255 where the actor covers the pixel.
    x, y: the picture's pixel under the layer's top-left corner; the layer may stick out of the picture.
    """

    image: Picture
    alpha: NDArray[np.uint8]
    x: int
    y: int


class Painter(Protocol):
    """Draws one actor at a frame's time in seconds; times come in any order. None: nothing is visible."""

    def __call__(self, time_s: float) -> Layer | None: ...


@dataclass(frozen=True)
class Moment:
    """An action happening at one moment, in seconds."""

    label: str
    time: float


class Actor(Protocol):
    """Anything that a clip shows in front of its background. It is frozen data; a painter draws it.

    label: the name of its track in the truth, or None if it is no object (an occluder, a distractor).
    start, end: first and last moment at which it is shown, in seconds (see the module's rule).
    moments: the actions it performs, for the truth of action recognition.
    """

    @property
    def label(self) -> str | None: ...
    @property
    def start(self) -> float: ...
    @property
    def end(self) -> float: ...
    @property
    def moments(self) -> Sequence[Moment]: ...

    def prepare(self, size: tuple[int, int], rng: np.random.Generator) -> Painter:
        """Prepare the costly parts (textures) once, for pictures of (width, height).

        All randomness comes from `rng`, which depends only on the clip's seed and the actor's index.
        """
        ...


@dataclass(frozen=True)
class Clip:
    """A clip to render. The same clip gives the same pictures; `seed` decides textures and noise.

    size: (width, height) in pixels, even. duration: seconds. background: one of BACKGROUNDS.
    noise: camera noise, standard deviation in grey levels. objects: drawn in order, later ones in front.
    """

    size: tuple[int, int] = (640, 360)
    fps: float = 30.0
    duration: float = 5.0
    seed: int = 0
    background: str = "texture"
    camera: Camera = field(default_factory=Camera)
    light: Light = field(default_factory=Light)
    noise: float = 0.0
    objects: Sequence[Actor] = ()

    def __post_init__(self) -> None:
        check_size(self.size)
        check_fps(self.fps)
        if not 0 < self.duration <= 4 * 3600:
            raise FactoryError(
                f"The clip's duration is {self.duration} s; give more than 0, at most 4 hours."
            )
        for actor in self.objects:
            name = actor.label or type(actor).__name__
            if not 0 <= actor.start <= actor.end:
                raise FactoryError(
                    f"{name!r} is shown from {actor.start} s to {actor.end} s; start must lie in 0..end."
                )
            if actor.start >= self.duration:
                raise FactoryError(
                    f"{name!r} starts at {actor.start} s in a clip of {self.duration} s; start it earlier."
                )
            for moment in actor.moments:
                if moment.time >= self.duration:
                    raise FactoryError(
                        f"The {moment.label} at {moment.time} s comes after the end of a clip of "
                        f"{self.duration} s; let it happen earlier or make the clip longer."
                    )

    @property
    def frame_count(self) -> int:
        return max(1, round(self.duration * self.fps))

    @property
    def rate(self) -> Fraction:
        """Frames per second as a ratio: 29.97 is the usual 30000/1001."""
        ntsc = Fraction(round(self.fps) * 1000, 1001)
        if not float(self.fps).is_integer() and abs(float(ntsc) - self.fps) < 0.005:
            return ntsc
        return Fraction(self.fps).limit_denominator(1001)

    def stage(self) -> Stage:
        """The clip made ready to render."""
        return Stage(self)


@dataclass(frozen=True)
class Sighting:
    """A labelled actor in a picture: its index in the clip's list, relative box, visible share 0..1."""

    actor: int
    label: str
    x_min: float
    x_max: float
    y_min: float
    y_max: float
    visible: float


@dataclass(frozen=True)
class Frame:
    """A rendered picture and what is visible in it."""

    number: int
    time_s: float
    picture: Picture
    sightings: tuple[Sighting, ...]


@dataclass(frozen=True)
class TruthFrame:
    """Where an object is at one grid point; relative coordinates."""

    time_us: int
    x_min: float
    x_max: float
    y_min: float
    y_max: float
    visible: float


@dataclass(frozen=True)
class TruthTrack:
    """One object's frames in time order; never empty."""

    label: str
    frames: tuple[TruthFrame, ...]


@dataclass(frozen=True)
class Truth:
    """The answer of a perfect model for a clip. `cuts_us`: the starts of all shots but the first."""

    path: Path | None
    duration_us: int
    tracks: tuple[TruthTrack, ...]
    actions: tuple[Moment, ...]
    cuts_us: tuple[int, ...] = ()

    @property
    def shots(self) -> list[tuple[int, int]]:
        """Start and end of each shot, in microseconds."""
        return list(itertools.pairwise((0, *self.cuts_us, self.duration_us)))

    def seen(self, label: str, start_us: int, end_us: int, *, visible: float = 0.0) -> float:
        """The share of the grid points in [start_us, end_us) at which the label is visible.

        visible: the least share of its pixels for an object to count as visible.
        """
        points = range(math.ceil(start_us / GRID_US), math.ceil(min(end_us, self.duration_us) / GRID_US))
        frames = (frame for track in self.tracks if track.label == label for frame in track.frames)
        times = {frame.time_us for frame in frames if frame.visible >= visible}
        return sum(point * GRID_US in times for point in points) / max(1, len(points))

    def write(self, video: Path | str) -> Path:
        """Write the truth next to a video, where the console looks for it. Returns the file's path."""
        path = Path(f"{video}{TRUTH_SUFFIX}")
        members = {
            "duration": duration_text(self.duration_us),
            "cuts": [duration_text(cut_us) for cut_us in self.cuts_us],
            "objectTracking": self.object_tracking(),
            "actionRecognition": self.action_recognition(),
        }
        path.write_text(json.dumps({"truth": members}) + "\n", encoding="utf-8")
        return path

    def object_tracking(self, label_ids: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
        """The tracks as the `prediction` list of an output line. Ids are made up unless given per label."""
        ids = label_ids or _made_up_ids(track.label for track in self.tracks)
        return [_track_json(track, ids[track.label]) for track in self.tracks]

    def action_recognition(self, label_ids: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
        """The actions as the `prediction` list of an output line, in time order."""
        ids = label_ids or _made_up_ids(action.label for action in self.actions)
        return [
            {
                "id": ids[action.label],
                "displayName": action.label,
                "timeSegmentStart": duration_text(round(action.time * 1e6)),
                "timeSegmentEnd": duration_text(round(action.time * 1e6)),
                "confidence": 1.0,
            }
            for action in self.actions
        ]


def _made_up_ids(labels: Iterator[str] | Any) -> dict[str, str]:
    return {label: str(number) for number, label in enumerate(sorted(set(labels)), start=1)}


def _track_json(track: TruthTrack, label_id: str) -> dict[str, Any]:
    return {
        "id": label_id,
        "displayName": track.label,
        "timeSegmentStart": duration_text(track.frames[0].time_us),
        "timeSegmentEnd": duration_text(track.frames[-1].time_us),
        "confidence": 1.0,
        "frames": [
            {
                "timeOffset": duration_text(frame.time_us),
                "xMin": frame.x_min,
                "xMax": frame.x_max,
                "yMin": frame.y_min,
                "yMax": frame.y_max,
            }
            for frame in track.frames
        ],
    }


class Schedule:
    """Says which frame answers which 0.1 s grid point, in exact arithmetic."""

    def __init__(self, rate: Fraction, frame_count: int, duration: float) -> None:
        self._rate = rate
        self._last = frame_count - 1
        self.frame_count = frame_count
        self.duration_us = round(duration * 1e6)
        self.grid_points = math.ceil(round(duration * 1e6) / GRID_US)

    def time_s(self, frame: int) -> float:
        return float(frame / self._rate)

    def answering(self, grid_point: int) -> int:
        """The frame nearest to a grid point; of two equally near, the earlier."""
        return min(self._last, math.ceil(Fraction(grid_point, 10) * self._rate - Fraction(1, 2)))

    def belongs(self, frame: int, start: float, end: float) -> bool:
        """Whether the frame belongs to a grid point in [start, end]."""
        first, last = math.ceil(round(start * 1e6) / GRID_US), round(end * 1e6) // GRID_US
        nearest = math.floor(frame / self._rate * 10 + Fraction(1, 2))
        if first <= nearest <= last:
            return True
        return first <= last and self.answering(first) <= frame <= self.answering(last)


class Staged(Protocol):
    """A clip or film that is ready to render: pictures in any order, each with what is visible in it.

    labels: of the actors, by the index that a Sighting names. cuts_us: the starts of all shots but the first.
    """

    schedule: Schedule
    labels: Sequence[str | None]
    moments: Sequence[Moment]
    cuts_us: Sequence[int]

    def frame(self, number: int) -> Frame:
        """Renders one picture."""
        ...


class Scene(Protocol):
    """The input of `render`: a Clip, or a Film of several."""

    @property
    def size(self) -> tuple[int, int]: ...
    @property
    def rate(self) -> Fraction: ...
    def stage(self) -> Staged: ...


class Stage:
    """A clip made ready to render (Staged)."""

    def __init__(self, clip: Clip) -> None:
        self._clip = clip
        self.schedule = Schedule(clip.rate, clip.frame_count, clip.duration)
        self.labels: Sequence[str | None] = [actor.label for actor in clip.objects]
        self.moments: Sequence[Moment] = [moment for actor in clip.objects for moment in actor.moments]
        self.cuts_us: Sequence[int] = ()
        self._background = Background(clip.background, clip.size, clip.camera, self._rng(0))
        self._noise = SensorNoise(clip.noise, clip.size, self._rng(1))
        self._painters = [
            actor.prepare(clip.size, self._rng(2 + place)) for place, actor in enumerate(clip.objects)
        ]

    def _rng(self, part: int) -> np.random.Generator:
        return np.random.default_rng((self._clip.seed, part))

    def background(self, time_s: float) -> Picture:
        """The picture without actors, light and noise."""
        return self._background.at(time_s)

    def frame(self, number: int) -> Frame:
        """Renders one picture of the clip."""
        time_s = self.schedule.time_s(number)
        picture = self.background(time_s)
        cover: list[tuple[int, NDArray[np.bool_], int, int, int]] = []
        for place, (actor, painter) in enumerate(zip(self._clip.objects, self._painters, strict=True)):
            if not self.schedule.belongs(number, actor.start, actor.end):
                continue
            layer = painter(time_s)
            if layer is None:
                continue
            whole = int(np.count_nonzero(layer.alpha >= HALF))
            solid, x, y = _composite(picture, layer)
            for _, earlier, earlier_x, earlier_y, _ in cover:
                _erase(earlier, earlier_x, earlier_y, solid, x, y)
            cover.append((place, solid, x, y, whole))
        sightings = tuple(filter(None, (self._sighting(*entry) for entry in cover)))
        gain = self._clip.light.at(time_s)
        if gain != 1.0:
            picture = np.asarray(cv2.convertScaleAbs(picture, alpha=gain), dtype=np.uint8)
        return Frame(number, time_s, self._noise.apply(picture, number), sightings)

    def frames(self) -> Iterator[Frame]:
        """Renders all pictures in order."""
        return (self.frame(number) for number in range(self._clip.frame_count))

    def _sighting(self, place: int, solid: NDArray[np.bool_], x: int, y: int, whole: int) -> Sighting | None:
        label = self._clip.objects[place].label
        seen = int(np.count_nonzero(solid))
        if label is None or seen == 0 or seen < MIN_VISIBLE * whole:
            return None
        columns, rows = np.flatnonzero(solid.any(axis=0)), np.flatnonzero(solid.any(axis=1))
        width, height = self._clip.size
        return Sighting(
            place,
            label,
            float(x + columns[0]) / width,
            float(x + columns[-1] + 1) / width,
            float(y + rows[0]) / height,
            float(y + rows[-1] + 1) / height,
            seen / whole,
        )


def _composite(picture: Picture, layer: Layer) -> tuple[NDArray[np.bool_], int, int]:
    """Blend a layer into the picture in place. Returns its solid pixels in the picture, and their x, y."""
    height, width = picture.shape[:2]
    rows, columns = layer.alpha.shape
    left, top = max(0, layer.x), max(0, layer.y)
    right, bottom = min(width, layer.x + columns), min(height, layer.y + rows)
    if left >= right or top >= bottom:
        return np.zeros((0, 0), dtype=np.bool_), 0, 0
    inside = np.s_[top - layer.y : bottom - layer.y, left - layer.x : right - layer.x]
    alpha = layer.alpha[inside]
    weight = cv2.cvtColor(alpha, cv2.COLOR_GRAY2BGR).astype(np.uint16)
    target = picture[top:bottom, left:right]
    blend = (layer.image[inside] * weight + target * (255 - weight) + 127) // 255
    picture[top:bottom, left:right] = blend.astype(np.uint8)
    return alpha >= HALF, left, top


def _erase(solid: NDArray[np.bool_], x: int, y: int, cover: NDArray[np.bool_], cx: int, cy: int) -> None:
    """Clears the pixels of `solid` (at x, y) which `cover` (at cx, cy) hides."""
    left, top = max(x, cx), max(y, cy)
    right = min(x + solid.shape[1], cx + cover.shape[1])
    bottom = min(y + solid.shape[0], cy + cover.shape[0])
    if left < right and top < bottom:
        solid[top - y : bottom - y, left - x : right - x] &= ~cover[
            top - cy : bottom - cy, left - cx : right - cx
        ]


def render(scene: Scene, path: Path | str, *, codec: str | None = None) -> Truth:
    """Encodes a clip or a film into a video file and returns its truth.

    The file's suffix chooses the container (.mp4, .mov, .avi, .webm), `codec` one of its codecs (see CODECS).
    Raises FactoryError if the file cannot be written.
    """
    path = Path(path)
    choose_codec(path, codec)
    stage = scene.stage()
    sightings: dict[int, tuple[Sighting, ...]] = {}
    with Encoder(path, size=scene.size, fps=float(scene.rate), codec=codec) as encoder:
        for number in range(stage.schedule.frame_count):
            frame = stage.frame(number)
            encoder.write(frame.picture)
            sightings[number] = frame.sightings
    return _truth(stage, sightings, path)


def truth_of(scene: Scene) -> Truth:
    """The truth of a clip or a film without a video file."""
    stage = scene.stage()
    answers = {stage.schedule.answering(point) for point in range(stage.schedule.grid_points)}
    return _truth(stage, {number: stage.frame(number).sightings for number in answers}, None)


def _truth(stage: Staged, sightings: Mapping[int, tuple[Sighting, ...]], path: Path | None) -> Truth:
    schedule = stage.schedule
    frames: dict[int, list[TruthFrame]] = {}
    for grid_point in range(schedule.grid_points):
        for seen in sightings[schedule.answering(grid_point)]:
            frames.setdefault(seen.actor, []).append(
                TruthFrame(grid_point * GRID_US, seen.x_min, seen.x_max, seen.y_min, seen.y_max, seen.visible)
            )
    tracks = tuple(
        TruthTrack(stage.labels[place] or "", tuple(track)) for place, track in sorted(frames.items())
    )
    actions = sorted(stage.moments, key=lambda one: one.time)
    return Truth(path, schedule.duration_us, tracks, tuple(actions), tuple(stage.cuts_us))
