"""What is looked at of a file: how it begins, and, of one that others are packed in, how each of those begins."""

from __future__ import annotations

import bz2
import gzip
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Protocol

NOT_UNPACKED = (".7z", ".rar", ".zst", ".tzst", ".lz4", ".gpg", ".pgp", ".age")
_TEXT = 16 * 2**20  # bytes that are looked at of a text
_BINARY = 2**20  # and of what is none
_UNPACKED = 64 * 2**20  # and of all that is packed in a file: a small one can hold any amount
_PACKED = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\0": lzma.open}
_BLOCK = 512  # bytes, of a tar
_DAMAGED = (OSError, EOFError, zlib.error, lzma.LZMAError, tarfile.TarError, zipfile.BadZipFile, RuntimeError)


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


def parts(path: Path) -> Iterator[tuple[str, bytes]]:
    """The start of the file, under no name, and of each file in it, under its name there; `""` for a single one.

    Archives are zip, tar, gzip, bzip2 and xz, told by how they begin; one in another one is not unpacked, nor what has
    a password. Raises OSError for a file that cannot be read; of a damaged archive comes what comes before the damage.
    """
    with path.open("rb") as file:
        start = _start(file)
        yield "", start
        try:
            file.seek(0)
            yield from _inside(file, start)
        except _DAMAGED:
            return


def is_binary(data: bytes) -> bool:
    """Whether it is no text, of one byte a letter at least."""
    return b"\0" in data[:8192]


def _start(file: _Readable) -> bytes:
    data = file.read(_BINARY)
    return data if is_binary(data) or len(data) < _BINARY else data + file.read(_TEXT - len(data))


def _inside(file: IO[bytes], start: bytes) -> Iterator[tuple[str, bytes]]:
    if is_binary(start) and zipfile.is_zipfile(file):
        yield from _of_zip(file)
        return
    file.seek(0)
    unpack = next((unpack for magic, unpack in _PACKED.items() if start.startswith(magic)), None)
    if unpack is None:
        if _is_tar(start):
            yield from _of_tar(file)
        return
    with unpack(file, "rb") as stream:
        first = stream.read(_BLOCK)
        stream.seek(0)
        yield from _of_tar(stream) if _is_tar(first) else [("", _start(stream))]


def _is_tar(start: bytes) -> bool:
    return start[257:262] == b"ustar"


def _of_zip(file: IO[bytes]) -> Iterator[tuple[str, bytes]]:
    left = _UNPACKED
    with zipfile.ZipFile(file) as archive:
        for entry in archive.infolist():
            if entry.is_dir():
                continue
            data = b""
            if left > 0 and not entry.flag_bits & 1:  # 1: with a password
                with archive.open(entry) as member:
                    data = _start(_AtMost(member, left))
                left -= len(data)
            yield entry.filename, data


def _of_tar(stream: _Readable) -> Iterator[tuple[str, bytes]]:
    with tarfile.open(fileobj=_AtMost(stream, _UNPACKED), mode="r|") as archive:  # pyright: ignore[reportCallIssue, reportArgumentType]
        for entry in archive:
            member = archive.extractfile(entry) if entry.isreg() else None
            if member is not None:
                yield entry.name, _start(member)


class _AtMost:
    """A stream that ends after so many bytes."""

    def __init__(self, stream: _Readable, num_bytes: int) -> None:
        self._stream, self._left = stream, num_bytes

    def read(self, size: int, /) -> bytes:
        data = self._stream.read(min(size, self._left))
        self._left -= len(data)
        return data
