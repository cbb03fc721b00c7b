"""The common part of all list calls: page size, page token, read mask, sorting in memory."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cmp_to_key
from typing import Any, Generic, TypeVar

from emulator.vertex.listing import (
    OrderKey,
    apply_mask,
    decode_page_token,
    encode_page_token,
    page_size,
    query_digest,
)

T = TypeVar("T")
Position = tuple[int | str, ...]


@dataclass(frozen=True)
class Paging:
    """The requested page of a query."""

    size: int
    after: Position | None
    digest: str

    @classmethod
    def of(cls, request: Any, *query: str) -> "Paging":
        """Read the paging fields of a list request.

        `query` is everything that must not change between pages.

        Raises:
            InvalidArgument: the page size or token is invalid.
        """
        digest = query_digest(type(request).DESCRIPTOR.name, *query)
        return cls(page_size(request.page_size), decode_page_token(request.page_token, digest), digest)

    def cut(self, rows: Sequence[T], position: Callable[[T], Position]) -> "Page[T]":
        """Cut the page from its rows; one row more than a page makes a token for the next page."""
        shown = rows[: self.size]
        more = len(rows) > self.size
        return Page(shown, encode_page_token(position(shown[-1]), self.digest) if more else "")


@dataclass(frozen=True)
class Page(Generic[T]):
    """Rows, and the token of the next page; it is empty on the last page."""

    rows: Sequence[T]
    next_page_token: str


@dataclass(frozen=True)
class Ordering:
    """A sort order over positions (tuples of values)."""

    keys: Sequence[OrderKey]

    def page(self, rows: Iterable[T], position: Callable[[T], Position], paging: Paging) -> Page[T]:
        """Sort and cut the page. A row that was deleted does not change where the next page begins."""
        sort_key = cmp_to_key(self._compare)
        placed = sorted(((position(row), row) for row in rows), key=lambda item: sort_key(item[0]))
        after = paging.after
        if after is not None:
            placed = [item for item in placed if self._compare(item[0], after) > 0]
        return paging.cut([row for _, row in placed], position)

    def _compare(self, left: Position, right: Position) -> int:
        for key, a, b in zip(self.keys, left, right, strict=True):
            if a != b:
                greater = a > b  # type: ignore[operator]  # one field, one type
                return 1 if greater != key.descending else -1
        return 0


def masked(messages: Iterable[Any], request: Any) -> Iterable[Any]:
    """The messages, reduced to the fields of the request's read mask."""
    paths = request.read_mask.paths
    return (apply_mask(message, paths) for message in messages) if paths else messages
