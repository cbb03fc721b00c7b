"""Authentication with the setting `auth_token`: over HTTP, over gRPC and in a browser's session.

A client sends one of these: the token itself; a JWT that the fake service account signed (Google's libraries
send it, or exchange it at the account's token endpoint, which calls `Auth.exchange`); the session cookie that
a browser gets at login.
"""

import base64
import hashlib
import hmac
import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emulator.vertex.errors import Unauthenticated

SESSION_S = 12 * 3600
_ANY_TOKEN = "vertex-emulator-token"  # the access token if no token is required
_SKEW_S = 300
# Errors from reading an untrusted token, or an account file that someone edited.
_UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError, ArithmeticError, RecursionError)
_BEARER = re.compile(r"bearer +(\S+)", re.IGNORECASE)


@dataclass(frozen=True)
class Auth:
    """Checks credentials. token: None if everyone may call. account: the fake account's JSON file."""

    token: str | None
    account: Path

    def check(self, authorization: str) -> None:
        """Check an `Authorization` header or gRPC metadata. Raises Unauthenticated."""
        if self.token is None:
            return
        match = _BEARER.fullmatch(authorization.strip())
        if match is None:
            raise Unauthenticated(
                "This emulator asks for a token: send `Authorization: Bearer TOKEN` with its auth_token."
            )
        if not (_same(match[1], self.token) or self._is_signed(match[1])):
            raise Unauthenticated("The bearer token is not this emulator's: compare it with its auth_token.")

    def exchange(self, assertion: str) -> str:
        """Return the access token for a signed assertion (RFC 7523). The account's token endpoint calls this.

        If no token is required, any assertion gets a token that grants nothing. Raises Unauthenticated.
        """
        if self.token is None:
            return _ANY_TOKEN
        if not self._is_signed(assertion):
            raise Unauthenticated(
                "The assertion is not signed by the account that `vertex-emulator env` names."
            )
        return self.token

    def open_session(self, token: str) -> str:
        """Open a session of SESSION_S seconds and return its cookie value. Raises Unauthenticated."""
        self.check(f"Bearer {token.strip()}")
        return self._session(int(time.time()) + SESSION_S)

    def has_session(self, cookie: str) -> bool:
        """Return whether a cookie value belongs to a session that has not expired."""
        end = cookie.partition(".")[0]
        is_number = end.isascii() and end.isdecimal() and len(end) <= 12
        return is_number and time.time() < int(end) and _same(cookie, self._session(int(end)))

    def _session(self, end: int) -> str:
        # The cookie must not contain the token: browsers send cookies to every port of a host.
        key = (self.token or "").encode()
        return f"{end}.{hmac.new(key, f'session:{end}'.encode(), hashlib.sha256).hexdigest()}"

    def _is_signed(self, token: str) -> bool:
        """Return whether `token` is a JWT signed by the fake account that has not expired."""
        try:
            signed, _, signature = token.rpartition(".")
            claims = json.loads(_decoded(signed.partition(".")[2]))
            now, (begin, end) = time.time(), (float(claims["iat"]), float(claims["exp"]))
            account = json.loads(self.account.read_bytes())
            in_time = begin - _SKEW_S <= now <= end + _SKEW_S
            return in_time and _verifies(account, signed.encode(), _decoded(signature))
        except _UNREADABLE:
            return False

    def verifies(self, text: bytes, signature: bytes) -> bool:
        """Return whether the fake account signed `text` (RSA with SHA-256, as in signed URLs)."""
        try:
            return _verifies(json.loads(self.account.read_bytes()), text, signature)
        except _UNREADABLE:
            return False


def _verifies(account: Mapping[str, Any], text: bytes, signature: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import padding, rsa

    key = serialization.load_pem_private_key(account["private_key"].encode(), None)
    if not isinstance(key, rsa.RSAPrivateKey):
        return False
    try:
        key.public_key().verify(signature, text, padding.PKCS1v15(), hashes.SHA256())
    except InvalidSignature:
        return False
    return True


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(errors="replace"), other.encode())
