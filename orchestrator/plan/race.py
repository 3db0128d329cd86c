"""A race: every cell starts with a few units, and gets more while its difference from the full method is imprecise.

A unit is what a test counts: a search, a configuration or a seed.

The differences that decide are those on the validation objective. What is tested afterwards has been looked at several
times, so each look spends a share of the error rate alpha; shares sum to 1. By the union bound a p-value divided by the
share of its look holds alpha whatever ended the race, and so does an interval at level 1 - alpha * share.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

Unit = Literal["searches", "configurations", "seeds"]


@dataclass(frozen=True, kw_only=True)
class Race:
    """From `min` to `max` units per cell; enough are those at which the interval's half-width is at most `until`.

    `until` has the unit of the validation objective; alpha is that of the ablation.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    min: int
    max: int
    until: float
    alpha: float = 0.05

    def __post_init__(self) -> None:
        if not 2 <= self.min < self.max:
            raise ValueError(f"got min {self.min} and max {self.max}, expected 2 or more, and min below max")
        if not (self.until > 0 and 0 < self.alpha < 1):
            raise ValueError(f"got until {self.until} and alpha {self.alpha}, expected until > 0 and 0 < alpha < 1")

    @property
    def looks(self) -> tuple[int, ...]:
        """Numbers of units at which it is asked whether they are enough: min, 2 min, 4 min, ..., and last max."""
        doublings = math.ceil(math.log2(self.max / self.min))
        return (*(self.min << doubling for doubling in range(doublings)), self.max)

    def share(self, num_units: int) -> float:
        """Of alpha, at the smallest look that is at least `num_units`, in proportion to its number of units.

        A failed unit leaves fewer pairs than the look has, hence "at least"; a smaller look spends less, never more.
        """
        reached = next((look for look in self.looks if look >= num_units), self.max)
        return reached / sum(self.looks)

    def precise(self, deltas: Sequence[float], num_units: int) -> bool:
        """Whether the t interval of the mean delta, at level 1 - alpha * share, is at most 2 `until` wide.

        `deltas`, one per unit that both cells have, may be fewer than the `num_units` of the look; of fewer than two
        there is no interval, and the answer is no.
        """
        if len(deltas) < 2:
            return False
        from scipy.special import stdtrit  # Student's quantiles; only a race needs scipy here

        quantile = stdtrit(len(deltas) - 1, 1 - self.alpha * self.share(num_units) / 2)
        return bool(quantile * np.std(deltas, ddof=1) <= self.until * math.sqrt(len(deltas)))

    def next_look(self, num_units: int) -> int:
        """The smallest look above `num_units`; `max` where there is none."""
        return next((look for look in self.looks if look > num_units), self.max)
