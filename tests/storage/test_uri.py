import pytest

from emulator.storage import GcsUri, InvalidUri


@pytest.mark.parametrize(
    ("text", "bucket", "name"),
    [
        ("gs://bucket/object", "bucket", "object"),
        ("gs://my_bucket-1.example.com/a/b/c.mp4", "my_bucket-1.example.com", "a/b/c.mp4"),
        ("gs://bucket/with space/é/[x]*?#%20", "bucket", "with space/é/[x]*?#%20"),
        ("gs://bucket/" + "x" * 1024, "bucket", "x" * 1024),
    ],
)
def test_uri_round_trips(text: str, bucket: str, name: str) -> None:
    uri = GcsUri.parse(text)
    assert (uri.bucket, uri.object, str(uri)) == (bucket, name, text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must start with gs://"),
        ("bucket/object", "must start with gs://"),
        ("s3://bucket/object", "must start with gs://"),
        ("GS://bucket/object", "must start with gs://"),
        ("/etc/passwd", "must start with gs://"),
        ("gs://", "names no bucket"),
        ("gs:///object", "names no bucket"),
        ("gs://bucket", "no object"),
        ("gs://bucket/", "no object"),
        ("gs://ab/object", '"ab" is not a bucket name'),
        ("gs://Bucket/object", "lowercase"),
        ("gs://-bucket/object", "not a bucket name"),
        ("gs://../object", "not a bucket name"),
        ("gs://a..b/object", "not a bucket name"),
        ("gs://192.168.0.1/object", "not a bucket name"),
        ("gs://" + "b" * 64 + "/object", "not a bucket name"),
        ("gs://bück/object", "not a bucket name"),
        ("gs://bucket/a\0b", "NUL"),
        ("gs://bucket/a\nb", "line breaks"),
        ("gs://bucket/\udc80", "UTF-8"),
        ("gs://bucket/" + "é" * 513, "1026 bytes"),
    ],
)
def test_bad_uri_is_refused_with_the_cause(text: str, message: str) -> None:
    with pytest.raises(InvalidUri, match=message):
        GcsUri.parse(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("gs://bucket", "gs://bucket/"),
        ("gs://bucket/", "gs://bucket/"),
        ("gs://bucket/out", "gs://bucket/out/"),
        ("gs://bucket/out/", "gs://bucket/out/"),
    ],
)
def test_prefix_gets_its_last_slash(text: str, expected: str) -> None:
    assert str(GcsUri.parse_prefix(text)) == expected
    assert str(GcsUri.parse_prefix(text) / "x") == expected + "x"


@pytest.mark.parametrize("text", ["gs://", "gs:///", "out", "file:///tmp"])
def test_prefix_without_bucket_is_refused(text: str) -> None:
    with pytest.raises(InvalidUri):
        GcsUri.parse_prefix(text)
