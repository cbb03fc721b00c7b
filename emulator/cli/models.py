"""`vertex-emulator models`: list what is served, add an ONNX file, try a model on a clip."""

import re
import shutil
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from emulator.cli.options import PATH, read_settings
from emulator.cli.terminal import fail, print_table, progress_bar
from emulator.config import Settings

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from emulator.inference.check import Report
    from emulator.registry import ModelSource

cli = typer.Typer(help="Models: list what is served, add your own, try one on a clip.", no_args_is_help=True)

DataDirOption = Annotated[
    str | None, typer.Option("--data-dir", metavar=PATH, help="The server's data folder, as in `serve`.")
]
ModelsDirOption = Annotated[
    list[str] | None,
    typer.Option("--models-dirs", metavar=PATH, help="More folders of models, as in `serve`."),
]
ProviderOption = Annotated[str | None, typer.Option("--provider", help="As in `serve`: auto, cpu, cuda, …")]


@cli.command("list")
def list_models(data_dir: DataDirOption = None, models_dirs: ModelsDirOption = None) -> None:
    """List the models that a server with the same settings serves from folders."""
    from emulator.registry import open_registry

    settings = read_settings({"data_dir": data_dir, "models_dirs": models_dirs}).settings
    catalogue = open_registry(settings).catalogue()
    rows = []
    for source in catalogue.sources:
        labels = [label.display_name for label in source.manifest.labels]
        shown = ", ".join(labels[:4]) + (f" and {len(labels) - 4} more" if len(labels) > 4 else "")
        rows.append((source.id, source.manifest.objective.display_text.lower(), shown, str(source.folder)))
    print_table(("model", "objective", "labels", "folder"), rows)
    if catalogue.problems:
        fail("\n".join(catalogue.problems))


@cli.command()
def add(
    file: Annotated[Path, typer.Argument(help="The ONNX file.", exists=True, dir_okay=False)],
    model_id: Annotated[
        str | None, typer.Option("--id", help="The model's id; by default made from the file's name.")
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            "--labels",
            help="A file with one label a line (or config.json with id2label), or the name of a known set: "
            "coco80, coco90, kinetics400.",
        ),
    ] = None,
    head: Annotated[
        str | None, typer.Option("--head", help="What kind of graph it is, where it cannot be recognised.")
    ] = None,
    answers: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="SECTION.KEY=VALUE",
            help="A key of model.toml that the graph leaves open, such as input.width=640. Repeatable.",
        ),
    ] = None,
    data_dir: DataDirOption = None,
) -> None:
    """Recognise an ONNX file, write its model.toml, and put both where the server finds them."""
    from rich.console import Console
    from rich.markup import escape

    from emulator.inference.manifest import ModelUnusable, read_model_id
    from emulator.inference.predictor import open_predictor
    from emulator.inference.recognise import recognise, write_folder

    settings = read_settings({"data_dir": data_dir}).settings
    try:
        folder = settings.own_models / read_model_id(_id_of(file) if model_id is None else model_id)
    except ValueError as error:
        fail(f"--id is {model_id!r}; {error}.")
    if folder.exists():
        fail(f"There is a model in {folder} already. Remove that folder, or choose another name with --id.")
    try:
        recognition = recognise(
            file, labels=_labels(labels), head=head, name=file.stem, answers=_answers(answers or [])
        )
        open_predictor(write_folder(recognition, file, folder))  # one run proves that it is usable
    except (ModelUnusable, OSError) as error:
        shutil.rmtree(folder, ignore_errors=True)
        fail(str(error))
    console = Console(soft_wrap=True, highlight=False)
    for finding in recognition.findings:
        console.print(f"[green]seen[/green]     {escape(finding)}")
    for assumption in recognition.assumptions:
        console.print(f"[yellow]assumed[/yellow]  {escape(assumption)}")
    console.print(f"\nThe model [bold]{folder.name}[/bold] is in {folder}. Its model.toml can be edited.")
    console.print(f"Try it: vertex-emulator models check {folder.name} VIDEO --data-dir {settings.data_dir}")


@cli.command()
def check(
    model: Annotated[str, typer.Argument(help="A model's id, or a folder with a model.toml.")],
    video: Annotated[
        Path | None, typer.Argument(help="A clip to run it on; by default one that is rendered.")
    ] = None,
    draw: Annotated[
        Path | None, typer.Option("--draw", help="Folder for pictures of what was found, as PNG files.")
    ] = None,
    data_dir: DataDirOption = None,
    models_dirs: ModelsDirOption = None,
    provider: ProviderOption = None,
) -> None:
    """Load a model, run it on a clip, and say what it finds and how fast."""
    from emulator.inference.check import check as run_check
    from emulator.inference.manifest import ModelUnusable
    from emulator.inference.video import VideoUnreadable

    settings = read_settings(
        {"data_dir": data_dir, "models_dirs": models_dirs, "provider": provider}
    ).settings
    source = find_model(settings, model)
    try:
        with progress_bar() as bar, _clip(video, source) as clip:
            watch = Watch(bar, bar.add_task(f"Running {source.id}", total=None, detail=""))
            report = run_check(
                source.manifest, clip, progress=watch, provider=settings.provider, drawings=6 if draw else 0
            )
    except (ModelUnusable, VideoUnreadable) as error:
        fail(str(error))
    _show(source, report, draw)


def find_model(settings: Settings, model: str) -> "ModelSource":
    """The model of that id among the served folders, or in that folder; leaves with an error otherwise."""
    from emulator.registry import Registry, open_registry

    folder = Path(model)
    is_folder = (folder / "model.toml").is_file()
    registry = Registry([folder], settings.data_dir) if is_folder else open_registry(settings)
    catalogue = registry.catalogue()
    found = [source for source in catalogue.sources if is_folder or source.id == model]
    if not found:
        known = ", ".join(source.id for source in catalogue.sources) or "none"
        problems = "".join(f"\n{problem}" for problem in catalogue.problems)
        fail(
            f"There is no model {model!r}. Known models: {known}. A folder with a model.toml will do too."
            f"{problems}"
        )
    return found[0]


class Watch:
    """Shows how far into the video a prediction is."""

    def __init__(self, bar: "Progress", task: "TaskID") -> None:
        self._bar = bar
        self._task = task

    def cancelled(self) -> bool:
        """Never; Ctrl-C ends the program."""
        return False

    def alive(self) -> None:
        """Nobody waits for signs of life."""

    def advance(self, time_us: int) -> None:
        """Show the time of the video."""
        self._bar.update(self._task, detail=f"{time_us / 1e6:.1f} s of video")


def _id_of(file: Path) -> str:
    cleaned = re.sub(r"[^a-z0-9_-]+", "-", file.stem.lower()).strip("-_")[:63].rstrip("-_")
    return cleaned or "model"


def _labels(name: str | None) -> Sequence[str] | None:
    """The labels in a file, or of a known set; None when none are given."""
    from emulator.inference.recognise import named_labels, read_labels

    if name is None:
        return None
    path = Path(name)
    return read_labels(path) if path.is_file() else named_labels(name)


def _answers(pairs: Sequence[str]) -> dict[str, object]:
    """`input.width=640` as key and value; the value is TOML, or a text without its quotes."""
    answers: dict[str, object] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals or key.count(".") != 1:
            fail(f"--set {pair!r}: write it as SECTION.KEY=VALUE, for example --set input.width=640")
        try:
            answers[key.strip()] = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            answers[key.strip()] = text
    return answers


@contextmanager
def _clip(video: Path | None, source: "ModelSource") -> Iterator[Path]:
    """The clip that was given, or one rendered for the model's objective."""
    from emulator.factory import action_documentation_clip, documentation_clip, render
    from emulator.vertex.parameters import Objective

    if video is not None:
        yield video
        return
    actions = source.manifest.objective is Objective.ACTION_RECOGNITION
    with tempfile.TemporaryDirectory() as folder:
        clip = action_documentation_clip() if actions else documentation_clip()
        yield render(clip, Path(folder) / "clip.mp4").path or Path()


def _nothing(report: "Report") -> str:
    if report.best is None:
        return "It found nothing in this clip."
    label, score = report.best.label.display_name, report.best.confidence
    return (
        f"It found nothing in this clip. The best score in its first seconds is {score:.2g} ({label}): "
        "lower the thresholds in model.toml if that is right; if it should be higher, color, scale, mean, "
        "std "
        "and fit in [input] must be as in training."
    )


def _show(source: "ModelSource", report: "Report", draw: Path | None) -> None:
    from rich.console import Console
    from rich.markup import escape

    console = Console(soft_wrap=True, highlight=False)
    video = report.video
    console.print(f"[bold]{source.id}[/bold] on {report.provider}, loaded in {report.load_s:.2f} s")
    length = "" if video.duration_us is None else f", {video.duration_us / 1e6:.1f} s long"
    console.print(
        f"{video.width}x{video.height}, {video.fps:.2f} frames a second{length};"
        f" predicted in {report.predict_s:.2f} s"
    )
    if report.failure:
        fail(report.failure)
    for label, count in report.found.items():
        best = max(one.confidence for one in report.predictions if one.label.display_name == label)
        console.print(f"{count:5} x {escape(label)}, best confidence {best:.2f}")
    if not report.found:
        console.print(escape(_nothing(report)))
    if draw is not None:
        draw.mkdir(parents=True, exist_ok=True)
        for drawing in report.drawings:
            (draw / f"{drawing.time_us / 1e6:.1f}s.png").write_bytes(drawing.png)
        console.print(f"{len(report.drawings)} pictures in {draw}")
