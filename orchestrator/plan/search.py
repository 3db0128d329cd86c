"""A search: the trainings that the value of one of its trials is the mean of, and when it hands out no more trials.

When it ends follows from finished trials alone, so a search that is taken up again ends where it would have ended.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from msa_models.metrics import Direction
from orchestrator.plan.seeds import member

if TYPE_CHECKING:  # a worker needs no schema
    from search_spaces.parts import Search

TRIALS, BUDGET, TARGET = "trials", "budget", "target"
_HOUR_S = 3_600.0


@dataclass(frozen=True, kw_only=True)
class Members:
    """The trainings whose mean is the value of a search trial, each with a seed of its own.

    With `folds` the member of index i is measured on fold i modulo `folds` of train and valid, drawn by `fold_seed`.
    They are trained side by side, or `in_turn`; then the epochs of the trial go on by `epochs` with each of them, which
    no configuration of its study exceeds.
    """

    seeds: tuple[int, ...]
    folds: int = 0
    fold_seed: int = 0
    in_turn: bool = False
    epochs: int

    def __len__(self) -> int:
        return len(self.seeds)


def num_members(search: Search) -> int:
    """Trainings of one search trial."""
    return search.seeds * (search.folds or 1)


def members(search: Search, trial_seed: int, most_epochs: int) -> Members | None:
    """Those of a search trial with this seed, which is that of the first; None where it is one training."""
    if num_members(search) == 1:
        return None
    return Members(
        seeds=(trial_seed, *(member(trial_seed, index) for index in range(1, num_members(search)))),
        folds=search.folds or 0,
        fold_seed=search.seed,
        in_turn=search.pruner.kind == "asha" and search.pruner.rungs != "epochs",
        epochs=most_epochs,
    )


def ended_by(search: Search, direction: Direction, *, num_trials: int, spent_s: float, best: float | None) -> str:
    """The setting that ends a search, or nothing while it goes on.

    `num_trials`: those handed out; `spent_s`: what its finished trials have trained, failed ones too; `best`: the best
    value of a complete one.
    """
    if search.target is not None and best is not None and direction.sign * best <= direction.sign * search.target:
        return TARGET
    if search.budget is not None and spent_s >= search.budget * _HOUR_S:
        return BUDGET
    return TRIALS if num_trials >= search.trials else ""
