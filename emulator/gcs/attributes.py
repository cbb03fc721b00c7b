"""Every field of a bucket's and an object's resource, and how the emulator treats it in a request.

docs/cloud-storage.md prints these tables.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import partial
from typing import Any, TypeVar

from emulator.gcs.errors import invalid, not_implemented
from emulator.members import Reader, objects, one_of, typed

T = TypeVar("T")

# The reader of each member of a JSON object, by name.
Readers = Mapping[str, Callable[[str, Any], Any]]


class Fate(StrEnum):
    """How the emulator treats a field in a request."""

    EFFECT = "has its effect"
    KEPT = "is kept and given back, without effect"
    OUTPUT = "is the server's to say; ignored"


@dataclass(frozen=True)
class Field:
    """One field: its treatment, a note for the documentation, and its parser (raises GcsError)."""

    fate: Fate
    words: str
    read: Callable[[str, Any], Any]


_STORAGE_CLASSES = (
    *("STANDARD", "NEARLINE", "COLDLINE", "ARCHIVE", "MULTI_REGIONAL", "REGIONAL"),
    "DURABLE_REDUCED_AVAILABILITY",
)
_ROLES = ("OWNER", "WRITER", "READER")
_MOST_RETENTION_S = 3_155_760_000  # a hundred years
_SOFT_DELETE_S = (7 * 86_400, 90 * 86_400)


def read_fields(table: Mapping[str, Field], body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a resource that a client may set. Raises GcsError."""
    taken = {}
    for name, value in body.items():
        field = table.get(name)
        if value is None:
            continue
        if field is None:
            raise not_implemented(f"The field {str(name)[:100]!r}")
        if field.fate is not Fate.OUTPUT:
            taken[name] = field.read(name, value)
    return {name: value for name, value in taken.items() if value not in ({}, None)}


def merge_patch(old: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """Apply a PATCH: null removes a field, objects are merged, any other value replaces the old one."""
    merged = dict(old)
    for name, value in patch.items():
        before = merged.get(name)
        if value is None:
            merged.pop(name, None)
        elif isinstance(value, Mapping):
            merged[name] = merge_patch(before if isinstance(before, Mapping) else {}, value)
        else:
            merged[name] = value
    return merged


def read_time(name: str, value: object) -> datetime:
    """Read an RFC 3339 time. Raises GcsError."""
    try:
        when = datetime.fromisoformat(_text(name, value))
        if when.tzinfo is None:
            raise ValueError("no time zone")
    except ValueError:
        raise _wrong(name, value, "a time such as 2030-01-31T00:00:00Z is needed") from None
    return when


def _wrong(name: str, value: object, needed: str) -> Exception:
    return invalid(f"Invalid value for {name}: {str(value)[:100]!r}; {needed}.", location=name)


def _named(read: Reader[T]) -> Callable[[str, Any], T]:
    """A reader of a field, whose error names it."""

    def named(name: str, value: object) -> T:
        try:
            return read(value)
        except ValueError as error:
            raise _wrong(name, value, str(error)) from None

    return named


_text = _named(typed(str, "text is needed"))


def _time(name: str, value: object) -> str:
    read_time(name, value)
    return _text(name, value)


_flag = _named(typed(bool, "true or false is needed"))


def _choice(*choices: str) -> Callable[[str, Any], str]:
    return _named(one_of(choices, f"use {', '.join(choices)}"))


def _seconds(low: int, high: int, name: str, value: object) -> str:
    try:
        seconds = int(str(value))
    except ValueError:
        seconds = -1
    if isinstance(value, bool) or not (seconds == 0 or low <= seconds <= high):
        raise _wrong(name, value, f"a number of seconds from {low} to {high} is needed")
    return str(seconds)


def _texts(name: str, value: object) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(entry, str) for entry in value.values()):
        raise _wrong(name, value, "an object of texts is needed")
    return value


def _labels(name: str, value: object) -> dict[str, str]:
    labels = _texts(name, value)
    for key, text in labels.items():
        if not key or max(len(key), len(text)) > 63 or key != key.lower() or text != text.lower():
            raise _wrong(f"{name}.{key[:70]}", text, "keys and values are of up to 63 lowercase characters")
    return labels


_object = _named(typed(dict, "an object is needed"))
_list = _named(objects("a list of objects is needed"))


def _members(readers: Readers, name: str, value: object) -> dict[str, Any]:
    """Read a JSON object with known members. Other members are refused, null members omitted."""
    given = {member: entry for member, entry in _object(name, value).items() if entry is not None}
    for member in given:
        if member not in readers:
            raise not_implemented(f"The field {name}.{str(member)[:100]}")
    return {member: readers[member](f"{name}.{member}", entry) for member, entry in given.items()}


def _as_it_is(_name: str, value: Any) -> Any:
    return value


def _acl(name: str, value: object) -> list[dict[str, Any]]:
    return [read_acl_entry(name, entry) for entry in _list(name, value)]


def read_acl_entry(name: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return entity and role from an entry of an access control list. Raises GcsError."""
    entity = _text(f"{name}.entity", entry.get("entity"))
    role = _choice(*_ROLES)(f"{name}.role", entry.get("role"))
    if not re.fullmatch(r"(user|group|domain|project)-\S+|allUsers|allAuthenticatedUsers", entity):
        raise _wrong(f"{name}.entity", entity, "use user-…, group-…, domain-…, project-… or allUsers")
    return {"entity": entity, "role": role}


def _ip_filter(name: str, value: object) -> dict[str, Any]:
    fields = _object(name, value)
    if fields.get("mode") == "Enabled":
        raise not_implemented("Filtering by IP address (ipFilter.mode Enabled)")
    return fields


def _contexts(name: str, value: object) -> dict[str, Any]:
    custom = _object(f"{name}.custom", _members({"custom": _as_it_is}, name, value).get("custom", {}))
    entry = partial(_members, {"value": _text, "createTime": _text, "updateTime": _text})
    return {"custom": {key: entry(f"{name}.custom.{key}", found) for key, found in custom.items()}}


def _retention(name: str, value: object) -> dict[str, Any]:
    readers: Readers = {"mode": _choice("Unlocked", "Locked"), "retainUntilTime": _time}
    retention = _members(readers, name, value)
    if len(retention) == 1:
        raise _wrong(name, value, "mode and retainUntilTime are needed together")
    return retention


_uniform = partial(_members, {"enabled": _flag, "lockedTime": _time})
_storage_class = _choice(*_STORAGE_CLASSES)
_enforcement = partial(_members, {"restrictionMode": _text, "effectiveTime": _as_it_is})
_RETENTION_POLICY: Readers = {
    "retentionPeriod": partial(_seconds, 1, _MOST_RETENTION_S),
    "effectiveTime": _as_it_is,
    "isLocked": _flag,
}
_SOFT_DELETE: Readers = {
    "retentionDurationSeconds": partial(_seconds, *_SOFT_DELETE_S),
    "effectiveTime": _as_it_is,
}
_IAM_CONFIGURATION: Readers = {
    "uniformBucketLevelAccess": _uniform,
    "bucketPolicyOnly": _uniform,
    "publicAccessPrevention": _choice("inherited", "unspecified", "enforced"),
}
_AUTOCLASS: Readers = {
    "enabled": _flag,
    "terminalStorageClass": _choice("NEARLINE", "ARCHIVE"),
    "toggleTime": _as_it_is,
    "terminalStorageClassUpdateTime": _as_it_is,
}
_ENCRYPTION: Readers = {
    "defaultKmsKeyName": _text,
    "googleManagedEncryptionEnforcementConfig": _enforcement,
    "customerManagedEncryptionEnforcementConfig": _enforcement,
    "customerSuppliedEncryptionEnforcementConfig": _enforcement,
}
_LOGGING: Readers = {"logBucket": _text, "logObjectPrefix": _text}
_WEBSITE: Readers = {"mainPageSuffix": _text, "notFoundPage": _text}


def _effect(words: str, read: Callable[[str, Any], Any]) -> Field:
    return Field(Fate.EFFECT, words, read)


def _kept(words: str, read: Callable[[str, Any], Any]) -> Field:
    return Field(Fate.KEPT, words, read)


def _outputs(*names: str) -> dict[str, Field]:
    return dict.fromkeys(names, Field(Fate.OUTPUT, "", _as_it_is))


OBJECT_FIELDS: Mapping[str, Field] = {
    "acl": _kept("nobody is kept out; lists and single entries are answered", _acl),
    "cacheControl": _effect("header of a download", _text),
    "contentDisposition": _effect("header of a download", _text),
    "contentEncoding": _effect("header of a download; `gzip` is unpacked for jobs and for clients", _text),
    "contentLanguage": _effect("header of a download", _text),
    "contentType": _effect("header of a download", _text),
    "contexts": _kept("`custom` only; lists cannot be filtered by them", _contexts),
    "crc32c": _effect("compared with the bytes of an upload; afterwards the server's", _as_it_is),
    "customTime": _kept("cannot be removed or set to an earlier time", _time),
    "eventBasedHold": _effect("no replacing, no deleting; retention counts from its release", _flag),
    "kmsKeyName": _kept("nothing is encrypted", _text),
    "md5Hash": _effect("compared with the bytes of an upload; afterwards the server's", _as_it_is),
    "metadata": _effect("given back; `null` removes a key", _texts),
    "retention": _effect(
        "no replacing, no deleting before its time; needs a bucket that allows it", _retention
    ),
    "storageClass": _kept("given back, and a header of a download", _storage_class),
    "temporaryHold": _effect("no replacing, no deleting", _flag),
    **_outputs(
        *("bucket", "componentCount", "customerEncryption", "etag", "generation", "hardDeleteTime", "id"),
        *("kind", "mediaLink", "metageneration", "name", "owner", "restoreToken", "retentionExpirationTime"),
        *("selfLink", "size", "softDeleteTime", "timeCreated", "timeDeleted", "timeFinalized"),
        *("timeStorageClassUpdated", "updated"),
    ),
}

BUCKET_FIELDS: Mapping[str, Field] = {
    "acl": _kept("nobody is kept out; lists and single entries are answered", _acl),
    "autoclass": _kept("objects stay in their class", partial(_members, _AUTOCLASS)),
    "billing": _kept("nobody pays", partial(_members, {"requesterPays": _flag})),
    "cors": _effect("answers to web pages of other sites", _list),
    "customPlacementConfig": _kept("there is one place", partial(_members, {"dataLocations": _as_it_is})),
    "defaultEventBasedHold": _effect("new objects have the hold", _flag),
    "defaultObjectAcl": _kept("the list of new objects", _acl),
    "encryption": _kept("new objects name the key; nothing is encrypted", partial(_members, _ENCRYPTION)),
    "hierarchicalNamespace": _kept("folders are not resources", partial(_members, {"enabled": _flag})),
    "iamConfiguration": _effect(
        "uniform access refuses ACLs, public access prevention refuses `allUsers`",
        partial(_members, _IAM_CONFIGURATION),
    ),
    "ipFilter": _kept("`mode` `Disabled` only; `Enabled` is 501", _ip_filter),
    "labels": _kept("`null` removes a label", _labels),
    "lifecycle": _kept("no rule is carried out", partial(_members, {"rule": _list})),
    "location": _kept("there is one place", _text),
    "logging": _kept("no logs are written", partial(_members, _LOGGING)),
    "retentionPolicy": _effect(
        "no replacing, no deleting before its time; can be locked", partial(_members, _RETENTION_POLICY)
    ),
    "rpo": _kept("there is one place", _text),
    "softDeletePolicy": _effect(
        "deleted objects can be listed and restored; without one, deleted is deleted",
        partial(_members, _SOFT_DELETE),
    ),
    "storageClass": _effect("the class of new objects", _storage_class),
    "versioning": _effect(
        "replaced and deleted objects stay as versions", partial(_members, {"enabled": _flag})
    ),
    "website": _kept("no web site is served", partial(_members, _WEBSITE)),
    **_outputs(
        *("etag", "generation", "hardDeleteTime", "id", "kind", "locationType", "metageneration", "name"),
        *("objectRetention", "owner", "projectNumber", "satisfiesPZI", "satisfiesPZS", "selfLink"),
        *("softDeleteTime", "timeCreated", "updated"),
    ),
}
