"""Reads the files of a job's output directory and the instances of their lines."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

PREDICTIONS = re.compile(r"predictions_(\d{4,})\.jsonl")
ERRORS = re.compile(r"errors_(\d{4,})\.jsonl")


class OutputUnusable(ValueError):
    """The files are not the complete output of a job; the message names file, line, cause and remedy."""


def numbered(files: Mapping[str, bytes], pattern: re.Pattern[str]) -> dict[str, bytes]:
    """Return the files whose names match `pattern`, sorted by number.

    Raises:
        OutputUnusable: the numbers have a gap.
    """
    found = sorted((int(match[1]), name) for name in files if (match := pattern.fullmatch(name)))
    for expected, (number, name) in enumerate(found, start=1):
        if number != expected:
            raise OutputUnusable(
                f"The file number {expected} before {name} is missing. Copy all output files."
            )
    return {name: files[name] for _, name in found}


def json_lines(files: Mapping[str, bytes]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each line of the files with its name for messages. Raises OutputUnusable."""
    for name, data in files.items():
        for number, line in enumerate(data.splitlines(), start=1):
            where = f"{name} line {number}"
            try:
                value = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise OutputUnusable(f"{where} is no JSON object: {error}. Copy the file again.") from None
            if not isinstance(value, dict):
                raise OutputUnusable(f"{where} is no JSON object. Copy the file again.")
            yield where, value


def instance_of(where: str, line: Mapping[str, Any]) -> dict[str, Any]:
    """Return the instance of a prediction or error line; {} if the input line was no instance.

    Raises:
        OutputUnusable: the line is neither a prediction nor an error.
    """
    if "error" in line and "instance" not in line:
        return {name: value for name, value in line.items() if name != "error"}
    if "prediction" in line and isinstance(line.get("instance"), dict):
        return dict(line["instance"])
    if "error" in line and isinstance(line["instance"], str):
        return {}
    raise OutputUnusable(f"{where} has no instance with a prediction or an error; it is no line of Vertex's.")
