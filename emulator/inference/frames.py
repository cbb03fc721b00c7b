"""A decoded frame: its whole picture, or a scaled one that is made from the decoder's data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
Plane = NDArray[np.uint8] | NDArray[np.uint16]

#: A frame that is more than this many times too large is halved first, which averages its pixels.
HALVED_FROM = 4.0


class Frame(Protocol):
    """One frame of a video, upright. Valid until the decoder steps on."""

    width: int
    height: int

    def bgr(self) -> Picture:
        """The whole picture (height, width, 3), blue first."""

    def scaled(self, width: int, height: int, *, gray: bool = False) -> Picture:
        """The picture at another size, (height, width, 3) blue first, or (height, width) in grey."""


class PackedFrame:
    """A frame that the decoder gives as a BGR picture."""

    def __init__(self, picture: Picture) -> None:
        self._picture = picture
        self.height, self.width = picture.shape[:2]

    def bgr(self) -> Picture:
        """See Frame."""
        return self._picture

    def scaled(self, width: int, height: int, *, gray: bool = False) -> Picture:
        """See Frame.

        Linear interpolation is fast, and detectors are trained with it. But it skips most pixels of a frame
        that shrinks a lot, so that thin or textured things would flicker. Halving uses all pixels, at a
        tenth of the cost of INTER_AREA.
        """
        picture = self._picture
        if gray:
            picture = np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY), np.uint8)
        while min(picture.shape[1] / width, picture.shape[0] / height) > HALVED_FROM:
            half = (picture.shape[1] // 2, picture.shape[0] // 2)
            picture = np.asarray(cv2.resize(picture, half, interpolation=cv2.INTER_LINEAR), np.uint8)
        return np.asarray(cv2.resize(picture, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)


@dataclass(frozen=True)
class Colours:
    """How samples become BGR: weights of red and blue in luma (ITU-T H.273), range, and bits a sample.

    shift: the number of padding bits below the sample's own (P010).
    """

    red: float
    blue: float
    full_range: bool
    bits: int
    shift: int = 0

    def matrix(self) -> NDArray[np.float32]:
        """The matrix (3, 4) that turns Y, U and V in 8 bits into B, G and R."""
        green = 1 - self.red - self.blue
        luma, chroma, black = (1.0, 1.0, 0.0) if self.full_range else (255 / 219, 255 / 224, 16.0)
        to_red, to_blue = 2 * (1 - self.red) * chroma, 2 * (1 - self.blue) * chroma
        rows = [
            [luma, to_blue, 0.0],
            [luma, -to_blue * self.blue / green, -to_red * self.red / green],
            [luma, 0.0, to_red],
        ]
        return np.array([[*row, -luma * black - 128 * (row[1] + row[2])] for row in rows], np.float32)

    @property
    def divisor(self) -> int:
        """The divisor that turns a stored sample into 8 bits."""
        return 1 << (self.bits - 8 + self.shift)


class PlanarFrame:
    """A frame as planes of luma and chroma, which are resized before they are converted.

    chroma: the planes of U and V, smaller by the factors `reduced` (width, height); empty for grey video.
    turns: clockwise quarter turns that make the frame upright. shown: the size that the video has, if it
    differs from the frame's own after these turns.
    """

    def __init__(
        self,
        luma: Plane,
        chroma: tuple[Plane, ...],
        reduced: tuple[int, int],
        colours: Colours,
        *,
        turns: int = 0,
        shown: tuple[int, int] | None = None,
    ) -> None:
        self._luma, self._chroma, self._reduced, self._colours = luma, chroma, reduced, colours
        self._turns = turns
        height, width = luma.shape[:2]
        self.width: int
        self.height: int
        self.width, self.height = shown or ((height, width) if turns % 2 else (width, height))

    def bgr(self) -> Picture:
        """See Frame."""
        return self.scaled(self.width, self.height)

    def scaled(self, width: int, height: int, *, gray: bool = False) -> Picture:
        """See Frame."""
        size = (height, width) if self._turns % 2 else (width, height)
        luma = self._eight_bits(shrunk(self._luma, size))
        if not self._chroma:
            # Grey needs no matrix, but has a range.
            chroma = [np.full_like(luma, 128)] * 2
        else:
            chroma = [self._eight_bits(self._chroma_at(plane, size)) for plane in self._chroma]
        picture = np.asarray(cv2.transform(cv2.merge([luma, *chroma]), self._colours.matrix()), np.uint8)
        if gray:
            picture = np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY), np.uint8)
        return np.ascontiguousarray(np.rot90(picture, -self._turns)) if self._turns else picture

    def _chroma_at(self, plane: Plane, size: tuple[int, int]) -> Plane:
        height, width = self._luma.shape
        if plane.shape[1] * self._reduced[0] == width and plane.shape[0] * self._reduced[1] == height:
            return shrunk(plane, size)
        # With an odd size, the last column or row covers half as many pixels as the others.
        across, down = width / self._reduced[0] / size[0], height / self._reduced[1] / size[1]
        map_x = np.arange(size[0], dtype=np.float32)[None, :].repeat(size[1], 0) * across + (across - 1) / 2
        map_y = np.arange(size[1], dtype=np.float32)[:, None].repeat(size[0], 1) * down + (down - 1) / 2
        return np.asarray(cv2.remap(plane, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))

    def _eight_bits(self, plane: Plane) -> Picture:
        divisor = self._colours.divisor
        if divisor == 1:
            return np.asarray(plane, np.uint8)
        return np.asarray(cv2.convertScaleAbs(plane, alpha=1 / divisor), np.uint8)


def shrunk(plane: Plane, size: tuple[int, int]) -> Plane:
    """A plane at another size. A much larger one is halved first, so that more of its samples count; each
    step reads four samples for one."""
    while min(plane.shape[1] / size[0], plane.shape[0] / size[1]) > HALVED_FROM:
        half = (plane.shape[1] // 2, plane.shape[0] // 2)
        plane = np.asarray(cv2.resize(plane, half, interpolation=cv2.INTER_LINEAR))
    if (plane.shape[1], plane.shape[0]) == size:
        return plane
    return np.asarray(cv2.resize(plane, size, interpolation=cv2.INTER_LINEAR))
