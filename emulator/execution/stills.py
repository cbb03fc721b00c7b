"""Still pictures of a video as the models see it; the looker's process runs this."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from emulator.config import DecoderChoice
from emulator.execution.shards import storage_code
from emulator.inference.decoding import VideoOptions
from emulator.storage import GcsUri, InvalidUri, ObjectStore, StorageError
from emulator.vertex import errors

if TYPE_CHECKING:
    from emulator.inference.video import Picture as Pixels

INTERVAL_US = 100_000
_QUALITY = 82


@dataclass(frozen=True)
class Look:
    """Asks for the pictures between two times (µs), at most `width` pixels wide, and for video facts."""

    video: GcsUri
    store: ObjectStore
    from_us: int = 0
    to_us: int = 0
    width: int = 0
    decoder: DecoderChoice = "auto"


@dataclass(frozen=True)
class Still:
    """A picture as JPEG, and the time from which it is shown, in microseconds."""

    time_us: int
    jpeg: bytes


@dataclass(frozen=True)
class Seen:
    """The last answer to a Look: display size, codec, length (None if unknown), rotation in degrees, fps."""

    width: int
    height: int
    codec: str
    duration_us: int | None
    rotation: int
    fps: float


@dataclass(frozen=True)
class Unseen:
    """The answer to a Look that failed: a google.rpc code and a message."""

    code: int
    message: str


def look_at(look: Look) -> Iterator[Still | Seen | Unseen]:
    """Yield the answers to a Look."""
    from emulator.inference.container import VideoUnreadable

    try:
        yield from _pictures(look)
    except VideoUnreadable as error:
        yield Unseen(errors.InvalidArgument.code, f"{look.video}: {error}")
    except InvalidUri as error:
        yield Unseen(errors.InvalidArgument.code, str(error))
    except StorageError as error:
        yield Unseen(storage_code(error), str(error))


def _pictures(look: Look) -> Iterator[Still | Seen]:
    from emulator.inference.video import FrameSource

    options = VideoOptions(look.decoder)
    with look.store.local_path(look.video) as path, FrameSource(path, options=options) as source:
        if look.from_us < look.to_us:
            spans = [(look.from_us, look.to_us)]
            for sample in source.sample(INTERVAL_US, spans, lambda picture: _jpeg(picture, look.width)):
                yield Still(sample.time_us, sample.data)
        info = source.info
        yield Seen(info.width, info.height, info.codec, info.duration_us, info.rotation, info.fps)


def _jpeg(picture: Pixels, width: int) -> bytes:
    import cv2

    height, full = picture.shape[:2]
    if width < full:
        picture = cv2.resize(picture, (width, max(1, height * width // full)), interpolation=cv2.INTER_AREA)
    _, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    return data.tobytes()
