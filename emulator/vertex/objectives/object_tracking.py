"""Object tracking: one prediction is an object with its boxes over time."""

from dataclasses import dataclass
from itertools import pairwise

from emulator.vertex.objectives.definition import Definition
from emulator.vertex.parameters import COMMON
from emulator.vertex.prediction_members import SEGMENT, Members
from emulator.vertex.predictions import Label, common_members, duration_text, float32_text


@dataclass(frozen=True, slots=True)
class TrackFrame:
    """The box of a tracked object at one time, in coordinates relative to the frame, not clamped."""

    time_us: int
    x_min: float
    x_max: float
    y_min: float
    y_max: float


@dataclass(frozen=True, slots=True)
class ObjectTrack:
    """One object followed through a segment. `frames` are in time order; there is at least one."""

    label: Label
    confidence: float
    frames: tuple[TrackFrame, ...]

    def as_json(self) -> str:
        """See Prediction."""
        first, last = self.frames[0].time_us, self.frames[-1].time_us
        listed = ",".join(map(_frame_text, self.frames))
        return f'{{{common_members(self.label, first, last, self.confidence)},"frames":[{listed}]}}'


def _frame_text(frame: TrackFrame) -> str:
    return (
        f'{{"timeOffset":"{duration_text(frame.time_us)}",'
        f'"xMin":{float32_text(frame.x_min)},"xMax":{float32_text(frame.x_max)},'
        f'"yMin":{float32_text(frame.y_min)},"yMax":{float32_text(frame.y_max)}}}'
    )


def _read(members: Members) -> ObjectTrack:
    members.only("id", "displayName", *SEGMENT, "confidence", "frames")
    frames = tuple(map(_read_frame, members.items("frames")))
    for before, after in pairwise(frames):
        if after.time_us <= before.time_us:
            raise ValueError(f"{members.path}frames must be in the order of their timeOffset")
    # Vertex: a track's segment is that of its frames (recorded AutoML output).
    for name, frame in zip(SEGMENT, (frames[0], frames[-1]), strict=True):
        if name in members.values and members.time(name) != frame.time_us:
            raise ValueError(
                f"{members.path}{name} is {members.values[name]!r}; a track begins with its first frame and"
                " ends with its last, so leave it out or make it that frame's timeOffset"
            )
    return ObjectTrack(members.label(), members.confidence(), frames)


def _read_frame(members: Members) -> TrackFrame:
    members.only("timeOffset", "xMin", "xMax", "yMin", "yMax")
    x_min, x_max, y_min, y_max = (members.number(name) for name in ("xMin", "xMax", "yMin", "yMax"))
    return TrackFrame(members.time("timeOffset"), x_min, x_max, y_min, y_max)


DEFINITION = Definition(
    word="object_tracking",
    read=_read,
    noun="tracks",
    example=("track the pets", "tracking.jsonl"),
    sign="frames",
    parameters=(*COMMON, "min_bounding_box_size"),
)
