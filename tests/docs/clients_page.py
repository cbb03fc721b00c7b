"""The snippets of docs/clients.md."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

PAGE = (Path(__file__).parents[2] / "docs" / "clients.md").read_text(encoding="utf-8")


@dataclass(frozen=True)
class Snippet:
    """A fenced block: the heading it is under, the mark of its fence, its text."""

    section: str
    fence: str
    text: str

    def at(self, ports: Mapping[str, str]) -> str:
        """Return the text with the real port for each one that the page writes."""
        return re.sub("|".join(rf"\b{port}\b" for port in ports), lambda found: ports[found[0]], self.text)


def ports(http: str, grpc: str, tls: str) -> dict[str, str]:
    """Return the ports of three addresses by what the page writes for them."""
    written = {"8080": http, "8081": grpc, "8443": tls}
    return {port: address.rpartition(":")[2] for port, address in written.items()}


def sections() -> dict[str, str]:
    """Return the page's text by heading."""
    parts = re.split(r"^## (.*)\n", PAGE, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def snippets(section: str | None = None, fence: str | None = None) -> list[Snippet]:
    """Return the page's snippets, or those of one section, or those with one mark."""
    return [
        Snippet(title, mark, text)
        for title, body in sections().items()
        for mark, text in re.findall(r"^```(\w*)\n(.*?)^```", body, re.MULTILINE | re.DOTALL)
        if section in (None, title) and fence in (None, mark)
    ]
