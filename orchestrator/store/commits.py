"""How a driver puts its finished trials on file: parts that are folded before they are too many, several at a time.

A part is a file of its own for each trial, so that none is lost whenever the driver is killed. Of every thousand of
them it makes a compact file at once, from what it has in memory, so that readers never have many to open, whatever a
run comes to. Where a write takes a journey, to an object store, trials are written in threads, and the driver goes on
meanwhile: until then a trial is not finished, neither on file nor in what is said of it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock
from typing import Any

import pyarrow as pa

from orchestrator.store.compaction import SETTLED, fold_rows
from orchestrator.store.store import Store

FOLD_EVERY = 1_000  # trials
_STACK = 50  # tables of one trial each, which take ten times as much memory as one of all their rows
_THREADS, _MOST_WAITING = 8, 64


class Commits:
    """Writes what has finished; only the holder of the `Lease` has one, and only one thread calls it."""

    def __init__(self, store: Store) -> None:
        self._store, self._lock, self._folding = store, Lock(), Lock()
        self._pool = None if store.files.local else ThreadPoolExecutor(_THREADS, thread_name_prefix="commits")
        self._waiting: deque[Future[None]] = deque()
        self._stacks: dict[tuple[str, str], list[pa.Table]] = {}  # rows that are in parts, by folder and columns
        self._num_parts = 0

    def finish(
        self, row: Mapping[str, Any], measurements: Sequence[Mapping[str, float | None]], on_file: Callable[[], None]
    ) -> None:
        """Commit a finished trial as `Store.finish` does; `on_file` is called once it is, perhaps in another thread.

        Raises StorageError, also of a trial before.
        """
        if self._pool is None:
            self._commit(row, measurements, on_file)
            return
        while self._waiting and (self._waiting[0].done() or len(self._waiting) >= _MOST_WAITING):
            self._waiting.popleft().result()
        self._waiting.append(self._pool.submit(self._commit, row, list(measurements), on_file))

    def settle(self) -> None:
        """Wait until all is on file. Raises StorageError."""
        while self._waiting:
            self._waiting.popleft().result()

    def _commit(
        self, row: Mapping[str, Any], measurements: Sequence[Mapping[str, float | None]], on_file: Callable[[], None]
    ) -> None:
        tables = self._store.finish(row, measurements)
        with self._lock:
            on_file()
            if row["state"] not in SETTLED:
                return
            for folder, table in tables.items():
                self._stack(folder, table)
            self._num_parts += 1
            if self._num_parts < FOLD_EVERY:
                return
            stacks, self._stacks, self._num_parts = self._stacks, {}, 0
        with self._folding:
            for (folder, _), stack in stacks.items():
                fold_rows(self._store.files, folder, pa.concat_tables(stack))

    def _stack(self, folder: str, table: pa.Table) -> None:
        if not table.num_rows:
            return
        stack = self._stacks.setdefault((folder, table.schema.to_string(show_schema_metadata=True)), [])
        stack.append(table)
        if len(stack) % _STACK == 0:
            stack[1 - _STACK :] = [pa.concat_tables(stack[1 - _STACK :]).combine_chunks()]
