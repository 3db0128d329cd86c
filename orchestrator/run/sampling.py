"""What a search tries next: a function of its space, its past trials and a seed, and of nothing else.

A suggestion of TPE costs time in proportion to the trials it learns from. Up to `LATEST` of them it learns from all,
and suggests bit for bit what an Optuna study does that was asked and told all along; beyond, from the latest, the best
ones before and those that still run. TPE models the 25 best trials against all others, and weighs the old ones among
the others less anyway.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Mapping, Sequence
from typing import Any

import optuna
from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.storages import InMemoryStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from msa_models.metrics import Direction

LATEST = 250
NUM_BEST = 25  # as many as TPE takes for good, at most

Space = Mapping[str, BaseDistribution]

optuna.logging.set_verbosity(optuna.logging.WARNING)


def past_trial(
    space: Space,
    number: int,
    params: Mapping[str, Any],
    state: str = "RUNNING",
    value: float | None = None,
    intermediate_values: Mapping[int, float] | None = None,
) -> FrozenTrial:
    """A trial as the sampler sees it: COMPLETE (with its value), PRUNED, FAIL, or RUNNING."""
    trial = create_trial(
        state=TrialState[state],
        value=value,
        params=dict(params),
        distributions=dict(space),
        intermediate_values=dict(intermediate_values or {}),
    )
    trial.number = number + 1  # 0 is the one that a suggestion is for
    return trial


def suggest(
    space: Space,
    past: Sequence[FrozenTrial],
    *,
    direction: Direction,
    seed: int,
    sampler: str = "tpe",
    startup: int = 10,
    best: Collection[int] = (),
) -> dict[str, Any]:
    """The parameters of the next trial; `past`: all trials before it in order, `best`: numbers of the best of them.

    `startup`: how many trials must have been trained before TPE (`sampler`: tpe | random) looks at any.
    """
    if sampler == "random":
        return _asked(RandomSampler(seed=seed), InMemoryStorage(), space, direction)
    trained = any(trial.state in (TrialState.COMPLETE, TrialState.PRUNED) for trial in past)
    tpe = _SpaceKnown(TPESampler(seed=seed, n_startup_trials=startup), space if trained else {})
    return _asked(tpe, _Past(_bounded(past, best)), space, direction)


def _asked(sampler: BaseSampler, storage: InMemoryStorage, space: Space, direction: Direction) -> dict[str, Any]:
    study = optuna.create_study(storage=storage, sampler=sampler, direction=StudyDirection[direction.name])
    return study.ask(dict(space)).params


def _bounded(past: Sequence[FrozenTrial], best: Collection[int]) -> list[FrozenTrial]:
    running = [number for number, trial in enumerate(past) if trial.state == TrialState.RUNNING]
    first = max(0, len(past) + 1 - (LATEST + len(running)))  # the next trial is one of the latest
    return [past[number] for number in sorted({*best, *running}) if number < first] + list(past[first:])


class _Past(InMemoryStorage):
    """A storage in which the trial that is asked for finds these before it, without a copy of each."""

    def __init__(self, trials: Sequence[FrozenTrial]) -> None:
        super().__init__()
        self._past = trials

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """See `BaseStorage`; nobody changes what is handed out."""
        return [trial for trial in self._past if states is None or trial.state in states]


class _SpaceKnown(BaseSampler):
    """TPE for trials that all have the same parameters, which it would gather from all of them each time."""

    def __init__(self, tpe: TPESampler, space: Space) -> None:
        self._tpe, self._space = tpe, space

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """The whole space, in the order that Optuna gives it."""
        return {name: self._space[name] for name in sorted(self._space) if not self._space[name].single()}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """See `TPESampler`."""
        return self._tpe.sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """See `TPESampler`."""
        return self._tpe.sample_independent(study, trial, param_name, param_distribution)
