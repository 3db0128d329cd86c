"""One search being run: what it has tried, what it tries next, and whether that is enough."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from optuna.trial import FrozenTrial

from msa_models.seeding import derive
from orchestrator.plan.search import ended_by
from orchestrator.plan.studies import Study
from orchestrator.run.sampling import Past, suggest

MOST_CONFIGURATIONS = 5_000  # that a choice may be made of
_MICROSECONDS = 1_000_000


class SearchState:
    """The search of one study; everything follows from its finished trials and those that run.

    Of the trials that the sampler no longer learns from it keeps the configurations that came to most, for a choice.
    """

    def __init__(self, study: Study) -> None:
        self._study, self._sign = study, study.direction.sign
        self._past = Past(study.distributions, study.direction)
        self._come_to: dict[str, dict[str, tuple[float, int]]] = {"COMPLETE": {}, "PRUNED": {}}
        # by state, by configuration (JSON) the best sign * value and the number of its trial
        self._spent_us: dict[int, int] = {}  # whole numbers: their sum is the same in any order
        self._sum_us = 0

    @property
    def past(self) -> Sequence[FrozenTrial]:
        """The trials that the sampler learns from, finished or running, by number."""
        return self._past.trials()

    @property
    def num_trials(self) -> int:
        """Those that were handed out, finished or running."""
        return self._past.num_trials

    @property
    def num_running(self) -> int:
        """Those that are not finished."""
        return len(self._past.running)

    @property
    def best_value(self) -> float | None:
        """The best value of a complete trial."""
        return self._past.best_value

    @property
    def is_handed_out(self) -> bool:
        """Whether it asks for no more trials than it has."""
        search, spent_s = self._study.search, self._sum_us / _MICROSECONDS
        return bool(
            ended_by(search, self._study.direction, num_trials=self.num_trials, spent_s=spent_s, best=self.best_value)
        )

    @property
    def num_left(self) -> int:
        """How many more trials it asks for, at most."""
        return 0 if self.is_handed_out else self._study.search.trials - self.num_trials

    @property
    def is_over(self) -> bool:
        """Whether all of its trials are finished."""
        return self.is_handed_out and self.num_running == 0

    def configurations(self) -> list[dict[str, Any]]:
        """What was tried, the best first, as `orchestrator.store.selection.configurations` has it from the rows.

        Of more than `MOST_CONFIGURATIONS` these, complete and pruned, and perhaps some more.
        """
        complete, pruned = (sorted(found, key=found.__getitem__) for found in self._come_to.values())
        return [json.loads(params) for params in (*complete, *(pruned if complete else ()))]

    def suggestion(self) -> dict[str, Any]:
        """The configuration of the next trial: a function of the past ones, the seed and its number."""
        search = self._study.search
        return suggest(
            self._study.distributions,
            self._past.trials(),
            direction=self._study.direction,
            seed=derive(search.seed, "suggestion", self.num_trials) % 2**32,
            sampler=search.sampler,
            startup=search.startup,
        )

    def begin(self, number: int, params: Mapping[str, Any]) -> None:
        """A trial runs, or is going to."""
        assert number == self.num_trials, (number, self.num_trials)
        self._past.begin(params)

    def end(self, number: int, *how: Any) -> None:
        """One that ran is finished; `how` as for `replay`."""
        self._past.end(number, *self._noted(number, *how))

    def replay(self, number: int, *how: Any) -> None:
        """One that was finished before: its params as JSON, state, value, value by rung, and seconds of training."""
        assert number == self.num_trials, (number, self.num_trials)
        self._past.replay(*self._noted(number, *how))

    def spend(self, number: int, duration_s: float | None) -> None:
        """A trial has trained so long, whatever came of it; of one that is tried again, the newest time counts."""
        spent_us = round((duration_s or 0.0) * _MICROSECONDS)
        self._sum_us += spent_us - self._spent_us.get(number, 0)
        self._spent_us[number] = spent_us

    def _noted(
        self,
        number: int,
        params: str,
        state: str,
        value: float | None,
        rungs: Mapping[int, float],
        duration_s: float | None,
    ) -> tuple[Any, ...]:
        """How a trial ended, for the sampler: COMPLETE, PRUNED or FAIL as what it is."""
        self.spend(number, duration_s)
        come_to = value if state == "COMPLETE" else rungs[max(rungs)] if state == "PRUNED" and rungs else None
        if come_to is not None and math.isfinite(come_to):
            self._keep(self._come_to[state], params, (self._sign * come_to, number))
        return partial(json.loads, params), state, value, rungs

    @staticmethod
    def _keep(found: dict[str, tuple[float, int]], params: str, place: tuple[float, int]) -> None:
        found[params] = min(place, found.get(params, place))
        if len(found) > 2 * MOST_CONFIGURATIONS:
            for worse in sorted(found, key=found.__getitem__)[MOST_CONFIGURATIONS:]:
                del found[worse]
