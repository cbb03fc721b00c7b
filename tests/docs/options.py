"""The `vertex-emulator serve` commands of a block, as the command line itself reads them."""

import shlex
from typing import Any

import typer.main

from emulator.cli import build


def serve_options(text: str) -> list[dict[str, Any]]:
    """Return the options of each command that starts a server."""
    group: Any = typer.main.get_command(build())
    found = []
    for line in text.splitlines():
        words = shlex.split(line, comments=True)
        if "vertex-emulator" not in words or words[words.index("vertex-emulator") + 1] != "serve":
            continue
        arguments = [word for word in words[words.index("serve") + 1 :] if word != "&"]
        found.append(group.commands["serve"].make_context("serve", arguments).params)
    return found
