"""What the sub-commands say to a person: errors, tables, progress."""

from typing import NoReturn

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn


def fail(message: str) -> NoReturn:
    """Print what went wrong and leave with exit status 1."""
    Console(stderr=True, soft_wrap=True, highlight=False).print(f"[red]Error:[/red] {escape(message)}")
    raise typer.Exit(1)


def warn(message: str) -> None:
    """Print a warning."""
    Console(stderr=True, soft_wrap=True, highlight=False).print(
        f"[yellow]Warning:[/yellow] {escape(message)}"
    )


def progress_bar() -> Progress:
    """A bar on standard error, so that standard output stays clean for pipes; it goes away when done."""
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[detail]}"),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
    )
