"""A corpus for other processes of this machine: they map the files of its large arrays, which nobody copies.

Such a file has no name, see `mapped`: it is opened through the process that lent it, by its number there, and is gone
once all have ended. Linux only; elsewhere, and on another machine, arrays have to be copied.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from msa_models.data import mapped
from msa_models.data.corpus import Corpus


@dataclass(frozen=True, kw_only=True)
class Lent:
    """Where an array lies: in which file of the process that lends it, and where in that."""

    process: int
    descriptor: int
    inode: tuple[int, int]
    start: int
    shape: tuple[int, ...]
    dtype: str


class Lender:
    """Keeps the files of what it has lent open, and none of their pages."""

    def __init__(self) -> None:
        self._descriptors: list[int] = []

    def lend(self, corpora: Mapping[str, Corpus]) -> dict[str, Corpus]:
        """The same corpora to be sent to other processes of this machine, which have to ask `borrowed` for each."""
        if sys.platform != "linux":
            return dict(corpora)
        lent = {id(corpus): _each(corpus, self._lent) for corpus in corpora.values()}
        return {key: lent[id(corpus)] for key, corpus in corpora.items()}

    def close(self) -> None:
        """Nobody can borrow any more; who has goes on."""
        while self._descriptors:
            os.close(self._descriptors.pop())

    def _lent(self, array: np.ndarray) -> Any:
        found = mapped.map_of(array)
        if found is None or not array.flags.c_contiguous:
            return array
        self._descriptors.append(os.dup(found.descriptor))
        status = os.fstat(found.descriptor)
        return Lent(
            process=os.getpid(),
            descriptor=self._descriptors[-1],
            inode=(status.st_dev, status.st_ino),
            start=found.start + array.ctypes.data - np.frombuffer(found, np.uint8).ctypes.data,
            shape=array.shape,
            dtype=array.dtype.str,
        )


def borrowed(corpus: Corpus) -> Corpus:
    """The corpus that was lent, its large arrays mapped read-only. Raises OSError where its lender has ended."""
    return _each(corpus, _taken)


def _taken(array: Any) -> np.ndarray:
    if not isinstance(array, Lent):
        return array
    with open(f"/proc/{array.process}/fd/{array.descriptor}", "rb") as file:
        status = os.fstat(file.fileno())
        if (status.st_dev, status.st_ino) != array.inode:
            raise OSError(f"process {array.process} is no longer the one that has read the corpus")
        return mapped.view(file, array.start, array.shape, np.dtype(array.dtype))


def _each(corpus: Corpus, change: Callable[[Any], Any]) -> Corpus:
    splits = {
        name: replace(split, inputs={modality: change(values) for modality, values in split.inputs.items()})
        for name, split in corpus.splits.items()
    }
    return replace(corpus, splits=splits)
