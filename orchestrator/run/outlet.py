"""Outputs that may go away while a run goes on: a closed terminal, a reader that has left, a full disk.

What a run has to say is on file, so nothing of it ends because nobody can be told.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO


class _Outlet(io.FileIO):
    """What cannot be written is let go."""

    def write(self, data: object, /) -> int:
        try:
            return super().write(data)  # pyright: ignore[reportArgumentType]
        except OSError:
            return memoryview(data).nbytes  # pyright: ignore[reportArgumentType]


def outlet(descriptor: int, *, encoding: str | None = None, errors: str = "replace", closes: bool = False) -> TextIO:
    """A text stream to this file descriptor that never fails; line by line."""
    binary = io.BufferedWriter(_Outlet(descriptor, "wb", closefd=closes))
    return io.TextIOWrapper(binary, encoding=encoding, errors=errors, line_buffering=True)


@contextmanager
def standard_outlets() -> Iterator[None]:
    """Standard output and error never fail while the block runs; what is no file of this process stays as it is."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = map(_of, before)
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        sys.stdout, sys.stderr = before


def _of(stream: TextIO) -> TextIO:
    try:
        stream.flush()
        descriptor = stream.fileno()
    except (OSError, ValueError, AttributeError):  # closed, or kept in memory
        return stream
    return outlet(descriptor, encoding=stream.encoding, errors=stream.errors or "replace")
