"""`vertex-emulator demo`: runs the documentation's two examples end to end against its own server."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from emulator.cli.options import PATH, read_settings
from emulator.cli.remote import Server
from emulator.cli.terminal import fail, progress
from emulator.comparison.lines import boxes_of
from emulator.comparison.matching import mean_iou
from emulator.vertex.names import CONSOLE, console_path

if TYPE_CHECKING:
    from rich.console import Console

    from emulator.factory import Clip, Truth

PARENT = "projects/my-project/locations/us-central1"
THRESHOLD = 0.5
# The tolerance, in seconds, within which a prediction agrees with the documented one.
TOLERANCE_S = 0.1
# The least mean IoU of a track's boxes with the drawn ones.
MIN_IOU = 0.8
_SHOWN_CHARACTERS = 600
_FOLDER = "vertex-emulator-demo"
_IOU_MEANING = "IoU: how well the boxes overlap those that were drawn, over the whole track"
_TERMINAL = ("JOB_STATE_SUCCEEDED", "JOB_STATE_FAILED", "JOB_STATE_CANCELLED")


@dataclass(frozen=True)
class Example:
    """One page of the documentation: the model name in its request, and the output that it shows."""

    title: str
    model: str
    name: str
    clip: Callable[[], "Clip"]
    documented: tuple[tuple[str, str, str], ...]  # label, start and end


def examples() -> tuple[Example, ...]:
    """Return the documentation's examples of object tracking and action recognition."""
    from emulator.factory import action_documentation_clip, documentation_clip

    return (
        Example(
            "object tracking",
            f"{PARENT}/models/video-object-tracking",
            "object-tracking",
            documentation_clip,
            (("cat", "1.2s", "3.4s"), ("cat", "4.8s", "4.8s"), ("dog", "1.2s", "3.4s")),
        ),
        Example(
            "action recognition",
            # Vertex: the action recognition page names the model without `models/`.
            f"{PARENT}/video-action-recognition",
            "action-recognition",
            action_documentation_clip,
            (("swing", "1.2s", "1.2s"), ("jump", "3.4s", "3.4s")),
        ),
    )


def register(cli: typer.Typer) -> None:
    """Add the command."""
    cli.command()(demo)


def demo(
    data_dir: Annotated[
        str, typer.Option(metavar=PATH, help="Where the videos, the output and the database go.")
    ] = _FOLDER,
    keep: Annotated[
        bool,
        typer.Option(
            "--keep",
            help="Keep the server up, to look at the jobs in the console. The videos are written so that"
            " browsers play them, which takes some seconds.",
        ),
    ] = False,
) -> None:
    """Run the documentation's two examples.

    It renders the videos, starts a server, sends the requests, and compares the predictions.
    """
    from rich.console import Console

    folder = read_settings({"data_dir": data_dir or _FOLDER}).settings.data_dir
    console = Console()
    with progress("Rendering the two example videos"):
        truths = _prepare(folder, playable=keep)
    with _server(folder) as server:
        console.print(f"Server at [bold]{server.url}[/bold]\n")
        agreed = [
            _run(console, server, folder, example, truths[example.name], link=keep) for example in examples()
        ]
        if keep:
            console.print(f"The console is at [bold]{server.url}{CONSOLE}[/bold]; Ctrl-C ends the server.")
            _wait_for_the_end()
    console.print(f"Videos and predictions stay in [bold]{folder / 'buckets'}[/bold].")
    if not all(agreed):
        fail("The predictions differ from the documented ones; the tables show where.")


def _wait_for_the_end() -> None:
    with suppress(KeyboardInterrupt):
        threading.Event().wait()


def _prepare(folder: Path, *, playable: bool) -> dict[str, list[dict[str, Any]]]:
    """Render the videos and write the input files. Return the drawn objects as predictions, by example."""
    from emulator.factory.example import SUFFIX

    bucket = folder / "buckets" / "sourcebucket"
    (bucket / "videos").mkdir(parents=True, exist_ok=True)
    truths = {}
    for example in examples():
        video = bucket / "videos" / f"{example.name}{SUFFIX if playable else '.mp4'}"
        truths[example.name] = _render(example, video, playable=playable).object_tracking()
        instance = {
            "content": f"gs://sourcebucket/videos/{video.name}",
            "mimeType": "video/mp4",
            "timeSegmentStart": "1s",
            "timeSegmentEnd": "5s",
        }
        (bucket / f"{example.name}.jsonl").write_text(json.dumps(instance) + "\n", encoding="utf-8")
    return truths


def _render(example: Example, video: Path, *, playable: bool) -> "Truth":
    """Render a video and write its truth next to it. `playable`: use a codec that browsers play."""
    from emulator.factory import render, truth_of

    if not playable:
        truth = render(example.clip(), video)
        truth.write(video)
        return truth
    # A separate process, because OpenCV prints a complaint about the codec to standard error, then uses it.
    command = [sys.executable, "-m", "emulator.factory.example", example.name, str(video)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        fail(f"The video could not be rendered: {done.stderr[-_SHOWN_CHARACTERS:]}")
    return truth_of(example.clip())


@contextmanager
def _server(folder: Path) -> Iterator[Server]:
    """Run `serve` in a separate process on a free port."""
    log = folder / "server.log"
    command = [sys.executable, "-m", "emulator", "serve", "--port", "0", "--data-dir", str(folder)]
    with log.open("w", encoding="utf-8") as stderr:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True)
    try:
        assert process.stdout is not None
        first_line = process.stdout.readline()
        if not first_line:
            fail(f"The server did not start; {log} says why: {log.read_text(encoding='utf-8')[-500:]}")
        yield Server(first_line.split()[-1])
    finally:
        process.terminate()
        process.wait(timeout=30)


def _run(
    console: "Console",
    server: Server,
    folder: Path,
    example: Example,
    truth: Sequence[Mapping[str, Any]],
    *,
    link: bool,
) -> bool:
    """Run one example. Return whether its predictions agree with the documented ones."""
    body = {
        "displayName": f"Documentation: {example.title}",
        "model": example.model,
        "modelParameters": {"confidenceThreshold": THRESHOLD},
        "inputConfig": {
            "instancesFormat": "jsonl",
            "gcsSource": {"uris": [f"gs://sourcebucket/{example.name}.jsonl"]},
        },
        "outputConfig": {
            "predictionsFormat": "jsonl",
            "gcsDestination": {"outputUriPrefix": f"gs://outputbucket/{example.name}"},
        },
    }
    from rich.markup import escape

    console.rule(f"Video {example.title}")
    console.print(f"POST /v1/{PARENT}/batchPredictionJobs")
    console.print_json(json.dumps(body))
    job = _watch(console, server, server.call("POST", f"{PARENT}/batchPredictionJobs", body=body))
    if job["state"] != "JOB_STATE_SUCCEEDED":
        console.print_json(json.dumps(job))
        return False
    files = _output_files(folder, job["outputInfo"]["gcsOutputDirectory"])
    lines = [line for file in files for line in file.read_text(encoding="utf-8").splitlines()]
    for line in lines:
        shown = line if len(line) <= _SHOWN_CHARACTERS else f"{line[:_SHOWN_CHARACTERS]} …"
        console.print(escape(shown), highlight=False)
    predictions = [prediction for line in lines for prediction in json.loads(line)["prediction"]]
    agrees = _compare(console, example, predictions, truth)
    for file in files:
        console.print(str(file), soft_wrap=True)
    if link:
        console.print(f"{server.url}{console_path(job['name'])}", soft_wrap=True)
    console.print()
    return agrees


def _watch(console: "Console", server: Server, job: dict[str, Any]) -> dict[str, Any]:
    started, state = time.perf_counter(), ""
    with progress("Running the job") as shown:
        while True:
            if job["state"] != state:
                state = job["state"]
                console.print(f"{time.perf_counter() - started:6.2f} s  {state}")
            stats = job.get("completionStats", {})
            shown.update(detail=f"{stats.get('successfulCount', 0)} instances done", task=state)
            if state in _TERMINAL:
                return job
            time.sleep(0.05)
            job = server.call("GET", job["name"])


def _output_files(folder: Path, directory: str) -> list[Path]:
    return sorted((folder / "buckets" / directory.removeprefix("gs://")).glob("predictions_*.jsonl"))


def _compare(
    console: "Console",
    example: Example,
    predictions: Sequence[Mapping[str, Any]],
    truth: Sequence[Mapping[str, Any]],
) -> bool:
    """Print each documented prediction with the nearest one found. Return whether all agree."""
    from rich.table import Table

    columns = ["documented", "predicted", "confidence", "IoU", "first box: xMin xMax yMin yMax"]
    tracks = any("frames" in one for one in truth)
    table = Table(*(columns if tracks else columns[:3]), caption=_IOU_MEANING if tracks else None)
    left = list(predictions)
    agrees = True
    for label, start, end in example.documented:
        found = _nearest(label, start, end, left)
        if found is None:
            agrees = False
            table.add_row(_segment(label, start, end), "[red]nothing[/red]")
            continue
        left.remove(found)
        drawn = _nearest(label, start, end, truth)
        iou = mean_iou(*map(boxes_of, (drawn, found))) if drawn and "frames" in found else None
        agrees = agrees and (iou is None or iou >= MIN_IOU)
        table.add_row(_segment(label, start, end), *_cells(found, iou))
    for extra in left:
        agrees = False
        table.add_row("[red]nothing[/red]", *_cells(extra, None))
    console.print(table)
    return agrees


def _nearest(
    label: str, start: str, end: str, predictions: Sequence[Mapping[str, Any]]
) -> Mapping[str, Any] | None:
    def distance(prediction: Mapping[str, Any]) -> float:
        return max(
            abs(_seconds(prediction["timeSegmentStart"]) - _seconds(start)),
            abs(_seconds(prediction["timeSegmentEnd"]) - _seconds(end)),
        )

    same = [one for one in predictions if one["displayName"] == label and distance(one) <= TOLERANCE_S + 1e-6]
    return min(same, key=distance, default=None)


def _cells(prediction: Mapping[str, Any], iou: float | None) -> list[str]:
    segment = _segment(
        prediction["displayName"], prediction["timeSegmentStart"], prediction["timeSegmentEnd"]
    )
    cells = [segment, f"{prediction['confidence']:.2f}"]
    if "frames" in prediction:
        box = prediction["frames"][0]
        cells.append("" if iou is None else f"{iou:.2f}")
        cells.append(" ".join(f"{box[key]:.2f}" for key in ("xMin", "xMax", "yMin", "yMax")))
    return cells


def _segment(label: str, start: str, end: str) -> str:
    return f"{label} {start} - {end}"


def _seconds(duration: str) -> float:
    return float(duration.removesuffix("s"))
