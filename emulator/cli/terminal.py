"""What the sub-commands say to a person: errors, warnings, progress.

rich is imported when something is printed: `serve` prints nothing with it, and starts sooner without.
"""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NoReturn

import typer

if TYPE_CHECKING:
    from rich.progress import Progress

# Where there is no terminal, nobody's window limits the width.
_PIPE_WIDTH = 250


def fail(message: str) -> NoReturn:
    """Print what went wrong and leave with exit status 1."""
    _print_error("[red]Error:[/red]", message)
    raise typer.Exit(1)


def warn(message: str) -> None:
    """Print a warning."""
    _print_error("[yellow]Warning:[/yellow]", message)


def _print_error(lead: str, message: str) -> None:
    from rich.console import Console
    from rich.markup import escape

    Console(stderr=True, soft_wrap=True, highlight=False).print(f"{lead} {escape(message)}")


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows under their columns. Nothing is cut: what does not fit goes on the next line."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*map(escape, row))
    console = Console()
    if not console.is_terminal:
        console.width = _PIPE_WIDTH
    console.print(table)


def progress_bar() -> "Progress":
    """A bar on standard error, so that standard output stays clean for pipes; it goes away when done."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[detail]}"),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
    )
