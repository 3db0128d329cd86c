"""A campaign: all studies of an experiment being run against one storage; knows nothing of Ray.

It hands out assignments, decides on pruning, and writes every finished trial: on a folder before anybody else hears of
it, on an object store meanwhile. There a driver that is killed has perhaps handed out what follows from a trial that is
not on file; both are taken up again, to come to the same.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import replace

from orchestrator.plan.studies import Study
from orchestrator.run import retries
from orchestrator.run.choice import of_one_cell
from orchestrator.run.failing_start import FailingStart
from orchestrator.run.history import History
from orchestrator.run.messages import Assignment, Failure, Outcome, Report
from orchestrator.run.progress import phases, totals
from orchestrator.run.provenance import Provenance
from orchestrator.run.retries import Changes, Retry
from orchestrator.run.study_state import COMPLETE, FAIL, PRUNED, StudyState
from orchestrator.run.trial_row import Started, trial_row
from orchestrator.run.unit_race import races
from orchestrator.store import OutOfReach, Store
from orchestrator.store.commits import Commits
from orchestrator.store.failure_types import TRIAL_TIME, FailureType, failure_type_of
from search_spaces.durations import seconds


class Campaign:
    """Planned minus finished, over all studies; the same for a first start and for any continuation.

    `retry`: of the failed trials those that are taken as not finished, as are those of an earlier retry that have not
    been trained again; a success replaces the failure.
    `restarts`: how often a trial starts anew whose worker was lost. `time_s`: that a trial may train, and one that is
    tried again once more; `keep_best`: whether it is complete at its best epoch when that is over. `stop_after`: how
    many of the first trials may fail alike, see `FailingStart`.
    """

    def __init__(
        self,
        store: Store,
        studies: Sequence[Study],
        provenance: Provenance,
        *,
        retry: Retry | None = None,
        restarts: int = 0,
        time_s: float | None = None,
        keep_best: bool = False,
        stop_after: int | None = 0,
    ) -> None:
        self._store, self._provenance = store, provenance
        history = History(store)
        failed, self._changes = retries.with_changes(history.failed, history.started)
        self._asked = {} if retry is None else dict(retry(failed))
        self._changes |= self._asked
        again = [row for row in failed if row["trial_id"] in self._changes]
        self._attempts = {row["trial_id"]: row["attempts"] or 1 for row in again}
        self._attempts |= {record["trial_id"]: record.get("attempts") or 1 for record in history.started}
        self._cells = {trial_id: value for trial_id, value in history.values.items() if trial_id not in self._changes}
        live: dict[str, StudyState] = {}
        for study in studies:  # a leader comes before those that follow it
            live[study.study_id] = StudyState(
                study,
                code_fingerprint=provenance.code_fingerprint,
                cells=self._cells,
                history=history.of(study.study_id, without=self._changes),
                interrupted=[trial for trial in history.interrupted if trial.study_id == study.study_id],
                again=[row for row in again if row["study_id"] == study.study_id],
                leader=live[study.leader] if study.leader else None,
            )
        self.studies = list(live.values())
        self._races = races(self.studies, self._cells)
        self._open = deque(study for study in self.studies if not study.done)
        self.states = Counter(history.states[trial_id] for trial_id in self._cells)
        self._num_before = len(self._cells)
        self._running: dict[str, Started] = {}
        self._commits = Commits(store)
        self._restarts, self._losses = restarts, Counter[str]()
        self._time_s, self._keep_best = time_s, keep_best
        self._failed_after_s = {row["trial_id"]: row["duration_s"] or 0.0 for row in again}
        left = [row for row in failed if row["trial_id"] not in self._changes]
        self._start = FailingStart(stop_after, left if self.states.keys() <= {FAIL} else ())
        self._growths = 0  # how often a trial that is out of memory may start anew with twice the room
        self._fits: Callable[[int], bool] = lambda scale: False

    def grow(self, times: int, fits: Callable[[int], bool]) -> None:
        """Let trials that run out of memory start anew with twice the room, where `fits` says that there is as much."""
        self._growths, self._fits = times, fits

    def share_passes(self, gains: Callable[[Study], bool]) -> None:
        """Let only trials of studies share a pass that gain by it."""
        for each in self.studies:
            each.most = each.most if gains(each.study) else 1

    def keep_retries(self) -> None:
        """Put on file which failed trials are asked for again, so that any later run goes on with them."""
        for trial_id, changes in self._asked.items():
            self._store.begin(
                {"trial_id": trial_id, "attempts": self._attempts[trial_id], retries.AGAIN: dict(changes)}
            )

    @property
    def changes(self) -> list[Changes]:
        """Those of the failed trials that are trained again."""
        return [changes for changes in self._changes.values() if changes]

    @property
    def done(self) -> bool:
        """Whether every planned trial of every study is finished, and on file."""
        while self._open and self._open[0].done:  # by a trial that another study trained, or because its leader failed
            self._open.popleft()
        if not self._open:
            self._commits.settle()
        return not self._open

    @property
    def exhausted(self) -> bool:
        """Whether no further trial will be handed out, unless one that runs is lost."""
        if self._races or self._growths:
            return self.done
        return all(study.exhausted for study in self._open)

    @property
    def stopped(self) -> str:
        """Why the run is to end though trials are left, or nothing."""
        return "" if self.done else self._start.said

    @property
    def num_waiting(self) -> int:
        """How many trials could be handed out now, were there slots."""
        return sum(study.num_waiting(self._running) for study in self._open)

    @property
    def phases(self) -> dict[str, tuple[int, int]]:
        """Trials finished and planned by phase, over all studies, in the order of the phases."""
        return phases(self.studies, self._cells)

    @property
    def num_planned(self) -> int:
        """Trials of all studies and phases."""
        return totals(self.phases)[1]

    @property
    def num_new(self) -> int:
        """Trials finished since this campaign began."""
        return sum(self.states.values()) - self._num_before

    @property
    def running(self) -> list[tuple[Assignment, int]]:
        """What is handed out and not finished, and how many epochs of each are known."""
        return [(started.assignment, len(started.measurements)) for started in self._running.values()]

    def next(self) -> Assignment | None:
        """The next trial of the study that has come least far and has one; it is on file before it is handed out."""
        for study in sorted(self._open, key=lambda study: study.num_started):
            assignment = study.next(running=self._running)
            if assignment is not None:
                return self._begun(self._as_asked(assignment), study)
        return None

    def together(self, assignment: Assignment) -> list[Assignment]:
        """The next trial and those to be trained in one pass with it, which are handed out with it.

        In an order that is always the same. The last start that one has left it has alone: perhaps it was another that
        cost them their workers.
        """
        study, several, apart = self._running[assignment.trial_id].study, [assignment], []
        for each in (each for each in self._open if study.most > 1 and of_one_cell(each.study, study.study)):
            most = study.most - len(several) - len(apart)
            for mate in each.mates(study.study, assignment, most, running=self._running):
                asked = self._as_asked(mate)
                alike = (asked.changes, asked.scale) == (assignment.changes, assignment.scale)
                if alike and not any(0 < self._losses[one.trial_id] >= self._restarts for one in (assignment, mate)):
                    several.append(self._begun(asked, each))
                else:
                    apart.append((each, mate))
        for each, mate in reversed(apart):
            each.give_back(mate)
        return sorted(several, key=lambda each: each.trial_id)

    def report(self, trial_id: str, report: Report) -> bool:
        """Take a worker's report; True when the trial is over (trained, failed or pruned) and written, or starts anew.

        Raises StorageError, also for a worker that could not use the storage: its trial stays interrupted.
        """
        return self.reports([trial_id], report) == []

    def reports(self, trial_ids: Sequence[str], report: Report) -> list[str]:
        """As `report`, of trials that share a pass; those that go on with their worker.

        At a rung they are compared with one another. Where one is pruned the others are put back, to be handed out
        together again: their worker learns of it by what it trains next.
        """
        if report.storage_fault:
            raise OutOfReach(report.storage_fault)
        for trial_id in trial_ids:
            started, own = self._running[trial_id], report.of(trial_id)
            started.take(own)
            started.study.note(started.assignment, started.curve)
        left = [each for each in trial_ids if not self._is_over(each, report.of(each))]
        if any(report.of(each).end is None for each in trial_ids if each not in left):
            for each in reversed(left):
                self.put_back(each)
            return []
        return left

    def lose(self, trial_id: str, failure: Failure) -> None:
        """Its worker was lost: it starts anew, unless that has happened too often, or its time is over."""
        started = self._running[trial_id]
        self._losses[trial_id] += 1
        if self._losses[trial_id] > self._restarts or failure.error_type == TRIAL_TIME:
            self._finish(started, FAIL, failure=failure)
        else:
            self._hand_back(started, started.assignment)

    def put_back(self, trial_id: str) -> None:
        """A trial that runs is to go on later, from what is on file of it."""
        started = self._running[trial_id]
        self._hand_back(started, started.assignment)

    def settled(self) -> Campaign:
        """Itself, once all that has finished is on file. Raises StorageError."""
        self._commits.settle()
        return self

    def _is_over(self, trial_id: str, report: Report) -> bool:
        started = self._running[trial_id]
        if isinstance(report.end, Outcome):
            self._finish(started, COMPLETE, outcome=report.end)
        elif isinstance(report.end, Failure):
            if not self._started_anew(started, report.end):
                self._finish(started, FAIL, failure=report.end)
        elif not report.inside and started.study.prune(started.assignment, started.curve):
            self._finish(started, PRUNED)
        else:
            return False
        return True

    def _begun(self, assignment: Assignment, study: StudyState) -> Assignment:
        attempts = self._attempts.get(assignment.trial_id, 0) + 1
        self._store.begin({"trial_id": assignment.trial_id, "attempts": attempts, "assignment": assignment.to_json()})
        self._running[assignment.trial_id] = Started(assignment, study, attempts)
        return assignment

    def _as_asked(self, assignment: Assignment) -> Assignment:
        """With its changes, and the time that it may train as it is asked for now, whatever it was before."""
        changes = self._changes.get(assignment.trial_id, assignment.changes)
        time_s, keep_best = self._time_s, self._keep_best
        if "resources.trial_time" in changes:
            time_s = None if changes["resources.trial_time"] is None else seconds(changes["resources.trial_time"])
        if "resources.on_timeout" in changes:
            keep_best = changes["resources.on_timeout"] == "keep_best"
        if time_s is not None:
            time_s += self._failed_after_s.get(assignment.trial_id, 0.0)
        return replace(assignment, time_s=time_s, keep_best=keep_best, changes=changes)

    def _started_anew(self, started: Started, failure: Failure) -> bool:
        """Whether a trial out of memory gets another start, with twice the room."""
        larger = replace(started.assignment, scale=2 * started.assignment.scale)
        if failure_type_of(failure.error_type, failure.message) != FailureType.OUT_OF_MEMORY:
            return False
        if larger.scale > 2**self._growths or not self._fits(larger.scale):
            return False
        self._hand_back(started, larger)
        return True

    def _hand_back(self, started: Started, assignment: Assignment) -> None:
        self._attempts[assignment.trial_id] = started.attempts
        del self._running[assignment.trial_id]
        started.study.give_back(assignment)

    def _finish(
        self, started: Started, state: str, *, outcome: Outcome | None = None, failure: Failure | None = None
    ) -> None:
        row = trial_row(started, state, self._provenance, self._store.metrics, outcome=outcome, failure=failure)
        self._commits.finish(row, started.measurements, lambda: self.states.update([state]))
        started.study.finish(started.assignment, state, row["value"], started.curve, started.busy_s)
        self._cells[started.assignment.trial_id] = row["value"]
        for race in self._races:
            race.advance()
        if self._races:  # which may have opened any of them again
            self._open = deque(study for study in self.studies if not study.done)
        elif started.study.done:
            self._open.remove(started.study)
        del self._running[started.assignment.trial_id]
        if failure is None:
            self._start.succeeded()
        else:
            running = [len(each.measurements) for each in self._running.values()]
            self._start.failed(failure, len(started.measurements), running)
