"""Tracking beside what people use: the same weights and the same clip, in one run, each on every core.

Beside the product and the naive loop of `bench_pipeline.py` these are ultralytics' `track` and the naive
loop with the ByteTrack of `trackers`. They are installed into an environment of their own
(`.venv-peers-bench`), for measuring only, and each runs in a process of its own (`peers.py`); what cannot be
installed is left out and said to be. ultralytics reads the weights behind a few nodes that decode YOLOX's
grids; that they find the same objects is checked before anything is measured.

Goals: at least 1.7 times as fast as the naive loop and 2 times as fast as ultralytics.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from itertools import islice
from pathlib import Path

import clips
import cv2
import peers
from bench_pipeline import Cost, Tracking
from columns import columns_model, disagreement
from measure import arguments, interleaved, median, paired, report
from peers import PeerJob, Took

ROOT = Path(__file__).parents[1]
ENVIRONMENT = ROOT / ".venv-peers-bench"
#: Peer -> what pip installs for it: the naive loop is ours and needs what it imports, besides.
PACKAGES: Mapping[str, Sequence[str]] = {
    "trackers": ("trackers", "onnx", "onnxruntime", "lap", "av"),
    "ultralytics": ("ultralytics", "onnx", "onnxruntime", "lap"),
}
#: Size of the video, its frames, and every how many-th of them is looked at.
CELLS = {
    "720p, every frame": ((1280, 720), 900, 1),
    "1080p, every 3rd frame": ((1920, 1080), 600, 3),
}
CHECKED_FRAMES, CHECKED_EVERY = 300, 20


class PeerFailed(Exception):
    """A peer does not run here."""


def installed(peer: str) -> bool:
    """Whether a peer is there to run; it is installed if it was not before."""
    python = ENVIRONMENT / "bin" / "python"
    try:
        if not python.exists():
            subprocess.run([sys.executable, "-m", "venv", ENVIRONMENT], check=True)
        if subprocess.run([python, "-c", f"import {peer}"], capture_output=True, check=False).returncode:
            print(f"Installing {peer} into {ENVIRONMENT}", file=sys.stderr)
            subprocess.run([python, "-m", "pip", "install", "--quiet", *PACKAGES[peer]], check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"{peer} is left out: it could not be installed ({error}).", file=sys.stderr)
        return False
    return True


@contextmanager
def running(name: str, job: PeerJob) -> Iterator[tuple[str, Callable[[], Took]]]:
    """A peer's process, ready to run; gives its version and what makes it track the video once."""
    command = [str(ENVIRONMENT / "bin" / "python"), peers.__file__, name, json.dumps(asdict(job))]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        ask, answers = process.stdin, process.stdout

        def run() -> Took:
            print("go", file=ask, flush=True)
            return Took(**json.loads(answers.readline()))

        state, _, version = answers.readline().strip().partition(" ")
        if state != "ready":
            raise PeerFailed(f"{name} did not get ready: it ended with status {process.wait()}")
        yield version, run
        ask.close()


def measured(
    cell: str, job: Tracking, peer_job: PeerJob, rounds: int, *, guard: bool
) -> Iterator[dict[str, object]]:
    """A row for the limit and for each contestant."""
    samplers: dict[str, Callable[[], Cost | Took]] = {
        "hard limit": job.limit,
        "this emulator": job.product,
        "naive loop": job.naive,
    }
    with ExitStack() as processes:
        for name in filter(installed, peers.PEERS):
            try:
                version, run = processes.enter_context(running(name, peer_job))
            except PeerFailed as error:
                print(f"{error}; it is left out.", file=sys.stderr)
            else:
                samplers[f"{name} {version}"] = run
        samples = interleaved(rounds, samplers, guard=guard)
    for name, taken in samples.items():
        if isinstance(taken[0], Took) and not taken[0].boxes:
            print(f"{name} tracked nothing: its figures say little.", file=sys.stderr)
    wall = {name: [sample.wall_s for sample in taken] for name, taken in samples.items()}
    cpu = {name: [sample.cpu_s for sample in taken] for name, taken in samples.items()}
    for name in samplers:
        yield {
            "cell": cell,
            "what": name,
            "s": median(wall[name]),
            "/ limit": paired(wall[name], wall["hard limit"]),
            "/ emulator": paired(wall[name], wall["this emulator"]),
            "CPU / limit": paired(cpu[name], cpu["hard limit"]),
        }


def main() -> None:
    options = arguments(__doc__)
    cv2.setNumThreads(1)  # as a worker does
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as name:
        for cell, (size, frames, every) in CELLS.items():
            manifest = clips.detector(Path(name), clips.FPS // every)
            columns = columns_model(manifest, Path(name) / f"columns-{every}")
            job = Tracking(clips.cached_clip(size, frames), manifest, every)
            pictures = [
                picture
                for number, picture in islice(job.frames(), CHECKED_FRAMES)
                if number % CHECKED_EVERY == 0
            ]
            if difference := disagreement(manifest, columns, pictures):
                raise SystemExit(f"The graph for ultralytics finds something else: {difference}")
            peer_job = PeerJob(
                video=str(job.video),
                every=every,
                model_folder=str(manifest.folder),
                columns_graph=str(columns.graph),
                image_size=manifest.input.width,
                least_score=manifest.output.min_score,
                nms_iou=manifest.output.nms_iou,
            )
            rows += measured(cell, job, peer_job, options.rounds, guard=not options.no_guard)
    report("Tracking beside others, with the same weights", rows, options.json)


if __name__ == "__main__":
    main()
