"""The commands of docs/security.md."""

import httpx

from tests.docs.conftest import Place
from tests.docs.options import serve_options
from tests.docs.pages import blocks, runs

SERVE, CORS = blocks("docs/security.md", "sh")


@runs(SERVE)
def test_token_is_a_setting() -> None:
    (options,) = serve_options(SERVE.text)
    assert (options["host"], options["auth_token"]) == ("0.0.0.0", "$TOKEN")


@runs(CORS)
def test_bucket_lets_pages_of_an_origin_read(place: Place) -> None:
    assert '"cors"' in place.bash(CORS)
    address = f"{place.emulator.url}/my-bucket/input.jsonl"
    for origin, allowed in (("http://localhost:3000", True), ("http://localhost:3001", False)):
        answer = httpx.get(address, headers={"Origin": origin}, trust_env=False)
        assert (answer.headers.get("access-control-allow-origin") == origin) is allowed
