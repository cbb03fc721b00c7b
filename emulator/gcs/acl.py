"""Access control lists and IAM policies: stored and returned. Emulator: they are not enforced."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from typing import Any

from emulator.gcs.attributes import read_acl_entry
from emulator.gcs.errors import GcsError, condition_not_met, invalid
from emulator.storage.metadata import Attributes

Entries = list[dict[str, Any]]

# Emulator: buckets belong to no project. Every caller is the fake account that `vertex-emulator env` creates.
_PROJECT = "0"
OWNER = "user-emulator@vertex-emulator.iam.gserviceaccount.com"
_OWNERS = {"entity": f"project-owners-{_PROJECT}", "role": "OWNER"}
_EDITORS = {"entity": f"project-editors-{_PROJECT}", "role": "OWNER"}
_VIEWERS = {"entity": f"project-viewers-{_PROJECT}", "role": "READER"}
_MINE = {"entity": OWNER, "role": "OWNER"}
_PROJECT_PRIVATE = [_OWNERS, _EDITORS, _VIEWERS]
_PUBLIC = ("allUsers", "allAuthenticatedUsers")

_BUCKET_LISTS: Mapping[str, Entries] = {
    "authenticatedRead": [_OWNERS, {"entity": "allAuthenticatedUsers", "role": "READER"}],
    "private": [_OWNERS],
    "projectPrivate": _PROJECT_PRIVATE,
    "publicRead": [_OWNERS, {"entity": "allUsers", "role": "READER"}],
    "publicReadWrite": [_OWNERS, {"entity": "allUsers", "role": "WRITER"}],
}
_OBJECT_LISTS: Mapping[str, Entries] = {
    "authenticatedRead": [_MINE, {"entity": "allAuthenticatedUsers", "role": "READER"}],
    "bucketOwnerFullControl": [_MINE, _OWNERS],
    "bucketOwnerRead": [_MINE, {**_OWNERS, "role": "READER"}],
    "private": [_MINE],
    "projectPrivate": [_MINE, *_PROJECT_PRIVATE],
    "publicRead": [_MINE, {"entity": "allUsers", "role": "READER"}],
}


def predefined(name: str, parameter: str, *, of_bucket: bool) -> Entries:
    """Return the list that a parameter such as `predefinedAcl` names. Raises GcsError."""
    lists = _BUCKET_LISTS if of_bucket else _OBJECT_LISTS
    if name not in lists:
        raise invalid(f"Invalid value for {parameter}: {name[:40]!r}.", location=parameter)
    return lists[name]


def entries_of(attributes: Attributes, field: str, *, of_object: bool = False) -> Entries:
    """Return the list in `acl` or `defaultObjectAcl`, or its default."""
    default = [_MINE, *_PROJECT_PRIVATE] if of_object else _PROJECT_PRIVATE
    entries = attributes.get(field)
    return default if entries is None else list(entries)


def changed(entries: Entries, entity: str, body: Mapping[str, Any] | None) -> Entries:
    """Return the list with the entity's entry replaced, or removed if `body` is None. Raises GcsError."""
    others = [entry for entry in entries if entry["entity"] != entity]
    if body is None:
        if len(others) == len(entries):
            raise no_entry(entity)
        return others
    return [*others, read_acl_entry("acl", {"role": "READER", **body, "entity": entity})]


def no_entry(entity: str) -> GcsError:
    """Return the error for an entity without an entry."""
    return GcsError(404, "notFound", f"The specified ACL entry {entity[:100]!r} does not exist.")


def is_uniform(bucket: Attributes) -> bool:
    """Return whether the bucket has uniform bucket-level access, which forbids access control lists."""
    uniform = (bucket.get("iamConfiguration") or {}).get("uniformBucketLevelAccess") or {}
    return uniform.get("enabled") is True


def check_lists_allowed(bucket: Attributes) -> None:
    """Raise GcsError if the bucket has uniform bucket-level access."""
    if is_uniform(bucket):
        message = "Cannot use legacy ACLs when uniform bucket-level access is enabled."
        raise invalid(
            f"{message} Read more at https://cloud.google.com/storage/docs/uniform-bucket-level-access"
        )


def check_public(entries: Iterable[Mapping[str, Any]], bucket: Attributes) -> None:
    """Raise GcsError if an entry grants public access and the bucket prevents it."""
    _check_public((str(entry.get("entity")) for entry in entries), bucket)


def policy_of(bucket: str, attributes: Attributes, metageneration: int) -> dict[str, Any]:
    """Return the IAM policy of a bucket."""
    members = [f"projectEditor:{_PROJECT}", f"projectOwner:{_PROJECT}"]
    default = {
        "version": 1,
        "bindings": [
            {"role": "roles/storage.legacyBucketOwner", "members": members},
            {"role": "roles/storage.legacyBucketReader", "members": [f"projectViewer:{_PROJECT}"]},
        ],
    }
    policy = attributes.get("iamPolicy") or default
    etag = base64.b64encode(b"\x08%d" % metageneration).decode()
    return {"kind": "storage#policy", "resourceId": f"projects/_/buckets/{bucket}", "etag": etag, **policy}


def new_policy(body: Mapping[str, Any], attributes: Attributes, etag: str) -> dict[str, Any]:
    """Return the policy that a client sets, checked. Raises GcsError."""
    if body.get("etag") not in (None, "", etag):
        raise condition_not_met()
    version, bindings = body.get("version", 1), body.get("bindings", [])
    if not isinstance(bindings, list) or not all(map(_is_binding, bindings)):
        raise invalid("Invalid value for bindings: each needs a role and a list of members.")
    if any(binding.get("condition") for binding in bindings):
        if not is_uniform(attributes):
            message = "To set conditions on bindings, enable uniform bucket-level access on the bucket first."
            raise GcsError(412, "conditionNotMet", message)
        if version != 3:
            raise invalid("A policy with a condition needs a version of at least 3.")
    _check_public((member for binding in bindings for member in binding["members"]), attributes)
    return {"version": version, "bindings": bindings}


def _is_binding(binding: object) -> bool:
    if not isinstance(binding, dict) or not isinstance(binding.get("role"), str):
        return False
    members = binding.get("members")
    return isinstance(members, list) and all(isinstance(member, str) for member in members)


def _check_public(who: Iterable[str], bucket: Attributes) -> None:
    prevention = (bucket.get("iamConfiguration") or {}).get("publicAccessPrevention")
    if prevention == "enforced" and any(entity in _PUBLIC for entity in who):
        message = (
            "The member bindings allUsers and allAuthenticatedUsers are not allowed since public access"
            " prevention is enforced."
        )
        raise GcsError(412, "conditionNotMet", message)
