"""Formats help texts as plain text for terminals from 40 columns and for pipes."""

import re
import shutil
import textwrap
from collections.abc import Callable, Sequence
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

# Below this width, an option's text stands under the option instead of next to it.
_NARROW = 60
_WIDEST = 80
_INDENT = 6


class Formatter(TyperCommand.context_class.formatter_class):  # type: ignore[misc, name-defined]
    """Writes lists of options and commands without truncating names."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        # click itself uses at least 50 columns, even in a narrower terminal.
        self.width = max(min(shutil.get_terminal_size().columns, _WIDEST) - 2, 20)

    def write_dl(self, rows: Sequence[tuple[str, str]], *args: Any, **options: Any) -> None:
        """Write a list of terms with their descriptions."""
        if self.width >= _NARROW:
            super().write_dl(rows, *args, **options)
            return
        for term, text in rows:
            self.write(_wrapped(term.replace(" / ", " /\n"), self.width, self.current_indent))
            self.write(_wrapped(text, self.width, self.current_indent + _INDENT))


class _Context(TyperCommand.context_class):  # type: ignore[misc, valid-type]
    formatter_class = Formatter


class Command(TyperCommand):
    """A command whose help `Formatter` writes."""

    context_class = _Context


class Group(TyperGroup):
    """A group of commands whose help `Formatter` writes."""

    context_class = _Context


class Cli(typer.Typer):
    """A group of commands with plain help and plain errors."""

    def __init__(self, **options: Any) -> None:
        super().__init__(
            cls=Group,
            no_args_is_help=True,
            rich_markup_mode=None,
            pretty_exceptions_enable=False,
            context_settings={"help_option_names": ["-h", "--help"]},
            **options,
        )

    def command(self, name: str | None = None, **options: Any) -> Callable[[Any], Any]:
        """Register a command; see typer.Typer.command."""
        return super().command(name, cls=Command, **options)


def _wrapped(text: str, width: int, indent: int) -> str:
    """Wrap a text between words only. A word longer than a line stays whole."""
    margin = " " * indent
    lines = [
        textwrap.fill(
            re.sub(r"\s+", " ", line.strip()),
            width,
            initial_indent=margin,
            subsequent_indent=margin,
            break_long_words=False,
            break_on_hyphens=False,
        )
        for line in text.split("\n")
        if line.strip()
    ]
    return "".join(f"{line}\n" for line in lines)
