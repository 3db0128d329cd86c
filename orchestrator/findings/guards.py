"""What stands beside a paired t test: a studentised bootstrap, and whether the deltas look normal at all.

The t test holds its error rate where deltas are normal. Where they are skewed, it raises too many false alarms, the
more the fewer units there are. The guard is the symmetric bootstrap-t (Hall, The Bootstrap and Edgeworth Expansion,
1992, section 3.6): over simulated studies it keeps the rate where the t test does, and halves the alarms under skew;
the sign-flip test, which needs symmetry as well, does not, and of fewer than nine units of an ablation of eight cells
it cannot be significant (`tests/benchmarks/guards.py`, figures in `docs/log.md`).
Legend: R contrasts, n units, B resamples.
"""

from __future__ import annotations

import itertools
import math
from functools import cache

import numpy as np

NUM_RESAMPLES = 1_999  # of more units than MOST_EXACT
MOST_EXACT = 7  # units whose resamples are all enumerated: 1,716 of them, told apart by how often they draw each unit
FLAG_LEVEL = 0.01  # of each of the two tests: of normal deltas so many are flagged by chance
_FEWEST_SKEW = 8  # below, D'Agostino's approximation does not hold
_NUMBERS_AT_ONCE = 4_000_000


def bootstrap_t(deltas: np.ndarray) -> np.ndarray:
    """p-values (R,) of complete rows (R, n), n >= 2, none of which is constant: how often a resample's |t| is as large.

    A resample is studentised by its own deviation around the mean of the row. One that draws a single unit n times has
    none and counts as large, so that nothing comes below `smallest_bootstrap_p`.
    """
    num_rows, n = deltas.shape
    counts, weights = _resamples(n)
    mean = deltas.mean(axis=1, keepdims=True)
    centred = deltas - mean
    centred /= np.abs(centred).max(axis=1, keepdims=True)
    # |t*| >= |t|, squared and without the divisions: s = mean*^2 / var* grows with |t*|.
    observed = (mean[:, 0] ** 2) / deltas.var(axis=1)
    p = np.empty(num_rows)
    for rows in np.array_split(np.arange(num_rows), max(1, math.ceil(num_rows * len(weights) / _NUMBERS_AT_ONCE))):
        squares = (centred[rows] @ counts) ** 2
        spread = np.maximum(centred[rows] ** 2 @ counts - squares, 0.0)
        spread[spread < 1e-12] = 0.0  # of a single unit, drawn n times
        p[rows] = (squares >= observed[rows, None] * spread * (1 - 1e-12)) @ weights
    return np.minimum(1.0, p + (1.0 - weights.sum()))


def smallest_bootstrap_p(n: int) -> float:
    """What the bootstrap of n deltas cannot go below, as n of its n^n resamples draw a single unit: 0.0016 for 5."""
    return 1.0 if n < 2 else max(n ** (1.0 - n), 0.0 if n <= MOST_EXACT else 1 / (NUM_RESAMPLES + 1))


def flags(deltas: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Whether rows (R, n) with NaN for what is missing have an outlying delta, and whether they are skewed: two (R,).

    Outlying by Grubbs' test (1950, two-sided, n >= 3), skewed by that of D'Agostino (1970, n >= 8), each at
    `FLAG_LEVEL`. Few units seldom show the tail that misleads the t test, so no flag is no proof.
    """
    from scipy.special import stdtr
    from scipy.stats import skewtest

    outlying, skewed = np.zeros((2, len(deltas)), dtype=bool)
    num_units = (~np.isnan(deltas)).sum(axis=1)
    packed = np.take_along_axis(deltas, np.argsort(np.isnan(deltas), axis=1, kind="stable"), axis=1)
    for n in np.unique(num_units[num_units >= 3]):
        rows = np.flatnonzero(num_units == n)
        mine = packed[rows, :n]
        centred = mine - mine.mean(axis=1, keepdims=True)
        sd, largest = centred.std(axis=1, ddof=1), np.abs(mine).max(axis=1)
        rows, centred, sd = (each[sd > 1e-12 * np.maximum(largest, 1e-300)] for each in (rows, centred, sd))
        if not len(rows):
            continue
        grubbs = np.abs(centred).max(axis=1) / sd
        left = np.maximum((n - 1) ** 2 / n - grubbs**2, 1e-300)  # nothing is left where all others are equal
        outlying[rows] = 2 * n * stdtr(n - 2, -np.sqrt((n - 2) * grubbs**2 / left)) < FLAG_LEVEL
        if n >= _FEWEST_SKEW:
            skewed[rows] = np.asarray(skewtest(centred, axis=1).pvalue) < FLAG_LEVEL
    return outlying, skewed


@cache
def _resamples(n: int) -> tuple[np.ndarray, np.ndarray]:
    """How large a part of a resample each unit is (n, B), and how probable each resample is (B,)."""
    if n > MOST_EXACT:
        drawn = np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), size=NUM_RESAMPLES)
        return drawn.T / n, np.full(NUM_RESAMPLES, 1 / (NUM_RESAMPLES + 1))
    chosen = list(itertools.combinations_with_replacement(range(n), n))
    counts = np.stack([np.bincount(each, minlength=n) for each in chosen], axis=1)
    ways = [math.factorial(n) / math.prod(map(math.factorial, column)) for column in counts.T.tolist()]
    return counts / n, np.array(ways) / n**n
