"""`vertex-emulator predict --sweep`: the number and quality of predictions at each value of a setting.

The model runs once; each value is applied to its cached results.
"""

from __future__ import annotations

import itertools
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from emulator.cli.compare import HEADINGS, pairs, shown
from emulator.cli.local_videos import Videos
from emulator.cli.sources import located
from emulator.cli.terminal import Progress, fail, print_table, progress, warn

if TYPE_CHECKING:
    from emulator.comparison.axis import Axis, Value
    from emulator.comparison.report import Report
    from emulator.comparison.sweep import Row, Sweep
    from emulator.execution.local import LocalRun
    from emulator.registry import ModelSource
    from emulator.vertex.parameters import ModelParameters

Changes = tuple[tuple[str, object], ...]

# The keys of an objective's section of model.toml that apply before the model.
_BEFORE = ("step",)
_PARAMETERS = ("confidenceThreshold", "minBoundingBoxSize", "maxPredictions")
_IN_TABLE = ("hota", "idf1", "mota")
_TEMPORARY_BYTES = 1 << 30


@dataclass(frozen=True)
class Expecting:
    """The options of `compare`: what predictions are compared with, and how."""

    expected: str
    within: float | None = None
    iou: float | None = None
    map_labels: Sequence[str] = ()
    maps: Sequence[str] = ()
    ml_use: str = ""
    videos: Sequence[Path] = ()


@dataclass(frozen=True)
class Asked:
    """What to predict.

    `run` is the run without a sweep. `parameters` returns the job's parameters with some replaced, or exits
    with an error.
    """

    model: ModelSource
    source: str
    segment: tuple[int, int | None]
    run: LocalRun
    parameters: Callable[[Mapping[str, Any]], ModelParameters]


@dataclass(frozen=True)
class _Trial:
    """A planned row: its place in the table, its sort key in the order of work, and its values."""

    place: int
    order: tuple[Any, ...]
    values: Mapping[str, Value]
    changes: Changes
    parameters: ModelParameters


def sweep(texts: Sequence[str], asked: Asked, expecting: Expecting | None, *, as_json: bool) -> None:
    """Predict with each value and print a row for each.

    Exits with status 1 if an instance fails. Raises the errors of LocalRun, which stop the whole run.
    """
    from emulator.comparison.sides import SideUnusable

    trials = _trials(_axes(texts, asked.model), asked)
    try:
        judge = _judge(asked, expecting)
        with _cached(asked.run) as run, progress(f"Predicting with {asked.model.id}") as bar:
            work = _Work(asked, run, judge, bar, len(trials))
            rows = {trial.place: work.row(trial) for trial in trials}
    except SideUnusable as error:
        fail(f"{str(error).rstrip('.')}.")
    for note in judge.notes:
        warn(note)
    _print([rows[place] for place in sorted(rows)], asked, as_json=as_json)
    if work.failed:
        fail(f"{work.failed} instance{'s' if work.failed > 1 else ''} could not be predicted.")


def _axes(texts: Sequence[str], model: ModelSource) -> list[Axis]:
    from emulator.comparison.axis import MOST_ROWS, Axis, AxisUnusable

    if model.manifest.is_canned:
        fail(f"{model.id} is canned: it gives the same answers at any value, so there is nothing to sweep.")
    try:
        axes = [Axis.parse(text) for text in texts]
    except AxisUnusable as error:
        fail(f"--sweep {error}.")
    known = _known(model)
    for number, axis in enumerate(axes):
        if axis.name not in known:
            fail(
                f"--sweep names {axis.name!r}. Without running {model.id} again for each value, it takes"
                f" {', '.join(known)}."
            )
        if any(axis.name == other.name for other in axes[:number]):
            fail(f"--sweep names {axis.name} twice. Give all its values in one.")
    count = 1
    for axis in axes:
        count *= len(axis.values)
    if count > MOST_ROWS:
        fail(f"--sweep makes {count:,} rows of all values with each other, and at most {MOST_ROWS} are made.")
    return axes


def _known(model: ModelSource) -> list[str]:
    """Return the names that can be swept: everything that applies after the model."""
    from emulator.inference.sections import SECTION_OF, SECTIONS
    from emulator.vertex.objectives import parameter_names

    objective = model.manifest.objective
    section = SECTION_OF[objective]
    keys = [f"{section}.{key.name}" for key in fields(SECTIONS[section]) if key.name not in _BEFORE]
    return [*(name for name in _PARAMETERS if name in parameter_names(objective)), *keys]


def _trials(axes: Sequence[Axis], asked: Asked) -> list[_Trial]:
    """Return a trial for each row, in the order of work: each model is loaded once, and values that keep the
    most predictions come first. Exit with an error for an invalid value."""
    trials = []
    for place, values in enumerate(itertools.product(*(axis.values for axis in axes))):
        named = {axis.name: value for axis, value in zip(axes, values, strict=True)}
        changes: Changes = tuple((name, value) for name, value in named.items() if "." in name)
        parameters = asked.parameters({name: value for name, value in named.items() if "." not in name})
        order = (
            *(axis.values.index(named[axis.name]) for axis in axes if "." in axis.name),
            parameters.confidence_threshold,
            parameters.min_bounding_box_size,
            -parameters.max_predictions,
        )
        trials.append(_Trial(place, order, named, changes, parameters))
    for distinct in dict.fromkeys(trial.changes for trial in trials):
        _check(asked.model, distinct)
    return sorted(trials, key=lambda trial: trial.order)


def _check(model: ModelSource, changes: Changes) -> None:
    """Exit with an error if these values are not valid in model.toml."""
    from emulator.inference.manifest import ManifestError, check_key, load_manifest

    try:
        for key, value in changes:
            check_key(key, value, "--sweep")
        load_manifest(model.folder, dict(changes))
    except ManifestError as error:
        fail(f"{error}.")


def _judge(asked: Asked, expecting: Expecting | None) -> Sweep:
    """Return the object that turns predictions into rows. Raises SideUnusable."""
    from emulator.comparison.lines import Tolerance
    from emulator.comparison.matching import IOU, WITHIN_S
    from emulator.comparison.report import Options
    from emulator.comparison.sides import read_side
    from emulator.comparison.sweep import Sweep
    from emulator.vertex.objectives.classification import types_of

    objective, parameters = asked.model.manifest.objective.value, asked.run.parameters
    if expecting is None:
        return Sweep(objective)
    within = WITHIN_S if expecting.within is None else expecting.within
    options = Options(
        Tolerance(within, IOU if expecting.iou is None else expecting.iou),
        labels=pairs("--map-label", list(expecting.map_labels)),
        prefixes=pairs("--map", list(expecting.maps)),
        types=types_of(parameters),
    )
    footage = Videos(list(expecting.videos)).footage
    with located(expecting.expected, None) as path:
        expected = read_side(path, expecting.ml_use, footage, expecting.expected)
    return Sweep(objective, expected, options, partial(_figures, within))


def _figures(within: float, report: Report) -> Mapping[str, float]:
    """Return the metrics of a row, without `best_f1`, which is a maximum over other thresholds."""
    from emulator.comparison.metrics.measure import measure

    figures = measure(report, within, 0.0).figures
    return {name: figure for name, figure in figures.items() if name != "best_f1"}


@contextmanager
def _cached(run: LocalRun) -> Iterator[LocalRun]:
    """Yield the run with a prediction cache: its own, or a temporary folder."""
    from emulator.inference.prediction_cache import CachePlace

    if run.model.cache is not None:
        yield run
        return
    with tempfile.TemporaryDirectory(prefix="vertex-emulator-") as folder:
        place = CachePlace(Path(folder), _TEMPORARY_BYTES)
        yield replace(run, model=replace(run.model, cache=place))


class _Work:
    """Predicts row by row and prints each distinct problem once."""

    def __init__(self, asked: Asked, run: LocalRun, judge: Sweep, bar: Progress, of: int) -> None:
        self._asked, self._run, self._judge, self._bar, self._of = asked, run, judge, bar, of
        self._told: set[str] = set()
        self._done = 0
        self._recalled: list[tuple[int, int]] = []
        self.failed = 0

    def row(self, trial: _Trial) -> Row:
        """Predict with the values of a row. Raises the errors of LocalRun, and SideUnusable."""
        from emulator.comparison.sides import Side

        self._recalled.clear()
        run = replace(
            self._run,
            model=replace(self._run.model, changes=trial.changes),
            parameters=trial.parameters,
            advance=self._show,
            warn=self._tell,
            recalled=lambda kept, of: self._recalled.append((kept, of)),
        )
        side, videos, failed = Side(self._asked.model.id), set(), 0
        outcomes = run.predict(self._asked.source, self._asked.segment)
        for number, outcome in enumerate(outcomes, start=1):
            side.take_output(f"prediction {number}", json.loads(outcome.line))
            if outcome.failure is not None:
                failed += 1
                self._tell(outcome.failure.message)
            else:
                videos.add(outcome.video)
        self.failed = max(self.failed, failed)
        self._tell_of_cache(len(videos))
        self._done += 1
        return self._judge.row(trial.values, side)

    def _tell_of_cache(self, videos: int) -> None:
        kept, of = (sum(numbers) for numbers in zip((0, 0), *self._recalled, strict=True))
        if self._done == 0:
            if kept:
                typer.echo(f"{kept:,} of {of:,} grid points from the cache.", err=True)
        elif kept < of or len(self._recalled) < videos:
            self._tell(f"The model runs again for each value: {self._why_again()}.")

    def _why_again(self) -> str:
        if self._asked.model.manifest.input.states:
            return "it carries states from clip to clip, and these depend on where a segment begins"
        if self._run.parameters.shot_classification:
            return "shots need every frame of the video, so what it said is not kept"
        return "a video is damaged, or what it said is more than prediction_cache_mb"

    def _tell(self, text: str) -> None:
        if text not in self._told:
            self._told.add(text)
            warn(text)

    def _show(self, video: int, videos: int, done: int, total: int | None) -> None:
        if self._done:
            self._bar.update(self._done / self._of, detail=f"value {self._done + 1} of {self._of}")
            return
        part = None if not total else (video - 1 + min(done / total, 1.0)) / videos
        where = f"video {video} of {videos}, " if videos > 1 else ""
        self._bar.update(part, detail=f"{where}{done} frames")


def _print(rows: Sequence[Row], asked: Asked, *, as_json: bool) -> None:
    from emulator.comparison.sweep import best

    objective = asked.model.manifest.objective
    judged = rows[0].counts is not None
    the_best = best(rows)
    if as_json:
        members: dict[str, Any] = {"model": asked.model.id, "objective": objective.value}
        members["rows"] = [row.as_json() for row in rows]
        if judged:
            members["best"] = the_best.as_json()
        typer.echo(json.dumps(members, ensure_ascii=False, indent=2))
        return
    figures = [name for name in _IN_TABLE if any(name in row.figures for row in rows)]
    counted = ["matched", "missed", "extra", "precision", "recall", "F1"] if judged else []
    columns = [*rows[0].values, objective.definition.noun, *counted, *(HEADINGS[name] for name in figures)]
    print_table(columns, [_cells(row, figures) for row in rows])
    if the_best.in_all is not None and not the_best.in_all.f1:
        typer.echo("The F1 is 0 at every value: nothing is found that is expected.")
    elif the_best.in_all is not None:
        values = " and ".join(f"{name} {value}" for name, value in the_best.values.items())
        typer.echo(f"The best F1 is {the_best.in_all.f1:.3f}, with {values}.")


def _cells(row: Row, figures: Sequence[str]) -> list[str]:
    cells = [*map(str, row.values.values()), str(row.predictions)]
    if (counts := row.in_all) is not None:
        cells += map(str, (counts.matched, counts.missed, counts.extra))
        cells += map(shown, (counts.precision, counts.recall, counts.f1))
    return [*cells, *(shown(row.figures.get(name)) for name in figures)]
