"""The members of a search trial: the trainings that its value is the mean of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.plan.seeds import member

if TYPE_CHECKING:  # a worker needs no schema
    from search_spaces.parts import Search


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


def number(search: Search) -> int:
    """Trainings of one search trial."""
    return search.seeds * (search.folds or 1)


def members(search: Search, trial_seed: int, most_epochs: int) -> Members | None:
    """Those of a search trial with this seed, which is that of the first; None where it is one training."""
    if number(search) == 1:
        return None
    return Members(
        seeds=(trial_seed, *(member(trial_seed, index) for index in range(1, number(search)))),
        folds=search.folds or 0,
        fold_seed=search.seed,
        in_turn=search.pruner.kind == "asha" and search.pruner.rungs != "epochs",
        epochs=most_epochs,
    )
