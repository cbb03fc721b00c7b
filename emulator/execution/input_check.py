"""Checks a job's input before the job is created."""

from collections.abc import Sequence
from itertools import islice
from typing import Any

from emulator.execution.inputs import InputError, JobInput
from emulator.storage import GcsUri, InvalidUri, ObjectNotFound, ObjectStore, StorageError
from emulator.vertex.errors import CATALOGUE, FailedPrecondition, InvalidArgument

_MAX_SHOWN = 20
# Each check is a call to the store, which may be remote.
_MAX_VIDEOS_CHECKED = 100


def check_input(store: ObjectStore, uris: Sequence[str], *, strict: bool = False) -> dict[str, Any]:
    """Read the input as a job would.

    Returns:
        Counts, the first problems, and which of the first 100 videos are missing.

    Raises:
        ApiError: a job would fail on this input as a whole.
    """
    with JobInput() as found:
        try:
            found.read(store, [GcsUri.parse(uri) for uri in uris], strict=strict)
        except InputError as error:
            raise CATALOGUE[error.code](str(error)) from None
        except InvalidUri as error:
            raise InvalidArgument(str(error)) from None
        except StorageError as error:
            raise FailedPrecondition(str(error)) from None
        missing = [uri for uri, _ in found.videos[:_MAX_VIDEOS_CHECKED] if not _is_there(store, uri)]
        return {
            "summary": found.summary,
            "instances": len(found),
            "videos": len(found.videos),
            "problemCount": len(found.failures),
            "problems": [
                _shown(found.origin(instance), failure.message)
                for instance, failure in islice(found.failures.items(), _MAX_SHOWN)
            ],
            "missingVideos": missing[:_MAX_SHOWN],
            "firstVideos": [uri for uri, _ in found.videos[:3]],
        }


def _shown(line: str, message: str) -> dict[str, str]:
    """A problem and its line's name, which is removed from the beginning of the message."""
    return {"line": line, "message": message.removeprefix(f"Line {line.rpartition(' ')[2]}: ")}


def _is_there(store: ObjectStore, uri: str) -> bool:
    try:
        store.stat(GcsUri.parse(uri))
    except (ObjectNotFound, InvalidUri):
        return False
    except StorageError:
        pass  # It may exist; the job will find out.
    return True
