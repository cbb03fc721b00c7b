"""Common parts of list requests: filters, pages, orders, field masks (AIP-158, AIP-160, AIP-161)."""

import base64
import binascii
import hashlib
import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any, NoReturn

from emulator.vertex.contract import is_repeated
from emulator.vertex.errors import Violations
from emulator.vertex.filters import (
    JOB_FILTER_FIELDS,
    MODEL_FILTER_FIELDS,
    MODEL_VERSION_FILTER_FIELDS,
    FieldKind,
    Filter,
    parse_filter,
)

__all__ = [
    "FieldKind",
    "Filter",
    "JOB_FILTER_FIELDS",
    "MODEL_FILTER_FIELDS",
    "MODEL_ORDER_FIELDS",
    "MODEL_VERSION_FILTER_FIELDS",
    "MODEL_VERSION_ORDER_FIELDS",
    "OrderKey",
    "apply_mask",
    "decode_page_token",
    "encode_page_token",
    "mask_paths",
    "page_size",
    "parse_filter",
    "parse_order_by",
    "query_digest",
]

DEFAULT_PAGE_SIZE = 100
MAX_PAGE_SIZE = 1000
MODEL_ORDER_FIELDS = ("display_name", "create_time", "update_time")
MODEL_VERSION_ORDER_FIELDS = ("create_time", "update_time")

_CHECKSUM_BYTES = 6


def page_size(requested: int) -> int:
    """Return the number of items per page: 0 asks for the default; larger requests get the maximum."""
    if requested < 0:
        _fail("page_size", f"The page size must not be negative, got {requested}")
    # Emulator: neither number is documented for batch prediction jobs. Other Vertex lists use these.
    return min(requested, MAX_PAGE_SIZE) or DEFAULT_PAGE_SIZE


def query_digest(*parts: str) -> str:
    """Return a digest of a query (RPC, parent, filter, order). A page token is bound to its query."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def encode_page_token(position: tuple[int | str, ...], query_digest: str) -> str:
    """Return the opaque token of the page that starts after `position`."""
    payload = json.dumps([query_digest, *position], separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(_checksum(payload) + payload).decode().rstrip("=")


def decode_page_token(token: str, query_digest: str) -> tuple[int | str, ...] | None:
    """Return the position in a token; None for an empty token (first page). Raises InvalidArgument."""
    if not token:
        return None
    try:
        decoded = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except (ValueError, binascii.Error):
        decoded = b""
    payload = decoded[_CHECKSUM_BYTES:]
    if not payload or _checksum(payload) != decoded[:_CHECKSUM_BYTES]:
        _fail("page_token", "The page token is not one that this list returned. Leave it out to start anew")
    digest, *position = json.loads(payload)
    if digest != query_digest:
        _fail(
            "page_token",
            "The page token belongs to another list request. Keep parent, filter and order while paging",
        )
    return tuple(position)


@dataclass(frozen=True)
class OrderKey:
    """One field of an order, its name in snake_case."""

    field: str
    descending: bool


def parse_order_by(text: str, allowed: Collection[str]) -> tuple[OrderKey, ...]:
    """Parse "display_name, create_time desc"; names may be camelCase. Raises InvalidArgument."""
    if not text.strip():
        return ()
    names = {spelling: name for name in allowed for spelling in (name, _camel_case(name))}
    keys = []
    for part in text.split(","):
        name, *direction = part.split()[:3] or [""]
        if name not in names:
            _fail("order_by", f"Cannot order by {name[:50]!r}. Known fields: {', '.join(allowed)}")
        if direction not in ([], ["asc"], ["desc"]):
            _fail("order_by", f"Expected asc or desc after {name!r}, got {' '.join(direction)[:50]!r}")
        keys.append(OrderKey(names[name], direction == ["desc"]))
    return tuple(keys)


def mask_paths(cls: type[Any], paths: Iterable[str], *, field: str = "read_mask") -> tuple[str, ...]:
    """Return the paths of a field mask over `cls` in snake_case; () means all fields, and so does "*".

    Raises InvalidArgument for `field` if a path does not exist.
    """
    wanted = [path.strip() for path in paths]
    if "*" in wanted:
        return ()
    return tuple(_snake_path(cls.DESCRIPTOR, path, field) for path in wanted)


def apply_mask(message: Any, paths: Iterable[str], *, field: str = "read_mask") -> Any:
    """Return a copy of a message with only the fields of a mask; see mask_paths."""
    wanted = mask_paths(type(message), paths, field=field)
    kept = type(message)()
    kept.CopyFrom(message)
    if wanted:
        _keep_only(kept, wanted)
    return kept


def _keep_only(message: Any, paths: Iterable[str]) -> None:
    tree: dict[str, list[str]] = {}
    whole: set[str] = set()
    for path in paths:
        name, _, rest = path.partition(".")
        tree.setdefault(name, []).append(rest)
        if not rest:
            whole.add(name)
    for descriptor, value in message.ListFields():
        if descriptor.name not in tree:
            message.ClearField(descriptor.name)
        elif descriptor.name not in whole:
            _keep_only(value, tree[descriptor.name])


def _snake_path(descriptor: Any, path: str, field: str) -> str:
    names = []
    owner = descriptor
    for name in path.split("."):
        found = owner and (owner.fields_by_name.get(name) or owner.fields_by_camelcase_name.get(name))
        if not found:
            _fail(field, f"{descriptor.name} has no field {path[:100]!r}")
        names.append(found.name)
        # A mask path ends at lists, maps and free-form values: their members have no field names.
        closed = is_repeated(found) or found.message_type is None
        owner = None if closed or found.message_type.file.package == "google.protobuf" else found.message_type
    return ".".join(names)


def _checksum(payload: bytes) -> bytes:
    return hashlib.sha256(payload).digest()[:_CHECKSUM_BYTES]


def _camel_case(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def _fail(field: str, text: str) -> NoReturn:
    violations = Violations()
    violations.add(field, text)
    raise violations.to_error()
