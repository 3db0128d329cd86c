"""The members of a search trial: how many trainings its value is the mean of, and with which seeds."""

from __future__ import annotations

from msa_models.seeding import derive
from search_spaces.parts import Search

_SEED_BITS = 32
_SEARCH_TRIAL = 1 << _SEED_BITS  # a bit that no confirm seed has


def number(search: Search) -> int:
    """Trainings of one search trial."""
    return search.seeds * (search.folds or 1)


def seeds(search: Search, trial_seed: int) -> tuple[int, ...]:
    """The training seed of each member; that of the first is the trial's own."""
    owner = trial_seed >> _SEED_BITS + 2 << _SEED_BITS + 2
    drawn = (derive(trial_seed, "member", index) % 2**_SEED_BITS for index in range(1, number(search)))
    return trial_seed, *(owner + _SEARCH_TRIAL + seed for seed in drawn)
