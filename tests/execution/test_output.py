from pathlib import Path

import pytest

from emulator.execution.output import directory_name, output_directory
from emulator.storage import GcsUri, LocalStore

# Vertex: the recorded name of an AutoML video job's output directory.
RECORDED = "prediction-traffic_20210310013516-2021-03-10T14:23:59.650333Z"
RECORDED_US = 1_615_386_239_650_333


def test_directory_name_is_the_recorded_one() -> None:
    assert directory_name("traffic_20210310013516", RECORDED_US) == RECORDED


def test_directory_name_keeps_its_six_digits() -> None:
    assert directory_name("m", 1_615_386_239_000_050).endswith("-2021-03-10T14:23:59.000050Z")


@pytest.mark.parametrize(
    ("display_name", "expected"),
    [
        ("plain name", "plain name"),
        ("a/b\\c", "a_b_c"),
        ("line\nbreak\x00\x7f", "line_break__"),
        ("..", ".."),
        ("日本語 [1]*?#", "日本語 [1]*?#"),
        ("x" * 128, "x" * 128),
        ("é" * 128, "é" * 108),
        ("x" * 216, "x" * 216),
        ("x" * 217, "x" * 216),
        ("x" + "é" * 127, "x" + "é" * 107),
        ("日" * 128, "日" * 72),
        ("🎬" * 64, "🎬" * 54),
    ],
)
def test_display_name_is_made_to_fit_a_folder(display_name: str, expected: str) -> None:
    name = directory_name(display_name, RECORDED_US)
    assert name == f"prediction-{expected}-2021-03-10T14:23:59.650333Z"
    assert len(name.encode()) <= 255


def test_two_jobs_of_one_microsecond_get_two_directories(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    prefix = GcsUri.parse_prefix("gs://bucket/out")
    first = output_directory(store, prefix, "m", RECORDED_US, "1")
    first.publish(first.stage([b"{}\n"]), "predictions_00001.jsonl")
    second = output_directory(store, prefix, "m", RECORDED_US, "2")
    assert first.uri == "gs://bucket/out/prediction-m-2021-03-10T14:23:59.650333Z"
    assert second.uri == "gs://bucket/out/prediction-m-2021-03-10T14:23:59.650334Z"
