"""`vertex-emulator predict`: predicts for a JSONL file or a video, without a server."""

import json
import re
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Self, TextIO

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
from emulator.vertex.objectives import Objective, parse_parameters
from emulator.vertex.parameters import ModelParameters

OffsetOption = Annotated[str, typer.Option(help="As in the API: 1.5s; inf for the end of the video.")]

FlagOption = Annotated[bool | None, typer.Option(help="As in the API; for classification.")]

_SWEEP = "NAME=FROM:TO:STEP"
_FLAGS = {"map_labels": "--map-label", "maps": "--map"}
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
    sweeps: Annotated[
        list[str] | None,
        typer.Option(
            "--sweep",
            metavar=_SWEEP,
            help="Print a table for values of a parameter or of [tracker], [actions] or [classification];"
            " NAME=VALUE,VALUE will do too. Repeatable.",
        ),
    ] = None,
    expected: Annotated[
        str | None,
        typer.Option(metavar="EXPECTED", help="With --sweep: what is right, as `compare` takes it."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="With --sweep: print JSON, not a table.")] = False,
    within: Annotated[float | None, typer.Option(help="With --expected: as in `compare`.")] = None,
    iou: Annotated[float | None, typer.Option(help="With --expected: as in `compare`.")] = None,
    map_labels: Annotated[
        list[str] | None,
        typer.Option("--map-label", metavar="OLD=NEW", help="With --expected: as in `compare`."),
    ] = None,
    maps: Annotated[
        list[str] | None,
        typer.Option("--map", metavar="GS=GS", help="With --expected: as in `compare`."),
    ] = None,
    ml_use: Annotated[str | None, typer.Option(help="With --expected: as in `compare`.")] = None,
    videos: Annotated[
        list[Path] | None,
        typer.Option("--videos", metavar=PATH, help="With --expected: as in `compare`."),
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

    Lines go to standard output, problems to standard error. With --sweep, a table goes to standard output
    instead: for each value, how many predictions there are, and how they compare with --expected. The model
    runs once.
    """
    from emulator.cli.sweep import Asked, Expecting, sweep
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
    judging: dict[str, Any] = {
        "within": within,
        "iou": iou,
        "map_labels": map_labels,
        "maps": maps,
        "ml_use": ml_use,
        "videos": videos,
    }
    judging = {name: value for name, value in judging.items() if value is not None and value != []}
    _refuse_alone(sweeps, expected, judging, output, as_json=as_json)
    found = find_model(settings, model)
    chosen = {
        "confidenceThreshold": confidence_threshold,
        "maxPredictions": max_predictions,
        "minBoundingBoxSize": min_bounding_box_size,
        "segmentClassification": segment_classification,
        "shotClassification": shot_classification,
        "oneSecIntervalClassification": one_sec_interval_classification,
    }
    for text in sweeps or []:
        if chosen.get(name := text.partition("=")[0].strip()) is not None:
            fail(f"{name} is given by an option and swept by --sweep. Leave one out.")
    parameters = _parameters(found.manifest.objective, chosen)
    options = VideoOptions(settings.decoder, settings.strict)
    # Use the cache of an existing data folder, but do not create the folder.
    there = settings.data_dir.is_dir()
    cache = CachePlace.below(settings.data_dir, settings.prediction_cache_mb) if there else None
    recalled: list[tuple[int, int]] = []
    failed = 0
    try:
        run = LocalRun(
            ModelUse(found.folder, settings.provider, settings.worker_threads, options, cache),
            parameters,
            open_store(settings),
            strict=settings.strict,
            warn=warn,
            recalled=lambda kept, of: recalled.append((kept, of)),
        )
        if sweeps:
            asked = Asked(
                found,
                source,
                _segment(start, end),
                run,
                lambda values: _parameters(found.manifest.objective, chosen | dict(values)),
            )
            sweep(sweeps, asked, Expecting(expected, **judging) if expected else None, as_json=as_json)
            return
        with progress(f"Predicting with {found.id}") as shown, _Lines(output) as lines:
            run = replace(run, advance=partial(_show, shown))
            for outcome in run.predict(source, _segment(start, end)):
                lines.write(outcome.video, outcome.line, failed=outcome.failure is not None)
                if outcome.failure is not None:
                    failed += 1
                    warn(outcome.failure.message)
    except (InputError, StorageError, InvalidUri, ModelUnusable, SettingError, OSError) as error:
        fail(str(error))
    if output is not None:
        typer.echo(f"{output} holds the predictions.", err=True)
    if kept := sum(kept for kept, _ in recalled):
        typer.echo(f"{kept:,} of {sum(of for _, of in recalled):,} grid points from the cache.", err=True)
    if failed:
        fail(f"{failed} instance{'s' if failed > 1 else ''} could not be predicted.")


def _refuse_alone(
    sweeps: list[str] | None,
    expected: str | None,
    judging: Mapping[str, object],
    output: Path | None,
    *,
    as_json: bool,
) -> None:
    """Exit with an error if an option is given without the option that it belongs to."""
    if sweeps and output is not None:
        fail("--output is for predictions, and --sweep prints a table. Leave one out.")
    if expected is not None and not sweeps:
        fail(f"--expected is for --sweep {_SWEEP}. `compare` compares predictions that are written already.")
    if as_json and not sweeps:
        fail(f"--json is for --sweep {_SWEEP}. Without it, predictions are JSON Lines anyway.")
    if judging and expected is None:
        names = (_FLAGS.get(name, f"--{name.replace('_', '-')}") for name in judging)
        fail(f"{', '.join(names)}: say with --expected what to compare with.")


def _show(shown: Progress, video: int, videos: int, done: int, total: int | None) -> None:
    """Show the progress. The remaining videos are assumed to be as long as this one."""
    part = None if not total else (video - 1 + min(done / total, 1.0)) / videos
    where = f"video {video} of {videos}, " if videos > 1 else ""
    shown.update(part, detail=f"{where}{done} frames", rate=f"{done / shown.elapsed_s:.1f} frames/s")


class _Lines:
    """Writes lines to standard output, or to a folder with one file per video, as a job does."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._files = ExitStack()
        self._open: dict[tuple[str, int | None], TextIO] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._files.close()

    def write(self, video: int | None, line: str, *, failed: bool) -> None:
        """Write one line. Failures go to a folder only: without one, standard error already has them."""
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
        """Create the folder and delete an earlier run's files, which would look like this run's."""
        folder.mkdir(parents=True, exist_ok=True)
        for path in folder.iterdir():
            if _OUTPUT_FILE.fullmatch(path.name):
                path.unlink()


def _parameters(objective: Objective, chosen: Mapping[str, Any]) -> ModelParameters:
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
    """Return the segment in microseconds, parsed by the rules of an input line."""
    instance = {"content": "gs://bucket/video", "mimeType": "video/mp4"}
    line = json.dumps(instance | {"timeSegmentStart": start, "timeSegmentEnd": end})
    try:
        parsed = parse_instance_line(line.encode(), 1)
    except InstanceError as error:
        fail(error.message.removeprefix("Line 1: "))
    return parsed.start_us, parsed.end_us
