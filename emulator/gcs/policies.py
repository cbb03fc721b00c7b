"""Policy documents of HTML forms: their expiry and the fields that they allow.

Emulator: the expiry and the conditions are checked; the signature, as in signed URLs, is not.
"""

import base64
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from emulator.gcs.errors import XmlError
from emulator.gcs.signed_urls import iso_time
from emulator.gcs.xml_sinks import Sizes

_GOOGLES = "x-goog-"
# Vertex: a field that begins with x-goog- and is none of these is refused.
_KNOWN = (
    *("x-goog-acl", "x-goog-algorithm", "x-goog-credential", "x-goog-custom-time", "x-goog-date"),
    *("x-goog-encryption-", "x-goog-hash", "x-goog-meta-", "x-goog-signature", "x-goog-storage-class"),
)
# Fields that need no condition.
_FREE = ("file", "googleaccessid", "policy", "signature", "x-goog-signature")


def check_policy(fields: Mapping[str, str], now: datetime) -> Sizes:
    """Check a form's fields, by lower-case name, against its policy. Return the sizes that the policy allows.

    Raises:
        XmlError: the policy is missing or has expired, or a field does not meet its conditions.
    """
    if not fields.get("policy"):
        raise _unfit("Missing policy")
    for name in fields:
        if name.startswith(_GOOGLES) and not name.startswith(_KNOWN):
            raise _unfit(f"The field {name[:100]} is not known")
    policy = _read(fields["policy"])
    end = _expiration(policy.get("expiration"))
    if now >= end:
        details = f"The policy document has expired. It was valid until {iso_time(end)}"
        raise XmlError(400, "ExpiredToken", "Invalid argument.", details)
    conditions = policy.get("conditions")
    if not isinstance(conditions, list):
        raise _unfit("The policy has no list of conditions")
    named, sizes = {"bucket"}, Sizes()
    for condition in conditions:
        kind, name, value = _parts(condition)
        if kind == "content-length-range":
            said = Sizes.parse(f"{name},{value}")
            sizes = Sizes(max(sizes.least, said.least), min(sizes.most, said.most))
            continue
        named.add(name)
        told = fields.get(name, "")
        if told != value if kind == "eq" else not told.startswith(value):
            raise _unfit(f"Invalid condition: {json.dumps(condition)[:200]}; the form has {told[:100]!r}")
    if missing := sorted(name for name in fields if name not in named and not _is_free(name)):
        raise _unfit(f"Policy did not reference these fields: {', '.join(missing)[:200]}")
    return sizes


def _read(text: str) -> dict[str, Any]:
    try:
        policy = json.loads(base64.b64decode(text, validate=True))
    except (ValueError, RecursionError) as error:
        raise _unfit(f"The policy is not JSON in base64 ({error})") from None
    if not isinstance(policy, dict):
        raise _unfit("The policy is not a JSON object")
    return policy


def _expiration(value: object) -> datetime:
    try:
        when = datetime.fromisoformat(str(value))
    except ValueError:
        raise _unfit(f"The policy's expiration is {str(value)[:40]!r}, a time is needed") from None
    return when if when.tzinfo else when.replace(tzinfo=UTC)


def _parts(condition: object) -> tuple[str, str, str]:
    """Parse `{"key": "a"}` or `["starts-with", "$key", "a"]` into kind, field and value."""
    if isinstance(condition, dict) and len(condition) == 1:
        name, value = next(iter(condition.items()))
        return "eq", name.lower(), str(value)
    if isinstance(condition, list) and len(condition) == 3:
        kind, name, value = (str(entry) for entry in condition)
        kind = kind.lower()
        if kind == "content-length-range":
            return kind, name, value
        if kind in ("eq", "starts-with") and name.startswith("$"):
            return kind, name[1:].lower(), value
    raise _unfit(f"Invalid condition: {str(condition)[:200]}")


def _is_free(name: str) -> bool:
    return name in _FREE or name.startswith("x-ignore-")


def _unfit(details: str) -> XmlError:
    text = "The content of the form does not meet the conditions specified in the policy document."
    return XmlError(400, "InvalidPolicyDocument", text, details)
