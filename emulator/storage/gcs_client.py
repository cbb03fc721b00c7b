"""Google's storage client for one endpoint: few retries, no credentials, and clear errors.

google-cloud-storage is an extra and takes half a second to import, so it is imported on first use.
"""

from __future__ import annotations

import functools
import importlib.util
import time
from collections.abc import Callable
from typing import Any, TypeVar

from emulator.storage.endpoint import Endpoint
from emulator.storage.object_store import AccessDenied, ObjectNotFound, StorageError, StorageUnavailable
from emulator.storage.uri import GcsUri

T = TypeVar("T")

TIMEOUT_S = (3.0, 30.0)
"""Timeouts in seconds for connecting, and for the next bytes of an answer."""

EXTRA_IS_MISSING = (
    "Buckets at a Cloud Storage endpoint need google-cloud-storage;"
    " install it with: pip install 'vertex-batch-emulator[gcs]'"
)

# No attempt starts after this time. The library's default of two minutes would look like a hang.
_RETRY_S = 8.0
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 2.0
_LOOK_INTERVAL_S = 0.1
# Vertex: the status codes that Cloud Storage asks clients to retry (its page on retry strategy).
_TRANSIENT_STATUSES = (408, 429, 500, 502, 503, 504)
_PROJECT = "vertex-batch-emulator"


class ObjectChanged(StorageError):
    """The object is not, or no longer, the version that a condition names."""


def is_installed() -> bool:
    """Whether the extra is installed."""
    try:
        return importlib.util.find_spec("google.cloud.storage") is not None
    except ModuleNotFoundError:
        return False


class GcsClient:
    """Calls to one endpoint. Thread-safe; each process makes its own client."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

    def __reduce__(self) -> tuple[type[GcsClient], tuple[Endpoint]]:
        return GcsClient, (self._endpoint,)

    def call(
        self, subject: GcsUri, operation: Callable[[Any], T], check: Callable[[], None] = lambda: None
    ) -> T:
        """Call `operation` with a `google.cloud.storage.Client`, and retry transient errors.

        Args:
            subject: the object or bucket of the call, for messages.
            operation: must turn off the library's own retries; may be called several times.
            check: called before each attempt and while waiting; may raise to stop.

        Raises:
            ObjectNotFound: the object or its bucket does not exist.
            ObjectChanged: a condition did not hold.
            AccessDenied: the endpoint refuses the access.
            StorageUnavailable: the endpoint cannot be reached.
            StorageError: any other failure.
        """
        last_start = time.monotonic() + _RETRY_S
        pause = _FIRST_PAUSE_S
        while True:
            check()
            try:
                return operation(self._client)
            except Exception as error:
                if not _is_transient(error) or time.monotonic() + pause > last_start:
                    raise self._in_words(subject, error) from error
            _sleep(pause, check)
            pause = min(2 * pause, _LONGEST_PAUSE_S)

    @functools.cached_property
    def _client(self) -> Any:
        try:
            from google.cloud import storage
        except ImportError as error:
            raise StorageError(f"{EXTRA_IS_MISSING}.") from error
        options = {"api_endpoint": self._endpoint.url}
        if self._endpoint.is_google:
            return _real_client(options)
        from google.auth.credentials import AnonymousCredentials

        return storage.Client(
            project=_PROJECT,
            credentials=AnonymousCredentials(),
            client_options=options,
            _http=_confined_session(self._endpoint),
        )

    def _in_words(self, subject: GcsUri, error: Exception) -> Exception:
        """The StorageError for an error of the library. A defect is returned unchanged."""
        if isinstance(error, StorageError):
            return error
        return self._about_object(subject, error) or self._about_endpoint(subject, error) or error

    def _about_object(self, subject: GcsUri, error: Exception) -> StorageError | None:
        from google.api_core import exceptions
        from google.auth.exceptions import GoogleAuthError

        where = f"at {self._endpoint}"
        if isinstance(error, exceptions.NotFound):
            return ObjectNotFound(f"{subject} does not exist {where}.")
        if isinstance(error, exceptions.PreconditionFailed | exceptions.RequestRangeNotSatisfiable):
            return ObjectChanged(
                f"{subject} {where} was replaced or removed by somebody else in the meantime. Try again."
            )
        if isinstance(error, exceptions.Forbidden | exceptions.Unauthorized | GoogleAuthError):
            who = "the Application Default Credentials" if self._endpoint.is_google else "anonymous clients"
            return AccessDenied(f"{subject}: no access for {who} {where} ({_brief(error)}).")
        return None

    def _about_endpoint(self, subject: GcsUri, error: Exception) -> StorageError | None:
        import requests
        from google.api_core.exceptions import GoogleAPICallError

        endpoint = f"{subject}: the Cloud Storage endpoint {self._endpoint}"
        why = _brief(error)
        if isinstance(error, requests.exceptions.InvalidSchema):
            return StorageError(
                f"{endpoint} sent the emulator elsewhere, where it does not go ({why}). Let the endpoint know"
                f" its own address; fake-gcs-server takes -external-url {self._endpoint}."
            )
        if isinstance(error, requests.exceptions.SSLError):
            return StorageUnavailable(
                f"{endpoint} cannot be reached over TLS ({why}). Name its CA in REQUESTS_CA_BUNDLE, or write"
                " http:// where it speaks plain text."
            )
        # OSError also covers a REQUESTS_CA_BUNDLE that names no file.
        if _is_transient(error) or isinstance(error, OSError):
            return StorageUnavailable(
                f"{endpoint} does not answer as it should ({why}). Start it, or name another with"
                " gcs_endpoint or gcs_buckets."
            )
        if isinstance(error, GoogleAPICallError):
            return StorageError(f"{endpoint} refused ({why}).")
        if isinstance(error, ValueError | LookupError):
            return StorageError(f"{endpoint} does not speak Cloud Storage's JSON API ({why}).")
        return None


def _real_client(options: dict[str, str]) -> Any:
    """A client with the Application Default Credentials.

    If STORAGE_EMULATOR_HOST is set, the library alone would use none, whatever its endpoint.
    """
    import google.auth
    from google.cloud import storage

    credentials, project = google.auth.default(scopes=storage.Client.SCOPE)
    return storage.Client(project=project or _PROJECT, credentials=credentials, client_options=options)


def _confined_session(endpoint: Endpoint) -> Any:
    """A session that can reach only the endpoint.

    Neither a redirect nor an upload URL leads anywhere else, in particular not to the real Cloud Storage.
    """
    import requests
    from requests.adapters import HTTPAdapter

    session = requests.Session()
    # Otherwise requests reads credentials from ~/.netrc.
    session.auth = lambda request: request
    session.adapters.clear()
    session.mount(f"{endpoint.url}/", HTTPAdapter())
    return session


def _is_transient(error: Exception) -> bool:
    import requests
    import urllib3
    from google.api_core.exceptions import GoogleAPICallError

    if isinstance(error, GoogleAPICallError):
        return error.code in _TRANSIENT_STATUSES
    if isinstance(error, requests.exceptions.SSLError | requests.exceptions.ProxyError):
        return False
    return isinstance(
        error,
        requests.exceptions.ConnectionError
        | requests.exceptions.Timeout
        | requests.exceptions.ChunkedEncodingError
        | urllib3.exceptions.HTTPError,
    )


def _brief(error: Exception) -> str:
    """One line for an error whose message may quote a whole page."""
    text = " ".join(str(getattr(error, "message", None) or error).split())
    return f"{type(error).__name__}: {text[:300]}"


def _sleep(seconds: float, check: Callable[[], None]) -> None:
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        check()
        time.sleep(min(left, _LOOK_INTERVAL_S))
