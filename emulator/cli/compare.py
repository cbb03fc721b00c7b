"""`vertex-emulator compare`: compares predictions with other predictions, annotations or a truth."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from emulator.cli.local_videos import Videos, VideosOption
from emulator.cli.options import PATH
from emulator.cli.remote import ServerOption
from emulator.cli.sources import located
from emulator.cli.terminal import fail, print_table, warn

if TYPE_CHECKING:
    from emulator.comparison.counts import Counts
    from emulator.comparison.metrics.measure import Metrics
    from emulator.comparison.report import Report

_COLUMNS = ("label", "matched", "missed", "extra", "precision", "recall", "F1")
HEADINGS = {
    "ap": "AP",
    "ap50": "AP50",
    "map": "mAP",
    "hota": "HOTA",
    "idf1": "IDF1",
    "mota": "MOTA",
    "best_f1": "best F1",
}
_EPSILON = 1e-9


def register(cli: typer.Typer) -> None:
    """Add the command."""
    cli.command()(compare)


def compare(
    expected: Annotated[
        str,
        typer.Argument(
            metavar="EXPECTED",
            help="Predictions file, output directory, job, recording, truth or annotations.",
        ),
    ],
    found: Annotated[str, typer.Argument(metavar="FOUND", help="The same, to be judged.")],
    at_least: Annotated[
        list[str] | None,
        typer.Option("--at-least", metavar="NAME=VALUE", help="Fail below it: f1=0.9, hota=0.5. Repeatable."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    html: Annotated[
        Path | None,
        typer.Option(
            "--html",
            metavar=PATH,
            help="Write a page with the worst mismatches, and their frames with --videos.",
        ),
    ] = None,
    within: Annotated[float, typer.Option(help="How many seconds a prediction may be off.")] = 0.1,
    iou: Annotated[float, typer.Option(help="The least mean overlap of a track's boxes.")] = 0.8,
    confidence: Annotated[float, typer.Option(help="Predictions below this confidence do not count.")] = 0.0,
    expected_confidence: Annotated[
        float, typer.Option(help="The same for what is expected, if a model predicted it.")
    ] = 0.0,
    map_labels: Annotated[
        list[str] | None,
        typer.Option("--map-label", metavar="OLD=NEW", help="Take a label for another. Repeatable."),
    ] = None,
    maps: Annotated[
        list[str] | None,
        typer.Option("--map", metavar="GS=GS", help="Replace the beginning of videos' names. Repeatable."),
    ] = None,
    objective: Annotated[
        str, typer.Option(help="object_tracking, action_recognition or classification, if nothing tells.")
    ] = "",
    ml_use: Annotated[
        str, typer.Option(help="Of annotations, only those of this set: training, validation or test.")
    ] = "",
    videos: VideosOption = None,
    server: ServerOption = None,
    complete: Annotated[
        bool, typer.Option("--complete", help="Fail if a side lacks a video or segment of the other.")
    ] = False,
) -> None:
    """Compare predictions with others, or with what is expected.

    Prints how many are matched, missed and extra for each label, with precision, recall, F1 and the metrics
    of the objective. A prediction matches as in the console and in the pytest expectations. The exit status
    is 1 if a figure is below --at-least.
    """
    from emulator.comparison.lines import Tolerance
    from emulator.comparison.metrics.measure import measure
    from emulator.comparison.page import page
    from emulator.comparison.report import OBJECTIVES, Options, compare
    from emulator.comparison.report import as_json as report_json
    from emulator.comparison.sides import SideUnusable, read_side

    if objective and objective not in OBJECTIVES:
        fail(f"--objective is {objective!r}; it takes {', '.join(OBJECTIVES)}.")
    options = Options(
        Tolerance(within, iou),
        confidence,
        expected_confidence,
        pairs("--map-label", map_labels or []),
        pairs("--map", maps or []),
        objective,
    )
    wanted = _floors(at_least or [])
    there = Videos(videos or [])
    footage = there.footage
    try:
        with located(expected, server) as one, located(found, server) as other:
            sides = [
                read_side(path, ml_use, footage, name) for path, name in ((one, expected), (other, found))
            ]
        report = compare(sides[0], sides[1], options)
    except SideUnusable as error:
        fail(f"{str(error).rstrip('.')}.")
    metrics = measure(report, within, confidence)
    for note in report.notes:
        warn(note)
    if html is not None:
        _write(html, page(report, metrics, (expected, found), there.still))
    if as_json:
        members = {"figures": metrics.figures, "byLabel": metrics.labels, **metrics.tables}
        typer.echo(json.dumps({**report_json(report), "metrics": members}, ensure_ascii=False, indent=2))
    else:
        _print(report, metrics)
    _judge(report, metrics, wanted, complete=complete)


def _write(path: Path, text: str) -> None:
    from emulator.files import cause

    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        fail(f"{path} cannot be written: {cause(error)}.")
    typer.echo(f"{path} is the report.", err=True)


def _print(report: "Report", metrics: "Metrics") -> None:
    more = list(dict.fromkeys(name for figures in metrics.labels.values() for name in figures))
    labels = {**dict.fromkeys(metrics.labels), **dict.fromkeys(report.by_label())}
    counts = report.by_label()
    rows = [
        (*_row(label, counts.get(label)), *(shown(metrics.labels.get(label, {}).get(name)) for name in more))
        for label in sorted(labels)
    ]
    last = (*_row("all", report.in_all()), *(shown(metrics.figures.get(name)) for name in more))
    print_table([*_COLUMNS, *map(_heading, more)], [*rows, last])
    count = len(report.segments)
    typer.echo(f"{count} segment{'' if count == 1 else 's'} compared.")
    rest = {name: figure for name, figure in metrics.figures.items() if name not in more}
    if rest:
        typer.echo(", ".join(f"{_heading(name)} {figure:.3f}" for name, figure in rest.items()) + ".")
    if best := metrics.tables.get("best"):
        typer.echo(f"The best F1 is {best['f1']:.3f}, with --confidence {best['threshold']:g}.")
    _print_confusion(metrics.tables.get("confusion", {}))


def _print_confusion(confusion: Mapping[str, Mapping[str, int]]) -> None:
    found = sorted({name for row in confusion.values() for name in row})
    if len(confusion) > 1 or len(found) > 1:
        rows = [(name, *(str(row.get(other, 0)) for other in found)) for name, row in confusion.items()]
        typer.echo("Expected classes, and what each was taken for:")
        print_table(["", *found], rows)


def _row(label: str, counts: "Counts | None") -> tuple[str, ...]:
    if counts is None:
        return (label, "0", "0", "0", "", "", "")
    numbers = (counts.matched, counts.missed, counts.extra)
    shares = (counts.precision, counts.recall, counts.f1)
    return (label, *map(str, numbers), *map(shown, shares))


def shown(figure: float | None) -> str:
    """Return a figure as a cell of a table."""
    return "" if figure is None else f"{figure:.3f}"


def _heading(name: str) -> str:
    return HEADINGS.get(name, name)


def _judge(report: "Report", metrics: "Metrics", wanted: dict[str, float], *, complete: bool) -> None:
    """Exit with status 1 if a figure is below --at-least, or with --complete if a side lacks something."""
    counts = report.in_all()
    figures = {"f1": counts.f1, "precision": counts.precision, "recall": counts.recall, **metrics.figures}
    below = [
        f"{name} is {_figure(figures, name):.4f}, less than {least:g}"
        for name, least in wanted.items()
        if _figure(figures, name) < least - _EPSILON
    ]
    if complete and not report.complete:
        below.append("a side lacks lines of the other (see the warnings), and --complete asks for all")
    if below:
        fail(f"{'; '.join(below)}.")


def _figure(figures: dict[str, float], name: str) -> float:
    if name not in figures:
        _unknown(name, figures)
    return figures[name]


def _unknown(name: str, figures: dict[str, float]) -> NoReturn:
    fail(f"--at-least names {name!r}; of this comparison there are {', '.join(figures)}.", 2)


def pairs(option: str, texts: list[str]) -> dict[str, str]:
    """Parse `old=new` texts into a mapping; exit with an error that names the option if one is malformed."""
    found = {}
    for text in texts:
        old, separator, new = text.partition("=")
        if not separator or not old:
            fail(f"{option} is {text!r}; write it as old=new.", 2)
        found[old] = new
    return found


def _floors(texts: list[str]) -> dict[str, float]:
    found = {}
    for text in texts:
        name, _, value = text.partition("=")
        try:
            found[name] = float(value)
        except ValueError:
            fail(f"--at-least is {text!r}; write it as f1=0.9.", 2)
    return found
