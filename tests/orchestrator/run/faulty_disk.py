"""A disk that goes wrong on purpose: below the store, where the operating system and pyarrow are called.

Every operation on files under `root` is counted by its kind. Those that `faulty` picks go wrong as `fault` says; after
a death all of them do: nothing runs on in a process that is killed, not even the removal of its temporary files.
"""

from __future__ import annotations

import builtins
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from pyarrow import fs

KINDS = ("open", "write", "fsync", "replace", "unlink", "delete", "list", "read")


class Death(BaseException):
    """As sudden as SIGKILL: no handler of ours catches it."""


@dataclass(frozen=True)
class Operation:
    """What was asked of the disk, in two halves; only a write has a first one."""

    first: Callable[[], Any]
    rest: Callable[[], Any]

    def all(self) -> Any:
        """Do it."""
        self.first()
        return self.rest()


Fault = Callable[["Disk", Operation], Any]


def error(number: int) -> Fault:
    """A write stops half-way and the system gives this error; anything else does not happen at all."""

    def fail(disk: Disk, operation: Operation) -> None:
        operation.first()
        raise OSError(number, os.strerror(number))

    return fail


def death_before(disk: Disk, operation: Operation) -> None:
    """The process dies before it is done, in the middle of a write."""
    operation.first()
    disk.dead = True
    raise Death


def death_after(disk: Disk, operation: Operation) -> None:
    """The process dies just after it is done."""
    operation.all()
    disk.dead = True
    raise Death


@dataclass
class Disk:
    """The disk of one process; `installed` puts it below `orchestrator.store`."""

    root: str
    fault: Fault
    faulty: Callable[[str, int], bool]  # of the kind of an operation, and how many of that kind there were with it
    spared: int = 0  # the first operations, whatever their kind
    counts: Counter[str] = field(default_factory=Counter)
    struck: list[str] = field(default_factory=list)  # the kinds of the operations that were faulty
    dead: bool = False

    def does(self, kind: str, path: Any, rest: Callable[[], Any], first: Callable[[], Any] = lambda: None) -> Any:
        """Let an operation through, or not."""
        operation = Operation(first, rest)
        if path is not None and not str(path).startswith(self.root):
            return operation.all()
        if self.dead:
            raise Death
        self.counts[kind] += 1
        if self.counts.total() > self.spared and self.faulty(kind, self.counts[kind]):
            self.struck.append(kind)
            return self.fault(self, operation)
        return operation.all()

    def installed(self, patch: pytest.MonkeyPatch) -> None:
        """Put it below the store, until `patch` is undone."""
        whole_open, whole_fsync, whole_replace, whole_unlink = builtins.open, os.fsync, os.replace, os.unlink

        def opened(path: Any, mode: str = "r", *arguments: Any, **options: Any) -> Any:
            if "x" not in mode and "w" not in mode:
                return whole_open(path, mode, *arguments, **options)
            file = self.does("open", path, lambda: whole_open(path, mode, *arguments, **options))
            return _File(self, path, file) if str(path).startswith(self.root) else file

        patch.setattr(builtins, "open", opened)
        patch.setattr(os, "fsync", lambda number: self.does("fsync", None, lambda: whole_fsync(number)))
        patch.setattr(os, "replace", lambda old, new: self.does("replace", new, lambda: whole_replace(old, new)))
        patch.setattr(os, "unlink", lambda path: self.does("unlink", path, lambda: whole_unlink(path)))
        patch.setattr(fs, "LocalFileSystem", _filesystem(self))


class _File:
    """A file open for writing, on a faulty disk."""

    def __init__(self, disk: Disk, path: Any, file: Any) -> None:
        self._disk, self._path, self._file = disk, path, file

    def write(self, data: bytes) -> int:
        half = len(data) // 2
        self._disk.does(
            "write", self._path, lambda: self._file.write(data[half:]), lambda: self._file.write(data[:half])
        )
        return len(data)

    def __enter__(self) -> _File:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def _filesystem(disk: Disk) -> type[fs.LocalFileSystem]:
    """What takes the place of pyarrow's class; also what `isinstance` is asked about."""

    class Faulty(fs.LocalFileSystem):
        def get_file_info(self, paths_or_selector: Any) -> Any:
            asked = paths_or_selector
            path = asked.base_dir if isinstance(asked, fs.FileSelector) else asked if isinstance(asked, str) else None
            return disk.does("list", path, lambda: fs.FileSystem.get_file_info(self, asked))

        def open_input_stream(self, path: str, *arguments: Any, **options: Any) -> Any:
            return disk.does("read", path, lambda: fs.FileSystem.open_input_stream(self, path, *arguments, **options))

        def open_input_file(self, path: str, *arguments: Any, **options: Any) -> Any:
            return disk.does("read", path, lambda: fs.FileSystem.open_input_file(self, path, *arguments, **options))

        def delete_file(self, path: str) -> None:
            disk.does("delete", path, lambda: fs.FileSystem.delete_file(self, path))

        def delete_dir(self, path: str) -> None:
            disk.does("delete", path, lambda: fs.FileSystem.delete_dir(self, path))

    return Faulty
