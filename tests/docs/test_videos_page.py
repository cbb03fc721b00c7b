"""The table of docs/videos.md is what clips of each kind show."""

from __future__ import annotations

import tomllib

from tests.docs.conftest import Place
from tests.docs.options import serve_options
from tests.docs.pages import ROOT, blocks, runs
from tests.docs.videos_page import BEGIN, END, PAGE, table

(FIRST,) = blocks("docs/videos.md", "sh")


@runs(FIRST)
def test_first_commands_are_understood(own_place: Place) -> None:
    install, _, explain = FIRST.at(own_place.ports).splitlines()
    (options,) = serve_options(FIRST.text)
    assert options["decoder"] == "auto"
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert install.startswith('pip install ".[av]" ')
    assert "av" in extras
    created = own_place.run_text(
        "vertex-emulator jobs create video-object-tracking gs://my-bucket/input.jsonl"
        " --output gs://my-bucket/out --wait",
        ["bash", "-euc"],
    )
    job = created.split()[0].rpartition("/")[2]
    assert '"text": "OpenCV ' in own_place.run_text(explain.replace("JOB", job), ["bash", "-euc"])


def test_the_table_of_containers_and_codecs_is_true() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page.partition(BEGIN)[2].partition(END)[0] == table()
