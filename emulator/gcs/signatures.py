"""Checks the signatures of signed URLs if the emulator requires a token: a valid signature replaces it.

Contract: V4 (GOOG4-RSA-SHA256) and V2, by RSA and SHA-256 with a service account's key.
https://cloud.google.com/storage/docs/authentication/canonical-requests
"""

import base64
import binascii
import hashlib
from collections.abc import Callable
from urllib.parse import parse_qsl, quote, urlencode

from starlette.datastructures import Headers
from starlette.types import Scope

from emulator.gcs.addressing import bucket_of_host

Verify = Callable[[bytes, bytes], bool]
"""Returns whether the fake account signed a text (first argument) with a signature (second)."""

_V4 = "GOOG4-RSA-SHA256"
# Vertex: V4 signs the host and every x-goog- header that is sent. Without the host, a URL would be valid for
# another bucket; with an unsigned header, for another operation. The digest has its own line.
_V4_OWN_LINE = "x-goog-content-sha256"
# Vertex: parameters that V2 does not sign (google-cloud-storage's `generate_signed_url_v2`).
_V2_UNSIGNED = (
    *("expires", "googleaccessid", "signature"),
    *("response-content-type", "response-content-disposition", "generation"),
)


class Signatures:
    """Verifies that the fake account signed a request's URL."""

    def __init__(self, verify: Verify) -> None:
        self._verify = verify

    def is_signed(self, scope: Scope) -> bool:
        """Return whether the signature is valid for this request. The answering surface checks the expiry."""
        if "x-http-method-override" in Headers(scope=scope):
            return False  # the header makes it another call than the signed one
        pairs = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        query = {name.lower(): value for name, value in pairs}
        try:
            if query.get("x-goog-algorithm") == _V4:
                signature = bytes.fromhex(query.get("x-goog-signature", ""))
                return self._verify(_v4_text(scope, pairs, query), signature)
            if "googleaccessid" in query:
                signature = base64.b64decode(query.get("signature", ""), validate=True)
                return self._verify(_v2_text(scope, pairs, query), signature)
        except (ValueError, KeyError, binascii.Error):
            return False
        return False


def _v4_text(scope: Scope, pairs: list[tuple[str, str]], query: dict[str, str]) -> bytes:
    headers = Headers(scope=scope)
    names = query["x-goog-signedheaders"].split(";")
    own = {name for name in headers if name.startswith("x-goog-")} - {_V4_OWN_LINE}
    if missing := {"host", *own}.difference(names):
        raise ValueError(f"not signed: {missing}")
    signed = [(name, value) for name, value in pairs if name.lower() != "x-goog-signature"]
    encoded = sorted((quote(name, safe="~"), quote(value, safe="~")) for name, value in signed)
    canonical = "\n".join(
        [
            scope["method"],
            _raw_path(scope),
            "&".join(f"{name}={value}" for name, value in encoded),
            *(f"{name}:{' '.join(headers[name].split())}" for name in names),
            "",
            ";".join(names),
            headers.get(_V4_OWN_LINE, "UNSIGNED-PAYLOAD"),
        ]
    )
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    credential_scope = query["x-goog-credential"].partition("/")[2]
    return "\n".join([_V4, query["x-goog-date"], credential_scope, digest]).encode()


def _v2_text(scope: Scope, pairs: list[tuple[str, str]], query: dict[str, str]) -> bytes:
    headers = Headers(scope=scope)
    extensions = sorted((name, value) for name, value in headers.items() if name.startswith("x-goog-"))
    others = sorted((name, value) for name, value in pairs if name.lower() not in _V2_UNSIGNED)
    bucket = bucket_of_host(headers.get("host", ""))
    resource = (
        (f"/{bucket}" if bucket else "") + _raw_path(scope) + (f"?{urlencode(others)}" if others else "")
    )
    lines = [
        scope["method"],
        headers.get("content-md5", ""),
        headers.get("content-type", ""),
        query["expires"],
        *(f"{name}:{value}" for name, value in extensions),
        resource,
    ]
    return "\n".join(lines).encode()


def _raw_path(scope: Scope) -> str:
    raw: bytes = scope.get("raw_path") or scope["path"].encode()
    return raw.partition(b"?")[0].decode("latin-1")
