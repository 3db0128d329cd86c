"""TPE at a cost that does not grow with the study: it learns from the best trials and the latest ones.

A suggestion of TPE costs time in proportion to the trials it learns from. Up to `LATEST` of them it learns from all,
and suggests bit for bit what Optuna's own sampler does; beyond, from the latest, the best ones before and those that
still run. TPE models the 25 best trials against all others, and weighs the old ones among the others less anyway.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

LATEST = 250
NUM_BEST = 25  # as many as TPE takes for good, at most


class BoundedTPE(BaseSampler):
    """Optuna's TPE for a study whose trials all have the same parameters; `best`, `running`: numbers of such trials."""

    def __init__(
        self,
        tpe: TPESampler,
        space: Mapping[str, BaseDistribution],
        *,
        best: Collection[int],
        running: Collection[int],
    ) -> None:
        self._tpe, self._space = tpe, space
        self._always, self._num_latest = sorted({*best, *running}), LATEST + len(running)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """The whole space, which TPE would gather from all trials each time; nothing before one has been trained."""
        trials = study.get_trials(deepcopy=False)
        if not any(each.state in (TrialState.COMPLETE, TrialState.PRUNED) for each in trials):
            return {}
        return {name: self._space[name] for name in sorted(self._space) if not self._space[name].single()}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """See `TPESampler`."""
        return self._tpe.sample_relative(self._bounded(study), trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """See `TPESampler`."""
        return self._tpe.sample_independent(self._bounded(study), trial, param_name, param_distribution)

    def _bounded(self, study: Study) -> Any:
        trials = study.get_trials(deepcopy=False)
        first = max(0, len(trials) - self._num_latest)
        return _Bounded(study, [trials[number] for number in self._always if number < first] + trials[first:])


class _Bounded:
    """A study of which only some trials are to be seen."""

    def __init__(self, study: Study, trials: Sequence[FrozenTrial]) -> None:
        self._study, self._trials = study, trials

    def __getattr__(self, name: str) -> Any:
        return getattr(self._study, name)

    def _get_trials(
        self, deepcopy: bool = True, states: Collection[TrialState] | None = None, use_cache: bool = False
    ) -> list[FrozenTrial]:
        return [trial for trial in self._trials if states is None or trial.state in states]
