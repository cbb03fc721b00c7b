"""What an error of the file system means for an object or a bucket: which StorageError, and the remedy."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

from emulator.storage.object_store import AccessDenied, NameTaken, StorageError
from emulator.storage.uri import GcsUri

#: The errors of a path at which nothing is.
ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG)
_DENIED = (errno.EACCES, errno.EPERM)
#: The errors of a name that is taken, or that the file system cannot hold.
NAME_ERRORS = (
    errno.EISDIR,
    errno.ENOTEMPTY,
    errno.ENOTDIR,
    errno.EEXIST,
    errno.ELOOP,
    errno.ENAMETOOLONG,
)
#: The causes, with their remedies, for which a write fails.
WRITE_CAUSES = {
    errno.ENOSPC: "the disk is full; free some space",
    errno.EDQUOT: "the disk quota is used up; free some space",
    errno.EFBIG: "the file would exceed the size limit for files; raise it",
    errno.EROFS: "the file system is read-only; mount it read-write",
    errno.EACCES: "permission is denied; give the server's user write access",
    errno.EPERM: "permission is denied; give the server's user write access",
    errno.EIO: "the disk reports an input/output error",
    errno.EISDIR: "a folder of that name exists; choose another name",
    errno.ENOTEMPTY: "a folder of that name exists; choose another name",
    errno.ENOTDIR: "an object stands where a folder is needed; choose another name",
    errno.EEXIST: "an object stands where a folder is needed; choose another name",
    errno.ELOOP: "a link that leads nowhere stands where a folder is needed; choose another name",
    errno.EXDEV: "a link there leads out of the storage folder; remove it",
    errno.ENAMETOOLONG: "the name is too long for this file system; shorten it",
}


def unwritable(uri: GcsUri, root: Path, error: OSError) -> StorageError:
    """The error for an object, or a bucket if the URI names no object, that cannot be written."""
    cause = WRITE_CAUSES.get(error.errno or errno.EIO, error.strerror)
    kinds = {**dict.fromkeys(NAME_ERRORS, NameTaken), **dict.fromkeys(_DENIED, AccessDenied)}
    kind = kinds.get(error.errno or errno.EIO, StorageError)
    return kind(f"{uri} cannot be written below {root}: {cause}.")


def refused(what: object, done: str, path: Path, error: OSError) -> StorageError:
    """The error for a path that may exist but cannot be read, listed or deleted."""
    if error.errno not in _DENIED:
        return StorageError(f"{what} cannot be {done}: {error.strerror} ({path}).")
    closed = (at for at in reversed(path.parents) if certainly(at.is_dir) and not os.access(at, os.X_OK))
    remedy = f"give the server's user access to {next(closed, path)}"
    return AccessDenied(f"{what} cannot be {done}: permission is denied; {remedy}.")


def certainly(holds: Callable[[], bool]) -> bool:
    """Evaluate a path predicate; False if the file system raises (symlink loop, permission denied)."""
    try:
        return holds()
    except OSError:
        return False
