import itertools
import re

import pytest

from emulator.storage import GcsUri, InvalidUri
from emulator.storage.uri import wildcard_pattern

# What each wildcard means, as a regular expression that tries every place.
WILDCARDS = {
    "a": "a",
    "/": "/",
    "?": "[^/]",
    "*": "[^/]*",
    "**": ".*",
    "[!a]": "(?!/)[^a]",
    "[+-9]": "(?!/)[+-9]",
}


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


def all_texts(symbols: str, longest: int) -> list[str]:
    return ["".join(t) for n in range(longest + 1) for t in itertools.product(symbols, repeat=n)]


def meaning(tokens: tuple[str, ...]) -> str:
    """The plain regular expression; `**/` at the beginning of a folder may be no folder at all."""
    pattern = "".join(WILDCARDS[token] for token in tokens)
    return re.sub(r"(^|/)\.\*/", r"\1(?:.*/)?", pattern, count=1)


@pytest.mark.parametrize("length", [1, 2, 3, 4])
def test_wildcards_match_as_if_every_place_were_tried(length: int) -> None:
    texts = all_texts("ab/", 5)
    for tokens in itertools.product(WILDCARDS, repeat=length):
        text = "".join(tokens)
        if any({a, b} <= {"*", "**"} for a, b in itertools.pairwise(tokens)) or text.count("**/") > 1:
            continue  # stars in a row are one `**`: another text of the same meaning
        quick, plain = wildcard_pattern(text), re.compile(meaning(tokens), re.DOTALL)
        assert [t for t in texts if quick.fullmatch(t)] == [t for t in texts if plain.fullmatch(t)], text


@pytest.mark.parametrize(
    "pattern", ["*a" * 30 + "*b", "**a" * 30 + "**b", "**/*a" * 30 + "*b", "**" + "*a" * 30 + "*b**"]
)
@pytest.mark.parametrize("name", ["a" * 1000, "a/" * 500])
def test_many_stars_are_no_more_work_than_one(pattern: str, name: str) -> None:
    # Trying every place would take longer than anybody waits.
    assert not wildcard_pattern(pattern).fullmatch(name)
