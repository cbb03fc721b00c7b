"""Canned models: read their predictions from JSON Lines instead of running a network.

A line is a line of a predictions file as Vertex writes it, or names the videos that it answers;
docs/control.md has the forms. The server imports this module, so it imports neither numpy nor onnxruntime.
"""

from __future__ import annotations

import io
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NoReturn

from emulator.files import FileTooLarge, cause, is_regular, open_regular, read_bounded, size_text
from emulator.inference.manifest import ManifestError, ModelManifest
from emulator.vertex import errors
from emulator.vertex.instances import InstanceError, InstanceFailure, parse_instance_line
from emulator.vertex.objectives import Objective
from emulator.vertex.prediction_members import SEGMENT, Members, as_object
from emulator.vertex.predictions import Prediction

PROVIDER = "canned"
#: The limit for all files of a canned model together: their predictions are kept in memory.
MOST_BYTES = 64 << 20

_HASH = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True)
class Recorded:
    """A line of a predictions file, which is returned unchanged.

    where: its file and line number. before, after: its text before and after the instance.
    """

    where: str
    before: str
    after: str

    def doubt(self, objective: Objective) -> str:
        """The first part of the line that the prediction schema does not allow; "" if it allows all."""
        value = json.loads(self.line("{}"))
        try:
            _only_known(value)
            _predictions(value["prediction"], objective)
        except (ValueError, OverflowError) as error:
            return f"{self.where}: {error}"
        return ""

    def line(self, instance_raw: str) -> str:
        """The line for an instance; `instance_raw` is compact JSON."""
        return f"{self.before}{instance_raw}{self.after}"


Result = tuple[Prediction, ...] | Recorded | InstanceFailure


@dataclass(frozen=True)
class _Answer:
    """One line. `segment` is None if it answers every segment of its videos."""

    video: str
    is_pattern: bool
    segment: tuple[int, int | None] | None
    result: Result

    def fits(self, content: str, segment: tuple[int, int | None], digest: Callable[[], str | None]) -> bool:
        if self.segment not in (None, segment):
            return False
        if self.is_pattern and _HASH.fullmatch(self.video):
            return digest() == self.video
        return fnmatchcase(content, self.video) if self.is_pattern else content == self.video


class CannedModel:
    """The lines of a canned model, in their order."""

    provider = PROVIDER

    def __init__(self, source: str, answers: Sequence[_Answer]) -> None:
        self._source = source
        self._answers = answers

    def __len__(self) -> int:
        return len(self._answers)

    def doubts(self, objective: Objective) -> list[str]:
        """The faults of recorded lines by the prediction schema. These lines are returned nevertheless."""
        recorded = [answer.result for answer in self._answers if isinstance(answer.result, Recorded)]
        return [doubt for line in recorded if (doubt := line.doubt(objective))]

    def answer(
        self, content: str, segment: tuple[int, int | None], digest: Callable[[], str | None]
    ) -> Result:
        """The result of the first line that fits the video and segment, or a NOT_FOUND failure.

        Args:
            content: the instance's content.
            segment: start and end in microseconds; the end is None for the video's end.
            digest: gives the hash of the video's bytes, `sha256:…`, or None if there is no such video.
        """
        for answer in self._answers:
            if answer.fits(content, segment, digest):
                return answer.result
        return InstanceFailure(
            errors.NotFound.code,
            f"{content}: no line of {self._source} fits this video and segment. Add one, or one for any:"
            ' {"video": "*", "prediction": []}.',
        )


def load_canned(manifest: ModelManifest) -> CannedModel:
    """Read and check the lines that a canned model's manifest names.

    Raises:
        ManifestError: naming file, line, member and remedy.
    """
    path = manifest.folder / manifest.model.canned
    answers: list[_Answer] = []
    left = MOST_BYTES
    try:
        for file in canned_files(manifest):
            data = read_bounded(file, left)
            left -= len(data)
            answers.extend(_read(file.name, _lines(data.decode("utf-8-sig")), manifest.objective))
    except FileTooLarge:
        raise ManifestError(
            f"{path} is larger than {size_text(MOST_BYTES)}, the most that canned predictions may have; leave"
            " some out"
        ) from None
    except OSError as error:
        raise ManifestError(f"{error.filename or path} cannot be read: {cause(error)}") from error
    except UnicodeDecodeError as error:
        raise ManifestError(f"{path} cannot be read: {error}") from error
    except ValueError as error:
        raise ManifestError(f"{manifest.folder}: {error}") from None
    if not answers:
        raise ManifestError(f"{path} holds no line; write one JSON object a line")
    return CannedModel(manifest.model.canned, answers)


def canned_files(manifest: ModelManifest) -> list[Path]:
    """The files that hold a canned model's lines, in their order.

    Excludes the errors files of an output directory, and everything that is not a regular file.
    """
    path = manifest.folder / manifest.model.canned
    if not path.is_dir():
        return [path]
    with os.scandir(path) as found:
        names = [entry.name for entry in found if entry.name.endswith(".jsonl") and is_regular(entry)]
    return [path / name for name in sorted(names) if not name.startswith(("errors_", "."))]


def _lines(text: str) -> Iterator[str]:
    """Split a text into lines as a file in text mode does."""
    return iter(io.StringIO(text, newline=None))


def check_lines(lines: Sequence[str], objective: Objective) -> int:
    """Check lines as `load_canned` does, and return the number of answers.

    Raises:
        ValueError: naming the line.
    """
    return sum(1 for _ in _read("lines", lines, objective))


def _read(name: str, lines: Iterator[str] | Sequence[str], objective: Objective) -> Iterator[_Answer]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
            if not isinstance(value, dict):
                raise ValueError("it must be a JSON object")
            if r"\ud" in line.lower():  # a lone surrogate is valid JSON, but cannot be written as UTF-8
                json.dumps(value, ensure_ascii=False).encode()
            if "instance" in value and "prediction" in value:
                yield _recorded(value, line.strip(), f"{name} line {number}")
            else:
                yield _answer(value, objective)
        except (ValueError, OverflowError) as error:  # a whole number may be too large for a float
            raise ValueError(f"{name} line {number}: {error}") from None
        except RecursionError:
            raise ValueError(f"{name} line {number}: it is nested too deeply") from None


def _recorded(value: Mapping[str, Any], line: str, where: str) -> _Answer:
    """Read a line as a service wrote it. Unknown members are no error: its schema may have grown."""
    if "video" in value:
        raise ValueError("it must have either instance or video")
    if not isinstance(value["prediction"], list):
        raise ValueError("prediction must be a list")
    instance = as_object(value["instance"], "instance")
    content = _content(instance.get("content"))
    start, end = _span_of_member(line, "instance")
    return _Answer(content, False, _segment(instance), Recorded(where, line[:start], line[end:]))


def _span_of_member(text: str, name: str) -> tuple[int, int]:
    """Start and end of a member's value in the text of a JSON object; of the last one if it occurs twice.

    Raises ValueError for NaN and Infinity, which Python reads but which are not JSON.
    """
    decoder = json.JSONDecoder(parse_constant=_refuse_constant)
    found, at = (0, 0), _after_blanks(text, 1)
    while text[at] != "}":
        key, at = decoder.raw_decode(text, at)
        start = _after_blanks(text, _after_blanks(text, at) + 1)
        _, at = decoder.raw_decode(text, start)
        found = (start, at) if key == name else found
        at = _after_blanks(text, at)
        at = _after_blanks(text, at + 1) if text[at] == "," else at
    return found


def _after_blanks(text: str, at: int) -> int:
    while text[at] in " \t\r\n":
        at += 1
    return at


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _only_known(value: Mapping[str, Any]) -> None:
    known = ("instance", "video", *SEGMENT, "prediction", "error")
    if unknown := [key for key in value if key not in known]:
        raise ValueError(f"unknown member {unknown[0]!r}; a line takes {', '.join(known)}")


def _content(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("it does not say for which video it is; that must be a text")
    return value


def _answer(value: Mapping[str, Any], objective: Objective) -> _Answer:
    _only_known(value)
    if ("instance" in value) == ("video" in value):
        raise ValueError("it must have either instance or video")
    if ("prediction" in value) == ("error" in value):
        raise ValueError("it must have either prediction or error")
    if "instance" in value:
        instance = as_object(value["instance"], "instance")
        content, is_pattern = _content(instance.get("content")), False
    else:
        instance, content, is_pattern = value, _content(value["video"]), True
    if is_pattern and content.startswith("sha256:") and not _HASH.fullmatch(content):
        raise ValueError("video is no hash; write sha256: and 64 hexadecimal digits in lower case")
    result = _failure(value["error"]) if "error" in value else _predictions(value["prediction"], objective)
    return _Answer(content, is_pattern, _segment(instance), result)


def _segment(instance: Mapping[str, Any]) -> tuple[int, int | None] | None:
    given = {name: instance[name] for name in SEGMENT if instance.get(name)}
    if not given:
        return None
    try:
        line = json.dumps({"content": "gs://any/video", "mimeType": "video/mp4", **given})
        parsed = parse_instance_line(line.encode(), 1)
    except InstanceError as error:
        raise ValueError(error.message.removeprefix("Line 1: ")) from None
    return parsed.start_us, parsed.end_us


def _failure(value: Any) -> InstanceFailure:
    error = as_object(value, "error")
    code, message = error.get("code"), error.get("message", "")
    if isinstance(code, bool) or not isinstance(code, int) or code not in errors.CATALOGUE:
        raise ValueError(f"error.code is {code!r}; it must be a google.rpc code from 1 to 16")
    return InstanceFailure(code, str(message))


def _predictions(value: Any, objective: Objective) -> tuple[Prediction, ...]:
    if not isinstance(value, list):
        raise ValueError("prediction must be a list")
    read = objective.definition.read
    return tuple(read(Members.of(item, f"prediction[{index}]")) for index, item in enumerate(value))


def file_digest(path: Path) -> str:
    """The hash of a file's bytes, in the form that `video` of a line takes."""
    import hashlib

    with open_regular(path) as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
