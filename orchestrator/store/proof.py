"""The proof that a file is whole, and the one that was written under its name: a digest that the file itself carries.

It is over all of the file but its own place, headers and footers included, and over the path below the storage: a
flipped bit, a file cut short, one that took another's place and a copy under another name are all told alike. It stands
where readers of the format pass it by: in Parquet between the last rows and the footer, in JSON as the last member, in
safetensors first among the metadata. From schema version 5 on a file without one is damaged; what an earlier version
wrote has none, until `msa upgrade`.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable
from typing import Any, BinaryIO, NamedTuple

import pyarrow as pa

from msa_models.plain_json import parsed
from orchestrator.store.faults import DamagedFile
from orchestrator.store.files import Files

MEMBER = "digest"
MOST_JSON = 32_000_000  # bytes: ten times what the record of an ablation of a thousand cells takes
_LENGTH = 32  # hexadecimal digits: half of a SHA-256, which processors compute fastest
_BLANK, _DIGEST = b"0" * _LENGTH, rb"[0-9a-f]{32}"
_STRETCH = 2**20  # bytes that are read at a time
_PARQUET, _END = b"PAR1", 8  # the last bytes: the length of the footer in four, and the magic
_JSON = re.compile(rb'"' + MEMBER.encode() + rb'": "' + _DIGEST + rb'"\n\}\s*\Z')
_SAFETENSORS = b'{"__metadata__":{"' + MEMBER.encode() + b'":"'
_ROOM = re.compile(rb"\ndigest (" + _DIGEST + rb")\n")


class Content(NamedTuple):
    """Bytes that lie in memory or in a file: how many, and those of a length from an offset on."""

    size: int
    at: Callable[[int, int], Any]

    @classmethod
    def of(cls, data: bytes) -> Content:
        """What lies in memory."""
        view = memoryview(data)
        return cls(len(data), lambda offset, length: view[offset : offset + length])

    @classmethod
    def of_file(cls, file: pa.NativeFile) -> Content:
        """What lies in a file that is open."""
        return cls(file.size(), lambda offset, length: file.read_at(length, offset))


def write(files: Files, path: str, data: bytes, *, durable: bool = False) -> None:
    """Write the file with its digest, as `Files.write` does."""
    files.write(path, sealed(path, data), durable=durable)


def read(files: Files, path: str) -> bytes:
    """The content of the file, proved. Raises `AbsentFile`, `DamagedFile` or another StorageError."""
    data = files.read(path)
    check(files, path, Content.of(data))
    return data


def write_json(files: Files, path: str, value: dict[str, Any], *, durable: bool = False) -> None:
    """Write an object with its digest; a value may be infinite."""
    write(files, path, json.dumps(value, indent=1).encode(), durable=durable)


def read_json(files: Files, path: str) -> Any:
    """The value that a file holds, proved, as it was given to `write_json`. Raises as `read` does."""
    data = files.read(path, most=MOST_JSON)
    check(files, path, Content.of(data))
    return from_json(files, path, data)


def from_json(files: Files, path: str, data: bytes) -> Any:
    """The same of the content of a file that was proved, or that needs no proof. Raises `DamagedFile`."""
    try:
        value = parsed(data)
    except ValueError as error:
        raise damaged(files, path, str(error)) from error
    if isinstance(value, dict):
        value.pop(MEMBER, None)
    return value


def check(files: Files, path: str, content: Content) -> None:
    """Raises `DamagedFile` unless the content is what was written under this path."""
    if why := fault(path, content, required=files.proven):
        raise damaged(files, path, why)


def damaged(files: Files, path: str, why: str) -> DamagedFile:
    """The error that says so, in one line."""
    return DamagedFile(f"{files.uri_of(path)} is damaged ({' '.join(why.split())})")


def fault(path: str, content: Content, *, required: bool) -> str:
    """Why the content is not what was written under this path, or ''; without a digest only where one is `required`."""
    start = _place(path, content)
    if start is None:
        return "it carries no digest" if required else ""
    known = bytes(content.at(start, _LENGTH))
    return "" if known == _digest(path, content, start) else "its digest is that of other content, or of another file"


def carries(path: str, content: Content) -> bool:
    """Whether there is a digest in it, right or wrong."""
    return _place(path, content) is not None


def sealed(path: str, data: bytes) -> bytes:
    """The content of a file without a digest, with it. Raises ValueError for what has no place for one."""
    whole = _WITH_ROOM[_suffix(path)](data)
    content = Content.of(whole)
    start = _place(path, content)
    if start is None:
        raise ValueError(f"{path} is no whole file of its kind, and so takes no digest")
    return whole[:start] + _digest(path, content, start) + whole[start + _LENGTH :]


def seal_parquet(path: str, local: str) -> None:
    """Put the digest into a Parquet file too large for memory, at a local path, which is to lie at `path`."""
    with open(local, "r+b") as file:
        size = file.seek(0, os.SEEK_END)
        footer = size - _END - int.from_bytes(_read_at(file, size - _END, 4), "little")
        rest = _read_at(file, footer, size - footer)
        file.seek(footer)
        file.write(_room(_BLANK) + rest)
        content = Content(size + len(_room(_BLANK)), lambda offset, length: _read_at(file, offset, length))
        start = _place(path, content)
        assert start is not None
        digest = _digest(path, content, start)
        file.seek(start)
        file.write(digest)


def _digest(path: str, content: Content, start: int) -> bytes:
    """Over the path and all of the content but the place of the digest itself."""
    whole = hashlib.sha256(path.encode() + b"\0")
    for first, end in ((0, start), (start + _LENGTH, content.size)):
        for offset in range(first, end, _STRETCH):
            whole.update(content.at(offset, min(_STRETCH, end - offset)))
    return whole.hexdigest()[:_LENGTH].encode()


def _place(path: str, content: Content) -> int | None:
    """Where the digest begins; None where there is none."""
    find = _PLACES.get(_suffix(path))
    return find(content) if find else None


def _suffix(path: str) -> str:
    return path[path.rfind(".") :]


def _room(digest: bytes) -> bytes:
    return b"\ndigest " + digest + b"\n"


def _in_parquet(content: Content) -> int | None:
    if content.size < _END:
        return None
    end = bytes(content.at(content.size - _END, _END))
    before = content.size - _END - int.from_bytes(end[:4], "little") - len(_room(_BLANK))
    if before < 0 or end[4:] != _PARQUET:
        return None
    found = _ROOM.fullmatch(bytes(content.at(before, len(_room(_BLANK)))))
    return before + found.start(1) if found else None


def _parquet_with_room(data: bytes) -> bytes:
    footer = max(0, len(data) - _END - int.from_bytes(data[-_END:-4], "little"))
    return data[:footer] + _room(_BLANK) + data[footer:]


def _in_json(content: Content) -> int | None:
    first = max(0, content.size - 4 * _LENGTH)
    found = _JSON.search(bytes(content.at(first, content.size - first)))
    return None if found is None else first + found.start() + len(MEMBER) + len('"": "')


def _json_with_room(data: bytes) -> bytes:
    rest = data.rstrip().removesuffix(b"}").rstrip()
    comma = b"" if rest.endswith(b"{") else b","
    return rest + comma + b'\n "' + MEMBER.encode() + b'": "' + _BLANK + b'"\n}'


def _in_safetensors(content: Content) -> int | None:
    start = _END + len(_SAFETENSORS)
    found = bytes(content.at(_END, len(_SAFETENSORS) + _LENGTH + 1))
    whole = found.startswith(_SAFETENSORS) and re.fullmatch(_DIGEST + b'"', found[len(_SAFETENSORS) :])
    return start if whole else None


def _safetensors_with_room(data: bytes) -> bytes:
    length = int.from_bytes(data[:_END], "little")
    header = parsed(data[_END : _END + length])
    if not isinstance(header, dict):
        raise ValueError("its header is no object")
    metadata = {MEMBER: _BLANK.decode(), **header.pop("__metadata__", {})}
    text = json.dumps({"__metadata__": metadata, **header}, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors are aligned, as before
    return len(text).to_bytes(_END, "little") + text + data[_END + length :]


def _read_at(file: BinaryIO, offset: int, length: int) -> bytes:
    file.seek(offset)
    return file.read(length)


_PLACES: dict[str, Callable[[Content], int | None]] = {
    ".parquet": _in_parquet,
    ".json": _in_json,
    ".safetensors": _in_safetensors,
}
_WITH_ROOM: dict[str, Callable[[bytes], bytes]] = {
    ".parquet": _parquet_with_room,
    ".json": _json_with_room,
    ".safetensors": _safetensors_with_room,
}
