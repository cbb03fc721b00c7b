"""Chooses the decoder of a video: OpenCV, and PyAV for what OpenCV refuses or shows in wrong colours."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from emulator.config import DecoderChoice
from emulator.inference.container import Container, VideoUnreadable, identify
from emulator.inference.decoder import Decoder
from emulator.inference.decoding import EXTRA, av_is_installed
from emulator.inference.opencv_decoder import OpenCvDecoder, quiet_opencv


def quiet_decoder() -> None:
    """Keeps FFmpeg and OpenCV from writing to stderr. Call it before the first video is opened.

    It holds for the whole process, so only the owner of stderr should call it. Errors are still reported, by
    `VideoUnreadable`.
    """
    quiet_opencv()
    if av_is_installed():
        from emulator.inference.av_decoder import quiet_av

        quiet_av()


def open_decoder(
    path: Path, choice: DecoderChoice, threads: int, check: Callable[[], None]
) -> tuple[Decoder, list[str]]:
    """Open a decoder at the video's first frame. Returns it with warnings for the user.

    Raises:
        VideoUnreadable: no permitted decoder reads the video.
    """
    # An absolute path cannot be taken for a URL or for one of FFmpeg's protocols.
    path = path.absolute()
    container = identify(path)
    warnings, is_wide = _about_tracks(container), choice != "av" and _is_wide(path, container)
    if choice == "av" or (choice == "auto" and _is_for_av(container, is_wide=is_wide)):
        return _av(path, container, threads, check), warnings
    if is_wide:
        warnings.append(
            "Its colours are HDR or of a wide gamut, which OpenCV renders too bright and saturated; "
            f"to have it decoded by PyAV, `{EXTRA}`"
        )
    try:
        return OpenCvDecoder(path, container, threads, check), warnings
    except VideoUnreadable as refusal:
        if choice == "opencv" or container.asked or not av_is_installed():
            raise
        try:
            return _av(path, container, threads, check), warnings
        except VideoUnreadable:
            raise refusal from None


def _is_for_av(container: Container, *, is_wide: bool) -> bool:
    """Whether OpenCV refuses a video or shows wrong colours, and PyAV is installed to do better."""
    if container.asked or not av_is_installed():
        return False
    return is_wide or not container.opencv or container.track.codec == "av1"


def _is_wide(path: Path, container: Container) -> bool:
    """Whether a video is HDR or has a wide gamut. Its own headers override the container's, but only PyAV
    reads them."""
    track = container.track
    if track.wide_colours or track.surely_narrow or container.asked or not av_is_installed():
        return track.wide_colours
    from emulator.inference.av_decoder import has_wide_colours

    return has_wide_colours(path, container)


def _av(path: Path, container: Container, threads: int, check: Callable[[], None]) -> Decoder:
    if not av_is_installed():
        raise VideoUnreadable(f"The decoder av was asked for, but PyAV is not installed: `{EXTRA}`")
    from emulator.inference.av_decoder import AvDecoder

    return AvDecoder(path, container, threads, check)


def _about_tracks(container: Container) -> list[str]:
    tracks = container.tracks or ()
    if len(tracks) < 2:
        return []
    others = ", ".join(
        f"{number + 1} ({track})" for number, track in enumerate(tracks) if track is not container.track
    )
    return [
        f"The file has {len(tracks)} video tracks: number {container.chosen + 1} ({container.track}) is read,"
        f" the one that ffmpeg selects, not {others}"
    ]
