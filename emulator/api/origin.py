"""Keeps web pages of other sites away from what they must not reach.

A browser lets any page send requests to an address of this machine. Such a request carries the page's Origin;
or, when the page's own name was made to point here (DNS rebinding), a Host that is not one of ours.
"""

import ipaddress
import socket
from collections.abc import Iterable, Mapping
from urllib.parse import urlsplit

from emulator.vertex.errors import PermissionDenied


class OriginGuard:
    """Knows by which names this server may be called. `names` are those beyond the obvious ones; one that
    begins with `*.` stands for all below."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = {"localhost", socket.gethostname().lower(), *(name.lower() for name in names)}

    def check(self, headers: Mapping[str, str]) -> None:
        """Raise PermissionDenied for a request of another site's page; headers by lower-case name."""
        host = headers.get("host", "")
        if host and not self._is_ours(_name_of(f"//{host}")):
            raise PermissionDenied(
                f"The host name {host[:200]!r} is not one of this emulator's. Use its address, or add the"
                " name to the setting allowed_hosts."
            )
        origin = headers.get("origin")
        if origin is not None and not self._is_ours(_name_of(origin)):
            raise PermissionDenied(
                f"Web pages of {origin[:200]!r} may not use the control surface. Add its host name to the"
                " setting allowed_hosts if they should."
            )
        if origin is None and headers.get("sec-fetch-site") in ("cross-site", "same-site"):
            raise PermissionDenied("Web pages of other sites may not use the control surface.")

    def _is_ours(self, name: str) -> bool:
        name = name.rstrip(".")
        if name in self._names or name.endswith(".localhost"):
            return True
        if any(known.startswith("*.") and name.endswith(known[1:]) for known in self._names):
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            # A name without a dot, such as a container's, is nothing that a public site can have.
            return bool(name) and "." not in name
        return True


def _name_of(url: str) -> str:
    try:
        return (urlsplit(url).hostname or "").lower()
    except ValueError:
        return ""
