"""Filters of list requests: the AIP-160 grammar for the documented fields of JobService and ModelService."""

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum
from typing import NoReturn

from emulator.vertex.errors import Violations
from emulator.vertex.job_state import JobState

MAX_FILTER_CHARACTERS = 10_000
MAX_NESTING = 50

Row = Mapping[str, object]
Predicate = Callable[[Row], bool]


class FieldKind(Enum):
    """The type of a field: determines its operators and its value in a row (None or absent if unset)."""

    STRING = "str; `:` takes `*` for any characters"
    ENUM = "the name of a JobState, with its prefix"
    TIMESTAMP = "int, microseconds since the epoch"
    LABELS = "Mapping[str, str], written `labels.k=v`, `labels.k:*` or `labels:k`"
    NUMBER = "int or float"

    @property
    def operators(self) -> tuple[str, ...]:
        return _OPERATORS[self]


_ORDERING = ("=", "!=", "<", "<=", ">", ">=")
_OPERATORS: Mapping[FieldKind, tuple[str, ...]] = {
    FieldKind.STRING: ("=", "!=", ":"),
    FieldKind.ENUM: ("=", "!="),
    FieldKind.TIMESTAMP: _ORDERING,
    FieldKind.LABELS: ("=", ":"),
    FieldKind.NUMBER: _ORDERING,
}

JOB_FILTER_FIELDS: Mapping[str, FieldKind] = {
    "display_name": FieldKind.STRING,
    "model_display_name": FieldKind.STRING,
    "state": FieldKind.ENUM,
    "create_time": FieldKind.TIMESTAMP,
    "labels": FieldKind.LABELS,
}
MODEL_FILTER_FIELDS: Mapping[str, FieldKind] = {
    # The model's id, the last segment of its name.
    "model": FieldKind.STRING,
    "display_name": FieldKind.STRING,
    "base_model_name": FieldKind.STRING,
    "labels": FieldKind.LABELS,
}
MODEL_VERSION_FILTER_FIELDS: Mapping[str, FieldKind] = {"labels": FieldKind.LABELS}


@dataclass(frozen=True)
class Filter:
    """A parsed filter; an empty one matches everything."""

    text: str
    _predicate: Predicate = field(repr=False, compare=False)

    def matches(self, row: Row) -> bool:
        """Return whether a row matches. It maps snake_case field names to values; see FieldKind."""
        return self._predicate(row)


def parse_filter(text: str, fields: Mapping[str, FieldKind]) -> Filter:
    """Parse a filter over `fields`, whose names may also be camelCase. Raises InvalidArgument."""
    if len(text) > MAX_FILTER_CHARACTERS:
        _fail(f"The filter has {len(text)} characters, more than {MAX_FILTER_CHARACTERS}")
    return Filter(text, _Parser(_tokens(text), fields).parse())


@dataclass(frozen=True)
class _Token:
    """A token of the filter; `kind` is "word", "string", "operator", "(" , ")", "-" or "end"."""

    kind: str
    text: str
    position: int


# An unquoted value extends to the next blank or parenthesis, so it may be a time or a resource name.
_TOKEN = re.compile(
    r"""(?P<blank>\s+)
    |(?P<string>"(?P<double>[^"\\]*(?:\\.[^"\\]*)*)"|'(?P<single>[^'\\]*(?:\\.[^'\\]*)*)')
    |(?P<operator><=|>=|!=|=|<|>|:)
    |(?P<punctuation>[().])
    |(?P<word>[^\s()="'<>!:.]+)""",
    re.VERBOSE | re.DOTALL,
)
_VALUE = re.compile(r"[^\s()\"']+")
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)


def _tokens(text: str) -> list[_Token]:
    tokens: list[_Token] = []
    position = 0
    while position < len(text):
        after_operator = bool(tokens) and tokens[-1].kind == "operator"
        found = _VALUE.match(text, position) if after_operator else None
        if found is not None:
            tokens.append(_Token("word", found[0], position))
        elif (found := _TOKEN.match(text, position)) is None:
            _fail(f"Unexpected {text[position : position + 20]!r} at character {position + 1}")
        elif found.lastgroup != "blank":
            tokens.append(_token(found))
        position = found.end()
    return [*tokens, _Token("end", "", position)]


def _token(found: re.Match[str]) -> _Token:
    if found["string"] is not None:
        quoted = found["double"] if found["double"] is not None else found["single"]
        return _Token("string", _ESCAPE.sub(r"\1", quoted), found.start())
    if found["punctuation"] is not None:
        return _Token(found[0], found[0], found.start())
    return _Token("operator" if found["operator"] is not None else "word", found[0], found.start())


class _Parser:
    """A recursive descent parser. MAX_NESTING limits its depth, so no filter can exhaust the stack."""

    def __init__(self, tokens: list[_Token], fields: Mapping[str, FieldKind]) -> None:
        self._tokens = tokens
        self._next = 0
        self._fields = fields
        self._depth = 0

    def parse(self) -> Predicate:
        if self._peek().kind == "end":
            return lambda _: True
        predicate = self._expression()
        if self._peek().kind != "end":
            self._unexpected("the end of the filter")
        return predicate

    def _expression(self) -> Predicate:
        """Terms joined by AND, or by a blank, which means the same."""
        factors = [self._factor()]
        while self._peek().kind not in ("end", ")"):
            self._skip_word("AND")
            factors.append(self._factor())
        return factors[0] if len(factors) == 1 else lambda row: all(factor(row) for factor in factors)

    def _factor(self) -> Predicate:
        """Terms joined by OR, which binds tighter than AND (AIP-160)."""
        terms = [self._term()]
        while self._skip_word("OR"):
            terms.append(self._term())
        return terms[0] if len(terms) == 1 else lambda row: any(term(row) for term in terms)

    def _term(self) -> Predicate:
        negated = False
        while self._skip_word("NOT") or self._skip_minus():
            negated = not negated
        simple = self._composite() if self._peek().kind == "(" else self._restriction()
        return (lambda row: not simple(row)) if negated else simple

    def _composite(self) -> Predicate:
        self._take()
        self._depth += 1
        if self._depth > MAX_NESTING:
            _fail(f"Parentheses are nested more than {MAX_NESTING} deep")
        predicate = self._expression()
        if self._peek().kind != ")":
            self._unexpected('")"')
        self._take()
        self._depth -= 1
        return predicate

    def _restriction(self) -> Predicate:
        name, keys = self._member()
        kind = self._fields.get(_snake_case(name))
        if kind is None or (keys and kind is not FieldKind.LABELS):
            known = (
                f"Known fields: {', '.join(sorted(self._fields))}" if self._fields else "This list takes none"
            )
            _fail(f"Unknown field {'.'.join((name, *keys))!r}. {known}")
        if self._peek().kind != "operator":
            self._unexpected(f"one of {' '.join(kind.operators)} after {name!r}")
        symbol = self._take().text
        if symbol not in kind.operators:
            _fail(f"{name!r} does not take {symbol!r}, only {' '.join(kind.operators)}")
        if self._peek().kind not in ("word", "string"):
            self._unexpected(f"a value after {name}{symbol}")
        value = self._take()
        if kind is FieldKind.LABELS:
            return _label_predicate(_snake_case(name), keys, symbol, value)
        return _PREDICATES[kind](_snake_case(name), symbol, value.text)

    def _member(self) -> tuple[str, tuple[str, ...]]:
        """Parse `name` or `name.key`; the key may be quoted."""
        if self._peek().kind != "word":
            self._unexpected("a field name")
        name = self._take().text
        keys = []
        while self._peek().kind == ".":
            self._take()
            if self._peek().kind not in ("word", "string"):
                self._unexpected(f"a key after {name!r}.")
            keys.append(self._take().text)
        return name, tuple(keys)

    def _skip_word(self, word: str) -> bool:
        token = self._peek()
        # A label or value may be named NOT. A word is a keyword only if no operator follows.
        found = (
            token.kind == "word" and token.text == word and self._tokens[self._next + 1].kind != "operator"
        )
        self._next += found
        return found

    def _skip_minus(self) -> bool:
        token = self._peek()
        if token.kind != "word" or not token.text.startswith("-"):
            return False
        if token.text == "-":
            self._next += 1
        else:
            self._tokens[self._next] = _Token("word", token.text[1:], token.position + 1)
        return True

    def _peek(self) -> _Token:
        return self._tokens[self._next]

    def _take(self) -> _Token:
        token = self._tokens[self._next]
        self._next = min(self._next + 1, len(self._tokens) - 1)
        return token

    def _unexpected(self, expected: str) -> NoReturn:
        token = self._peek()
        found = "the filter ends" if token.kind == "end" else f"there is {token.text[:50]!r}"
        _fail(f"Expected {expected}, but {found} at character {token.position + 1}")


def _string_predicate(name: str, symbol: str, value: str) -> Predicate:
    if symbol == ":":
        return lambda row: _wildcard_matches(value, _text(row.get(name)))
    equal = symbol == "="
    return lambda row: (_text(row.get(name)) == value) is equal


def _enum_predicate(name: str, symbol: str, value: str) -> Predicate:
    known = {state.proto_name for state in JobState}
    wanted = value if value.startswith("JOB_STATE_") else f"JOB_STATE_{value}"
    if wanted not in known:
        _fail(f"Unknown state {value[:50]!r}. Known states: {', '.join(sorted(known))}")
    equal = symbol == "="
    return lambda row: (row.get(name) == wanted) is equal


def _timestamp_predicate(name: str, symbol: str, value: str) -> Predicate:
    wanted_ns = _timestamp_ns(value)
    compare = _COMPARISONS[symbol]

    def matches(row: Row) -> bool:
        time_us = row.get(name)
        return isinstance(time_us, int) and compare(time_us * 1000, wanted_ns)

    return matches


def _number_predicate(name: str, symbol: str, value: str) -> Predicate:
    try:
        wanted = float(value)
    except ValueError:
        _fail(f"{name!r} is a number, {value[:50]!r} is not")
    compare = _COMPARISONS[symbol]

    def matches(row: Row) -> bool:
        number = row.get(name)
        return isinstance(number, int | float) and compare(number, wanted)

    return matches


def _label_predicate(name: str, keys: tuple[str, ...], symbol: str, value: _Token) -> Predicate:
    if len(keys) > 1:
        _fail(f"A label key has no dots. Quote it if {'.'.join(keys)!r} is meant")
    if not keys and symbol != ":":
        _fail(f"Write {name}.KEY=VALUE, {name}.KEY:* or {name}:KEY")
    key = keys[0] if keys else value.text
    pattern = value.text if keys and symbol == ":" else "*"

    def matches(row: Row) -> bool:
        labels = row.get(name)
        if not isinstance(labels, Mapping) or key not in labels:
            return False
        if symbol == "=":
            return bool(labels[key] == value.text)
        return _wildcard_matches(pattern, labels[key])

    return matches


_PREDICATES: Mapping[FieldKind, Callable[[str, str, str], Predicate]] = {
    FieldKind.STRING: _string_predicate,
    FieldKind.ENUM: _enum_predicate,
    FieldKind.TIMESTAMP: _timestamp_predicate,
    FieldKind.NUMBER: _number_predicate,
}
_COMPARISONS: Mapping[str, Callable[[float, float], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def _wildcard_matches(pattern: str, text: str) -> bool:
    """Match `*` as any characters, in time linear in the text for each piece between stars."""
    first, *pieces = pattern.split("*")
    if not pieces:
        return text == first
    *middle, last = pieces
    if not text.startswith(first) or len(text) < len(first) + len(last) or not text.endswith(last):
        return False
    position, end = len(first), len(text) - len(last)
    for piece in middle:
        position = text.find(piece, position, end)
        if position < 0:
            return False
        position += len(piece)
    return True


_RFC3339 = re.compile(
    r"(?P<second>\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d)(?:\.(?P<fraction>\d{1,9}))?(?P<zone>[Zz]|[+-]\d\d:\d\d)",
    re.ASCII,
)
_EPOCH = datetime.fromisoformat("1970-01-01T00:00:00+00:00")


def _timestamp_ns(text: str) -> int:
    found = _RFC3339.fullmatch(text)
    since_epoch = _since_epoch(found) if found else None
    if found is None or since_epoch is None:
        _fail(f"{text[:50]!r} is not a time in RFC 3339 form, such as 2021-05-18T00:00:00Z")
    seconds = since_epoch.days * 86_400 + since_epoch.seconds
    return seconds * 1_000_000_000 + int(f"{found['fraction'] or '':0<9}")


def _since_epoch(found: re.Match[str]) -> timedelta | None:
    zone = "+00:00" if found["zone"] in "Zz" else found["zone"]
    try:
        return datetime.fromisoformat(found["second"] + zone) - _EPOCH
    except ValueError:
        return None


def _text(value: object) -> str:
    return "" if value is None else str(value)


def _snake_case(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])[A-Z]", lambda found: f"_{found[0].lower()}", name)


def _fail(text: str) -> NoReturn:
    violations = Violations()
    violations.add("filter", text)
    raise violations.to_error()
