"""Partial responses: the `fields` parameter, as in `items(name,size),nextPageToken` or `items/name`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from emulator.gcs.errors import invalid

# Field -> mask of its members; an empty mask selects all of them.
Mask = dict[str, "Mask"]
_TOKEN = re.compile(r"[(),/]|[^(),/\s]+")
_DEEPEST = 20


def parse_mask(text: str) -> Mask:
    """Parse a `fields` parameter; an empty text or `*` gives an empty mask. Raises GcsError."""
    tokens = _TOKEN.findall(text)
    mask = _parse_list(tokens, 0)
    if tokens:
        raise invalid(f"Invalid field selection {text}", location="fields")
    return mask


def apply_mask(mask: Mask, value: Any) -> Any:
    """Return the parts of a JSON value that the mask selects, in lists those of every element."""
    if not mask or "*" in mask:
        return value
    if isinstance(value, list):
        return [apply_mask(mask, entry) for entry in value]
    if isinstance(value, Mapping):
        return {key: apply_mask(mask[key], entry) for key, entry in value.items() if key in mask}
    return value


def _parse_list(tokens: list[str], depth: int) -> Mask:
    mask: Mask = {}
    while tokens and tokens[0] not in "(),/" and depth < _DEEPEST:
        _parse_path(tokens, mask, depth)
        if not tokens or tokens[0] != ",":
            break
        tokens.pop(0)
    return mask


def _parse_path(tokens: list[str], mask: Mask, depth: int) -> None:
    below = mask.setdefault(tokens.pop(0), {})
    while tokens and tokens[0] == "/" and len(tokens) > 1:
        tokens.pop(0)
        below = below.setdefault(tokens.pop(0), {})
    if tokens and tokens[0] == "(":
        tokens.pop(0)
        below.update(_parse_list(tokens, depth + 1))
        if tokens and tokens[0] == ")":
            tokens.pop(0)
