"""Arrays that lie in files instead of in memory: processes share them, and they may be larger than memory.

Small arrays stay in memory. A large one is mapped: `view` shows one that is in a file already, `empty` makes a new one
in a file without a name in the folder for temporary files, which is gone with the last process that has it open. Pages
of such arrays are those of the file, which the system drops where it needs the memory; `forget` lets this process hold
none of them.
"""

from __future__ import annotations

import math
import mmap
import os
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from typing import IO, Any

import numpy as np

LARGE = 1 << 24  # bytes from which on an array is worth a file
CHUNK_ELEMENTS = 2**21
FORGET_EVERY = 64  # samples, where they are looked at one by one
_GB = 1e9


class NoRoom(OSError):
    """The folder for temporary files has no room; `strerror` says what to do."""


class Map(mmap.mmap):
    """A map, with a descriptor of the file that it is of, open as long as the map is, and the byte where it starts."""

    descriptor: int
    start: int


def _map(file: IO[bytes], size: int, *, access: int = mmap.ACCESS_WRITE, start: int = 0) -> Map:
    made = Map(file.fileno(), size, access=access, offset=start)
    made.start = start
    made.descriptor = os.dup(file.fileno())
    weakref.finalize(made, os.close, made.descriptor)
    return made


def is_large(num_bytes: int) -> bool:
    """Whether an array of so many bytes is worth a file."""
    return num_bytes >= LARGE


def view(file: IO[bytes], start: int, shape: Sequence[int], dtype: np.dtype[Any] | type) -> np.ndarray:
    """The array that begins at byte `start` of a file, to be read only."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    before = start % mmap.ALLOCATIONGRANULARITY
    made = _map(file, before + size, access=mmap.ACCESS_READ, start=start - before)
    return np.ndarray(shape, dtype, made, before)


def empty(shape: Sequence[int], dtype: np.dtype[Any] | type = np.float32) -> np.ndarray:
    """A new array, in memory, or in a file if it is large. Raises NoRoom where the disk has none for it."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if not is_large(size):
        return np.empty(shape, dtype)
    with tempfile.TemporaryFile(prefix="msa-corpus-") as file:
        try:
            if hasattr(os, "posix_fallocate"):  # a write to a map that finds the disk full would end the process
                os.posix_fallocate(file.fileno(), 0, size)
            else:
                file.truncate(size)
        except OSError as error:
            fault = f"{tempfile.gettempdir()} has no room for {size / _GB:,.2f} GB of features"
            hint = "set TMPDIR to a folder on a disk that has it"
            raise NoRoom(error.errno, f"{fault} ({os.strerror(error.errno or 0)}); {hint}") from error
        return np.ndarray(shape, dtype, _map(file, size))


def taken(arrays: Sequence[np.ndarray], rows: np.ndarray) -> np.ndarray:
    """These rows (numbers, or True where one is taken) of arrays one below the other; a new array."""
    rows = np.flatnonzero(rows) if rows.dtype == bool else rows
    if len(arrays) == 1 and (not is_large(arrays[0].nbytes) or arrays[0].dtype.hasobject):
        return arrays[0][rows]
    ends = np.cumsum([len(each) for each in arrays])
    found = empty((len(rows), *arrays[0].shape[1:]), arrays[0].dtype)
    for each, end in zip(arrays, ends.tolist(), strict=True):
        within = np.flatnonzero((rows >= end - len(each)) & (rows < end))
        for at in np.array_split(within, max(1, math.ceil(len(within) * each[:1].size / CHUNK_ELEMENTS))):
            found[at] = each[rows[at] - (end - len(each))]
            forget(each)
            forget(found)
    return found


def owned(array: np.ndarray) -> np.ndarray:
    """The array itself where it may be written to, else a copy that may."""
    return array if array.flags.writeable else taken([array], np.arange(len(array)))


def chunks(values: np.ndarray) -> Iterator[slice]:
    """Slices of rows that together cover an array, each of about CHUNK_ELEMENTS elements; see `forget`."""
    rows = max(1, CHUNK_ELEMENTS // max(1, values[:1].size))
    for start in range(0, len(values), rows):
        yield slice(start, start + rows)
        forget(values)


def forget(*arrays: np.ndarray) -> None:
    """Let this process hold no page of mapped arrays; what was written is kept, and comes back when it is read."""
    for array in arrays:
        found = map_of(array)
        if found is not None and hasattr(found, "madvise"):
            found.madvise(mmap.MADV_DONTNEED)


def map_of(array: np.ndarray) -> Map | None:
    """What an array is mapped by; None for one in memory."""
    base: Any = array
    while isinstance(base, np.ndarray):
        base = base.base
    return base if isinstance(base, Map) else None
