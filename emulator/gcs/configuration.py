"""Changes to the fields of buckets and objects: the server adds times and refuses what is locked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from emulator.gcs.acl import check_lists_allowed, check_public, predefined
from emulator.gcs.attributes import BUCKET_FIELDS, OBJECT_FIELDS, merge_patch, read_fields, read_time
from emulator.gcs.errors import GcsError, invalid
from emulator.gcs.requests import Query
from emulator.storage.metadata import Attributes, StoredBucket, StoredObject

# Attributes of a bucket that only the server sets.
_SERVERS_OWN = ("objectRetention", "iamPolicy")
_ENFORCEMENTS = (
    "googleManagedEncryptionEnforcementConfig",
    "customerManagedEncryptionEnforcementConfig",
    "customerSuppliedEncryptionEnforcementConfig",
)
# Fields that a copy does not inherit from its source: the destination bucket's configuration applies.
_NOT_COPIED = ("acl", "customerEncryption", "kmsKeyName", "storageClass", "retention")
_CHECKSUMS = ("crc32c", "md5Hash")
_HOLDS = ("temporaryHold", "eventBasedHold")


def bucket_attributes(body: Mapping[str, Any], old: Attributes, now: str) -> dict[str, Any]:
    """Return a bucket's attributes after a client has replaced its whole resource. Raises GcsError."""
    new = read_fields(BUCKET_FIELDS, body)
    new |= {name: old[name] for name in _SERVERS_OWN if name in old}
    _check_lock(old, new)
    for name, changed in _CHANGED.items():
        if name in new:
            new[name] = changed(old.get(name) or {}, new[name], now)
    if new.get("iamConfiguration", {}).get("publicAccessPrevention") == "enforced":
        check_public([*new.get("acl", ()), *new.get("defaultObjectAcl", ())], new)
    if "location" in new or "customPlacementConfig" in new:
        new["location"] = new.get("location", "US").upper()
        new["locationType"] = _location_type(new)
    return new


def patched_bucket(old: Attributes, body: Mapping[str, Any], now: str) -> dict[str, Any]:
    """Return a bucket's attributes after a PATCH. Raises GcsError."""
    known = {name: value for name, value in old.items() if name in BUCKET_FIELDS}
    return bucket_attributes(merge_patch(known, body), old, now)


def object_attributes(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of an object's resource that a client may set. Raises GcsError."""
    fields = read_fields(OBJECT_FIELDS, body)
    return {name: value for name, value in fields.items() if name not in _CHECKSUMS}


def replaced_object(
    old: StoredObject, body: Mapping[str, Any], *, may_shorten: bool, is_patch: bool
) -> dict[str, Any]:
    """Return an object's attributes after a PATCH, or after a client has replaced the whole resource.

    Args:
        old: the object before the change.
        body: the resource or the PATCH.
        may_shorten: the client allows an unlocked retention to end earlier.
        is_patch: `body` is a PATCH.

    Raises:
        GcsError: a field is invalid, or its change is not allowed.
    """
    if is_patch:
        body = merge_patch(
            {name: old.attributes[name] for name in old.attributes if name in OBJECT_FIELDS}, body
        )
    new = object_attributes(body)
    if "customerEncryption" in old.attributes:
        new["customerEncryption"] = old.attributes["customerEncryption"]
    _check_custom_time(old.attributes, new)
    _check_retention(old.attributes, new, may_shorten=may_shorten)
    return new


def copied_attributes(source: StoredObject, body: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy's attributes. Vertex: a resource in the body replaces all of the source's metadata."""
    if given := object_attributes(body):
        return given
    left_out = (*_NOT_COPIED, *_HOLDS)
    return {name: value for name, value in source.attributes.items() if name not in left_out}


def check_bucket_allows(attributes: Attributes, bucket: StoredBucket) -> None:
    """Raise GcsError if the bucket does not allow an object with these attributes."""
    if attributes.get("retention") and not bucket.attributes.get("objectRetention"):
        raise invalid(
            f"Object retention is not enabled for the bucket {bucket.name}; create one with"
            " enableObjectRetention=true."
        )
    if attributes.get("acl"):
        check_public(attributes["acl"], bucket.attributes)


def parameters(query: Query, bucket: Attributes) -> Attributes:
    """Return a new object's attributes from `predefinedAcl` and `kmsKeyName`. Raises GcsError."""
    said: dict[str, Any] = {}
    for parameter in ("predefinedAcl", "destinationPredefinedAcl"):
        if name := query.get(parameter):
            check_lists_allowed(bucket)
            said["acl"] = predefined(name, parameter, of_bucket=False)
    if key := query.get("kmsKeyName") or query.get("destinationKmsKeyName"):
        said["kmsKeyName"] = f"{key}/cryptoKeyVersions/1"
    return said


def locked(old: Attributes) -> dict[str, Any]:
    """Return the bucket's attributes with a locked retention policy. Raises GcsError if it has none."""
    policy = old.get("retentionPolicy")
    if not policy:
        raise invalid("The bucket has no retention policy to lock.")
    return {**old, "retentionPolicy": {**policy, "isLocked": True}}


def _check_lock(old: Attributes, new: Attributes) -> None:
    before, after = old.get("retentionPolicy") or {}, new.get("retentionPolicy") or {}
    if not before.get("isLocked"):
        if after.get("isLocked"):
            raise invalid("A retention policy is locked with lockRetentionPolicy only.")
        return
    shorter = int(after.get("retentionPeriod") or 0) < int(before["retentionPeriod"])
    if shorter or not after.get("isLocked"):
        message = "Cannot reduce or remove the retention period of a locked Retention Policy for a bucket."
        raise GcsError(403, "forbidden", message)


def _check_custom_time(old: Attributes, new: Attributes) -> None:
    before, after = old.get("customTime"), new.get("customTime")
    if before and (not after or read_time("customTime", after) < read_time("customTime", before)):
        raise invalid("customTime cannot be removed or set to an earlier time.", location="customTime")


def _check_retention(old: Attributes, new: Attributes, *, may_shorten: bool) -> None:
    before, after = old.get("retention"), new.get("retention")
    if not before:
        return
    end = read_time("retention", after["retainUntilTime"]) if after else None
    shorter = end is None or end < read_time("retention", before["retainUntilTime"])
    if before["mode"] == "Locked" and (shorter or not after or after["mode"] != "Locked"):
        message = "A locked object retention cannot be removed, unlocked or set to an earlier time."
        raise GcsError(403, "forbidden", message)
    if shorter and not may_shorten:
        message = "An object retention is removed or shortened only with overrideUnlockedRetention=true."
        raise GcsError(403, "forbidden", message)


def _location_type(attributes: Attributes) -> str:
    location = attributes["location"]
    if attributes.get("customPlacementConfig") or re.fullmatch(r"(NAM|EUR|ASIA)\d", location):
        return "dual-region"
    return "region" if re.search(r"\d$", location) else "multi-region"


def _retention_policy(old: Attributes, new: Attributes, now: str) -> Attributes | None:
    period = new.get("retentionPeriod", "0")
    if period == "0":
        return None
    since = old.get("effectiveTime") if old.get("retentionPeriod") == period else now
    is_locked = {"isLocked": True} if new.get("isLocked") else {}
    return {"retentionPeriod": period, "effectiveTime": since, **is_locked}


def _soft_delete_policy(old: Attributes, new: Attributes, now: str) -> Attributes:
    duration = new.get("retentionDurationSeconds", "0")
    same = old.get("retentionDurationSeconds") == duration
    return {"retentionDurationSeconds": duration, "effectiveTime": old.get("effectiveTime") if same else now}


def _autoclass(old: Attributes, new: Attributes, now: str) -> Attributes:
    enabled = new.get("enabled", False)
    toggled = old.get("toggleTime", now) if old.get("enabled", False) == enabled else now
    if not enabled:
        return {"enabled": False, "toggleTime": toggled}
    last = new.get("terminalStorageClass", "NEARLINE")
    same = old.get("terminalStorageClass") == last
    since = old.get("terminalStorageClassUpdateTime") if same else now
    return {
        "enabled": True,
        "toggleTime": toggled,
        "terminalStorageClass": last,
        "terminalStorageClassUpdateTime": since,
    }


def _iam_configuration(_old: Attributes, new: Attributes, _now: str) -> Attributes:
    uniform = new.get("uniformBucketLevelAccess") or new.get("bucketPolicyOnly") or {}
    enabled = {"enabled": uniform.get("enabled", False)}
    return {
        "uniformBucketLevelAccess": enabled,
        "bucketPolicyOnly": enabled,
        "publicAccessPrevention": new.get("publicAccessPrevention", "inherited"),
    }


def _encryption(old: Attributes, new: Attributes, now: str) -> Attributes:
    changed = dict(new)
    for name in _ENFORCEMENTS:
        mode = new.get(name, {}).get("restrictionMode")
        before = old.get(name, {})
        if mode:
            same = before.get("restrictionMode", "NotRestricted") == mode
            since = before.get("effectiveTime") if same else now
            changed[name] = {"restrictionMode": mode, **({"effectiveTime": since} if since else {})}
    return changed


_CHANGED = {
    "autoclass": _autoclass,
    "encryption": _encryption,
    "iamConfiguration": _iam_configuration,
    "retentionPolicy": _retention_policy,
    "softDeletePolicy": _soft_delete_policy,
}
