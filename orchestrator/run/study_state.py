"""One study being run: which trial comes next, what the sampler is told, who is pruned.

Everything here follows from the study and its finished trials, so a study rebuilt from the files goes on exactly as one
that was never interrupted. Every suggestion follows from the past trials and (study seed, trial number).
"""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from optuna.trial import FrozenTrial

from orchestrator.plan import seeds
from orchestrator.plan.search import members
from orchestrator.plan.space import most_epochs
from orchestrator.plan.studies import Study, search_trial_id
from orchestrator.run.choice import CONFIRM, SEARCH, SELECT, Cell, Choice, block, confirms, left, shape
from orchestrator.run.curve import intermediate_values
from orchestrator.run.messages import Assignment
from orchestrator.run.pruning import Rungs, rungs_of
from orchestrator.run.search_state import SearchState
from orchestrator.run.side_by_side import at_once

COMPLETE, PRUNED, FAIL = "COMPLETE", "PRUNED", "FAIL"


class StudyState:
    """Search first, pruned by ASHA; then the chosen configuration on every confirm seed, never pruned.

    In between, with `confirm.top`, the best few choose, on seeds of their own.

    `history`: finished rows of this study, those of its search in the order of their numbers. `interrupted`:
    assignments of its search that were started but not finished. `again`: rows of failed trials of this study that
    are trained once more, as if they had not been. `cells`: the value of every finished trial of the storage by id,
    None for a FAIL, which the campaign keeps up to date, so that nothing is trained twice. `leader`: the study
    whose configuration this one takes. `num_seeds`: how many of the confirm seeds are wanted; `wanted`: whether the
    study is wanted at all. A race raises the one where its units are seeds, and the other where they are studies.
    """

    def __init__(
        self,
        study: Study,
        *,
        code_fingerprint: str,
        cells: Mapping[str, float | None],
        history: Iterable[Mapping[str, Any]] = (),
        interrupted: Iterable[Assignment] = (),
        again: Iterable[Mapping[str, Any]] = (),
        leader: StudyState | None = None,
    ) -> None:
        self.study = study
        self.num_seeds, self.wanted = len(study.confirm_seeds), True
        self.most = at_once(study.fixed)  # trials in a pass
        self._leader = leader
        self._code_fingerprint = code_fingerprint
        self._rungs = Rungs(study.search.pruner.reduction, study.direction)
        self._search = SearchState(study)
        self._waiting: deque[Assignment] = deque()
        self._running: set[str] = set()
        self._cells = cells
        self._choice: Choice | None = None  # once the search is over
        self._confirms: list[Cell] | None = None  # once they are known
        self.num_started = 0
        again = list(again)
        for row in again:
            if row["phase"] == SEARCH:
                self._search.spend(row["number"], row["duration_s"])
        self._replay(history, [*interrupted, *map(self._as_before, again)])

    @property
    def done(self) -> bool:
        """Whether nothing is left to hand out or to wait for."""
        if not self.wanted:
            return not self._running
        return self._is_decided and not self._running and not self._cells_left()

    @property
    def exhausted(self) -> bool:
        """Whether nothing is left to hand out, and nothing will be when the running trials have ended."""
        if not self.wanted:
            return True
        if self.num_seeds == 0:
            return not self._waiting and self._search.is_handed_out
        return self._is_decided and not self._cells_left()

    @property
    def past(self) -> Sequence[FrozenTrial]:
        """The trials of the search that the sampler learns from, finished or running, by number."""
        return self._search.past

    @property
    def best_value(self) -> float | None:
        """The best value of a complete search trial."""
        return self._search.best_value

    @property
    def planned(self) -> dict[str, int]:
        """Number of trials by phase."""
        if not self.wanted:
            return {}
        num_selects = len(self._choice.cells) if self._choice else self.study.num_selects
        num_confirms = 0 if self._is_decided and self.chosen is None else self.num_seeds  # no such configuration
        return {SEARCH: self._search.num_trials + self._search.num_left, SELECT: num_selects, CONFIRM: num_confirms}

    @property
    def num_searched(self) -> int:
        """Number of finished search trials."""
        return self._search.num_trials - self._search.num_running if self.wanted else 0

    @property
    def chosen(self) -> dict[str, Any] | None:
        """What is confirmed; None before it is known, or where the search has no such configuration."""
        if self._leader is not None:
            found = self._leader.configuration(self.study.rank)
            return None if found is None else {path: found[path] for path in self.study.distributions}
        return self.configuration(0)

    def configuration(self, rank: int) -> dict[str, Any] | None:
        """Of the different configurations that completed this study's search, the best (`rank` 0) or a later one.

        None before it is known, and where there are fewer; of a study that searches nothing its only one.
        """
        return choice.configuration(rank) if (choice := self._made_choice()) else None

    @property
    def confirm_ids(self) -> list[str]:
        """The trials of the last phase; none before it is known of what, nor after a search that completed nothing."""
        return [cell.trial_id for cell in self._confirm_cells()]

    @property
    def select_ids(self) -> list[str]:
        """The trials that choose what these are of; none before the search is over."""
        return [cell.trial_id for cell in self._select_cells()]

    def next(self, running: Collection[str] = ()) -> Assignment | None:
        """The next trial, or None while there is nothing to hand out (yet); `running`: cells that others train."""
        if not self.wanted:
            return None
        if not self._waiting:
            self._fill_batch()
        if assignment := self._waiting.popleft() if self._waiting else self._next_cell(running):
            self._running.add(assignment.trial_id)
            self.num_started += 1
        return assignment

    def mates(self, of: Study, trial: Assignment, most: int, running: Collection[str] = ()) -> list[Assignment]:
        """At most so many that share a pass with a trial of some study, handed out with it."""
        own = block(of, trial, self.most)
        found = [each for each in self._waiting if block(self.study, each, self.most) == own]
        known = {*running, *(each.trial_id for each in found)}
        cells = (cell for cell in self._cells_left() if cell.trial_id not in known)
        found += [self._assignment(*cell) for cell in cells if block(self.study, cell, self.most) == own]
        if found:
            like = shape(of, trial)
            found = [each for each in found if shape(self.study, each) == like][:most]
        self._waiting = deque(each for each in self._waiting if each not in found)
        self._running.update(each.trial_id for each in found)
        self.num_started += len(found)
        return found

    def num_waiting(self, running: Collection[str] = ()) -> int:
        """How many trials could be handed out now; `running`: as above."""
        if not self.wanted:
            return 0
        waiting = [*self._waiting, *(cell for cell in self._cells_left() if cell.trial_id not in running)]
        blocks = {block(self.study, each, self.most) for each in waiting}
        return len(blocks) + math.ceil(self._search.num_left / (self.study.search.batch if self.most > 1 else 1))

    def give_back(self, assignment: Assignment) -> None:
        """A trial that was handed out and could not be trained is to be the next one."""
        self._running.discard(assignment.trial_id)
        self._waiting.appendleft(assignment)
        self.num_started -= 1

    def note(self, assignment: Assignment, curve: Sequence[float]) -> None:
        """Take note of a trial's best value so far after each epoch (1, 2, ...), of which some are rungs.

        It may have been continued from a checkpoint, and not have reported some of them to us.
        """
        for epoch, value in intermediate_values(assignment.rungs, curve).items():
            self._rungs.record(assignment.number, epoch, value)

    def prune(self, assignment: Assignment, curve: Sequence[float]) -> bool:
        """Whether to stop this trial now, at the end of an epoch, given the same."""
        return len(curve) in assignment.rungs and self._rungs.prune(assignment.number, len(curve), curve[-1])

    def finish(
        self, assignment: Assignment, state: str, value: float | None, curve: Sequence[float], duration_s: float
    ) -> None:
        """Take note of how a trial ended; the sampler hears COMPLETE, PRUNED or FAIL as what it is."""
        self._running.discard(assignment.trial_id)
        if assignment.phase == SEARCH:
            self.note(assignment, curve)
            rungs = intermediate_values(assignment.rungs, curve)
            self._search.end(assignment.number, json.dumps(assignment.params), state, value, rungs, duration_s)

    def _fill_batch(self) -> None:
        """Let the next trials of the search wait, up to the end of a batch."""
        while not self._search.is_handed_out:
            self._waiting.append(self._next_search())
            if self._search.num_trials % self.study.search.batch == 0:
                return

    def _next_search(self) -> Assignment:
        number, params = self._search.num_trials, self._search.suggestion()
        self._search.begin(number, params)
        seed = seeds.search_trial(self.study.search.seed, number, others=self.study.confirm_seeds)
        return self._assignment(SEARCH, number, seed, params, search_trial_id(self.study.study_id, number))

    @property
    def _is_decided(self) -> bool:
        """Whether it is known what is confirmed, if anything."""
        if self._leader is not None:
            return self._leader._is_decided
        choice = self._made_choice()
        return choice is not None and choice.is_made

    def _made_choice(self) -> Choice | None:
        """Of a study with a search of its own that is over."""
        if self._choice is None and self._leader is None and self._search.is_over:
            found = self._search.configurations() if self.study.search.trials else [{}]
            self._choice = Choice(self.study, found, self._code_fingerprint, self._cells)
        return self._choice

    def _select_cells(self) -> list[Cell]:
        choice = self._made_choice() if self.wanted else None
        return choice.cells if choice else []

    def _confirm_cells(self) -> list[Cell]:
        params = self.chosen
        if params is None or not self.wanted:
            return []
        if self._confirms is None:
            self._confirms = confirms(self.study, params, self._code_fingerprint)
        return self._confirms[: self.num_seeds]

    def _next_cell(self, running: Collection[str]) -> Assignment | None:
        return next((self._assignment(*cell) for cell in self._cells_left() if cell.trial_id not in running), None)

    def _cells_left(self) -> list[Cell]:
        return left((*self._select_cells(), *self._confirm_cells()), self._cells, self._running)

    def _assignment(self, phase: str, number: int, seed: int, params: Mapping[str, Any], trial_id: str) -> Assignment:
        config = self.study.config(params)
        most = most_epochs(self.study.fixed, self.study.distributions)
        several = members(self.study.search, seed, most) if phase == SEARCH else None
        return Assignment(
            trial_id=trial_id,
            study_id=self.study.study_id,
            phase=phase,
            number=number,
            seed=seed,
            method=self.study.method,
            modalities=self.study.variant.modalities,
            data_fingerprint=self.study.data_fingerprint,
            params=dict(params),
            config=config,
            metric=self.study.metric,
            direction=self.study.direction,
            rungs=rungs_of(self.study.search.pruner, config["training"]["epochs"], several) if phase == SEARCH else (),
            members=several,
            keep=self.study.keep and phase == CONFIRM,
            robustness=self.study.robustness if phase == CONFIRM else None,
        )

    def _as_before(self, row: Mapping[str, Any]) -> Assignment:
        """A finished trial as it was handed out."""
        return self._assignment(row["phase"], row["number"], row["seed"], json.loads(row["params"]), row["trial_id"])

    def _replay(self, history: Iterable[Mapping[str, Any]], interrupted: Iterable[Assignment]) -> None:
        started = {assignment.number: assignment for assignment in interrupted if assignment.phase == SEARCH}
        for row in history:
            self.num_started += 1
            if row["phase"] == SEARCH:
                self._take_up(started, row["number"])
                self._search.replay(row["number"], *self._replayed(row))
        self._take_up(started, max(started, default=-1) + 1)
        if self._search.num_trials % self.study.search.batch:
            self._fill_batch()

    def _take_up(self, started: Mapping[int, Assignment], until: int) -> None:
        """The trials of the search before that number which are not finished."""
        for number in range(self._search.num_trials, until):
            if number in started:
                self._search.begin(number, started[number].params)
                self._waiting.append(started[number])
            else:  # handed out, but the driver died before its first write: ask again, for the same answer
                self._waiting.append(self._next_search())

    def _replayed(self, row: Mapping[str, Any]) -> tuple[Any, ...]:
        """How a trial ended, as the search wants to know it."""
        rungs = {int(epoch): value for epoch, value in json.loads(row["intermediate_values"]).items()}
        for epoch, value in rungs.items():
            self._rungs.record(row["number"], epoch, value)
        return row["params"], row["state"], row["value"], rungs, row["duration_s"]
