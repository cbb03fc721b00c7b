"""How many examples, odd values, and requests that are nearly right."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Sequence
from typing import Any, TypeVar
from urllib.parse import quote

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

T = TypeVar("T")

EXAMPLES_VARIABLE = "EMULATOR_FUZZ_EXAMPLES"


def examples(few: int) -> settings:
    """So few examples, the same each time; as many others as `make test-fuzz EXAMPLES=...` asks for."""
    many = os.environ.get(EXAMPLES_VARIABLE)
    return settings(
        max_examples=int(many) if many else few,
        derandomize=not many,
        database=None,
        deadline=None,
        print_blob=True,
        suppress_health_check=[
            HealthCheck.too_slow,
            HealthCheck.data_too_large,
            HealthCheck.large_base_example,
        ],
    )


ODD_TEXTS = st.one_of(
    st.sampled_from(
        [
            "", " ", ".", "..", "/", "-", "*", "0", "-1", "a/b", "a//b", "%", "%00", "%zz", "null", "ü",
            "日本", "\0", "\n", "\x7f", "\ud800", "\u2028", "'", '"', "\\", "{", "[", "(", "x" * 300,
            "é" * 2000, "9" * 40, "1e999", "-9223372036854775809", "NaN", "inf", "true", "gs://", "gs://b",
            "gs://b/o", "2026-13-45T99:99:99Z", "projects/p/locations/l/models/m", "AND", "JOB_STATE_RUNNING",
        ]
    ),
    st.text(max_size=12),
)  # fmt: skip
ODD_NUMBERS = st.one_of(
    st.sampled_from(
        [0, -1, 1, 2**31, 2**63, -(2**63) - 1, 10**400, 0.5, 1e308, -0.0, float("inf"), float("nan")]
    ),
    st.integers(-5, 1000),
)
ODD_VALUES: st.SearchStrategy[Any] = st.recursive(
    st.one_of(st.none(), st.booleans(), ODD_NUMBERS, ODD_TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(ODD_TEXTS, inner, max_size=3)),
    max_leaves=6,
)


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Every container below a JSON value with each of its keys."""
    keys: Sequence[Any] = list(value) if isinstance(value, dict) else range(len(value))
    found = [(value, key) for key in keys]
    for key in keys:
        if isinstance(value[key], dict | list):
            found += _places(value[key])
    return found


@st.composite
def nearly(draw: st.DrawFn, bases: Sequence[Any], names: Sequence[str]) -> Any:
    """One of some JSON objects, changed in up to three places; `names` are keys to add."""
    value = copy.deepcopy(draw(st.sampled_from(bases)))
    for _ in range(draw(st.integers(0, 3))):
        places = _places(value)
        if not places or draw(st.booleans()):
            holders = [value, *(c[k] for c, k in places if isinstance(c[k], dict))]
            holder = draw(st.sampled_from(holders))
            if isinstance(holder, dict):
                holder[draw(st.one_of(st.sampled_from(names), ODD_TEXTS))] = draw(ODD_VALUES)
            continue
        container, key = draw(st.sampled_from(places))
        if draw(st.integers(0, 3)):
            container[key] = draw(ODD_VALUES)
        else:
            del container[key]
    return value


@st.composite
def written(draw: st.DrawFn, values: st.SearchStrategy[Any]) -> bytes:
    """A JSON value as bytes, which may be damaged."""
    text = json.dumps(draw(values), ensure_ascii=draw(st.booleans()))
    return draw(damaged(text.encode(errors="surrogatepass")))


@st.composite
def damaged(draw: st.DrawFn, data: bytes) -> bytes:
    """Bytes, in one case of four cut short, or with some put in."""
    if draw(st.integers(0, 3)) or not data:
        return data
    at = draw(st.integers(0, len(data)))
    if draw(st.booleans()):
        return data[:at]
    put_in = st.one_of(
        st.binary(max_size=4), st.sampled_from([b"\xef\xbb\xbf", b"\0", b"[" * 100_000, b"\xff\xfe"])
    )
    return data[:at] + draw(put_in) + data[at:]


def mostly(usual: st.SearchStrategy[T], odd: st.SearchStrategy[T]) -> st.SearchStrategy[T]:
    """The usual, but for one case of six."""
    return st.integers(0, 5).flatmap(lambda number: usual if number else odd)


def encoded(texts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Texts as a URL has them, percent-encoded, mostly rightly."""
    return st.one_of(
        texts.map(lambda text: quote(text, safe="", errors="surrogatepass")),
        texts.map(lambda text: quote(text, safe="/:%*@", errors="surrogatepass")),
    )


def queries(names: Sequence[str], values: st.SearchStrategy[str] = ODD_TEXTS) -> st.SearchStrategy[str]:
    """Query strings."""
    pair = st.tuples(encoded(st.one_of(st.sampled_from(list(names)), ODD_TEXTS)), encoded(values))
    return mostly(st.just(""), st.lists(pair.map("=".join), max_size=3).map("&".join)) | st.lists(
        pair.map("=".join), max_size=2
    ).map("&".join)
