"""One trial being trained: its run, how it ends, and what is on file of it; knows nothing of Ray.

Every trial starts by looking for its newest whole checkpoint, so a lost worker, a killed driver and a restarted cluster
are all the same to it.
"""

from __future__ import annotations

import os
import platform
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from typing import Any, Protocol

import numpy as np

from msa_models.data import Corpus
from orchestrator.run import side_by_side
from orchestrator.run.curve import MEMBER, progress
from orchestrator.run.member_runs import MemberRuns
from orchestrator.run.messages import Assignment, Failure, Outcome, Report
from orchestrator.store import StorageError, Store
from orchestrator.store.failure_types import CUT_SHORT, TRIAL_TIME
from search_spaces.durations import words


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


class Trial:
    """One of the trials of a worker, as far as it has come.

    Only a confirm trial has a test split in its corpus: what nobody holds decides nothing.
    """

    def __init__(self, assignment: Assignment, corpus: Corpus, store: Store, workload: Workload) -> None:
        self._assignment, self._store, self._workload = assignment, store, workload
        self._corpus = corpus if assignment.phase == "confirm" else corpus.without_test()
        self.trial_id = assignment.trial_id
        self.run: Run | None = None
        self.end: Outcome | Failure | None = None
        self.trained = False  # anything in this stretch
        self.total_s = 0.0  # inside training, over all attempts
        self._num_reported = 0  # measurements
        self._raised = False

    @property
    def measurements(self) -> list[dict[str, float]]:
        return [] if self.run is None else self.run.measurements

    @property
    def is_over(self) -> bool:
        return self.end is not None

    @property
    def goes_on(self) -> bool:
        """Whether there is anything left to train."""
        return self.end is None and self.run is not None and not self.run.done

    @property
    def is_at_rung(self) -> bool:
        return self.run is not None and not self.run.inside and progress(self.measurements) in self._assignment.rungs

    def is_late(self, elapsed_s: float) -> bool:
        """Whether the trial has trained for as long as it may, by so long in this stretch."""
        may_s = self._assignment.time_s
        return may_s is not None and self.total_s + elapsed_s >= may_s

    def begin(self) -> None:
        """Make the run and take up its newest whole checkpoint. Raises StorageError."""
        try:
            self.run = self._made()
            self._restore(self.run)
        except StorageError:
            raise
        except Exception as error:
            self.fail(error)

    def go_back(self, place: tuple[int, int]) -> None:
        """Take up the checkpoint of this place, or begin anew where it has one of its first stretch only."""
        checkpoints, newest = list(self._store.checkpoint_read(self.trial_id)), self.run
        for data in checkpoints[1:]:
            self.run = self._made()
            self.run.restore(data)
            if side_by_side.place(self.run) == place:
                self.total_s = self._store.checkpoint_busy_s(self.trial_id, data)
                return
        is_first = len(checkpoints) == 1 and place == (0, 0)
        self.run = self._made() if is_first else newest

    def conclude(self, elapsed_s: float) -> None:
        """Say how the trial has ended, if it has. Raises StorageError."""
        if self.end is not None or self.run is None:
            return
        try:
            if self.run.done:
                self.end = self._outcome(self.run)
            elif self.is_late(elapsed_s):
                self.end = self._cut_short(self.run, self.total_s + elapsed_s)
        except StorageError:
            raise
        except Exception as error:
            self.fail(error)

    def fail(self, error: Exception) -> None:
        said = "".join(traceback.format_exception(error))
        self.end, self._raised = Failure(error_type=type(error).__name__, message=str(error), traceback=said), True

    def keep_checkpoint(self, *, shared: bool = False) -> bool:
        """Write one where something was trained that will not be on file as an outcome; whether it was.

        Of a pass that is `shared` also then: were it killed between two outcomes, the other would go on alone.
        """
        if self.run is None or self._raised or not self.trained or (isinstance(self.end, Outcome) and not shared):
            return False
        try:
            data = self.run.snapshot()
        except Exception as error:
            self.fail(error)
            return False
        self._store.checkpoint_write(self.trial_id, len(self.measurements), data, self.total_s)
        return True

    def report(self, *, started: float, busy_s: float, storage_fault: str) -> Report:
        """What is new."""
        new, self._num_reported = self.measurements[self._num_reported :], len(self.measurements)
        return Report(
            measurements=new,
            host=platform.node(),
            pid=os.getpid(),
            started=started,
            busy_s=busy_s,
            total_s=self.total_s,
            end=None if storage_fault else self.end,
            inside=self.run is not None and self.run.inside,
            torch=version("torch"),
            storage_fault=storage_fault,
        )

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

    def _made(self) -> Run:
        several = self._assignment.members is not None
        make = partial(MemberRuns, workload=self._workload) if several else self._workload
        return make(self._assignment, self._corpus)

    def _restore(self, run: Run) -> bool:
        for data in self._store.checkpoint_read(self._assignment.trial_id):
            try:
                run.restore(data)
            except ValueError:  # whole, but not of this trial as it is now: the one before may do
                self._store.checkpoint_set_aside(self._assignment.trial_id, data)
                continue
            self.total_s = self._store.checkpoint_busy_s(self._assignment.trial_id, data)
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
