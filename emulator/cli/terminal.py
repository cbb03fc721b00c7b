"""Prints errors, warnings, tables and progress for the sub-commands.

rich is imported only on printing: `serve` prints nothing with it and so starts sooner.
"""

import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import NoReturn, TextIO

import typer

# The width of output that goes to no terminal.
_PIPE_WIDTH = 250
_LINE_INTERVAL_S = 10.0


def fail(message: str, status: int = 1) -> NoReturn:
    """Print an error and exit with a status."""
    _print_error("[red]Error:[/red]", message)
    raise typer.Exit(status)


def warn(message: str) -> None:
    """Print a warning."""
    _print_error("[yellow]Warning:[/yellow]", message)


def _print_error(lead: str, message: str) -> None:
    from rich.console import Console
    from rich.markup import escape

    Console(stderr=True, soft_wrap=True, highlight=False).print(f"{lead} {escape(message)}")


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows under their column headings. Long cells wrap; nothing is truncated."""
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


class Progress:
    """The progress of a task. Any thread may update it.

    `text` has the part done, the rate and the time left, as far as they are known.
    """

    def __init__(self, task: str, on_change: Callable[["Progress"], None] = lambda _: None) -> None:
        self.task = task
        self.fraction: float | None = None
        self._on_change = on_change
        self._began = time.monotonic()
        self._rate = ""
        self._detail = ""

    def update(
        self, fraction: float | None = None, *, detail: str = "", rate: str = "", task: str | None = None
    ) -> None:
        """Set the progress. `fraction` is from 0 to 1, None if the total is unknown."""
        if task is not None and task != self.task:
            self.task, self._began = task, time.monotonic()
        self.fraction = None if fraction is None else min(max(fraction, 0.0), 1.0)
        self._detail, self._rate = detail, rate
        self._on_change(self)

    @property
    def elapsed_s(self) -> float:
        """The seconds since the task began."""
        return time.monotonic() - self._began

    @property
    def text(self) -> str:
        """The progress in words."""
        parts = [] if self.fraction is None else [f"{self.fraction:.0%}"]
        parts += [part for part in (self._detail, self._rate) if part]
        if self.fraction:
            left_s = self.elapsed_s * (1 - self.fraction) / self.fraction
            parts.append(f"{_clock(left_s)} left")
        return ", ".join(parts) or f"{_clock(self.elapsed_s)} so far"


@contextmanager
def progress(task: str) -> Iterator[Progress]:
    """Show a task's progress while the block runs: a bar in a terminal, else a line every ten seconds.

    It goes to standard error, so that standard output stays clean for pipes.
    """
    if sys.stderr.isatty():
        with _bar(task) as shown:
            yield shown
    else:
        with lines_of_progress(Progress(task), sys.stderr, _LINE_INTERVAL_S) as shown:
            yield shown


@contextmanager
def lines_of_progress(shown: Progress, stream: TextIO, interval_s: float) -> Iterator[Progress]:
    """Write a line every `interval_s` seconds while the block runs."""
    ended = threading.Event()

    def write() -> None:
        while not ended.wait(interval_s):
            stream.write(f"{shown.task}: {shown.text}\n")
            stream.flush()

    writer = threading.Thread(target=write, name="progress", daemon=True)
    writer.start()
    try:
        yield shown
    finally:
        ended.set()
        writer.join()


@contextmanager
def _bar(task: str) -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[text]}"),
        TimeElapsedColumn(),
    )
    # The bar disappears when the task ends.
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        line = bar.add_task(task, total=None, text="")

        def show(now: Progress) -> None:
            total = None if now.fraction is None else 1.0
            bar.update(line, description=now.task, total=total, completed=now.fraction or 0.0, text=now.text)

        yield Progress(task, show)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
