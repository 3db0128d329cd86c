"""What is on file of a campaign that goes on: its finished trials, few at a time in memory, and those begun."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import accumulate, chain
from typing import Any

import pyarrow as pa

from orchestrator.run.messages import Assignment
from orchestrator.store import Store
from orchestrator.store.rows import read_rows

_COLUMNS = ("trial_id", "study_id", "phase", "number", "seed", "state", "value", "params", "intermediate_values")
_COLUMNS += ("duration_s",)
_ROWS_AT_ONCE = 1_000


class History:
    """`states` and `values` of the finished trials by id, the value of a FAIL being None; `failed`: its whole rows.

    `started`: what `Store.running` has, and `interrupted` what of it is legible.
    """

    def __init__(self, store: Store) -> None:
        self._finished = store.trials(_COLUMNS, strict=True)
        pa.default_memory_pool().release_unused()  # what reading and sorting took, as much again
        ids, studies, states, values = (
            self._finished[name].to_pylist() for name in ("trial_id", "study_id", "state", "value")
        )
        self.states: dict[str, str] = dict(zip(ids, states, strict=True))
        self.values: dict[str, float | None] = dict(zip(ids, values, strict=True))
        self._lengths = Counter(studies)  # their trials come one after the other
        self._first = dict(zip(self._lengths, accumulate(self._lengths.values(), initial=0), strict=False))
        failed = [trial_id for trial_id, state in self.states.items() if state == "FAIL"]
        tables = read_rows(store.files, "trials", failed, strict=True).tables if failed else []
        self.failed = list(chain.from_iterable(table.to_pylist() for table in tables))
        self.started = store.running(states=self.states)
        self.interrupted = _assignments(self.started)

    def of(self, study_id: str, *, without: Collection[str]) -> Iterator[dict[str, Any]]:
        """The finished trials of a study but for some, those of its search in the order of their numbers."""
        mine = self._finished.slice(self._first.get(study_id, 0), self._lengths[study_id])
        for batch in mine.to_batches(max_chunksize=_ROWS_AT_ONCE):
            yield from (row for row in batch.to_pylist() if row["trial_id"] not in without)


def _assignments(started: Iterable[Mapping[str, Any]]) -> list[Assignment]:
    """What was handed out, as far as it is legible: the rest is asked for again, with the same answer."""
    found = []
    for record in started:
        with contextlib.suppress(KeyError, TypeError, ValueError):
            found.append(Assignment.from_json(record["assignment"]))
    return found
