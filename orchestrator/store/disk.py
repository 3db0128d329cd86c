"""How a file comes to its name on a disk or a network filesystem: at once, and so that it survives a power cut."""

from __future__ import annotations

import errno
import os
import uuid
from typing import BinaryIO

from pyarrow import fs


def put(temporary: str, target: str) -> None:
    """Give a file its name; a folder that is in its place is kept, out of the way.

    NFS may have done it and lost the answer: asked again, it says that there is no such file.
    """
    ours = os.stat(temporary)
    try:
        os.replace(temporary, target)
    except FileNotFoundError:
        if not os.path.samestat(ours, os.stat(target)):
            raise
    except IsADirectoryError:
        folder, _, name = target.rpartition("/")
        os.rename(target, f"{folder}/.{name}.{uuid.uuid4().hex}.aside")
        os.replace(temporary, target)


def sync(path: str) -> None:
    """Let a file, or the names in a folder, survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # what some network filesystems say of a folder
            raise
    finally:
        os.close(descriptor)


def link(temporary: str, target: str) -> None:
    """Give the file its name unless the name is taken; where there are no hard links, whole only once it returns.

    NFS may have done it and lost the answer: then the name is taken, by this very file.
    """
    try:
        os.link(temporary, target)
    except FileExistsError:
        if os.stat(temporary).st_nlink != 2:
            raise
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK):
            raise
        with open(temporary, "rb") as source, open(target, "xb") as copy:
            copy.write(source.read())


def listed(filesystem: fs.FileSystem, selected: fs.FileSelector) -> list[fs.FileInfo]:
    """What is in a folder; pyarrow 26 says of one that appears while it looks that there is none."""
    try:
        return filesystem.get_file_info(selected)
    except FileNotFoundError:
        return filesystem.get_file_info(selected)


def open_new(path: str) -> BinaryIO:
    """A file that is not there yet, in a folder that may not be there either."""
    try:
        return open(path, "xb")
    except FileNotFoundError:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        return open(path, "xb")
