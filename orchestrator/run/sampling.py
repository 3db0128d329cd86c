"""What a search tries next: a function of its space, its past trials and a seed, and of nothing else.

A suggestion of TPE costs time in proportion to the trials it learns from. Up to `LATEST` of them it learns from all,
and suggests bit for bit what an Optuna study does that was asked and told all along; beyond, from the latest, the best
ones before and those that still run. TPE models the 25 best trials against all others, and weighs the old ones among
the others less anyway. What TPE would work out of each trial for each suggestion anew is worked out once.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Container, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any

import optuna
from optuna import Study
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.storages import InMemoryStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from msa_models.metrics import Direction

LATEST = 250
NUM_BEST = 25  # as many as TPE takes for good, at most

Space = Mapping[str, BaseDistribution]

optuna.logging.set_verbosity(optuna.logging.WARNING)


@dataclass(frozen=True, slots=True, kw_only=True)
class InNumbers:
    """What TPE reads of a past trial, with its parameters as the numbers that TPE computes with."""

    number: int
    state: TrialState
    value: float | None
    intermediate_values: dict[int, float]
    params: dict[str, float]
    constraints: dict[str, float] = field(default_factory=dict)
    system_attrs: dict[str, Any] = field(default_factory=dict)


class PastTrial(FrozenTrial):
    """A trial as the sampler sees it, by its parameters and `in_numbers`."""

    def __init__(self, trial: FrozenTrial, number: int) -> None:
        super().__init__(
            number=number,
            state=trial.state,
            value=trial.value,
            datetime_start=trial.datetime_start,
            datetime_complete=trial.datetime_complete,
            params=trial.params,
            distributions=trial.distributions,
            user_attrs={},
            system_attrs={},
            intermediate_values=trial.intermediate_values,
            trial_id=number,
        )
        self.in_numbers = InNumbers(
            number=number,
            state=trial.state,
            value=trial.value,
            intermediate_values=trial.intermediate_values,
            params={name: trial.distributions[name].to_internal_repr(each) for name, each in trial.params.items()},
        )


def past_trial(
    space: Space,
    number: int,
    params: Mapping[str, Any],
    state: str = "RUNNING",
    value: float | None = None,
    intermediate_values: Mapping[int, float] | None = None,
) -> PastTrial:
    """A trial as the sampler sees it: COMPLETE (with its value), PRUNED, FAIL, or RUNNING."""
    trial = create_trial(
        state=TrialState[state],
        value=value,
        params=dict(params),
        distributions=dict(space),
        intermediate_values=dict(intermediate_values or {}),
    )
    return PastTrial(trial, number + 1)  # 0 is the one that a suggestion is for


class Past:
    """The trials of one search that its next suggestion is learned from: a bounded number, however long it goes on.

    Those are the latest, all that run, and the best before. What Optuna is to see of one is made when it is asked for.
    """

    def __init__(self, space: Space, direction: Direction) -> None:
        self.num_trials = 0  # all that were begun
        self.running: set[int] = set()
        self._space, self._sign = space, direction.sign
        self._seen: dict[int, Callable[[], PastTrial]] = {}  # by number, in their order
        self._best: list[tuple[float, int]] = []  # sign * value and number, in order
        self._num_left_behind = 0  # of the first so many trials only the best and those that run are kept

    @property
    def best_value(self) -> float | None:
        """The best value of a complete trial."""
        return self._sign * self._best[0][0] if self._best else None

    def trials(self) -> list[PastTrial]:
        """Them, by number."""
        return [made() for made in self._seen.values()]

    def begin(self, params: Mapping[str, Any]) -> None:
        """The next trial runs, or is going to."""
        self._add(partial(past_trial, self._space, self.num_trials, params))
        self.running.add(self.num_trials - 1)

    def end(self, number: int, params: Callable[[], Mapping[str, Any]], *how: Any) -> None:
        """One that ran is finished; `how` as `past_trial` takes it, and `params` once somebody asks."""
        self.running.remove(number)
        if number in self._seen:
            self._seen[number] = self._finished(number, params, *how)
        if number < self._num_left_behind:
            self._forget(number)
        self._leave_behind()

    def replay(self, params: Callable[[], Mapping[str, Any]], *how: Any) -> None:
        """The next trial was finished before; as above."""
        self._add(self._finished(self.num_trials, params, *how))
        self._leave_behind()

    def _add(self, made: Callable[[], PastTrial]) -> None:
        self._seen[self.num_trials] = cache(made)
        self.num_trials += 1

    def _finished(
        self,
        number: int,
        params: Callable[[], Mapping[str, Any]],
        state: str,
        value: float | None,
        rungs: Mapping[int, float],
    ) -> Callable[[], PastTrial]:
        complete = value if state == "COMPLETE" else None
        if complete is not None:
            insort(self._best, (self._sign * complete, number))
            for _, worse in self._best[NUM_BEST:]:
                self._best.pop()
                if worse < self._num_left_behind:
                    self._forget(worse)
        return cache(lambda: past_trial(self._space, number, params(), state, complete, rungs))

    def _leave_behind(self) -> None:
        """What is no longer among the latest, which the next trial will be one of."""
        first = self.num_trials + 1 - (LATEST + len(self.running))
        for number in range(self._num_left_behind, first):
            self._num_left_behind = number + 1
            self._forget(number)

    def _forget(self, number: int) -> None:
        """Unless there is another reason to keep it."""
        if number not in self.running and all(number != each for _, each in self._best):
            self._seen.pop(number, None)


def suggest(
    space: Space,
    past: Sequence[PastTrial],
    *,
    direction: Direction,
    seed: int,
    sampler: str = "tpe",
    startup: int = 10,
) -> dict[str, Any]:
    """The parameters of the next trial; `past`: those before it that it is learned from, in their order.

    `startup`: how many trials must have been trained before TPE (`sampler`: tpe | random) looks at any.
    """
    if sampler == "random":
        return _asked(RandomSampler(seed=seed), InMemoryStorage(), space, direction)
    trained = any(trial.state in (TrialState.COMPLETE, TrialState.PRUNED) for trial in past)
    tpe: BaseSampler = TPESampler(seed=seed, n_startup_trials=startup)
    if not trained:
        return _asked(tpe, _Storage(past), space, direction)
    return _asked(_OfNumbers(tpe, space), _Storage([trial.in_numbers for trial in past]), space, direction)


def _asked(sampler: BaseSampler, storage: InMemoryStorage, space: Space, direction: Direction) -> dict[str, Any]:
    study = optuna.create_study(storage=storage, sampler=sampler, direction=StudyDirection[direction.name])
    return study.ask(dict(space)).params


class _Storage(InMemoryStorage):
    """A storage in which the trial that is asked for finds these before it, without a copy of each."""

    def __init__(self, trials: Sequence[Any]) -> None:
        super().__init__()
        self._past = trials

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """See `BaseStorage`; nobody changes what is handed out."""
        return [trial for trial in self._past if states is None or trial.state in states]


class _OfNumbers(BaseSampler):
    """TPE for trials in numbers that all have the same parameters, which it would gather from all of them each time."""

    def __init__(self, tpe: BaseSampler, space: Space) -> None:
        self._tpe, self._space = tpe, space

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """The whole space, in the order that Optuna gives it."""
        return {name: self._space[name] for name in sorted(self._space) if not self._space[name].single()}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """See `TPESampler`."""
        of_numbers = {name: _of_numbers(each) for name, each in search_space.items()}
        return self._tpe.sample_relative(study, trial, of_numbers)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """See `TPESampler`; of what has a single value, and of all while there are too few trials to learn from."""
        return self._tpe.sample_independent(study, trial, param_name, param_distribution)


def _of_numbers(distribution: BaseDistribution) -> BaseDistribution:
    """The same, for past parameters that are numbers already."""
    found = copy(distribution)
    vars(found)["to_internal_repr"] = int if isinstance(distribution, CategoricalDistribution) else float
    return found
