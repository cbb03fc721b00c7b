"""Validation rules that several resources share: display names, labels, refused fields."""

import re
import unicodedata
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, NoReturn

from emulator.service.fidelity import Fidelity, Kind, clear
from emulator.vertex.contract import load
from emulator.vertex.errors import Unimplemented, Violations

REQUIRED = "Required field is not set."
MAX_DISPLAY_NAME = 128
_MAX_LABELS = 64
_MAX_LABEL_LENGTH = 64
# Vertex: model.proto, version_aliases.
_ALIAS = re.compile(r"[a-z][a-zA-Z0-9-]{0,126}[a-z0-9]")
# Vertex: the first two sentences are the real text (recorded endpoint request); the rest is unknown.
_LABEL_RULES = (
    "There can be no more than 64 labels attached to a single resource. Label keys and values can only"
    " contain lowercase letters, numbers, dashes and underscores. Label keys must not be empty; keys and"
    " values can have at most 64 characters"
)


def refuse(field: str, text: str) -> NoReturn:
    """Raise InvalidArgument for one field."""
    violations = Violations()
    violations.add(field, text)
    raise violations.to_error()


@cache
def output_only_fields(full_name: str) -> tuple[str, ...]:
    """The names of a message's output-only fields."""
    contract = load()
    fields = contract.message(full_name).DESCRIPTOR.fields
    return tuple(field.name for field in fields if contract.is_output_only(field))


def without_output_only(message: Any) -> Any:
    """A copy of a resource without its output-only fields."""
    kept = type(message)()
    kept.CopyFrom(message)
    # Vertex: values that a client sets in output-only fields are ignored (AIP-203).
    for name in output_only_fields(message.DESCRIPTOR.full_name):
        kept.ClearField(name)
    return kept


def check_display_name(violations: Violations, path: str, display_name: str) -> None:
    """A display name is required and has at most 128 characters."""
    if not display_name:
        violations.add(path, REQUIRED)
    elif "\0" in display_name:
        violations.add(path, "The display name must not contain NUL.")
    elif len(display_name) > MAX_DISPLAY_NAME:
        violations.add(
            path,
            f"The display name has {len(display_name)} characters; it can have at most {MAX_DISPLAY_NAME}.",
        )


def check_labels(violations: Violations, path: str, labels: Mapping[str, str]) -> None:
    """At most 64 labels of lowercase letters (of any script), digits, dashes and underscores."""
    if len(labels) > _MAX_LABELS:
        violations.add(path, f"{_LABEL_RULES}. Got {len(labels)} labels.")
        return
    for key, value in sorted(labels.items()):
        if not key or not _is_label(key) or not _is_label(value):
            violations.add(path, f'{_LABEL_RULES}. Got "{key[:80]}": "{value[:80]}".')


def check_aliases(violations: Violations, path: str, aliases: Iterable[str]) -> None:
    """Version aliases begin with a lowercase letter, which distinguishes them from version ids."""
    for alias in aliases:
        if not _ALIAS.fullmatch(alias):
            violations.add(
                path,
                f'"{alias[:140]}" is not a version alias; use 2 to 128 letters, digits and dashes, beginning'
                " with a lowercase letter and ending with a lowercase letter or digit.",
            )


def apply_fidelity(
    violations: Violations, path: str, message: Any, found: Iterable[tuple[str, Fidelity]]
) -> list[str]:
    """Clear dropped and output-only fields, and report refused ones.

    `found` is the result of `set_paths`.

    Returns:
        The unimplemented paths. Pass them to `refuse_unimplemented` after all other checks.
    """
    unimplemented = []
    for name, fidelity in found:
        match fidelity.kind:
            case Kind.DROPPED | Kind.ABSENT:
                clear(message, name)
            case Kind.REFUSED:
                violations.add(f"{path}.{name}", f"This field is not supported: {fidelity.note}.")
            case Kind.UNIMPLEMENTED:
                unimplemented.append(f"{path}.{name} ({fidelity.note})")
    return unimplemented


def refuse_unimplemented(paths: list[str]) -> None:
    """Raise Unimplemented that names the fields, if any."""
    if paths:
        raise Unimplemented(f"Not emulated: {', '.join(paths)}. Leave it out.")


def _is_label(text: str) -> bool:
    return len(text) <= _MAX_LABEL_LENGTH and all(
        character in "-_" or unicodedata.category(character) in ("Ll", "Lo", "Lm", "Mn", "Mc", "Nd")
        for character in text
    )
