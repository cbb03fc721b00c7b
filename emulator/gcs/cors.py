"""CORS: which pages of other origins may read a bucket, by the bucket's configuration.

Contract: https://cloud.google.com/storage/docs/cross-origin. Emulator: it applies to reads only, over both
APIs; the real JSON API allows every origin.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from starlette.datastructures import Headers
from starlette.types import Scope

from emulator.gcs.addressing import bucket_of_host
from emulator.gcs.bucket_store import Buckets
from emulator.storage import InvalidUri, StorageError
from emulator.storage.metadata import StoredBucket

_READS = ("GET", "HEAD")
_USUAL_AGE_S = 3600
# Patterns of the raw path: a decoded path might name another bucket than the one that the surface reads.
_JSON_PATH = re.compile(rb"/(?:(?:download/)?storage/v1/)?b/([a-z0-9._-]+)(?:/|$)")
_XML_PATH = re.compile(rb"/([a-z0-9._-]+)/.")
# First segments of other surfaces' paths that are also valid bucket names.
_NO_BUCKETS = ("v1beta1", "docs", "console", "storage", "download", "upload", "resumable", "batch")
# This header would turn a read into another method.
_OVERRIDE = "x-http-method-override"


class BucketCors:
    """Looks up what a bucket's configuration grants a page of another origin."""

    def __init__(self, buckets: Buckets) -> None:
        self._buckets = buckets

    def grants(self, scope: Scope, origin: str) -> Mapping[str, str] | None:
        """Return the CORS headers for a request. If it is not granted: {} for a preflight, else None."""
        headers = Headers(scope=scope)
        asked = headers.get("access-control-request-method") if scope["method"] == "OPTIONS" else None
        wanted = headers.get("access-control-request-headers", "") if asked else ""
        bucket = self._bucket(scope, headers.get("host", ""))
        if bucket is None or _OVERRIDE in headers:
            return None
        for rule in cors_rules(bucket):
            if _allows(rule, origin, asked or scope["method"], wanted):
                return _preflight(rule, origin) if asked else _actual(rule, origin)
        return {} if asked else None

    def _bucket(self, scope: Scope, host: str) -> StoredBucket | None:
        path: bytes = scope.get("raw_path") or scope["path"].encode()
        match = _JSON_PATH.match(path) or _XML_PATH.match(path)
        name = bucket_of_host(host) or (match[1].decode() if match else "")
        if not name or name in _NO_BUCKETS:
            return None
        try:
            return self._buckets.bucket(name)
        except (StorageError, InvalidUri):
            return None


def cors_rules(bucket: StoredBucket) -> Iterator[Mapping[str, Any]]:
    """Yield the rules of a bucket's `cors` field."""
    rules = bucket.attributes.get("cors")
    yield from (rule for rule in rules if isinstance(rule, dict)) if isinstance(rules, list) else ()


def _allows(rule: Mapping[str, Any], origin: str, method: str, headers: str) -> bool:
    allowed = {name.lower() for name in _listed(rule, "responseHeader")}
    wanted = {name.strip().lower() for name in headers.split(",") if name.strip()}
    return (
        method in _READS
        and not {"*", method}.isdisjoint(_listed(rule, "method"))
        and not {"*", origin}.isdisjoint(_listed(rule, "origin"))
        and ("*" in allowed or wanted <= allowed)
        and _OVERRIDE not in wanted
    )


def _preflight(rule: Mapping[str, Any], origin: str) -> dict[str, str]:
    age = rule.get("maxAgeSeconds", _USUAL_AGE_S)
    return {
        "access-control-allow-origin": origin,
        "access-control-allow-methods": ",".join(_READS),
        "access-control-allow-headers": ",".join(_listed(rule, "responseHeader")),
        "access-control-max-age": str(age) if isinstance(age, int) else str(_USUAL_AGE_S),
        "vary": "Origin",
    }


def _actual(rule: Mapping[str, Any], origin: str) -> dict[str, str]:
    return {
        "access-control-allow-origin": origin,
        "access-control-expose-headers": ",".join(_listed(rule, "responseHeader")),
        "vary": "Origin",
    }


def _listed(rule: Mapping[str, Any], name: str) -> list[str]:
    value = rule.get(name)
    texts = value if isinstance(value, list) else []
    # Drop texts that cannot be in a header's value.
    return [text for text in texts if isinstance(text, str) and re.fullmatch(r"[\x21-\x7e]+", text)]
