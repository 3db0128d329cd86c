"""Arrays of an uncompressed `.npz` where they lie: large ones that are float32 and aligned are mapped, not read."""

from __future__ import annotations

import math
import struct
import zipfile
from pathlib import Path

import numpy as np

from msa_models.data import mapped

_LOCAL, _SIZES_AT = 30, 26  # bytes of a member's own header, and where it says how long its name and extra field are
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
_STRETCH = 1 << 20


def mapped_members(path: Path, archive: zipfile.ZipFile) -> dict[str, np.ndarray]:
    """Read-only arrays by the names of members; the checksum of each is proved, as if it were read.

    Raises zipfile.BadZipFile for one that is damaged.
    """
    stored = [each for each in archive.infolist() if each.compress_type == zipfile.ZIP_STORED]
    large = [each for each in stored if mapped.is_large(each.file_size)]
    if sum(each.file_size for each in large) > path.stat().st_size or len({each.filename for each in large}) < len(
        large
    ):
        return {}  # members that overlap
    found = {each.filename: _mapped(path, archive, each) for each in large}
    return {name: array for name, array in found.items() if array is not None}


def _mapped(path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray | None:
    with archive.open(member) as stream:
        try:
            header = _HEADERS[np.lib.format.read_magic(stream)]
            shape, column_major, dtype = header(stream)
        except (KeyError, ValueError):
            return None
        before = stream.tell()
        start = before + _start(path, member)
        size = math.prod(shape) * dtype.itemsize
        if dtype != np.float32 or column_major or start % dtype.itemsize or before + size != member.file_size:
            return None
        while stream.read(_STRETCH):
            pass
    with path.open("rb") as file:
        return mapped.view(file, start, shape, dtype)


def _start(path: Path, member: zipfile.ZipInfo) -> int:
    """Where the content of a member begins in the file."""
    with path.open("rb") as file:
        file.seek(member.header_offset + _SIZES_AT)
        return member.header_offset + _LOCAL + sum(struct.unpack("<HH", file.read(4)))
