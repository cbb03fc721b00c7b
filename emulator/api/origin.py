"""Distinguishes pages of other sites from the emulator's own pages and from programs.

A browser lets any page send requests to this machine. Such a request carries the page's Origin, or else
Sec-Fetch-Site. After DNS rebinding, where an attacker's name resolves to this machine, a page's reads carry
neither. So the Host of every request must be a name that no attacker can own. No other header distinguishes a
browser from a program: a page may set all others, and a program may look like a browser.
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

# Names that nobody can register (RFC 6761, 6762, 8375, and ICANN's resolution on .internal), so that no
# attacker's page has one. Google's names, which alias mode uses, belong to Google alone.
_UNREGISTRABLE = (".localhost", ".local", ".internal", ".home.arpa", ".test", ".googleapis.com")
# A Host header is a name or an address with an optional port (RFC 9110, section 7.2).
_HOST = re.compile(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+(%[A-Za-z0-9._~%-]+)?\])(:\d*)?")


class ForeignPage(PermissionDenied):
    """A page of another site sent the request. `origin`: its origin, "" if the browser did not send it."""

    def __init__(self, origin: str) -> None:
        named = f"of {origin[:200]!r} " if origin else "of other sites "
        super().__init__(
            f"Web pages {named}may not use the emulator. Add their origin, such as http://localhost:3000, to"
            " the setting allowed_origins if they should."
        )
        self.origin = origin


@dataclass(frozen=True)
class OriginGuard:
    """The allowed host names and origins of all surfaces.

    names: host names of the emulator, besides localhost, IP addresses and this machine's name. A leading
        `*.` matches all subdomains.
    origins: origins whose pages may call the emulator, in the form of `origin_of`.
    """

    names: frozenset[str]
    origins: frozenset[str]

    @classmethod
    def of(cls, names: Iterable[str], origins: Iterable[str] = ()) -> "OriginGuard":
        """Build the rule. The machine's own name is added."""
        own = {"localhost", socket.gethostname(), *names}
        return cls(frozenset(name.lower().rstrip(".") for name in own), frozenset(map(origin_of, origins)))

    def check(self, scheme: str, headers: Mapping[str, str]) -> str | None:
        """Return the allowed origin of the page that sent a request; None for a program or an own page.

        Args:
            scheme: http or https.
            headers: the request headers by lower-case name.

        Raises:
            PermissionDenied: the Host is not a name of the emulator.
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
        # A page that hides its origin sends `null`, as a form with the policy `no-referrer` does.
        hidden = origin == "null" and site == "same-origin"
        if site == "cross-site" or not (hidden or _is_own(origin, scheme, host)):
            raise ForeignPage(origin or "")
        if not self._is_known(name):
            raise _unknown_host(host)
        return None

    def _is_known(self, name: str) -> bool:
        """Return whether this is a host name of the emulator."""
        if name in self.names or name.endswith(".localhost"):
            return True
        # DNS rebinding needs a name: a page whose host is an IP address comes from that address.
        return _is_address(name) or any(
            known.startswith("*.") and name.endswith(known[1:]) for known in self.names
        )


def _is_unregistrable(name: str) -> bool:
    """Return whether only a local network can assign this name, as a container's, or `emulator.internal`."""
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


@lru_cache(maxsize=256)  # every request has a Host, and it rarely changes
def _name_of(host: str) -> str:
    try:
        name = urlsplit(f"//{host}").hostname if _HOST.fullmatch(host) else None
        return (name or "").lower().rstrip(".")
    except ValueError:
        return ""
