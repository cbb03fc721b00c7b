"""Tells pages of other sites from the emulator's own pages and from programs.

A browser lets any page send requests to this machine. Such a request carries the page's Origin, or
Sec-Fetch-Site where it has no Origin. A page whose own name was pointed here (DNS rebinding) sends neither
when it reads, so every request's Host must be a name that no stranger can have. Nothing else tells a browser
from a program: a page may set all other headers, or a program may look like a browser.
"""

import ipaddress
import re
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import urlsplit

from emulator.config import origin_of
from emulator.vertex.errors import PermissionDenied

# Names that nobody can register: RFC 6761, 6762, 8375, and ICANN's resolution on .internal. A stranger's page
# can have none of them. Google's names belong to Google alone; alias mode uses them.
_UNREGISTRABLE = (".localhost", ".local", ".internal", ".home.arpa", ".test", ".googleapis.com")
# A name or an address, and a port: nothing else can be in a Host header (RFC 9110, section 7.2).
_HOST = re.compile(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+(%[A-Za-z0-9._~%-]+)?\])(:\d*)?")


class ForeignPage(PermissionDenied):
    """A page of another site sent the request; `origin` is "" where the browser did not say which."""

    def __init__(self, origin: str) -> None:
        named = f"of {origin[:200]!r} " if origin else "of other sites "
        super().__init__(
            f"Web pages {named}may not use the emulator. Add their origin, such as http://localhost:3000, to"
            " the setting allowed_origins if they should."
        )
        self.origin = origin


@dataclass(frozen=True)
class OriginGuard:
    """The rule for all surfaces.

    names: host names by which web pages may call the emulator, besides localhost, addresses and this
        machine's name; `*.` stands for all names below.
    origins: origins whose pages may use the emulator, as `origin_of` writes them.
    """

    names: frozenset[str]
    origins: frozenset[str]

    @classmethod
    def of(cls, names: Iterable[str], origins: Iterable[str] = ()) -> "OriginGuard":
        """Make the rule; the machine's own name is added."""
        own = {"localhost", socket.gethostname(), *names}
        return cls(frozenset(name.lower().rstrip(".") for name in own), frozenset(map(origin_of, origins)))

    def check(self, scheme: str, headers: Mapping[str, str]) -> str | None:
        """Return the listed origin of a page that sent a request; None for a program or an own page.

        Args:
            scheme: http or https.
            headers: by lower-case name.

        Raises:
            PermissionDenied: the request names a host that is not the emulator's.
            ForeignPage: a page of another site sent it.
        """
        host, origin = headers.get("host", ""), headers.get("origin")
        site = headers.get("sec-fetch-site", "none")
        name = _name_of(host)
        if host and not (self._is_known(name) or _is_unregistrable(name)):
            raise _unknown_host(host)
        if origin is None and site in ("none", "same-origin"):
            return None
        if origin in self.origins:
            return origin
        # A page that hides its origin sends `null`, as a form under `no-referrer` does.
        hidden = origin == "null" and site == "same-origin"
        if site == "cross-site" or not (hidden or _is_own(origin, scheme, host)):
            raise ForeignPage(origin or "")
        if not self._is_known(name):
            raise _unknown_host(host)
        return None

    def _is_known(self, name: str) -> bool:
        """Whether web pages may call the emulator by this name."""
        if name in self.names or name.endswith(".localhost"):
            return True
        # Rebinding needs a name: the page of an address comes from that address.
        return _is_address(name) or any(
            known.startswith("*.") and name.endswith(known[1:]) for known in self.names
        )


def _is_unregistrable(name: str) -> bool:
    """Whether only the local network gives out such a name: a container's, `emulator.internal`."""
    return bool(name) and ("." not in name or name.endswith(_UNREGISTRABLE))


def _is_own(origin: str | None, scheme: str, host: str) -> bool:
    try:
        return origin is not None and origin_of(origin) == origin_of(f"{scheme}://{host}")
    except ValueError:
        return False


def _unknown_host(host: str) -> PermissionDenied:
    return PermissionDenied(
        f"The host name {host[:200]!r} is not one by which this emulator may be called. Use its address, or"
        " add the name to the setting allowed_hosts."
    )


@lru_cache(maxsize=256)
def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


@lru_cache(maxsize=256)  # every request has a Host, nearly always the same
def _name_of(host: str) -> str:
    try:
        name = urlsplit(f"//{host}").hostname if _HOST.fullmatch(host) else None
        return (name or "").lower().rstrip(".")
    except ValueError:
        return ""
