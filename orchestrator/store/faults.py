"""What is wrong with a storage, in one line: what, where, what to do."""

from __future__ import annotations

import errno
import os


class StorageError(ValueError):
    """A storage that cannot be used as asked: one line that says what, where, and what to do."""


class AbsentFile(StorageError):
    """There is no such file."""


def reason(error: Exception) -> str:
    """What the operating system or the object store said, in one line."""
    number = getattr(error, "errno", None)
    return os.strerror(number) if number else " ".join(str(error).split())


def advice(error: Exception) -> str:
    """What to do about it."""
    match getattr(error, "errno", None):
        case errno.ENOSPC | errno.EDQUOT:
            return "free some space there, then resume: what is finished is safe"
        case errno.EACCES | errno.EPERM | errno.EROFS:
            return "check who owns it and may write there, or choose another storage"
        case errno.ENOTDIR | errno.EISDIR | errno.EEXIST:
            return "a file and a folder are in each other's place: choose another storage, or move what is in the way"
        case _:
            return "check that the storage can be reached and may be used from this machine"
