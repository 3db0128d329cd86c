"""Parts: many small Parquet files, one for each trial, read as tables, fast; a damaged one is left out, not fatal.

Opening 1,000 files of one row is bound by per-file work, not by bytes: a few threads with long stretches each are
fastest on a local disk, many threads hide the latency of an object store.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from orchestrator.store.compacts import is_compact
from orchestrator.store.faults import AbsentFile, StorageError
from orchestrator.store.files import Files
from orchestrator.store.schema import fault

SUFFIX = ".parquet"
Result = TypeVar("Result")
_LOCAL_THREADS, _REMOTE_THREADS = 4, 32


def part_path(folder: str, trial_id: str) -> str:
    """Where the part of one trial lies."""
    return f"{folder}/{trial_id}{SUFFIX}"


def part_ids(files: Files, folder: str) -> list[str]:
    """The trial ids that have a part in the folder, sorted."""
    return parts_among(files.names(folder))


def parts_among(names: Iterable[str]) -> list[str]:
    """Of the names in a folder the trial ids that have a part, in their order."""
    stems = [name.removesuffix(SUFFIX) for name in names if name.endswith(SUFFIX)]
    return [stem for stem in stems if not is_compact(stem)]


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What was read of the parts of some trials."""

    tables: dict[str, pa.Table]  # by trial id, in the order asked for
    absent: list[str]  # trial ids whose part went away since they were listed
    warnings: list[str]  # one line for each part that is there and was left out


def read_parts(
    files: Files, folder: str, trial_ids: Sequence[str], *, columns: Sequence[str] | None = None, strict: bool = False
) -> Parts:
    """The parts of these trials; those that are damaged are left out.

    A part that the storage does not hand out (permission, network) is left out likewise, or raised if `strict`.
    """
    read = spread(files, lambda each: _read(files, folder, each, columns, strict), trial_ids)
    found = list(zip(trial_ids, read, strict=True))
    return Parts(
        tables={trial_id: part for trial_id, part in found if isinstance(part, pa.Table)},
        absent=[trial_id for trial_id, part in found if part is None],
        warnings=[part for _, part in found if isinstance(part, str)],
    )


def spread(files: Files, function: Callable[[str], Result], items: Sequence[str]) -> list[Result]:
    """The function of each of many small files, in order, by as many threads as this storage takes."""
    if not items:
        return []
    threads = min(_LOCAL_THREADS, os.cpu_count() or 1) if files.local else _REMOTE_THREADS
    stretch = -(-len(items) // threads)
    stretches = [items[start : start + stretch] for start in range(0, len(items), stretch)]
    with ThreadPoolExecutor(threads) as pool:
        return [result for done in pool.map(lambda ids: list(map(function, ids)), stretches) for result in done]


def _read(
    files: Files, folder: str, trial_id: str, columns: Sequence[str] | None, strict: bool
) -> pa.Table | str | None:
    path = part_path(folder, trial_id)
    try:
        data = files.read(path)
    except AbsentFile:
        return None
    except StorageError as error:
        if strict:
            raise
        return f"{error} (left out)"
    try:
        part = pq.ParquetFile(pa.BufferReader(data)).read(columns=columns and list(columns), use_threads=False)
        if wrong := fault(folder, part, columns):
            raise pa.ArrowInvalid(wrong)
    except (pa.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())
        return f"{files.uri_of(path)} is damaged ({reason}); it is left out, delete it to have that trial run again"
    return part
