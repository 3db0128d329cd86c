"""What is wrong with a storage, in one line: what, where, what to do.

A storage that is refused (another experiment, no storage, in use) is a StorageError: something else has to be asked
for. One that is out of reach (network, permission, a full disk) is OutOfReach: the same may be asked for again.
"""

from __future__ import annotations

import errno
import os
import re

_AWS = re.compile(r".*AWS Error (?P<code>\w+) during \w+ operation: (?P<words>.*)")
_UNFIT = (errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL)
_DENIED = ("ACCESS_DENIED", "INVALID_ACCESS_KEY_ID", "INVALID_SIGNATURE", "SIGNATURE_DOES_NOT_MATCH", "EXPIRED_TOKEN")


class StorageError(ValueError):
    """A storage that cannot be used as asked: one line that says what, where, and what to do."""


class DamagedFile(StorageError):
    """A file that is not what was written under its name."""


class AbsentFile(StorageError):
    """There is no such file."""


class CouldNotRun(Exception):
    """What a run needs is out of reach: the storage, Ray or its cluster. Nothing is lost, it may be tried again."""


class OutOfReach(StorageError, CouldNotRun):
    """A storage that cannot be read or written now."""


def os_fault(doing: str, error: Exception, hint: str = "") -> StorageError:
    """What to raise where the operating system or the object store refused: `cannot write X: <reason>; <advice>`."""
    kind = OutOfReach if out_of_reach(error) else StorageError
    return kind(f"{doing}: {reason(error)}; {hint or advice(error)}")


def out_of_reach(error: Exception) -> bool:
    """Whether the same may succeed another time; not so where the storage as it was named is what is wrong."""
    if isinstance(error, StorageError):
        return isinstance(error, OutOfReach)
    said = _AWS.search(" ".join(str(error).split()))
    if said:
        return said["code"] != "NO_SUCH_BUCKET"
    return isinstance(error, OSError) and error.errno not in _UNFIT


def reason(error: Exception) -> str:
    """What the operating system or the object store said, in one line."""
    number = getattr(error, "errno", None)
    if number:
        return os.strerror(number)
    text = re.sub(r" \(Request ID: \w+\)", "", " ".join(str(error).split()))
    said = _AWS.fullmatch(text)
    if not said:
        return text
    if said["words"] == "No response body.":
        return said["code"].replace("_", " ").capitalize()
    return f"{said['words'].rstrip('.')} ({said['code']})"


def advice(error: Exception) -> str:
    """What to do about it."""
    match getattr(error, "errno", None):
        case errno.ENOSPC | errno.EDQUOT:
            return "free some space there, then resume: what is finished is safe"
        case errno.EACCES | errno.EPERM | errno.EROFS:
            return "check who owns it and may write there, or choose another storage"
        case errno.ENOTDIR | errno.EISDIR | errno.EEXIST:
            return "a file and a folder are in each other's place: choose another storage, or move what is in the way"
    said = _AWS.fullmatch(" ".join(str(error).split()))
    if said and said["code"] == "NO_SUCH_BUCKET":
        return "check the name of the bucket, or make it first"
    if said and said["code"] in _DENIED:
        return "check the credentials of this machine (AWS_ACCESS_KEY_ID, … or a profile) and what they may do"
    return "check that the storage can be reached and may be used from this machine"
