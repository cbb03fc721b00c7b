"""Makes canned models, from given lines or from an output directory in a bucket."""

import io
import json
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, BinaryIO

from emulator.files import size_text
from emulator.inference.canned import MOST_BYTES, check_lines
from emulator.inference.manifest import ManifestError
from emulator.inference.sections import OBJECTIVES
from emulator.service.context import Context, Place
from emulator.service.fields import check_display_name, refuse
from emulator.storage import GcsUri, InvalidUri, StorageError
from emulator.vertex.errors import FailedPrecondition, InvalidArgument, NotFound, Violations
from emulator.vertex.names import LocationName

Install = Callable[[Place, str, Any, list[tuple[str, Callable[[], BinaryIO]]]], int]
_KNOWN = ("parent", "modelId", "displayName", "objective", "lines", "directory")
_FILE = "canned.jsonl"
# Vertex: an uploaded model's id begins with a letter or _, but AutoML models have numeric ids.
_MODEL_ID = re.compile(r"[a-z0-9_][a-z0-9_-]{0,62}")


class Canned:
    """Makes canned models for clients."""

    def __init__(self, context: Context, install: Install) -> None:
        self._context = context
        self._install = install

    def add(self, value: Mapping[str, Any]) -> dict[str, Any]:
        """Make a model or a new default version; returns its name and version."""
        if unknown := [name for name in value if name not in _KNOWN]:
            raise InvalidArgument(f"{unknown[0]!r} is not known here; there are {', '.join(_KNOWN)}.")
        parent = LocationName.parse(str(value.get("parent", "")))
        model_id, name = value.get("modelId"), value.get("displayName") or value.get("modelId")
        if not isinstance(model_id, str) or not _MODEL_ID.fullmatch(model_id):
            refuse("modelId", f"{str(model_id)[:80]!r} is not a model id; use up to 63 of a-z, 0-9, _ and -.")
        if not isinstance(name, str):
            refuse("displayName", f"It is {name!r}; give a text.")
        violations = Violations()
        check_display_name(violations, "displayName", name)
        violations.raise_if_any()
        objective = OBJECTIVES.get(str(value.get("objective")))
        if objective is None:
            refuse("objective", f"It is {value.get('objective')!r}; use one of {', '.join(OBJECTIVES)}.")
        lines = self._lines(value)
        try:
            count = check_lines(lines, objective)
        except ValueError as error:
            raise InvalidArgument(f"{error}.") from None
        return self._make(parent, model_id, name, objective.value, lines, count)

    def _make(
        self, parent: LocationName, model_id: str, name: str, objective: str, lines: Sequence[str], count: int
    ) -> dict[str, Any]:
        place = self._context.place(parent)
        manifest = f'[model]\nid = "canned"\nobjective = "{objective}"\ncanned = "{_FILE}"\n'
        files = {"model.toml": manifest, _FILE: "".join(f"{line}\n" for line in lines)}
        model = self._context.v1.Model(display_name=name, version_aliases=["default"])
        opened = [(file, partial(io.BytesIO, text.encode())) for file, text in files.items()]
        try:
            number = self._install(place, model_id, model, opened)  # type: ignore[arg-type]
        except ManifestError as error:
            raise InvalidArgument(f"{error}.") from None
        return {"model": f"{place}/models/{model_id}", "versionId": str(number), "lines": count}

    def _lines(self, value: Mapping[str, Any]) -> list[str]:
        lines, directory = value.get("lines"), value.get("directory")
        if isinstance(directory, str) and lines is None:
            return self._saved(directory)
        if not isinstance(lines, list) or directory is not None:
            refuse(
                "lines", "Give lines, a list of objects, or directory, the gs:// name of an output directory."
            )
        if not lines:
            refuse("lines", "There is no line.")
        return [line if isinstance(line, str) else json.dumps(line, ensure_ascii=False) for line in lines]

    def _saved(self, directory: str) -> list[str]:
        try:
            prefix = GcsUri.parse_prefix(directory)
            found: list[str] = []
            left = MOST_BYTES
            for info in self._context.store.list(prefix.bucket, prefix.object):
                name = info.uri.object.removeprefix(prefix.object)
                if name.endswith(".jsonl") and not name.startswith("errors_") and "/" not in name:
                    left -= info.size
                    if left < 0:
                        raise FailedPrecondition(
                            f"The .jsonl files in {directory} are larger than {size_text(MOST_BYTES)}, the"
                            " most that canned predictions may have."
                        )
                    with self._context.store.open_read(info.uri) as file:
                        found += file.read(info.size).decode().splitlines()
        except InvalidUri as error:
            raise InvalidArgument(str(error)) from None
        except (StorageError, UnicodeDecodeError) as error:
            raise FailedPrecondition(f"{directory} cannot be read: {error}") from None
        if not found:
            raise NotFound(f"There are no lines of .jsonl files in {directory}.")
        return found
