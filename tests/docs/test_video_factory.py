"""The examples of docs/video-factory.md run as they stand."""

from pathlib import Path

import pytest

from tests.docs.pages import blocks, runs

EXAMPLES = blocks("docs/video-factory.md", "python")


@runs(*EXAMPLES)
def test_examples_run_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for example in EXAMPLES:
        exec(compile(example.text, str(example), "exec"), names)
    assert {path.name for path in tmp_path.iterdir()} == {"clip.mp4", "harder.avi"}
