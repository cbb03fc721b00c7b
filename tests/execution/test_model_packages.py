"""How a model gets to a machine that does not have its folder: packed, and kept there by its content."""

import os
import threading
from pathlib import Path

import pytest

from emulator.execution.model_packages import NodeModels, pack
from emulator.inference.manifest import ModelUnusable
from emulator.inference.model_files import ModelDigests
from tests.execution.workplace import write_tiny_model

ELSEWHERE = Path("/a/folder/of/the/server")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = write_tiny_model(tmp_path / "model")
    (folder / "notes.txt").write_text("not of the model")
    return folder


def digest(folder: Path) -> str:
    return ModelDigests().get(folder)


def test_a_packed_model_is_the_same_model(tmp_path: Path, model: Path) -> None:
    models = NodeModels(tmp_path / "cache")
    assert models.find(ELSEWHERE, digest(model)) is None
    kept = models.keep(digest(model), lambda: pack(model))
    assert kept == models.find(ELSEWHERE, digest(model)) == tmp_path / "cache" / digest(model) / "model"
    assert digest(kept) == digest(model)
    assert sorted(path.name for path in kept.iterdir()) == ["labels.txt", "model.onnx", "model.toml"]


def test_a_folder_with_that_content_is_used_as_it_is(tmp_path: Path, model: Path) -> None:
    models, content = NodeModels(tmp_path / "cache"), digest(model)
    assert models.find(model, content) == model
    (model / "labels.txt").write_text("another\n")
    assert models.find(model, content) is None
    assert models.find(model, "") == model


def test_a_model_is_fetched_once_for_all_who_want_it(tmp_path: Path, model: Path) -> None:
    content, fetched = digest(model), []

    def fetch() -> bytes:
        fetched.append(1)
        return pack(model)

    # Each has an object of its own, as each process of a node does.
    wanting = [
        threading.Thread(target=lambda: NodeModels(tmp_path / "cache").keep(content, fetch)) for _ in range(8)
    ]
    for thread in wanting:
        thread.start()
    for thread in wanting:
        thread.join(60)
    assert fetched == [1]


def test_what_was_sent_must_be_the_model(tmp_path: Path, model: Path) -> None:
    content = digest(model)
    (model / "labels.txt").write_text("another\n")
    models = NodeModels(tmp_path / "cache")
    with pytest.raises(ModelUnusable, match="changed while it was sent"):
        models.keep(content, lambda: pack(model))
    assert models.find(ELSEWHERE, content) is None
    assert [path.suffix for path in models.root.iterdir()] == [".lock"]


def test_the_cache_keeps_the_models_that_were_used_last(tmp_path: Path) -> None:
    models, digests = NodeModels(tmp_path / "cache"), []
    for number in range(18):
        folder = write_tiny_model(tmp_path / f"model-{number}", label=f"{number}")
        digests.append(digest(folder))
        kept = models.keep(digests[-1], lambda folder=folder: pack(folder))  # type: ignore[misc]
        os.utime(kept.parent, (number, number) if number else None)
    found = [number for number in range(18) if models.find(ELSEWHERE, digests[number])]
    assert found == [0, *range(3, 18)]


def test_a_folder_that_others_can_write_is_not_trusted(tmp_path: Path, model: Path) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache").chmod(0o777)
    with pytest.raises(ModelUnusable, match="can be written by others"):
        NodeModels(tmp_path / "cache").keep(digest(model), lambda: pack(model))


def test_a_model_that_is_too_large_is_not_sent(model: Path) -> None:
    os.truncate(model / "model.onnx", 500_000_001)
    with pytest.raises(ModelUnusable, match="Mount its folder under the same path on each node"):
        pack(model)
