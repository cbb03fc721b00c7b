"""Variables of this process's environment, which the programs it starts inherit."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

LOCAL = ("localhost", "127.0.0.1", "::1")
"""The names that clients use for this machine."""

NO_GRPC_PROXY = "no_grpc_proxy"
"""gRPC reads this instead of no_proxy if it is set; in lower case only."""

_NO_PROXY = ("no_proxy", "NO_PROXY")
_ALL_HOSTS = "*"


@contextmanager
def changed(variables: Mapping[str, str | None]) -> Iterator[None]:
    """Set variables, or unset those whose value is None; restore the old values afterwards."""
    before = {name: os.environ.get(name) for name in variables}
    try:
        _apply(variables)
        yield
    finally:
        _apply(before)


def no_proxy(hosts: Iterable[str]) -> dict[str, str]:
    """The variables of the hosts that need no proxy, with `hosts` added to the present ones."""
    lower, upper = (os.environ.get(name, "") for name in _NO_PROXY)
    # Some programs read one, some the other. If only one is set, its value is used for both.
    given = dict(zip(_NO_PROXY, (lower or upper, upper or lower), strict=True))
    variables = {name: _with(value, hosts) for name, value in given.items()}
    if NO_GRPC_PROXY in os.environ:
        variables[NO_GRPC_PROXY] = joined([*listed(os.environ[NO_GRPC_PROXY]), *hosts])
    return variables


def listed(value: str) -> list[str]:
    """The hosts of a no_proxy variable."""
    return [host.strip() for host in value.split(",") if host.strip()]


def joined(hosts: Iterable[str]) -> str:
    """The value of a no_proxy variable, each host once."""
    return ",".join(dict.fromkeys(hosts))


def _with(value: str, hosts: Iterable[str]) -> str:
    # `*` means all hosts only if it stands alone.
    return value if value.strip() == _ALL_HOSTS else joined([*listed(value), *hosts])


def _apply(variables: Mapping[str, str | None]) -> None:
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
