"""One assignment being trained in a worker process, stretch by stretch; knows nothing of Ray.

Whatever a trial raises becomes a failure in its report. Every trial starts by looking for its newest whole checkpoint,
so a lost worker, a killed driver and a restarted cluster are all the same to it.
"""

from __future__ import annotations

import os
import platform
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from typing import Any, Protocol

import numpy as np

from msa_models.data import Corpus
from orchestrator.run.curve import MEMBER, progress
from orchestrator.run.member_runs import MemberRuns
from orchestrator.run.messages import Assignment, Failure, Outcome, Report
from orchestrator.run.time_limit import Clock
from orchestrator.store import StorageError, Store
from orchestrator.store.failure_types import CUT_SHORT, TRIAL_TIME
from search_spaces.durations import words

STRETCH_S = 5.0  # a stretch ends after the step in which this is over, so that the driver can be interrupted
TIMES_CHECKPOINT = 10.0  # but it lasts so many times what the last checkpoint took: those of large models take seconds


class Result(Protocol):
    """What a run yields at its best epoch."""

    best_epoch: int
    value: float
    metrics: dict[str, float]
    predictions: np.ndarray
    warning: str


class Run(Protocol):
    """One trial being trained; `msa_models.training.Training` is one, tests bring small ones of their own."""

    measurements: list[dict[str, float]]

    @property
    def done(self) -> bool: ...
    @property
    def inside(self) -> bool: ...
    def advance(self, pause: Callable[[], bool]) -> dict[str, float] | None: ...
    def snapshot(self) -> bytes: ...
    def restore(self, data: bytes) -> None: ...
    def result(self) -> Any: ...
    def model(self) -> bytes: ...
    def robustness(self, asked: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]: ...


Workload = Callable[[Assignment, Corpus], Run]


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

    Only a confirm trial has a test split in its corpus: what nobody holds decides nothing.
    """

    def __init__(
        self,
        assignment: Assignment,
        corpus: Corpus,
        store: Store,
        workload: Workload,
        clock: Clock = time.perf_counter,
    ) -> None:
        self._assignment, self._store, self._workload, self._clock = assignment, store, workload, clock
        self._corpus = corpus if assignment.phase == "confirm" else corpus.without_test()
        self._run: Run | None = None
        self._num_reported = 0  # measurements
        self._trained = False  # anything in this stretch
        self._checkpoint_s = 0.0  # to make and write the last one
        self._total_s = 0.0  # inside training, over all attempts

    def stretch(self) -> Report:
        """One stretch; a checkpoint is on file before it is reported. Raises nothing that the trial caused."""
        started, began, busy_s = time.time(), self._clock(), 0.0
        end: Outcome | Failure | None = None
        storage_fault, self._trained = "", False
        try:
            run = self._train(began)
            if run.done:
                end = self._outcome(run)
            elif self._is_late(began):
                end = self._cut_short(run, self._total_s + self._clock() - began)
            busy_s = self._clock() - began
            if not isinstance(end, Outcome) and self._trained:
                self._store.checkpoint_write(
                    self._assignment.trial_id, len(run.measurements), run.snapshot(), self._total_s + busy_s
                )
                self._checkpoint_s = self._clock() - began - busy_s
        except StorageError as error:
            storage_fault = str(error)
        except Exception as error:
            busy_s = busy_s or self._clock() - began
            end = Failure(error_type=type(error).__name__, message=str(error), traceback=traceback.format_exc())
        measurements = self._run.measurements if self._run else []
        self._total_s += busy_s
        new, self._num_reported = measurements[self._num_reported :], len(measurements)
        return Report(
            measurements=new,
            host=platform.node(),
            pid=os.getpid(),
            started=started,
            busy_s=busy_s,
            total_s=self._total_s,
            end=end,
            inside=self._run is not None and self._run.inside,
            torch=version("torch"),
            storage_fault=storage_fault,
        )

    def _train(self, began: float) -> Run:
        rungs = self._assignment.rungs
        if self._run is None:
            several = self._assignment.members is not None
            make = partial(MemberRuns, workload=self._workload) if several else self._workload
            self._run = make(self._assignment, self._corpus)
            restored = self._restore(self._run) and not self._run.inside
            if restored and progress(self._run.measurements) in rungs:
                return self._run  # the driver may have died before it decided at this rung: it decides first
        run, stretch_s = self._run, max(STRETCH_S, TIMES_CHECKPOINT * self._checkpoint_s)

        def pause() -> bool:
            return self._clock() - began > stretch_s or self._is_late(began)

        while not run.done:
            self._trained = True
            measured = run.advance(pause)
            if measured is None or progress(run.measurements) in rungs or pause():
                break
        return run

    def _is_late(self, began: float) -> bool:
        """Whether the trial has trained for as long as it may, in a stretch that began then."""
        may_s = self._assignment.time_s
        return may_s is not None and self._total_s + self._clock() - began >= may_s

    def _cut_short(self, run: Run, total_s: float) -> Outcome | Failure:
        """How a trial ends whose time is over: failed, or complete at its best, if each of its trainings has one."""
        several = self._assignment.members
        begun = len({row.get(MEMBER, 1) for row in run.measurements})
        epochs = progress(run.measurements)
        said = f"{CUT_SHORT} {words(total_s)}, at epoch {epochs} (resources.trial_time)"
        if not self._assignment.keep_best or begun < (1 if several is None else len(several)):
            return Failure(error_type=TRIAL_TIME, message=said, traceback="")
        found = self._outcome(run)
        return replace(found, warning="; ".join(filter(None, [said, found.warning])))

    def _restore(self, run: Run) -> bool:
        for data in self._store.checkpoint_read(self._assignment.trial_id):
            try:
                run.restore(data)
            except ValueError:  # whole, but not of this trial as it is now: the one before may do
                self._store.checkpoint_set_aside(self._assignment.trial_id, data)
                continue
            self._total_s = self._store.checkpoint_busy_s(self._assignment.trial_id, data)
            return True
        return False

    def _outcome(self, run: Run) -> Outcome:
        result = run.result()
        if self._assignment.phase == "confirm":
            self._write_predictions(result.predictions)
        if self._assignment.robustness is not None:
            self._store.write_robustness(self._assignment.trial_id, run.robustness(self._assignment.robustness))
        if self._assignment.keep:
            self._store.write_model(self._assignment.trial_id, run.model())
        return Outcome(best_epoch=result.best_epoch, value=result.value, metrics=result.metrics, warning=result.warning)

    def _write_predictions(self, predictions: np.ndarray) -> None:
        test, classes = self._corpus.splits["test"], self._corpus.classes
        columns = {"sample_id": test.ids}
        if test.targets.ndim == 1:
            columns["target"] = test.targets
        else:
            columns |= {f"target_{name}": test.targets[:, index] for index, name in enumerate(classes)}
        if predictions.ndim == 1:
            columns["prediction"] = predictions
        else:
            columns |= {f"score_{name}": predictions[:, index] for index, name in enumerate(classes)}
        self._store.write_predictions(self._assignment.trial_id, columns)
