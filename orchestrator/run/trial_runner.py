"""Assignments being trained in a worker process, stretch by stretch; knows nothing of Ray.

Whatever a trial raises becomes a failure in its report.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Sequence
from dataclasses import replace

from msa_models.data import Corpus
from orchestrator.run import side_by_side
from orchestrator.run.messages import Assignment, Report
from orchestrator.run.time_limit import Clock
from orchestrator.run.trial import Run, Trial, Workload
from orchestrator.store import StorageError, Store

__all__ = ["STRETCH_S", "Run", "TrialRunner", "Workload", "out_of_reach"]

STRETCH_S = 5.0  # a stretch ends after the step in which this is over, so that the driver can be interrupted
TIMES_CHECKPOINT = 10.0  # but it lasts so many times what the last checkpoint took: those of large models take seconds


def out_of_reach(fault: str) -> Report:
    """What a worker reports that cannot use the storage at all: its trial stays unfinished."""
    return Report(
        measurements=[],
        host=platform.node(),
        pid=os.getpid(),
        started=time.time(),
        busy_s=0.0,
        storage_fault=fault,
    )


class TrialRunner:
    """Trains up to the next rung, the end, or for a few seconds, whichever is first.

    `mates` are trained side by side with the trial, in one pass if they can be.
    Their time is that of the pass, in equal parts. A stretch also ends where one of them does.
    """

    def __init__(
        self,
        assignment: Assignment,
        corpus: Corpus,
        store: Store,
        workload: Workload,
        clock: Clock = time.perf_counter,
        mates: Sequence[Assignment] = (),
    ) -> None:
        self._trials = [Trial(each, corpus, store, workload) for each in (assignment, *mates)]
        self._clock = clock
        self._checkpoint_s = 0.0  # to make and write the last ones

    def stretch(self) -> Report:
        """One stretch; a checkpoint is on file before it is reported. Raises nothing that a trial caused."""
        started, began, busy_s = time.time(), self._clock(), 0.0
        storage_fault, live = "", [each for each in self._trials if not each.is_over]
        for each in live:
            each.trained = False
        try:
            self._train(live, began)
            for each in live:
                each.conclude(self._elapsed_s(began, live))
            busy_s = self._elapsed_s(began, live)
            for each in live:
                each.total_s += busy_s
            before = self._clock()
            if any([each.keep_checkpoint(shared=len(live) > 1) for each in live]):
                self._checkpoint_s = self._clock() - before
        except StorageError as error:
            storage_fault = str(error)
        reports = {
            each.trial_id: each.report(started=started, busy_s=busy_s, storage_fault=storage_fault) for each in live
        }
        first = self._trials[0]
        lead = reports.pop(first.trial_id, None) or first.report(started=started, busy_s=0.0, storage_fault="")
        return replace(lead, mates=reports)

    def _elapsed_s(self, began: float, live: Sequence[Trial]) -> float:
        """What each of the trials has taken of a stretch that began then."""
        return (self._clock() - began) / len(live)

    def _train(self, live: Sequence[Trial], began: float) -> None:
        new = [each for each in live if each.run is None]
        for each in new:
            each.begin()
        if len(new) > 1:
            _align(new)
        if any(each.is_at_rung for each in new):
            return  # the driver may have died before it decided there: it decides first
        stretch_s = max(STRETCH_S, TIMES_CHECKPOINT * self._checkpoint_s)

        def pause() -> bool:
            late = any(each.is_late(self._elapsed_s(began, live)) for each in live)
            return self._clock() - began > stretch_s or late

        while going_on := [each for each in live if each.goes_on]:
            turn = [going_on[index] for index in side_by_side.behind([len(each.measurements) for each in going_on])]
            advanced = side_by_side.advance((each.run for each in turn), pause, len(turn))
            cut = False
            for each, measured in zip(turn, advanced, strict=False):
                each.trained = True
                cut = cut or measured is None
                if isinstance(measured, Exception):
                    each.fail(measured)
            if cut or any(not each.goes_on or each.is_at_rung for each in live) or pause():
                return


def _align(trials: Sequence[Trial]) -> None:
    """Let those that a kill has put a stretch apart go on from the checkpoint that they all have."""
    begun = [each for each in trials if each.end is None]
    places = [side_by_side.place(each.run) for each in begun]
    for each, place in zip(begun, places, strict=True):
        if place > min(places):
            each.go_back(min(places))
