"""`vertex-emulator predict`: predictions for a JSONL file or a video, without a server."""

import json
import re
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Annotated, Self, TextIO

import typer

from emulator.cli.models import (
    DataDirOption,
    DecoderOption,
    ModelArgument,
    ModelsDirOption,
    ProviderOption,
    find_model,
)
from emulator.cli.options import PATH, read_settings
from emulator.cli.terminal import Progress, fail, progress, warn
from emulator.vertex.errors import InvalidArgument, Violations
from emulator.vertex.instances import InstanceError, parse_instance_line
from emulator.vertex.messages import load
from emulator.vertex.parameters import ModelParameters, Objective, parse_parameters

OffsetOption = Annotated[str, typer.Option(help="As in the API: 1.5s; inf for the end of the video.")]

FlagOption = Annotated[bool | None, typer.Option(help="As in the API; for classification.")]

_OUTPUT_FILE = re.compile(r"(predictions|errors)_\d{5,}\.jsonl")


def register(cli: typer.Typer) -> None:
    """Add the command."""
    cli.command()(predict)


def predict(
    model: ModelArgument,
    source: Annotated[
        str, typer.Argument(help="A video, or a .jsonl file of instances; a path or a gs:// name.")
    ],
    start: OffsetOption = "0s",
    end: OffsetOption = "inf",
    confidence_threshold: Annotated[float | None, typer.Option(help="0 to 1.")] = None,
    max_predictions: Annotated[
        int | None, typer.Option(help="At most so many per frame; for classification, of each kind.")
    ] = None,
    min_bounding_box_size: Annotated[
        float | None, typer.Option(help="Shortest edge of a box, relative to the frame.")
    ] = None,
    segment_classification: FlagOption = None,
    shot_classification: FlagOption = None,
    one_sec_interval_classification: FlagOption = None,
    output: Annotated[
        Path | None,
        typer.Option(
            help="Folder for predictions_00001.jsonl … and errors_00001.jsonl, as a job writes them."
            " Those of an earlier run are replaced."
        ),
    ] = None,
    prediction_cache_mb: Annotated[
        int | None,
        typer.Option(help="As in `serve`, where the data folder is there already; 0 for no cache."),
    ] = None,
    data_dir: DataDirOption = None,
    storage_dir: Annotated[
        str | None, typer.Option("--storage-dir", metavar=PATH, help="Folder of the buckets, as in `serve`.")
    ] = None,
    models_dirs: ModelsDirOption = None,
    provider: ProviderOption = None,
    decoder: DecoderOption = None,
) -> None:
    """Predict without a server.

    Lines go to standard output, problems to standard error.
    """
    from emulator.config import SettingError
    from emulator.execution.inputs import InputError
    from emulator.execution.local import LocalRun
    from emulator.execution.shards import ModelUse
    from emulator.inference.decoding import VideoOptions
    from emulator.inference.manifest import ModelUnusable
    from emulator.inference.prediction_cache import CachePlace
    from emulator.storage import InvalidUri, StorageError, open_store

    settings = read_settings(
        {
            "data_dir": data_dir,
            "storage_dir": storage_dir,
            "models_dirs": models_dirs,
            "provider": provider,
            "decoder": decoder,
            "prediction_cache_mb": prediction_cache_mb,
        }
    ).settings
    found = find_model(settings, model)
    chosen = {
        "confidenceThreshold": confidence_threshold,
        "maxPredictions": max_predictions,
        "minBoundingBoxSize": min_bounding_box_size,
        "segmentClassification": segment_classification,
        "shotClassification": shot_classification,
        "oneSecIntervalClassification": one_sec_interval_classification,
    }
    parameters = _parameters(found.manifest.objective, chosen)
    options = VideoOptions(settings.decoder, settings.strict)
    # Nobody asked for a data folder here, so none is made.
    there = settings.data_dir.is_dir()
    cache = CachePlace.below(settings.data_dir, settings.prediction_cache_mb) if there else None
    recalled: list[tuple[int, int]] = []
    failed = 0
    try:
        with progress(f"Predicting with {found.id}") as shown, _Lines(output) as lines:
            run = LocalRun(
                ModelUse(found.folder, settings.provider, settings.worker_threads, options, cache),
                parameters,
                open_store(settings),
                strict=settings.strict,
                advance=partial(_show, shown),
                warn=warn,
                recalled=lambda kept, of: recalled.append((kept, of)),
            )
            for outcome in run.predict(source, _segment(start, end)):
                lines.write(outcome.video, outcome.line, failed=bool(outcome.problem))
                if outcome.problem:
                    failed += 1
                    warn(outcome.problem)
    except (InputError, StorageError, InvalidUri, ModelUnusable, SettingError, OSError) as error:
        fail(str(error))
    if output is not None:
        typer.echo(f"{output} holds the predictions.", err=True)
    if kept := sum(kept for kept, _ in recalled):
        typer.echo(f"{kept:,} of {sum(of for _, of in recalled):,} grid points from the cache.", err=True)
    if failed:
        fail(f"{failed} instance{'s' if failed > 1 else ''} could not be predicted.")


def _show(shown: Progress, video: int, videos: int, done: int, total: int | None) -> None:
    """Tell how far a prediction is; videos that wait are taken to be as long as this one."""
    part = None if not total else (video - 1 + min(done / total, 1.0)) / videos
    where = f"video {video} of {videos}, " if videos > 1 else ""
    shown.update(part, detail=f"{where}{done} frames", rate=f"{done / shown.elapsed_s:.1f} frames/s")


class _Lines:
    """Where lines go: standard output, or a folder with one file per video as a job writes it."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._files = ExitStack()
        self._open: dict[tuple[str, int | None], TextIO] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._files.close()

    def write(self, video: int | None, line: str, *, failed: bool) -> None:
        """Write one line; failures only go to a folder, where standard error is not the place for them."""
        if self._folder is not None:
            self._file("errors" if failed else "predictions", None if failed else video).write(line + "\n")
        elif not failed:
            typer.echo(line)

    def _file(self, kind: str, video: int | None) -> TextIO:
        assert self._folder is not None
        if (kind, video) not in self._open:
            if not self._open:
                self._make_room(self._folder)
            number = 1 + sum(other == kind for other, _ in self._open)
            path = self._folder / f"{kind}_{number:05d}.jsonl"
            self._open[kind, video] = self._files.enter_context(path.open("w", encoding="utf-8"))
        return self._open[kind, video]

    @staticmethod
    def _make_room(folder: Path) -> None:
        """Make the folder; the files of an earlier run go, or they would be taken for this one's."""
        folder.mkdir(parents=True, exist_ok=True)
        for path in folder.iterdir():
            if _OUTPUT_FILE.fullmatch(path.name):
                path.unlink()


def _parameters(objective: Objective, chosen: dict[str, float | int | None]) -> ModelParameters:
    given = {name: value for name, value in chosen.items() if value is not None}
    violations = Violations()
    value = load().protobuf.Value()
    value.struct_value.update(given)
    parameters = parse_parameters(objective, value, violations)
    try:
        violations.raise_if_any()
    except InvalidArgument as error:
        fail(error.message)
    return parameters


def _segment(start: str, end: str) -> tuple[int, int | None]:
    """The segment in microseconds, by the rules of an input line."""
    instance = {"content": "gs://bucket/video", "mimeType": "video/mp4"}
    line = json.dumps(instance | {"timeSegmentStart": start, "timeSegmentEnd": end})
    try:
        parsed = parse_instance_line(line.encode(), 1)
    except InstanceError as error:
        fail(error.message.removeprefix("Line 1: "))
    return parsed.start_us, parsed.end_us
