"""One search being run: what it has tried, what it tries next, and whether that is enough."""

from __future__ import annotations

import math
from bisect import insort
from collections.abc import Mapping
from typing import Any

from optuna.trial import FrozenTrial

from msa_models.seeding import derive
from orchestrator.plan.search import ended_by
from orchestrator.plan.studies import Study
from orchestrator.run.sampling import NUM_BEST, past_trial, suggest


class SearchState:
    """The search of one study; everything follows from its finished trials and those that run.

    `past`: its trials by number, as the sampler sees them, finished or running.
    """

    def __init__(self, study: Study) -> None:
        self._study, self._sign = study, study.direction.sign
        self.past: list[FrozenTrial] = []
        self.num_running = 0
        self._best: list[tuple[float, int, dict[str, Any]]] = []  # sign * value, number, params of the best, in order
        self._spent_s: dict[int, float] = {}
        self._sum_s: float | None = 0.0  # of these, once it is asked for

    @property
    def best_value(self) -> float | None:
        """The best value of a complete trial."""
        return self._sign * self._best[0][0] if self._best else None

    @property
    def is_handed_out(self) -> bool:
        """Whether it asks for no more trials than it has."""
        search = self._study.search
        if self._sum_s is None and search.budget is not None:
            self._sum_s = math.fsum(self._spent_s.values())
        spent_s = self._sum_s or 0.0
        return bool(
            ended_by(search, self._study.direction, num_trials=len(self.past), spent_s=spent_s, best=self.best_value)
        )

    @property
    def num_left(self) -> int:
        """How many more trials it asks for, at most."""
        return 0 if self.is_handed_out else self._study.search.trials - len(self.past)

    @property
    def is_over(self) -> bool:
        """Whether all of its trials are finished."""
        return self.is_handed_out and self.num_running == 0

    def suggestion(self) -> dict[str, Any]:
        """The configuration of the next trial: a function of the past ones, the seed and its number."""
        number, search = len(self.past), self._study.search
        return suggest(
            self._study.distributions,
            self.past,
            direction=self._study.direction,
            seed=derive(search.seed, "suggestion", number) % 2**32,
            sampler=search.sampler,
            startup=search.startup,
            best=[number for _, number, _ in self._best],
        )

    def begin(self, number: int, params: Mapping[str, Any]) -> None:
        """A trial runs, or is going to."""
        assert number == len(self.past), (number, len(self.past))
        self.past.append(past_trial(self._study.distributions, number, params))
        self.num_running += 1

    def end(self, number: int, *how: Any) -> None:
        """One that ran is finished; `how` as for `replay`."""
        self.num_running -= 1
        self.past[number] = self._finished(number, *how)

    def replay(self, number: int, *how: Any) -> None:
        """One that was finished before: its params, state, value, value by rung, and seconds of training."""
        self.past.append(self._finished(number, *how))

    def spend(self, number: int, duration_s: float | None) -> None:
        """A trial has trained so long, whatever came of it; of one that is tried again, the newest time counts."""
        self._spent_s[number], self._sum_s = duration_s or 0.0, None

    def _finished(
        self,
        number: int,
        params: dict[str, Any],
        state: str,
        value: float | None,
        rungs: Mapping[int, float],
        duration_s: float | None,
    ) -> FrozenTrial:
        """As the sampler sees it; COMPLETE, PRUNED or FAIL as what it is."""
        self.spend(number, duration_s)
        complete = value if state == "COMPLETE" else None
        if complete is not None:
            insort(self._best, (self._sign * complete, number, params))
            del self._best[NUM_BEST:]
        return past_trial(self._study.distributions, number, params, state, complete, rungs)
