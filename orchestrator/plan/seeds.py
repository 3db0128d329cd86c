"""Which seeds belong to whom: those of different replicates, roles and purposes can never be the same.

A seed is a whole number below 2**45: 32 bits as they are asked for or drawn, above them two bits for what it is for,
and above those the number of the replicate, the control's apart from the others'. The first replicate of what is no
control has its confirm seeds as they were asked for. A search has as its seed one of the kind `CONFIRM`: it trains
nothing, and draws what it hands on.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

from msa_models.seeding import derive

CONTROL = "control"
Role = Literal["", "control"]

_SEED_BITS, _PURPOSE_BITS, _REPLICATE_BITS = 32, 2, 10
_CONFIRM, _SEARCH_TRIAL, _SELECT = 0, 1, 2
MAX_REPLICATES = 1 << _REPLICATE_BITS


def confirm(seed: int, replicate: int = 0, role: Role = "") -> int:
    """The seed of a replicate, of its search or of one of its confirm trials, that was asked for as `seed`."""
    return _seed(seed, _CONFIRM, replicate, role)


def selects(search_seed: int, number: int) -> tuple[int, ...]:
    """So many seeds for choosing among the best configurations of a search, counted on from the search's."""
    owner = search_seed >> _SEED_BITS + _PURPOSE_BITS << _PURPOSE_BITS
    first = search_seed % 2**_SEED_BITS + 1
    return tuple((owner + _SELECT << _SEED_BITS) + (first + each) % 2**_SEED_BITS for each in range(number))


def member(trial_seed: int, index: int) -> int:
    """The seed of a training of a search trial beside its first, which has the trial's own."""
    owner = trial_seed >> _SEED_BITS + _PURPOSE_BITS << _PURPOSE_BITS
    return (owner + _SEARCH_TRIAL << _SEED_BITS) + derive(trial_seed, "member", index) % 2**_SEED_BITS


def search_trial(search_seed: int, number: int, others: Collection[int] = ()) -> int:
    """The training seed of a search trial, of the replicate that its search's seed belongs to, and none of `others`.

    Each trial has its own: with one for all, TPE learns what that seed is lucky with (see docs/log.md).
    """
    drawn = derive(search_seed, "search trial", number) % 2**_SEED_BITS
    owner = search_seed >> _SEED_BITS << _SEED_BITS
    return owner + drawn if owner + drawn not in others else owner + (_SEARCH_TRIAL << _SEED_BITS) + drawn


def belongs(seed: int, replicate: int, role: Role) -> bool:
    """Whether a seed is one of this replicate."""
    return seed >> _SEED_BITS + _PURPOSE_BITS == _owner(replicate, role)


def _seed(seed: int, purpose: int, replicate: int, role: Role) -> int:
    assert 0 <= seed < 2**_SEED_BITS, seed
    return (((_owner(replicate, role) << _PURPOSE_BITS) + purpose) << _SEED_BITS) + seed


def _owner(replicate: int, role: Role) -> int:
    assert 0 <= replicate < MAX_REPLICATES, replicate
    return replicate + (MAX_REPLICATES if role == CONTROL else 0)
