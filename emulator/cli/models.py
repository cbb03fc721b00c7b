"""`vertex-emulator models`: lists the served models, adds an ONNX file, runs a model on a clip."""

import re
import shutil
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from emulator.cli.help import Cli
from emulator.cli.options import PATH, read_settings
from emulator.cli.terminal import Progress, fail, print_table, progress, warn
from emulator.config import Settings

if TYPE_CHECKING:
    from emulator.inference.decoding import Decoding
    from emulator.inference.manifest import ModelManifest
    from emulator.onboarding import Recognition
    from emulator.onboarding.check import Report
    from emulator.registry import ModelSource

cli = Cli(help="Models: list what is served, add your own, try one on a clip.")


def complete_models(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return model ids for the shell's completion."""
    from emulator.registry import open_registry

    flags = {name: ctx.params.get(name) for name in ("data_dir", "models_dirs")}
    catalogue = open_registry(read_settings(flags).settings, make_folder=False).catalogue()
    return [source.id for source in catalogue.sources if source.id.startswith(incomplete)]


def complete_own_models(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return ids of models that can be removed, for the shell's completion."""
    settings = read_settings({"data_dir": ctx.params.get("data_dir")}).settings
    return [model for model in _own_models(settings) if model.startswith(incomplete)]


DataDirOption = Annotated[
    str | None, typer.Option("--data-dir", metavar=PATH, help="The server's data folder, as in `serve`.")
]
ModelsDirOption = Annotated[
    list[str] | None,
    typer.Option("--models-dirs", metavar=PATH, help="More folders of models, as in `serve`."),
]
ModelArgument = Annotated[
    str,
    typer.Argument(help="A model's id, or a folder with a model.toml.", autocompletion=complete_models),
]
AnswersOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="SECTION.KEY=VALUE",
        help="A value of model.toml, such as input.width=640. Repeatable.",
    ),
]
ProviderOption = Annotated[str | None, typer.Option("--provider", help="As in `serve`: auto, cpu, cuda, …")]
DecoderOption = Annotated[str | None, typer.Option("--decoder", help="As in `serve`: auto, opencv, av.")]


@cli.command("list")
def list_models(data_dir: DataDirOption = None, models_dirs: ModelsDirOption = None) -> None:
    """List the models that a server with the same settings serves from folders."""
    from emulator.registry import open_registry

    settings = read_settings({"data_dir": data_dir, "models_dirs": models_dirs}).settings
    catalogue = open_registry(settings, make_folder=False).catalogue()
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
    file: Annotated[Path, typer.Argument(help="The ONNX file.", exists=True)],
    model_id: Annotated[
        str | None, typer.Option("--id", help="The model's id; by default made from the file's name.")
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            "--labels",
            help="A file of labels (lines, JSON, YAML, CSV or a label map), or the name of a known set: "
            "coco80, coco90, kinetics400.",
        ),
    ] = None,
    head: Annotated[
        str | None, typer.Option("--head", help="What kind of graph it is, where it cannot be recognised.")
    ] = None,
    answers: AnswersOption = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace the model of this id, once the new one has run.")
    ] = False,
    data_dir: DataDirOption = None,
) -> None:
    """Recognise an ONNX file, write its model.toml, and put both where the server finds them."""
    from emulator.inference.manifest import ModelUnusable
    from emulator.inference.sections import read_model_id
    from emulator.onboarding import recognise

    settings = read_settings({"data_dir": data_dir}).settings
    try:
        folder = settings.own_models / read_model_id(_id_of(file) if model_id is None else model_id)
    except ValueError as error:
        fail(f"--id is {model_id!r}; {error}.")
    if not force and (folder.exists() or folder.is_symlink()):
        fail(_taken(folder))
    try:
        with progress(f"Adding {folder.name}"):
            recognition = recognise(
                file, labels=_labels(labels), head=head, name=file.stem, answers=_answers(answers or [])
            )
            _put(recognition, file, folder, force=force)
    except (ModelUnusable, OSError) as error:
        fail(str(error))
    _show_added(recognition, folder, settings)


def _taken(folder: Path) -> str:
    return f"There is a model in {folder} already. Replace it with --force, or choose another name with --id."


def _put(recognition: "Recognition", file: Path, folder: Path, *, force: bool) -> None:
    """Create the model's folder. One run proves that the model works before an old one is replaced."""
    from emulator.inference.manifest import ModelUnusable
    from emulator.inference.objectives import open_predictor
    from emulator.onboarding import write_folder

    folder.parent.mkdir(parents=True, exist_ok=True)
    # The folder is hidden, so that the server ignores it, and on the same disk, so that one rename moves it.
    with tempfile.TemporaryDirectory(prefix=".new-", dir=folder.parent) as scratch:
        made = Path(scratch) / folder.name
        try:
            open_predictor(write_folder(recognition, file, made))
        except ModelUnusable as error:
            # The scratch folder will be gone: the message must name the user's file.
            fail(str(error).replace(str(made / "model.onnx"), str(file)).replace(f"{made}/", ""))
        if force and (folder.exists() or folder.is_symlink()):
            folder.rename(Path(scratch) / "replaced")
        try:
            made.rename(folder)
        except OSError:
            fail(_taken(folder))


def _show_added(recognition: "Recognition", folder: Path, settings: Settings) -> None:
    from rich.console import Console
    from rich.markup import escape

    console = Console(soft_wrap=True, highlight=False)
    for finding in recognition.findings:
        console.print(f"[green]seen[/green]     {escape(finding)}")
    for assumption in recognition.assumptions:
        console.print(f"[yellow]assumed[/yellow]  {escape(assumption)}")
    console.print(f"\nThe model [bold]{folder.name}[/bold] is in {folder}. Its model.toml can be edited.")
    console.print(f"Try it: vertex-emulator models check {folder.name} VIDEO --data-dir {settings.data_dir}")


@cli.command()
def remove(
    model: Annotated[
        str, typer.Argument(help="The id of a model of your own.", autocompletion=complete_own_models)
    ],
    data_dir: DataDirOption = None,
) -> None:
    """Delete a model that `models add` made, with its files."""
    settings = read_settings({"data_dir": data_dir}).settings
    own = _own_models(settings)
    if model not in own:
        fail(
            f"There is no model {model!r} in {settings.own_models}; there are {', '.join(own) or 'none'}."
            " Only models in that folder can be removed: bundled ones are left out with --no-bundled-models,"
            " and folders of --models-dirs are yours to change."
        )
    folder = settings.own_models / model
    try:
        if folder.is_symlink():
            folder.unlink()
        else:
            shutil.rmtree(folder)
    except OSError as error:
        fail(f"{folder} cannot be removed: {error}.")
    typer.echo(f"Removed {folder}.")


def _own_models(settings: Settings) -> list[str]:
    from emulator.registry import has_manifest

    folder = settings.own_models
    found = folder.iterdir() if folder.is_dir() else ()
    return sorted(one.name for one in found if not one.name.startswith(".") and has_manifest(one))


@cli.command()
def check(
    model: ModelArgument,
    video: Annotated[
        Path | None, typer.Argument(help="A clip to run it on; by default one that is rendered.")
    ] = None,
    draw: Annotated[
        Path | None, typer.Option("--draw", help="Folder for pictures of what was found, as PNG files.")
    ] = None,
    answers: AnswersOption = None,
    data_dir: DataDirOption = None,
    models_dirs: ModelsDirOption = None,
    provider: ProviderOption = None,
    decoder: DecoderOption = None,
) -> None:
    """Load a model, run it on a clip, and say what it finds and how fast.

    --set tries another value of a key of model.toml; the file stays as it is.
    """
    from emulator.inference.manifest import ModelUnusable
    from emulator.inference.video import VideoUnreadable
    from emulator.onboarding.check import check as run_check

    settings = read_settings(
        {"data_dir": data_dir, "models_dirs": models_dirs, "provider": provider, "decoder": decoder}
    ).settings
    source = find_model(settings, model)
    if source.manifest.is_canned:
        _show_canned(source)
        return
    try:
        manifest = _changed(source, _answers(answers or []))
        with progress(f"Running {source.id}") as shown, _clip(video, source) as clip:
            report = run_check(
                manifest,
                clip,
                progress=Watch(shown),
                provider=settings.provider,
                decoder=settings.decoder,
                drawings=6 if draw else 0,
            )
    except (ModelUnusable, VideoUnreadable) as error:
        fail(str(error))
    if video is None:
        typer.echo("No video was given: this is a rendered clip. It says nothing of your footage.")
    _show(source, report, draw)


def _show_canned(source: "ModelSource") -> None:
    """Print the number of a canned model's lines, and their members that the prediction schema lacks."""
    from emulator.inference.canned import load_canned

    model = load_canned(source.manifest)
    typer.echo(f"{source.id} is canned: it answers with {len(model)} lines, and no graph is run.")
    for doubt in model.doubts(source.manifest.objective):
        warn(f"{doubt}. It is given as it is.")


def _changed(source: "ModelSource", answers: dict[str, object]) -> "ModelManifest":
    """Return the model's manifest with values replaced by those of --set. Raises ModelUnusable."""
    if not answers:
        return source.manifest
    from emulator.inference.manifest import check_key, load_manifest

    for key, value in answers.items():
        check_key(key, value)
    return load_manifest(source.folder, answers)


def find_model(settings: Settings, model: str) -> "ModelSource":
    """Return the served model with that id, or the model in that folder. Exit with an error if absent."""
    from emulator.registry import Registry, has_manifest, open_registry

    folder = Path(model)
    is_folder = has_manifest(folder)
    registry = (
        Registry([folder], settings.data_dir) if is_folder else open_registry(settings, make_folder=False)
    )
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
    """Shows the progress of a prediction through the video."""

    def __init__(self, shown: Progress) -> None:
        self._shown = shown

    def cancelled(self) -> bool:
        """Return False: Ctrl-C ends the program instead."""
        return False

    def alive(self) -> None:
        """Do nothing: no process watches for signs of life."""

    def decoded(self, decoding: "Decoding") -> None:
        """See Progress."""

    def advance(self, time_us: int) -> None:
        """Do nothing: `sampled` shows the progress."""

    def sampled(self, done: int, total: int | None) -> None:
        """Show the number of finished frames."""
        rate = f"{done / self._shown.elapsed_s:.1f} frames/s"
        self._shown.update(done / total if total else None, detail=f"{done} frames", rate=rate)


def _id_of(file: Path) -> str:
    cleaned = re.sub(r"[^a-z0-9_-]+", "-", file.stem.lower()).strip("-_")[:63].rstrip("-_")
    return cleaned or "model"


def _labels(name: str | None) -> Sequence[str] | None:
    """Return the labels in a file or of a known set; None if `name` is None."""
    from emulator.onboarding import named_labels, read_labels

    if name is None:
        return None
    path = Path(name)
    return read_labels(path) if path.exists() else named_labels(name)


def _answers(pairs: Sequence[str]) -> dict[str, object]:
    """Parse texts such as `input.width=640`. A value is TOML, or else a text without quotes."""
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
    """Yield the given clip, or else one that is rendered for the model's objective."""
    from emulator.factory import action_documentation_clip, documentation_clip, render
    from emulator.vertex.objectives import Objective

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


def _histogram(report: "Report") -> Iterator[str]:
    """Yield lines of a histogram: the clip's first scores, and what the tracker does with each."""
    if not report.scores:
        return
    from emulator.onboarding.check import LOOKED_AT_S

    most = max(1, *(one.count for one in report.scores))
    yield f"Scores in the clip's first {LOOKED_AT_S} seconds, and what the tracker does with them:"
    for one in report.scores:
        bar = "#" * -(-30 * one.count // most)
        yield f"  {one.least:.2f} to {one.most:.2f} {one.count:6}  {bar:<30}  {one.fate}".rstrip()


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
    for line in _histogram(report):
        console.print(escape(line))
    if draw is not None:
        draw.mkdir(parents=True, exist_ok=True)
        for drawing in report.drawings:
            (draw / f"{drawing.time_us / 1e6:.1f}s.png").write_bytes(drawing.png)
        console.print(f"{len(report.drawings)} pictures in {draw}")
