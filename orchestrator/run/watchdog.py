"""Which workers are given up: those that say nothing any more, and those stuck in a trial whose time is over."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from orchestrator.run.messages import Assignment, Failure, Report
from orchestrator.run.time_limit import Clock
from orchestrator.store.failure_types import CUT_SHORT, TRIAL_TIME, WORKER_SILENT
from search_spaces.durations import words
from search_spaces.schema import FIRST_WORD_S

TIMES_STRETCH = 2.0  # of the longest stretch a trial may be over its time: its worker ends it between two steps


@dataclass
class _Watched:
    assignment: Assignment
    heard_at: float
    total_s: float = 0.0  # trained, over all attempts
    longest_s: float = 0.0  # stretch


class Watchdog:
    """`silent_s`: how long a worker may say nothing; None: for ever."""

    def __init__(self, silent_s: float | None, clock: Clock = lambda: time.monotonic()) -> None:
        self._silent_s, self._clock = silent_s, clock
        self._watched: dict[str, _Watched] = {}

    def begin(self, name: str, assignment: Assignment) -> None:
        """A trial has a worker, from now on."""
        self._watched[name] = _Watched(assignment, self._clock())

    def hear(self, name: str, report: Report) -> None:
        """Its worker has reported."""
        if (watched := self._watched.get(name)) is not None:
            watched.heard_at, watched.total_s = self._clock(), report.total_s
            watched.longest_s = max(watched.longest_s, report.busy_s)

    def end(self, name: str) -> None:
        """It has no worker any more."""
        self._watched.pop(name, None)

    def given_up(self) -> Mapping[str, Failure]:
        """Those whose workers are to be ended now, with what is wrong; each is told once."""
        found = {name: failure for name, each in self._watched.items() if (failure := self._failure(each))}
        for name in found:
            self.end(name)
        return found

    def _failure(self, watched: _Watched) -> Failure | None:
        silent_s, may_s = self._clock() - watched.heard_at, watched.assignment.time_s
        grace_s = max(FIRST_WORD_S, TIMES_STRETCH * watched.longest_s)
        if may_s is not None and watched.total_s + silent_s > may_s + grace_s:
            said = f"{CUT_SHORT} {words(watched.total_s + silent_s)}, in an epoch that does not end"
            return Failure(error_type=TRIAL_TIME, message=f"{said} (resources.trial_time)", traceback="")
        if self._silent_s is not None and silent_s > self._silent_s:
            said = f"its worker said nothing for {words(silent_s)} (resources.silent_after)"
            return Failure(error_type=WORKER_SILENT, message=said, traceback="")
        return None
