"""Calls on buckets, and on the parts of Cloud Storage that are always empty here."""

import itertools
import time
from collections.abc import Callable, Mapping
from typing import Any

from emulator.gcs.acl import check_lists_allowed, check_public, new_policy, policy_of, predefined
from emulator.gcs.bucket_store import Buckets
from emulator.gcs.conditions import Conditions
from emulator.gcs.configuration import bucket_attributes, locked, patched_bucket
from emulator.gcs.errors import GcsError, not_implemented, required
from emulator.gcs.masks import apply_mask, parse_mask
from emulator.gcs.object_list import page_size
from emulator.gcs.requests import Request, Response, json_response
from emulator.gcs.resources import bucket_json, time_text
from emulator.storage import InvalidUri, NameTaken
from emulator.storage.metadata import Attributes, StoredBucket


class BucketCalls:
    """Answers the calls on buckets."""

    def __init__(self, buckets: Buckets) -> None:
        self._buckets = buckets

    def list(self, request: Request) -> Response:
        # Emulator: buckets belong to no project, so every project sees all of them.
        prefix, after = request.query.get("prefix"), request.query.get("pageToken")
        wanted = (
            bucket
            for bucket in self._buckets.buckets()
            if bucket.name.startswith(prefix) and bucket.name > after
        )
        page = [*itertools.islice(wanted, page_size(request.query))]
        value: dict[str, Any] = {"kind": "storage#buckets"}
        if page:
            full = request.query.get("projection") == "full"
            value["items"] = [bucket_json(bucket, request.base, full=full) for bucket in page]
        if next(wanted, None) is not None:
            value["nextPageToken"] = page[-1].name
        return json_response(apply_mask(parse_mask(request.query.get("fields")), value))

    def insert(self, request: Request) -> Response:
        body = request.json()
        name = body.get("name")
        if not isinstance(name, str) or not name:
            raise required("name")
        try:
            bucket = self._buckets.create_bucket(name, _new_bucket(request, body))
        except InvalidUri as error:
            raise GcsError(400, "invalid", f"Invalid bucket name: '{name}'. {error}") from error
        except NameTaken as error:
            message = "Your previous request to create the named bucket succeeded and you already own it."
            raise GcsError(409, "conflict", message) from error
        return self._resource(request, bucket, full="acl" in body or "defaultObjectAcl" in body)

    def get(self, request: Request, bucket: str) -> Response:
        if request.query.flag("softDeleted") or request.query.get("generation"):
            raise not_implemented("Soft delete of buckets")
        stored = self._buckets.bucket(bucket)
        Conditions.parse(request.query, request.headers).check_bucket(stored, reading=True)
        return self._resource(request, stored)

    def update(self, request: Request, bucket: str) -> Response:
        body = request.json()
        return self._change(request, bucket, lambda old: bucket_attributes(body, old, _now()))

    def patch(self, request: Request, bucket: str) -> Response:
        body = request.json()
        return self._change(request, bucket, lambda old: patched_bucket(old, body, _now()))

    def lock_retention_policy(self, request: Request, bucket: str) -> Response:
        if not request.query.get("ifMetagenerationMatch"):
            raise required("ifMetagenerationMatch")
        return self._change(request, bucket, locked)

    def delete(self, request: Request, bucket: str) -> Response:
        self._buckets.delete_bucket(bucket, Conditions.parse(request.query, request.headers).check_bucket)
        return Response(204)

    def storage_layout(self, request: Request, bucket: str) -> Response:
        stored = bucket_json(self._buckets.bucket(bucket), request.base)
        return json_response(
            {
                "kind": "storage#storageLayout",
                "bucket": bucket,
                "location": stored["location"],
                "locationType": stored["locationType"],
                "hierarchicalNamespace": {"enabled": False},
            }
        )

    def get_policy(self, request: Request, bucket: str) -> Response:
        stored = self._buckets.bucket(bucket)
        policy = policy_of(bucket, stored.attributes, stored.metageneration)
        return json_response(apply_mask(parse_mask(request.query.get("fields")), policy))

    def set_policy(self, request: Request, bucket: str) -> Response:
        body = request.json()

        def change(stored: StoredBucket) -> Attributes:
            etag = policy_of(bucket, stored.attributes, stored.metageneration)["etag"]
            return {**stored.attributes, "iamPolicy": new_policy(body, stored.attributes, etag)}

        self._buckets.update_bucket(bucket, change)
        return self.get_policy(request, bucket)

    def service_account(self, _request: Request, _project: str) -> Response:
        email = "service-0@gs-project-accounts.iam.gserviceaccount.com"
        return json_response({"kind": "storage#serviceAccount", "email_address": email})

    def test_permissions(self, request: Request, bucket: str) -> Response:
        self._buckets.bucket(bucket)
        # Emulator: there is no access control, so every caller has every permission.
        permissions = request.query.all("permissions")
        return json_response(
            {"kind": "storage#testIamPermissionsResponse", "permissions": permissions}
            if permissions
            else {"kind": "storage#testIamPermissionsResponse"}
        )

    def nothing(self, kind: str) -> Any:
        """Return a call that answers with an empty list of that kind, for a bucket or an object."""

        def answer(_request: Request, bucket: str = "", _name: str = "") -> Response:
            if bucket:
                self._buckets.bucket(bucket)
            return json_response({"kind": f"storage#{kind}", "items": []})

        return answer

    def _change(self, request: Request, name: str, change: Callable[[Attributes], Attributes]) -> Response:
        conditions = Conditions.parse(request.query, request.headers)

        def checked(bucket: StoredBucket) -> Attributes:
            conditions.check_bucket(bucket)
            return _with_lists(request, change(bucket.attributes))

        return self._resource(request, self._buckets.update_bucket(name, checked), full=True)

    def _resource(self, request: Request, bucket: StoredBucket, *, full: bool = False) -> Response:
        projection = request.query.get("projection", "full" if full else "noAcl")
        value = bucket_json(bucket, request.base, full=projection == "full")
        return json_response(apply_mask(parse_mask(request.query.get("fields")), value))


def _new_bucket(request: Request, body: Mapping[str, Any]) -> Attributes:
    attributes = bucket_attributes(body, {}, _now())
    if request.query.flag("enableObjectRetention"):
        attributes["objectRetention"] = {"mode": "Enabled"}
    return _with_lists(request, attributes)


def _with_lists(request: Request, attributes: Attributes) -> Attributes:
    """Add the lists that `predefinedAcl` and `predefinedDefaultObjectAcl` name. Raises GcsError."""
    lists = {}
    for parameter, field in (("predefinedAcl", "acl"), ("predefinedDefaultObjectAcl", "defaultObjectAcl")):
        if name := request.query.get(parameter):
            check_lists_allowed(attributes)
            lists[field] = predefined(name, parameter, of_bucket=field == "acl")
            check_public(lists[field], attributes)
    return {**attributes, **lists}


def _now() -> str:
    return time_text(time.time_ns() // 1000)
