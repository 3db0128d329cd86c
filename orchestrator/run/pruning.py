"""ASHA's decision at a rung, as a pure function of the values seen there (Li et al. 2018, arXiv:1810.05934).

The stopping form, as in Ray Tune's own scheduler: a trial goes on when it is among the best 1/reduction of those that
reached the rung before it. Ours is written out because the decision must be the same after a replay from the files: no
bracket is drawn from a global generator, and a trial that reports a rung twice (before and after an interruption) is
not counted twice.
"""

from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np

from msa_models.metrics import Direction
from orchestrator.plan.search import Members
from search_spaces.parts import Pruner


def rung_epochs(min_epochs: int, reduction: int, max_epochs: int) -> tuple[int, ...]:
    """Epochs at which a trial may be pruned: min, min * reduction, ... below the last epoch."""
    epochs = []
    epoch = min_epochs
    while epoch < max_epochs:
        epochs.append(epoch)
        epoch *= reduction
    return tuple(epochs)


def rungs_of(pruner: Pruner, max_epochs: int, members: Members | None = None) -> tuple[int, ...]:
    """Epochs of a trial at which it may be pruned, of `max_epochs` for each of its members.

    Of members that are trained in turn the epochs go on from one to the next: after the first come as many more.
    """
    if pruner.kind == "none":
        return ()
    inside = rung_epochs(pruner.min_epochs, pruner.reduction, max_epochs) if pruner.rungs != "seeds" else ()
    if members is None or not members.in_turn:
        return inside
    return *inside, *(members.epochs * over for over in range(1, len(members)))


@dataclass
class Rungs:
    """The rungs of one study; values are compared within the study only, never across variants."""

    reduction: int
    direction: Direction
    _values: dict[int, dict[int, float]] = field(default_factory=lambda: defaultdict(dict))

    def record(self, number: int, epoch: int, value: float) -> None:
        """Note the best value so far of trial `number` at a rung, without deciding."""
        self._values[epoch][number] = value

    def prune(self, number: int, epoch: int, value: float) -> bool:
        """Record, and say whether the trial is to be stopped here. The first at a rung always goes on."""
        values = self._values[epoch]
        values.pop(number, None)
        others = np.fromiter(values.values(), float, len(values))
        self.record(number, epoch, value)
        if not len(others):
            return False
        sign = -self.direction.sign
        cutoff = np.percentile(others * sign, 100 * (1 - 1 / self.reduction))
        return bool(sign * value < cutoff)
