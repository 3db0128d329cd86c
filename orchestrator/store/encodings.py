"""The cache of encoded texts: what a frozen encoder makes of a text is computed once, for all storages side by side.

    encodings/<key>/chunk-<checksum>-<id>.arrow     beside the storage; key: of encoder, tokenizer and how it is used

A chunk holds many texts (their hashes, numbers of tokens, features), is written whole and never changed. So whoever is
killed leaves whole chunks, and a damaged chunk (its name carries the checksum of its content) is set aside and its
texts are encoded anew. Drivers take turns, by a lease; where that is not sure two of them at worst encode a text twice.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import time
import uuid
import zlib
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from msa_models.printable import one_line
from orchestrator.store.faults import AbsentFile, OutOfReach, StorageError
from orchestrator.store.files import Files
from orchestrator.store.lease import Lease, LeaseHeld

FOLDER = "encodings"
CHUNK_BYTES = 64 * 2**20  # a chunk is written when it has as much,
CHUNK_S = 10.0  # or when so much time has gone into it
LOOK_S = 1.0  # whether the driver whose turn it is has come to its end
_FORMAT = "encoded texts, format 1"
_NAME = re.compile(r"chunk-(?P<checksum>[0-9a-f]{8})-[0-9a-f]{32}\.arrow")
_ASIDE = ".damaged"  # behind the name: such a file is not read again
_SCHEMA = pa.schema(
    {"text": pa.binary(16), "tokens": pa.int32(), "features": pa.large_list(pa.float32())}, {"format": _FORMAT}
)


def all_beside(storage: Files) -> Files:
    """The folder with those of all uses, beside a storage or inside one that is a bucket."""
    root, uri = storage.root, storage.uri.partition("?")[0]
    if "/" in root:
        root, uri = root.rpartition("/")[0], uri.rpartition("/")[0]
    return replace(storage, root=f"{root}/{FOLDER}", uri=f"{uri}/{FOLDER}")


def is_whole(name: str, data: bytes) -> bool | None:
    """Whether a chunk of this name has the content that its name says; None for what is no chunk."""
    match = _NAME.fullmatch(name)
    return None if match is None else zlib.crc32(data) == int(match["checksum"], 16)


class _DamagedError(Exception):
    """A chunk that does not hold what was written."""


def text_hash(text: str) -> bytes:
    """What a text is known by."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:16]


@dataclass(frozen=True, kw_only=True)
class Encodings:
    """The features of texts by one encoder, used in one way; `files` is the folder of their chunks."""

    files: Files

    @classmethod
    def beside(cls, storage: Files, use: Mapping[str, Any]) -> Encodings:
        """Those of a use (fingerprint of the encoder, pooling, …) beside a storage, or inside one that is a bucket."""
        key = hashlib.sha256(json.dumps([_FORMAT, dict(use)], sort_keys=True).encode()).hexdigest()[:16]
        below = all_beside(storage)
        return cls(files=replace(below, root=f"{below.root}/{key}", uri=f"{below.uri}/{key}"))

    def load(self, hashes: Collection[bytes]) -> dict[bytes, np.ndarray]:
        """The features of those of the texts that are there, (t, d) or (d,); local files are mapped into memory."""
        wanted, found = set(hashes), dict[bytes, np.ndarray]()
        with self._clear():
            for name in self.files.names():
                match = _NAME.fullmatch(name)
                if not wanted or match is None:  # none of ours
                    continue
                try:
                    chunk = self._chunk(name, match["checksum"], wanted)
                except AbsentFile:  # another driver has set it aside
                    continue
                except _DamagedError:
                    self._set_aside(name)
                    continue
                found |= chunk
                wanted -= chunk.keys()
        return found

    def add(self, hashes: Sequence[bytes], features: Sequence[np.ndarray]) -> None:
        """Keep the features of some texts, in one chunk."""
        ends = np.cumsum([0, *(each.size for each in features)])
        flat = np.concatenate([each.ravel() for each in features])
        columns = [
            pa.array(hashes, _SCHEMA.field("text").type),
            pa.array([len(each) if each.ndim == 2 else None for each in features], pa.int32()),
            pa.LargeListArray.from_arrays(pa.array(ends, pa.int64()), pa.array(flat, pa.float32())),
        ]
        sink, schema = pa.BufferOutputStream(), _SCHEMA.with_metadata({"format": _FORMAT, "use": self._key})
        with pa.ipc.new_file(sink, schema) as writer:
            writer.write_batch(pa.record_batch(columns, schema=schema))
        data = sink.getvalue()
        with self._clear():
            self.files.write(f"chunk-{zlib.crc32(data):08x}-{uuid.uuid4().hex}.arrow", data.to_pybytes(), durable=True)

    def keep(self, encoded: Iterable[tuple[Sequence[bytes], Sequence[np.ndarray]]]) -> Generator[int]:
        """Keep what is being encoded, batch by batch, a chunk now and then; yields the number of texts of each batch.

        What is in hand when something ends it is kept too.
        """
        hashes: list[bytes] = []
        features: list[np.ndarray] = []
        since = time.monotonic()
        try:
            for more, values in encoded:
                hashes += more
                features += values
                if sum(each.nbytes for each in features) > CHUNK_BYTES or time.monotonic() - since > CHUNK_S:
                    full, hashes, features = (hashes, features), [], []
                    self.add(*full)
                    since = time.monotonic()
                yield len(more)
        finally:
            if hashes:
                self.add(hashes, features)

    @contextlib.contextmanager
    def turn(self, say: Callable[[str], None]) -> Iterator[None]:
        """While the block runs no other driver encodes; one that does is waited for, and what for is said."""
        told = False
        with contextlib.ExitStack() as stack:
            while True:
                try:
                    with self._clear():
                        stack.enter_context(Lease(self.files))
                    break
                except LeaseHeld as error:
                    if not told:
                        used = str(error).partition("; wait for it")[0]
                        say(one_line(f"{used}: waiting for the texts that it encodes"))
                    told = True
                    time.sleep(LOOK_S)
            yield

    def _chunk(self, name: str, checksum: str, wanted: Collection[bytes]) -> dict[bytes, np.ndarray]:
        """What a chunk has of the wanted texts."""
        data = self._content(name)
        if zlib.crc32(data) != int(checksum, 16):
            raise _DamagedError  # before anything in it is followed
        table = pa.ipc.open_file(data).read_all()
        if (table.schema.metadata or {}).get(b"use", self._key.encode()) != self._key.encode():
            raise _DamagedError  # of another encoder
        flat, ends = table["features"].chunk(0).flatten().to_numpy(), table["features"].chunk(0).offsets.to_numpy()
        found = {}
        for row, (text, tokens) in enumerate(zip(table["text"].to_pylist(), table["tokens"].to_pylist(), strict=True)):
            values = flat[ends[row] : ends[row + 1]]
            if text in wanted:
                found[text] = values if tokens is None else values.reshape(tokens, -1)
        return found

    @property
    def _key(self) -> str:
        return self.files.root.rpartition("/")[2]

    def _content(self, name: str) -> pa.Buffer:
        if not self.files.local:
            return pa.py_buffer(self.files.read(name))
        with self.files.open(name):  # its errors are clear ones
            return pa.memory_map(self.files.path(name)).read_buffer()

    def _set_aside(self, name: str) -> None:
        with contextlib.suppress(AbsentFile):
            self.files.write(name + _ASIDE, self.files.read(name))
            self.files.delete(name)

    @contextlib.contextmanager
    def _clear(self) -> Iterator[None]:
        try:
            yield
        except LeaseHeld:
            raise
        except StorageError as error:
            kind = OutOfReach if isinstance(error, OutOfReach) else StorageError
            raise kind(f"encoded texts are kept beside the storage, in {self.files.uri}: {error}") from error
