"""Texts that a frozen encoder has yet to encode: what they are, who does it, and one driver at a time.

Who encodes (`Encode`) is handed in: this process (`here`), or tasks of Ray (`ray_backend/encoding.py`), each a share.
Shares are made of the same batches, so that the features are the same, bit for bit, however many there are.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace

import numpy as np

from msa_models.text.encoder import TextEncoder
from msa_models.text.find import Found
from orchestrator.run.output import Listener
from orchestrator.store import Files, OutOfReach
from orchestrator.store.encodings import Encodings, text_hash


class Unencoded(Exception):
    """Texts have to be encoded first, and nobody is there who does that."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """Texts, or their token ids, by hash, which an encoder has yet to encode for a cache."""

    encoder: TextEncoder
    files: Found
    texts: Mapping[bytes, str | tuple[int, ...]]
    cache: Encodings
    advance: Callable[[int], None] = field(default=lambda number: None, repr=False)  # told of each batch

    def of_share(self, number: int = 0, shares: int = 1) -> Generator[int]:
        """Encode every so manieth batch, and keep it in the cache, a chunk now and then; the texts of each batch."""
        from msa_models.text.encode import encode  # imports torch and transformers

        hashes, said = list(self.texts), list(self.texts.values())
        made = encode(self.files, self.encoder, said, range(len(said)), number, shares)
        known = (([hashes[index] for index in batch], features) for batch, features in made)
        with closing(self.cache.keep(known)) as kept:
            yield from kept

    def left(self) -> Work:
        """The same with those texts that the cache does not have yet."""
        there = self.cache.load(self.texts).keys()
        return replace(self, texts={each: text for each, text in self.texts.items() if each not in there})


Encode = Callable[[Work], None]


def here(work: Work) -> None:
    """Encode in this process."""
    with closing(work.of_share()) as batches:
        for number in batches:
            work.advance(number)


def encoded(
    encoder: TextEncoder,
    files: Found,
    texts: Mapping[bytes, str | tuple[int, ...]],
    storage: Files,
    encode: Encode | None,
    listener: Listener,
) -> dict[bytes, np.ndarray]:
    """What the encoder makes of these texts, by hash, from the cache beside a storage; missing ones are encoded first.

    Where another driver encodes for the same cache it is waited for, and what it has encoded is encoded no more. Raises
    Unencoded where texts are missing and nobody is to `encode` them yet.
    """
    use = {"encoder": files.fingerprint, "pooling": encoder.pooling, "max_length": encoder.max_length}
    cache = Encodings.beside(storage, use | {"dtype": encoder.dtype})
    found = cache.load(texts)
    if len(found) == len(texts):
        return found
    if encode is None:
        raise Unencoded
    with cache.turn(listener.say):
        work = Work(encoder=encoder, files=files, texts=texts, cache=cache).left()
        if number := len(work.texts):
            title = f"encoding {number} texts with {encoder.name} ({encoder.pooling}, {encoder.max_length})"
            with listener.encoding(title, number) as advance:
                encode(replace(work, advance=advance))
    found = cache.load(texts)
    if len(found) < len(texts):
        raise OutOfReach(f"{cache.files.uri} does not hold what has just been written there; try again")
    return found


def hash_of(said: str | tuple[int, ...]) -> bytes:
    """What a text, or its token ids, is known by."""
    return text_hash(said if isinstance(said, str) else f"\0{' '.join(map(str, said))}")
