"""When a search hands out no more trials: it has its number of them, its hours are spent, or a value is good enough.

Everything follows from finished trials, so a search that is taken up again ends where it would have ended.
"""

from __future__ import annotations

from msa_models.metrics import Direction
from search_spaces.parts import Search

TRIALS, BUDGET, TARGET = "trials", "budget", "target"
_HOUR_S = 3_600.0


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
