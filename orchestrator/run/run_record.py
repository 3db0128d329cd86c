"""The file of a run, `runs/<started>.json`: when it trained what, and how busy its slots were."""

from __future__ import annotations

import platform
import time
from datetime import UTC, datetime

from orchestrator.run.messages import Report
from orchestrator.run.time_limit import TimeLimit
from orchestrator.store import Store

RECORD_EVERY_S = 10.0


class RunRecord:
    """Written anew every few seconds, so that a driver that is killed leaves one too.

    Utilisation is the share of the slots' wall time spent inside training and evaluation. A slot's clock starts with
    the first stretch of the worker that fills it first, so start-up is left out, and everything after it counts: gaps
    between trials, checkpoints, workers that are replaced, slots that idle at the end.
    """

    def __init__(self, store: Store, slots: int, limit: TimeLimit | None) -> None:
        self._store, self._slots, self._limit = store, slots, None if limit is None else str(limit)
        self._started_at, self._written = datetime.now(UTC), time.monotonic()
        self._workers: dict[tuple[str, int], float] = {}  # first stretch of each
        self._busy_s, self._last = 0.0, 0.0

    def take(self, report: Report, num_finished: int, slots: int) -> None:
        """Count a report that has just arrived; of a cluster that grows and shrinks the most slots count."""
        self._slots = max(self._slots, slots)
        self._busy_s += report.busy_s
        self._last = time.time()
        worker = (report.host, report.pid)
        self._workers[worker] = min(self._workers.get(worker, report.started), report.started)
        if time.monotonic() - self._written > RECORD_EVERY_S:
            self.write(num_finished)

    @property
    def wall_s(self) -> float:
        """From the first stretch of the first worker to the last report."""
        return self._last - min(self._workers.values(), default=self._last)

    @property
    def utilisation(self) -> float | None:
        """Between 0 and 1; None before the first report."""
        slot_s = sum(self._last - first for first in sorted(self._workers.values())[: self._slots])
        return self._busy_s / slot_s if slot_s > 0 else None

    def write(self, num_finished: int) -> None:
        """`num_finished`: trials finished in this run."""
        self._written = time.monotonic()
        self._store.write_run(
            {
                "started_at": self._started_at.isoformat(),
                "host": platform.node(),
                "slots": self._slots,
                "num_finished": num_finished,
                "busy_s": self._busy_s,
                "wall_s": self.wall_s,
                "utilisation": self.utilisation,
                "limit": self._limit,
            }
        )
