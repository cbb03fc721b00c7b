"""The address of a Cloud Storage endpoint, parsed from a URL."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self
from urllib.parse import SplitResult, urlsplit

_EXAMPLE = "write it as http://host:port"
_DEFAULT_PORTS = {"http": 80, "https": 443}
_GOOGLE_DOMAINS = ("googleapis.com", "google.com", "googleusercontent.com", "goog")


class InvalidEndpoint(ValueError):
    """The text is no endpoint; the message says why."""


@dataclass(frozen=True)
class Endpoint:
    """Scheme and address of a server with Cloud Storage's JSON API, such as `http://127.0.0.1:4443`."""

    url: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse a URL, or `host:port` as some clients write it. Raises InvalidEndpoint."""
        full = text.strip() if "://" in text else f"http://{text.strip()}"
        try:
            parts = urlsplit(full)
            port = parts.port
        except ValueError as error:
            raise InvalidEndpoint(f'"{text}" is no URL ({error}); {_EXAMPLE}.') from error
        if parts.scheme not in _DEFAULT_PORTS or not parts.hostname:
            raise InvalidEndpoint(f'"{text}" is no http or https URL; {_EXAMPLE}.')
        if _has_more_than_address(parts):
            raise InvalidEndpoint(f'"{text}" holds more than scheme, host and port; {_EXAMPLE}.')
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        return cls(f"{parts.scheme}://{host}" + (f":{port}" if port is not None else ""))

    @property
    def host(self) -> str:
        """The host name or address, without brackets."""
        return (urlsplit(self.url).hostname or "").rstrip(".")

    @property
    def port(self) -> int:
        """The port; the scheme's default if the URL names none."""
        parts = urlsplit(self.url)
        return _DEFAULT_PORTS[parts.scheme] if parts.port is None else parts.port

    @property
    def is_google(self) -> bool:
        """Whether the host is one of Google's, under any of its names: the real Cloud Storage."""
        return any(self.host == domain or self.host.endswith(f".{domain}") for domain in _GOOGLE_DOMAINS)

    def __str__(self) -> str:
        return self.url


def _has_more_than_address(parts: SplitResult) -> bool:
    return bool(parts.path.strip("/") or parts.query or parts.fragment or "@" in parts.netloc)
