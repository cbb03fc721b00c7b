"""Holds every frame of every video in a folder against PyAV: its time, its picture, and when the video ends.

    python benchmarks/compare_videos.py FOLDER [--decoders auto av] [--frames 300] [--json FILE]

Files are read in other processes, so that one that crashes a decoder or takes too long costs itself alone. A
verdict is one of

- same: each frame is at PyAV's time (to a millisecond, as Matroska counts) and shows its picture;
- refused: neither reads it; the emulator's words are in the list;
- refused here: PyAV decodes a frame, the emulator refuses;
- read here: the emulator reads it, PyAV's plain loop fails;
- times, pictures, frames: where they differ in times, in what is shown, or in number;
- crashed, timeout.
"""

import argparse
import json
import subprocess
import sys
import threading
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from emulator.inference.decoding import VideoOptions
from emulator.inference.pipeline import core_count
from emulator.inference.video import FrameSource, VideoUnreadable, quiet_decoder

THUMBNAIL = (32, 32)
#: Mean difference of two thumbnails, in grey levels, from which on they show something else.
DIFFERENT = 6.0
TIME_US = 1_100
LIMIT_S = 300
EVERYTHING: list[tuple[int, int | None]] = [(0, None)]


@dataclass(frozen=True)
class Seen:
    """A frame: its time after the first one, and a small picture of it."""

    time_us: int
    small: NDArray[np.uint8]


def thumbnail(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(cv2.resize(picture, THUMBNAIL, interpolation=cv2.INTER_AREA), np.uint8)


def by_pyav(path: Path, limit: int) -> list[Seen]:
    """The frames of the track that ffmpeg selects, upright, by the loop in PyAV's documentation."""
    with av.open(str(path)) as container:
        tracks = [
            s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic
        ]
        scores = [s.width * s.height + 5_000_000 * bool(s.disposition & 1) for s in tracks]
        stream = tracks[scores.index(max(scores))]
        found, start = list[Seen](), None
        for frame in islice(container.decode(stream), limit):
            if frame.pts is None:
                continue
            seconds = frame.pts * frame.time_base
            start = seconds if start is None else start
            picture = np.rot90(frame.to_ndarray(format="bgr24"), round(frame.rotation / 90))
            found.append(Seen(round((seconds - start) * 1_000_000), thumbnail(np.ascontiguousarray(picture))))
        return found


def by_emulator(path: Path, decoder: str, limit: int) -> tuple[list[Seen], str, list[str]]:
    options = VideoOptions(decoder)  # type: ignore[arg-type]
    with FrameSource(path, options=options) as source:
        samples = source.sample(1, EVERYTHING, thumbnail)
        found = [Seen(sample.time_us, sample.data) for sample in islice(samples, limit)]
        samples.close()
        return found, source.info.decoder, list(source.decoding.warnings)


def verdicts(path: Path, decoders: Sequence[str], limit: int) -> list[dict[str, object]]:
    try:
        wanted = by_pyav(path, limit)
    except (av.error.FFmpegError, OSError, ValueError, IndexError):
        wanted = []
    return [
        {"file": str(path), "asked": decoder, **verdict(path, decoder, limit, wanted)} for decoder in decoders
    ]


def verdict(path: Path, decoder: str, limit: int, wanted: list[Seen]) -> dict[str, object]:
    try:
        found, name, warnings = by_emulator(path, decoder, limit)
    except VideoUnreadable as error:
        return {"verdict": "refused here" if wanted else "refused", "why": str(error)}
    about: dict[str, object] = {"decoder": name, "warnings": warnings, "frames": len(found)}
    if not wanted:
        return {"verdict": "read here", **about}
    return {**compared(found, wanted), **about}


def compared(found: list[Seen], wanted: list[Seen]) -> dict[str, object]:
    """Frames are paired by their place; the first may be missing where its decoder drops it."""
    first = found[0].time_us if found else 0
    late = [abs(one.time_us - first - other.time_us) for one, other in zip(found, wanted, strict=False)]
    apart = [
        float(np.abs(one.small.astype(int) - other.small.astype(int)).mean())
        for one, other in zip(found, wanted, strict=False)
    ]
    facts = {"latest_us": max(late, default=0), "furthest": round(max(apart, default=0.0), 2)}
    facts["median"] = round(float(np.median(apart)) if apart else 0.0, 2)
    if len(found) != len(wanted):
        return {"verdict": "frames", "why": f"{len(found)} frames, {len(wanted)} by PyAV", **facts}
    if max(late) > TIME_US:
        return {"verdict": "times", **facts}
    return {"verdict": "pictures" if max(apart) > DIFFERENT else "same", **facts}


class Helper:
    """A process that reads videos one after the other; one that dies or takes too long is replaced."""

    def __init__(self, decoders: Sequence[str], limit: int) -> None:
        self._command = [sys.executable, __file__, "-", "--frames", str(limit), "--decoders", *decoders]
        self._process: subprocess.Popen[str] | None = None

    def verdicts(self, path: Path) -> list[dict[str, object]]:
        process = self._process or subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._process = process
        assert process.stdin is not None
        assert process.stdout is not None
        print(path, file=process.stdin, flush=True)
        timer = threading.Timer(LIMIT_S, process.kill)
        timer.start()
        line = process.stdout.readline()
        is_late = not timer.is_alive()
        timer.cancel()
        if line:
            answers: list[dict[str, object]] = json.loads(line)
            return answers
        self._process = None
        how = "timeout" if is_late else "crashed"
        return [{"file": str(path), "asked": "", "verdict": how, "why": f"exit status {process.wait()}"}]


def all_verdicts(files: Sequence[Path], decoders: Sequence[str], limit: int) -> Iterator[dict[str, object]]:
    """As they come: one process for each core, and each takes the next file."""
    idle = deque(Helper(decoders, limit) for _ in range(core_count()))

    def taken(path: Path) -> list[dict[str, object]]:
        helper = idle.popleft()
        try:
            return helper.verdicts(path)
        finally:
            idle.append(helper)

    with ThreadPoolExecutor(core_count()) as pool:
        for done in as_completed([pool.submit(taken, path) for path in files]):
            yield from done.result()


def videos(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--decoders", nargs="+", choices=("auto", "opencv", "av"), default=("auto", "av"))
    parser.add_argument("--frames", type=int, default=300, help="at most so many of each video")
    parser.add_argument("--json", type=Path, help="a file for all rows, one a line")
    options = parser.parse_args()
    if str(options.folder) == "-":
        quiet_decoder()
        for line in sys.stdin:
            print(json.dumps(verdicts(Path(line.rstrip("\n")), options.decoders, options.frames)), flush=True)
        return
    counts = {decoder: Counter[str]() for decoder in ("", *options.decoders)}
    with options.json.open("w", encoding="utf-8") if options.json else nullcontext() as log:
        for row in all_verdicts(list(videos(options.folder)), options.decoders, options.frames):
            counts[str(row["asked"])][str(row["verdict"])] += 1
            if row["verdict"] not in ("same", "refused"):
                print(json.dumps(row), flush=True)
            if log is not None:
                print(json.dumps(row), file=log, flush=True)
    for decoder, count in counts.items():
        print(f"{decoder or 'not finished'}: {sum(count.values())} files, {dict(count.most_common())}")


if __name__ == "__main__":
    main()
