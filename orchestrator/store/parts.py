"""Many small Parquet files read as tables, fast; a damaged one is reported and left out, not fatal.

Opening 1,000 files of one row is bound by per-file work, not by bytes: a few threads with long stretches each are
fastest on a local disk, many threads hide the latency of an object store.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.parquet as pq

from orchestrator.store.faults import AbsentFile, StorageError
from orchestrator.store.files import Files

SUFFIX = ".parquet"
_LOCAL_THREADS, _REMOTE_THREADS = 4, 32


def part_path(folder: str, trial_id: str) -> str:
    """Where the part of one trial lies."""
    return f"{folder}/{trial_id}{SUFFIX}"


def part_ids(files: Files, folder: str) -> list[str]:
    """The trial ids that have a part in the folder, sorted."""
    return [name.removesuffix(SUFFIX) for name in files.names(folder) if name.endswith(SUFFIX)]


def read_parts(
    files: Files, folder: str, trial_ids: Sequence[str], *, columns: Sequence[str] | None = None, strict: bool = False
) -> tuple[list[pa.Table], list[str]]:
    """The parts of these trials, in their order, and one line for each part that was left out because it is damaged.

    A part that the storage does not hand out (permission, network) is left out likewise, or raised if `strict`.
    """
    if not trial_ids:
        return [], []
    threads = min(_LOCAL_THREADS, os.cpu_count() or 1) if files.local else _REMOTE_THREADS
    stretch = -(-len(trial_ids) // threads)
    stretches = [trial_ids[start : start + stretch] for start in range(0, len(trial_ids), stretch)]
    with ThreadPoolExecutor(threads) as pool:
        done = pool.map(lambda ids: [_read(files, part_path(folder, each), columns, strict) for each in ids], stretches)
        parts = [part for stretch_parts in done for part in stretch_parts]
    return [part for part in parts if isinstance(part, pa.Table)], [part for part in parts if isinstance(part, str)]


def _read(files: Files, path: str, columns: Sequence[str] | None, strict: bool) -> pa.Table | str:
    try:
        data = files.read(path)
    except AbsentFile:
        return f"{files.uri_of(path)} went away while reading; it is left out"
    except StorageError as error:
        if strict:
            raise
        return f"{error} (left out)"
    try:
        part = pq.ParquetFile(pa.BufferReader(data))
        return part.read(columns=columns and list(columns), use_threads=False)
    except (pa.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())
        return f"{files.uri_of(path)} is damaged ({reason}); it is left out, delete it to have that trial run again"
