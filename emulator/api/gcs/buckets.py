"""Calls about buckets, and about the parts of Cloud Storage that are empty here."""

import itertools
from typing import Any

from emulator.api.gcs.conditions import Conditions
from emulator.api.gcs.errors import GcsError, required
from emulator.api.gcs.fields import apply_mask, parse_mask
from emulator.api.gcs.listing import page_size
from emulator.api.gcs.messages import Request, Response, json_response
from emulator.api.gcs.resources import bucket_attributes, bucket_json, patched_bucket
from emulator.storage import InvalidUri, NameTaken
from emulator.storage.buckets import Buckets
from emulator.storage.metadata import Attributes, StoredBucket


class BucketCalls:
    """Answers the calls about buckets."""

    def __init__(self, buckets: Buckets) -> None:
        self._buckets = buckets

    def list(self, request: Request) -> Response:
        # Emulator: buckets belong to no project, so each project sees all of them.
        prefix, after = request.query.get("prefix"), request.query.get("pageToken")
        wanted = (
            bucket
            for bucket in self._buckets.buckets()
            if bucket.name.startswith(prefix) and bucket.name > after
        )
        page = [*itertools.islice(wanted, page_size(request.query))]
        value: dict[str, Any] = {"kind": "storage#buckets"}
        if page:
            value["items"] = [bucket_json(bucket, request.base) for bucket in page]
        if next(wanted, None) is not None:
            value["nextPageToken"] = page[-1].name
        return json_response(apply_mask(parse_mask(request.query.get("fields")), value))

    def insert(self, request: Request) -> Response:
        body = request.json()
        name = body.get("name")
        if not isinstance(name, str) or not name:
            raise required("name")
        try:
            bucket = self._buckets.create_bucket(name, bucket_attributes(body))
        except InvalidUri as error:
            raise GcsError(400, "invalid", f"Invalid bucket name: '{name}'. {error}") from error
        except NameTaken as error:
            message = "Your previous request to create the named bucket succeeded and you already own it."
            raise GcsError(409, "conflict", message) from error
        return self._resource(request, bucket)

    def get(self, request: Request, bucket: str) -> Response:
        stored = self._buckets.bucket(bucket)
        Conditions.parse(request.query, request.headers).check_bucket(stored, reading=True)
        return self._resource(request, stored)

    def update(self, request: Request, bucket: str) -> Response:
        body = request.json()
        return self._change(request, bucket, lambda _: bucket_attributes(body))

    def patch(self, request: Request, bucket: str) -> Response:
        body = request.json()
        return self._change(request, bucket, lambda old: patched_bucket(old, body))

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

    def iam_policy(self, _request: Request, bucket: str) -> Response:
        self._buckets.bucket(bucket)
        resource = f"projects/_/buckets/{bucket}"
        policy = {"kind": "storage#policy", "resourceId": resource, "version": 1, "etag": "CAE="}
        return json_response({**policy, "bindings": []})

    def test_permissions(self, request: Request, bucket: str) -> Response:
        self._buckets.bucket(bucket)
        # Emulator: there is no access control, so whoever asks may.
        permissions = request.query.all("permissions")
        return json_response(
            {"kind": "storage#testIamPermissionsResponse", "permissions": permissions}
            if permissions
            else {"kind": "storage#testIamPermissionsResponse"}
        )

    def nothing(self, kind: str) -> Any:
        """Make the call that answers an empty list of that kind, for a bucket or an object in it."""

        def answer(_request: Request, bucket: str = "", _name: str = "") -> Response:
            if bucket:
                self._buckets.bucket(bucket)
            return json_response({"kind": f"storage#{kind}", "items": []})

        return answer

    def _change(self, request: Request, name: str, change: Any) -> Response:
        conditions = Conditions.parse(request.query, request.headers)

        def checked(bucket: StoredBucket) -> Attributes:
            conditions.check_bucket(bucket)
            attributes: Attributes = change(bucket.attributes)
            return attributes

        return self._resource(request, self._buckets.update_bucket(name, checked))

    def _resource(self, request: Request, bucket: StoredBucket) -> Response:
        value = bucket_json(bucket, request.base)
        return json_response(apply_mask(parse_mask(request.query.get("fields")), value))
