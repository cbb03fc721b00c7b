"""The first command of docs/console.md leads to the console."""

import re

import httpx

from tests.docs.conftest import Place
from tests.docs.options import serve_options
from tests.docs.pages import blocks, runs

(FIRST,) = blocks("docs/console.md", "sh")


@runs(FIRST)
def test_address_of_the_server_is_the_console(place: Place) -> None:
    (options,) = serve_options(FIRST.text)
    assert options["port"] is None
    (address,) = re.findall(r"http://\S+", FIRST.at(place.ports))
    browser = {"Accept": "text/html,application/xhtml+xml"}
    answer = httpx.get(address, headers=browser, follow_redirects=True, trust_env=False)
    assert answer.url.path.startswith("/console")
    assert "<script" in answer.text
