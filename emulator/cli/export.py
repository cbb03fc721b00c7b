"""`vertex-emulator export`: writes predictions in the format of another tool."""

from pathlib import Path
from typing import Annotated

import typer

from emulator.cli.local_videos import Videos, VideosOption
from emulator.cli.options import PATH
from emulator.cli.remote import ServerOption
from emulator.cli.sources import located
from emulator.cli.terminal import fail

_FOLDERS = ("mot", "cvat")


def register(cli: typer.Typer) -> None:
    """Add the command."""
    cli.command()(export)


def export(
    source: Annotated[
        str,
        typer.Argument(metavar="SOURCE", help="Anything that `compare` takes and that names its videos."),
    ],
    to: Annotated[str, typer.Option("--to", help="csv, coco, mot, cvat or label-studio.")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar=PATH, help="The file or folder to write; not there yet."),
    ] = None,
    videos: VideosOption = None,
    server: ServerOption = None,
) -> None:
    """Write predictions for another tool.

    csv, coco and label-studio are one file, which goes to standard output without -o; mot and cvat are a
    folder with files for each video. All but csv count frames, by the times of the frames in the video.
    """
    from emulator.comparison.formats.export import FORMATS, NotExportable
    from emulator.comparison.formats.export import export as exported
    from emulator.comparison.sides import SideUnusable, read_side

    if to not in FORMATS:
        fail(f"--to is {to!r}; it takes {', '.join(FORMATS)}.", 2)
    if to in _FOLDERS and output is None:
        fail(f"{to} is a folder of files; name it with -o.", 2)
    if output is not None and output.exists():
        fail(f"{output} is there already. Name another one with -o, or remove it.")
    footage = Videos(videos or []).footage
    try:
        with located(source, server) as path:
            side = read_side(path, footage=footage, name=source)
        made = exported(side, to, footage)
    except (SideUnusable, NotExportable) as error:
        fail(f"{str(error).rstrip('.')}.")
    _write({"": made} if isinstance(made, str) else made, output)


def _write(files: dict[str, str], output: Path | None) -> None:
    from emulator.files import cause

    if output is None:
        typer.echo(files[""], nl=False)
        return
    try:
        for name, text in files.items():
            path = output / name if name else output
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    except OSError as error:
        fail(f"{error.filename or output} cannot be written: {cause(error)}.")
    typer.echo(f"{output} holds the predictions.", err=True)
