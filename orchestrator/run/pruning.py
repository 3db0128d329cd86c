"""ASHA's decision at a rung, as a pure function of the values seen there (Li et al. 2018, arXiv:1810.05934).

The stopping form, as in Ray Tune's own scheduler: a trial goes on when it is among the best 1/reduction of those that
reached the rung before it. Ours is written out because the decision must be the same after a replay from the files: no
bracket is drawn from a global generator, and a trial that reports a rung twice (before and after an interruption) is
not counted twice.
"""

from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Sequence

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


class Rungs:
    """The rungs of one study; values are compared within the study only, never across variants.

    What a decision costs hardly grows with the number of trials: the values at a rung are kept in order.
    """

    def __init__(self, reduction: int, direction: Direction) -> None:
        self._share, self._sign = 100 * (1 - 1 / reduction) / 100, -direction.sign  # as np.percentile has it
        self._values: dict[int, dict[int, float]] = defaultdict(dict)  # sign * value by epoch and number of a trial
        self._ordered: dict[int, list[float]] = defaultdict(list)  # of these the worst first

    def record(self, number: int, epoch: int, value: float) -> None:
        """Note the best value so far of trial `number` at a rung, without deciding."""
        self._take_back(number, epoch)
        self._values[epoch][number] = self._sign * value
        insort(self._ordered[epoch], self._sign * value)

    def prune(self, number: int, epoch: int, value: float) -> bool:
        """Record, and say whether the trial is to be stopped here. The first at a rung always goes on."""
        self._take_back(number, epoch)
        others = self._ordered[epoch]
        stops = bool(others) and self._sign * value < quantile(others, self._share)
        self.record(number, epoch, value)
        return stops

    def _take_back(self, number: int, epoch: int) -> None:
        known = self._values[epoch].pop(number, None)
        if known is not None:
            del self._ordered[epoch][bisect_left(self._ordered[epoch], known)]


def quantile(ordered: Sequence[float], share: float) -> float:
    """That of values in ascending order, as `np.quantile` has it bit for bit, which looks at all of them."""
    position = (len(ordered) - 1) * share
    low = min(int(position), len(ordered) - 1)
    weight = position - low
    below, above = ordered[low], ordered[min(low + 1, len(ordered) - 1)]
    return below + (above - below) * weight if weight < 0.5 else above - (above - below) * (1 - weight)
