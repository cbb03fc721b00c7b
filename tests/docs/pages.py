"""The pages of the documentation, their fenced blocks, and which test runs which block."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

ROOT = Path(__file__).parents[2]
PAGES = (
    "README.md",
    "CONTRIBUTING.md",
    *sorted(str(page.relative_to(ROOT)) for page in ROOT.glob("docs/**/*.md")),
)
_FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
_Test = TypeVar("_Test", bound=Callable[..., object])


@dataclass(frozen=True)
class Block:
    """A fenced block: its page, the `##` heading above it, the mark of its fence, its line, its text."""

    page: str
    section: str
    fence: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line} ({self.fence})"

    def at(self, ports: Mapping[str, str]) -> str:
        """Return the text with the real port for each one that the page writes."""
        return re.sub("|".join(rf"\b{port}\b" for port in ports), lambda found: ports[found[0]], self.text)


def read(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def ports(http: str, grpc: str, tls: str) -> dict[str, str]:
    """Return the ports of three addresses by what the pages write for them."""
    written = {"8080": http, "8081": grpc, "8443": tls}
    return {port: address.rpartition(":")[2] for port, address in written.items()}


def blocks(page: str, fence: str | None = None, section: str | None = None) -> list[Block]:
    """Return a page's blocks in their order, or those with one mark, or those below one heading."""
    return [
        block for block in _blocks(page) if fence in (None, block.fence) and section in (None, block.section)
    ]


def runs(*run: Block) -> Callable[[_Test], _Test]:
    """Say of a test which blocks it runs; `test_blocks` misses those that no test names."""

    def mark(test: _Test) -> _Test:
        vars(test)["blocks_run"] = run
        return test

    return mark


def prose(page: str) -> str:
    """Return a page without its fenced blocks; each line stays in its place."""
    return _FENCE.sub(lambda block: "\n" * block[0].count("\n"), read(page))


def _blocks(page: str) -> Iterator[Block]:
    text = read(page)
    for found in _FENCE.finditer(text):
        headings = re.findall(r"^## (.*)$", text[: found.start()], re.MULTILINE)
        line = text.count("\n", 0, found.start()) + 1
        yield Block(page, headings[-1] if headings else "", found[2], line, found[3])
