"""The XML API's calls on buckets: list all, get or change one, list its objects and uploads."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from urllib.parse import quote, urlencode

from emulator.gcs.bucket_store import Buckets
from emulator.gcs.conditions import Conditions
from emulator.gcs.configuration import bucket_attributes
from emulator.gcs.errors import invalid
from emulator.gcs.object_list import AFTER_ALL, Listing, Page
from emulator.gcs.objects import ObjectCalls
from emulator.gcs.parts import PartsUpload, PartsUploads
from emulator.gcs.requests import Query, Request, Response
from emulator.gcs.resources import bucket_json, time_text, xml_etag
from emulator.gcs.uploads import Sink
from emulator.gcs.xml_documents import LISTING_NAMESPACE, UPLOAD_NAMESPACE, Element, read_fields
from emulator.gcs.xml_sinks import BodySink, number_between, xml_response
from emulator.storage import GcsUri
from emulator.storage.metadata import StoredObject
from emulator.storage.uri import check_bucket

_PAGE = 1000
_OWNER: Element = ("Owner", [("ID", "vertex-emulator"), ("DisplayName", "vertex-emulator")])


class XmlBuckets:
    """Answers the XML API's calls on the service and on one bucket."""

    def __init__(self, buckets: Buckets, objects: ObjectCalls, parts: PartsUploads) -> None:
        self._buckets = buckets
        self._objects = objects
        self._parts = parts

    def list(self, _request: Request, _uri: GcsUri) -> Sink:
        return BodySink(lambda _: self._list())

    def create(self, request: Request, uri: GcsUri) -> Sink:
        check_bucket(uri.bucket, f"gs://{uri.bucket}")
        return BodySink(lambda body: self._create(request, uri.bucket, body))

    def delete(self, request: Request, uri: GcsUri) -> Sink:
        return BodySink(lambda _: self._delete(request, uri.bucket))

    def location(self, _request: Request, uri: GcsUri) -> Sink:
        return BodySink(lambda _: self._location(uri.bucket))

    def list_objects(self, request: Request, uri: GcsUri) -> Sink:
        return BodySink(lambda _: self._list_objects(request, uri.bucket))

    def list_uploads(self, request: Request, uri: GcsUri) -> Sink:
        return BodySink(lambda _: self._list_uploads(request.query, uri.bucket))

    def _list(self) -> Response:
        entries: list[Element] = [
            ("Bucket", [("Name", bucket.name), ("CreationDate", time_text(bucket.created_us))])
            for bucket in self._buckets.buckets()
        ]
        return xml_response("ListAllMyBucketsResult", [_OWNER, ("Buckets", entries)], LISTING_NAMESPACE)

    def _create(self, request: Request, bucket: str, body: bytes) -> Response:
        fields = read_fields(body, "CreateBucketConfiguration", ("LocationConstraint", "StorageClass"))
        named = {
            "location": fields.get("LocationConstraint"),
            "storageClass": fields.get("StorageClass") or request.headers.get("x-goog-storage-class"),
        }
        given = {name: value for name, value in named.items() if value}
        self._buckets.create_bucket(bucket, bucket_attributes(given, {}, time_of(datetime.now(UTC))))
        return Response(200)

    def _delete(self, request: Request, bucket: str) -> Response:
        conditions = Conditions.parse_xml(request.query, request.headers)
        self._buckets.delete_bucket(bucket, conditions.check_bucket)
        return Response(204)

    def _location(self, bucket: str) -> Response:
        location = bucket_json(self._buckets.bucket(bucket), "")["location"]
        return xml_response("LocationConstraint", location)

    def _list_objects(self, request: Request, bucket: str) -> Response:
        asked = _Asked(request.query)
        page = asked.listing.page(self._buckets, bucket)
        described = [self._objects.described(info) for info in page.items]
        found: list[Element] = [("Contents", _contents(asked.encode, stored)) for stored in described]
        found += [("CommonPrefixes", [("Prefix", asked.encode(prefix))]) for prefix in page.prefixes]
        content = [("Name", bucket), *asked.head(page), *found]
        return xml_response("ListBucketResult", content, LISTING_NAMESPACE)

    def _list_uploads(self, query: Query, bucket: str) -> Response:
        self._buckets.bucket(bucket)
        encode = _encoder(query)
        marker = query.get("key-marker"), query.get("upload-id-marker")
        most = number_between(query, "max-uploads", 1, _PAGE, _PAGE)
        uploads = [
            upload
            for upload in self._parts.under_way(bucket)
            if upload.uri.object.startswith(query.get("prefix")) and _is_after(upload, *marker)
        ]
        shown, more = uploads[:most], len(uploads) > most
        content: list[Element] = [
            *(("Bucket", bucket), ("KeyMarker", encode(marker[0])), ("UploadIdMarker", marker[1])),
            *((("NextKeyMarker", encode(shown[-1].uri.object)),) if more else ()),
            *((("NextUploadIdMarker", shown[-1].id),) if more else ()),
            *(("Prefix", encode(query.get("prefix"))), ("MaxUploads", str(most))),
            ("IsTruncated", str(more).lower()),
            *(("Upload", _upload(encode, upload)) for upload in shown),
        ]
        return xml_response("ListMultipartUploadsResult", content, UPLOAD_NAMESPACE)


class _Asked:
    """The parameters of a listing, version 1 (`marker`) or version 2 (`list-type=2`)."""

    def __init__(self, query: Query) -> None:
        self.encode = _encoder(query)
        self._query = query
        self._second = query.get("list-type") == "2"
        if query.get("list-type", "1") not in ("1", "2"):
            raise invalid(f"list-type must be 1 or 2, it is {query.get('list-type')[:40]!r}.")
        self._most = number_between(query, "max-keys", 0, _PAGE, _PAGE)
        after = query.get("start-after") if self._second else query.get("marker")
        delimiter = query.get("delimiter")
        # A marker may be a prefix from the previous page: then everything below it is skipped.
        skipped = after + (AFTER_ALL if delimiter and after.endswith(delimiter) else "\0") if after else ""
        token = query.get("continuation-token") if self._second else ""
        asked = {"prefix": query.get("prefix"), "delimiter": delimiter, "pageToken": token}
        listing = Listing.parse(Query(urlencode(asked)))
        self.listing = replace(listing, limit=self._most, resume=max(listing.resume, skipped))

    def head(self, page: Page) -> list[Element]:
        """Return the elements of the answer before its entries."""
        query, truncated = self._query, bool(page.next_token and self._most)
        names = ("prefix", "start-after", "delimiter") if self._second else ("prefix", "marker", "delimiter")
        shown = {
            "prefix": "Prefix",
            "start-after": "StartAfter",
            "marker": "Marker",
            "delimiter": "Delimiter",
        }
        head: list[Element] = [
            (shown[name], self.encode(query.get(name)))
            for name in names
            if query.get(name) or name in ("prefix", "marker")
        ]
        if query.get("encoding-type"):
            head.append(("EncodingType", query.get("encoding-type")))
        if self._second:
            head += [("KeyCount", str(len(page.items) + len(page.prefixes)))]
            head += [("ContinuationToken", token) for token in [query.get("continuation-token")] if token]
            head += [("NextContinuationToken", page.next_token)] if truncated else []
        elif truncated:
            last = max([info.uri.object for info in page.items] + page.prefixes, key=str.encode)
            head.append(("NextMarker", self.encode(last)))
        return [*head, ("MaxKeys", str(self._most)), ("IsTruncated", str(truncated).lower())]


def _encoder(query: Query) -> Callable[[str], str]:
    """Return the encoder of names: clients may request percent-encoding, as XML lacks some characters."""
    kind = query.get("encoding-type")
    if kind not in ("", "url"):
        raise invalid(f"encoding-type must be url, it is {kind[:40]!r}.")
    return quote if kind else str


def _contents(encode: Callable[[str], str], stored: StoredObject) -> list[Element]:
    return [
        ("Key", encode(stored.uri.object)),
        ("Generation", str(stored.generation)),
        ("MetaGeneration", str(stored.metageneration)),
        ("LastModified", time_text(stored.generation)),
        ("ETag", f'"{xml_etag(stored)}"'),
        ("Size", str(stored.size)),
        ("StorageClass", stored.attributes.get("storageClass", "STANDARD")),
    ]


def _upload(encode: Callable[[str], str], upload: PartsUpload) -> list[Element]:
    return [
        ("Key", encode(upload.uri.object)),
        ("UploadId", upload.id),
        ("StorageClass", upload.attributes.get("storageClass", "STANDARD")),
        ("Initiated", time_of(upload.started)),
    ]


def _is_after(upload: PartsUpload, key: str, upload_id: str) -> bool:
    name = upload.uri.object
    return name.encode() > key.encode() or (bool(upload_id) and name == key and upload.id > upload_id)


def time_of(when: datetime) -> str:
    """Return a time in the form of XML documents."""
    return time_text(int(when.timestamp() * 1_000_000))
