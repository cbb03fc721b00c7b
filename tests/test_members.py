"""The readers of values in JSON and TOML, with every type that JSON and TOML have."""

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from emulator.members import integer, list_of, number, objects, one_of, pairs_of, text, typed

VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, 3, 4, -1, 2**63, 10**400, 0.0, 2.5, float("nan"), float("inf"), "", " ", "a"),
    *("3", [], ["a"], [1], [{}], [["a"]], {}, {"a": "b"}, {"a": 1}, {"a": []}),
)


@pytest.mark.parametrize(
    ("read", "fitting", "problem"),
    [
        (text, ["a", "3"], "it must be a text that is not empty"),
        (typed(bool, "write true or false"), [True, False], "write true or false"),
        (one_of({"a": 1, "3": 2}), ["a", "3"], "it must be one of a, 3"),
        (one_of(("3",), "use 3"), ["3"], "use 3"),
        (integer(0, 3), [0, 1, 3], "it must be a whole number from 0 to 3"),
        (integer(4, 2**63, "write more"), [4, 2**63], "write more"),
        (number(0.5, 4), [1, 3, 4, 2.5], "it must be a number from 0.5 to 4"),
        (objects("write a list of objects"), [[], [{}]], "write a list of objects"),
    ],
)
def test_reader_takes_what_fits_and_says_what_is_needed(
    read: Callable[[object], Any], fitting: list[Any], problem: str
) -> None:
    # Compared as JSON: to Python, True is 1.
    wanted = [json.dumps(value) for value in fitting]
    others = [value for value in VALUES if json.dumps(value) not in wanted]
    assert [read(value) for value in fitting] == fitting
    assert len(others) == len(VALUES) - len(fitting)
    for value in others:
        with pytest.raises(ValueError, match=f"^{re.escape(problem)}$"):
            read(value)


def test_lists_and_tables_read_each_of_their_values() -> None:
    read = list_of(integer(0, 9), (1, 3))
    assert read([1, 2, 3]) == (1, 2, 3)
    for value, problem in (
        ([1, 2], "it must be a list of 1 or 3 values"),
        ("1", "it must be a list of 1 or 3 values"),
        ([True], "it must be a whole number from 0 to 9"),
    ):
        with pytest.raises(ValueError, match=f"^{problem}$"):
            read(value)
    with pytest.raises(ValueError, match="at least 1 value"):
        list_of(text, least=1)([])
    pairs = pairs_of(text, 'state_in = "state_out"')
    assert pairs({"a": "b", "c": "d"}) == (("a", "b"), ("c", "d"))
    with pytest.raises(ValueError, match=r'a table such as \{ state_in = "state_out" \}'):
        pairs(["a"])
