"""The OAuth 2.0 token endpoint of the fake service account for clients: `POST /token`.

Contract: RFC 6749 section 5, RFC 7523 (JWT grants). Google's libraries find it by the `token_uri` in the
account's file, or as https://oauth2.googleapis.com/token if that name resolves to the emulator.
"""

import asyncio
import base64
import json
from collections.abc import Callable, Mapping
from urllib.parse import parse_qs

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from emulator.http import read_body
from emulator.vertex.errors import ApiError

PATH = "/token"
_LIFE_S = 3599
# The field with the credential, by grant type.
_PROOFS = {
    "urn:ietf:params:oauth:grant-type:jwt-bearer": "assertion",
    "refresh_token": "refresh_token",
}
Exchange = Callable[[str], str]
"""Returns the access token for a credential; raises ApiError."""


def mount(app: Starlette, exchange: Exchange) -> None:
    """Add the endpoint to an application."""

    async def endpoint(request: Request) -> Response:
        body = await read_body(request.receive) or b""
        return await asyncio.to_thread(_answer, body, exchange)

    app.router.routes.append(Route(PATH, endpoint, methods=["POST"]))


def _answer(body: bytes, exchange: Exchange) -> Response:
    fields = _fields(body)
    grant = fields.get("grant_type", "")
    proof = _PROOFS.get(grant)
    if proof is None:
        known = ", ".join(_PROOFS)
        return _error("unsupported_grant_type", f"grant_type is {grant[:100]!r}; there are {known}.")
    if not fields.get(proof):
        return _error("invalid_request", f"Missing required parameter: {proof}")
    if "target_audience" in _claims(fields[proof]):
        # Emulator: no surface uses identity tokens, so none are issued.
        return _error("invalid_request", "Identity tokens (target_audience) are not emulated.")
    try:
        token = exchange(fields[proof])
    except ApiError as error:
        return _error("invalid_grant", error.message)
    return _json({"access_token": token, "expires_in": _LIFE_S, "token_type": "Bearer"}, 200)


def _fields(body: bytes) -> Mapping[str, str]:
    """Read a form, or a JSON object as some clients send it."""
    if body.lstrip().startswith(b"{"):
        try:
            value = json.loads(body)
        except (ValueError, RecursionError):
            return {}
        return {name: field for name, field in value.items() if isinstance(field, str)}
    try:
        parsed = parse_qs(body.decode(errors="replace"), max_num_fields=100)
    except ValueError:
        return {}
    return {name: values[-1] for name, values in parsed.items()}


def _claims(token: str) -> Mapping[str, object]:
    """Return the claims of a JWT without checking its signature; empty for anything else."""
    try:
        text = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except (ValueError, IndexError, RecursionError):
        return {}
    return claims if isinstance(claims, dict) else {}


def _error(code: str, description: str) -> Response:
    return _json({"error": code, "error_description": description}, 400)


def _json(value: Mapping[str, object], status: int) -> Response:
    return JSONResponse(value, status, {"cache-control": "no-store"})
