"""A test's own corner of the emulator: its objects and what it says of jobs, on a server of its own."""

from pathlib import Path

import pytest

from emulator.testing import VertexEmulator

NO_NAMES = ["", ".", ".."]
ODD_NAMES = ["/videos/a.mp4", "videos//a.mp4", "videos/", "a/../b.mp4", "../b.mp4", "./a.mp4"]


@pytest.mark.parametrize("name", NO_NAMES)
def test_names_that_no_object_of_a_bucket_has(
    vertex_emulator: VertexEmulator, tmp_path: Path, name: str
) -> None:
    film = tmp_path / "film.mp4"
    film.write_bytes(b"film")
    refusal = f"The object {name!r} cannot be written: .* Give a name such as 'videos/a.mp4'"
    with pytest.raises(ValueError, match=refusal):
        vertex_emulator.upload_video(film, name)
    with pytest.raises(ValueError, match=refusal):
        vertex_emulator.write_instances("gs://a-bucket/a.mp4", name=name)
    with pytest.raises(ValueError, match="bucket"):
        vertex_emulator.upload_video(film, bucket="../outside")
    bucket = vertex_emulator.buckets / vertex_emulator.bucket
    assert [path for path in bucket.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("name", ODD_NAMES)
def test_names_that_no_folder_holds_are_objects_like_others(
    vertex_emulator: VertexEmulator, tmp_path: Path, name: str
) -> None:
    film = tmp_path / "film.mp4"
    film.write_bytes(b"film")
    video = vertex_emulator.upload_video(film, name)
    assert str(video.uri) == f"gs://{vertex_emulator.bucket}/{name}"
    (listed,) = vertex_emulator.storage.bucket(vertex_emulator.bucket).list_blobs()
    assert listed.name == name
    assert listed.download_as_bytes() == b"film"
    assert video.path.resolve().is_relative_to(vertex_emulator.buckets / vertex_emulator.bucket)
    assert video.path.read_bytes() == b"film"


def test_objects_are_where_their_uris_say(vertex_emulator: VertexEmulator, tmp_path: Path) -> None:
    film = tmp_path / "film.mp4"
    film.write_bytes(b"film")
    video = vertex_emulator.upload_video(film, "a/b.mp4")
    assert video.uri == f"gs://{vertex_emulator.bucket}/a/b.mp4"
    assert video.path == vertex_emulator.buckets / vertex_emulator.bucket / "a" / "b.mp4"
    assert video.path.read_bytes() == b"film"
    uri = vertex_emulator.write_instances(video, name="in/é.jsonl", bucket="another-bucket")
    assert uri == "gs://another-bucket/in/é.jsonl"
    (line,) = (vertex_emulator.buckets / "another-bucket" / "in" / "é.jsonl").read_text("utf-8").splitlines()
    assert video.uri in line
