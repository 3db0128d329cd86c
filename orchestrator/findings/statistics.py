"""Paired tests over units, the correction for testing many times, and how many units would decide.

The primary test is the two-sided paired t test; whether a mean is within bounds is asked by two one-sided ones. The t
test holds its error rate where deltas are normal. Where they are skewed, it raises too many false alarms, the more the
fewer units there are. Its guard is the symmetric bootstrap-t (Hall, The Bootstrap and Edgeworth Expansion, 1992,
section 3.6): over simulated studies it keeps the rate where the t test does, and halves the alarms under skew. The
sign-flip permutation test, which needs symmetry as well, does not: it believes in nothing but that under the null a
delta is as likely as its negative, and of fewer than nine units of an ablation of eight cells it cannot be significant
(`tests/benchmarks/guards.py`, figures in `docs/log.md`).
Legend: R contrasts, U units (seeds, configurations or searches), n units that a contrast has, B resamples; NaN is a
unit that a contrast does not have, and a number that does not exist.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

ROUNDING = 1e-12  # metrics are of order one: deltas below it, and relative spreads below it, are rounding errors
NUM_FLIPS = 9_999  # the sign-flip test is exact up to as many, which is up to 13 units
NUM_RESAMPLES = 1_999  # of more units than MOST_EXACT
MOST_EXACT = 7  # units whose resamples are all enumerated: 1,716 of them, told apart by how often they draw each unit
_NUMBERS_AT_ONCE = 4_000_000
_ROWS_AT_ONCE = 500  # the sign-flip test holds rows x flips numbers


@dataclass(frozen=True, kw_only=True)
class Tests:
    """One entry per row of deltas, arrays (R,): `n` int64, the others float64 with NaN for what does not exist.

    `delta` and `sd` (ddof=1) are over the n units; `effect_size` is delta / sd, Cohen's d_z. The p-values and the
    interval have paid for their share of alpha, and nothing yet for the number of rows.
    """

    n: np.ndarray
    delta: np.ndarray
    sd: np.ndarray
    ci_low: np.ndarray
    ci_high: np.ndarray
    p: np.ndarray
    p_signflip: np.ndarray
    p_bootstrap: np.ndarray
    p_tost: np.ndarray
    effect_size: np.ndarray


def paired(
    deltas: np.ndarray,
    *,
    alpha: float = 0.05,
    share: np.ndarray | None = None,
    smallest_effect: np.ndarray | None = None,
    guards: bool = True,
) -> Tests:
    """Whether the mean of each row of `deltas` (R, U) differs from 0, by each unit's own delta.

    `share` (R,) of alpha is what the look of a race spends, 1 without a race: p-values are divided by it and intervals
    have level 1 - alpha * share. Deltas that are all 0 have p = 1; other deltas that are all equal have no spread to
    test against, just as a single one, and hence neither p-values nor interval nor effect size. `smallest_effect` (R,)
    are the bounds of `p_tost`, NaN for none. Without `guards` there is neither `p_signflip` nor `p_bootstrap`.
    """
    deltas = np.asarray(deltas, dtype=float)
    assert not np.isinf(deltas).any()
    deltas = np.where(np.abs(deltas) < ROUNDING, 0.0, deltas)
    shares = np.ones(len(deltas)) if share is None else np.asarray(share, dtype=float)
    n, delta, sd = summary(deltas)
    largest, apart = _largest(deltas), _largest(deltas - delta[:, None])
    equal = (n >= 2) & (apart <= ROUNDING * largest)
    sd[equal] = 0.0
    ci_low, ci_high, p, p_signflip, p_bootstrap, effect_size = np.full((6, len(deltas)), math.nan)
    none = equal & (largest == 0)
    ci_low[none] = ci_high[none] = effect_size[none] = 0.0
    p[none] = 1.0
    testable = (n >= 2) & ~equal
    effect_size[testable] = delta[testable] / sd[testable]
    packed = np.take_along_axis(deltas, np.argsort(np.isnan(deltas), axis=1, kind="stable"), axis=1)
    for num_units, spent in np.unique(np.column_stack([n, shares])[testable], axis=0):
        rows = np.flatnonzero(testable & (n == num_units) & (shares == spent))
        ci_low[rows], ci_high[rows], found = _t_test(packed[rows, : int(num_units)], 1 - alpha * spent)
        p[rows] = np.minimum(1.0, found / spent)
    if guards:
        p_signflip[none] = p_bootstrap[none] = 1.0
        for num_units in np.unique(n[testable]):
            group = np.flatnonzero(testable & (n == num_units))
            p_bootstrap[group] = np.minimum(1.0, bootstrap_t(packed[group, :num_units]) / shares[group])
            for rows in np.array_split(group, math.ceil(len(group) / _ROWS_AT_ONCE)):
                found = _signflip_test(packed[rows, :num_units] / largest[rows, None])
                p_signflip[rows] = np.minimum(1.0, found / shares[rows])
    bounds = np.full(len(deltas), math.nan) if smallest_effect is None else np.asarray(smallest_effect, dtype=float)
    p_tost = np.minimum(1.0, two_one_sided(n, delta, np.where(testable | none, sd, math.nan), bounds) / shares)
    return Tests(
        n=n,
        delta=delta,
        sd=sd,
        ci_low=ci_low,
        ci_high=ci_high,
        p=p,
        p_signflip=p_signflip,
        p_bootstrap=p_bootstrap,
        p_tost=p_tost,
        effect_size=effect_size,
    )


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


def two_one_sided(n: np.ndarray, delta: np.ndarray, sd: np.ndarray, bounds: np.ndarray) -> np.ndarray:
    """p-values (R,) of the null that a mean is at or beyond +-`bounds` (R,): two one-sided t tests, the larger of both.

    After Schuirmann (1987). Below alpha just where the interval at level 1 - 2 alpha lies within the bounds. Deltas
    that are all 0 are within any; NaN where n, `sd` or the bounds allow no test.
    """
    from scipy.special import stdtr

    with np.errstate(divide="ignore", invalid="ignore"):
        nearest = (bounds - np.abs(delta)) * np.sqrt(n) / sd  # the other side has the smaller p-value
    possible = (n >= 2) & ~np.isnan(nearest)
    return np.where(possible, stdtr(np.maximum(n - 1, 1), -nearest), math.nan)


def holm(p: np.ndarray) -> np.ndarray:
    """p-values (R,) of one family, adjusted after Holm (1979), in their order; NaN stays NaN and is no part of it.

    As in statsmodels, which collects garbage at every call: with dozens of families per grid that takes seconds.
    """
    adjusted = np.full(len(p), math.nan)
    order = np.argsort(p)[: np.count_nonzero(~np.isnan(p))]  # NaN come last
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * np.arange(len(order), 0, -1)))
    return adjusted


def smallest_signflip_p(n: int) -> float:
    """What the exact two-sided sign-flip test of n deltas cannot go below: 0.0625 for 5."""
    return min(1.0, 2 / 2**n)


def smallest_bootstrap_p(n: int) -> float:
    """What the bootstrap of n deltas cannot go below, as n of its n^n resamples draw a single unit: 0.0016 for 5."""
    return 1.0 if n < 2 else max(n ** (1.0 - n), 0.0 if n <= MOST_EXACT else 1 / (NUM_RESAMPLES + 1))


def more_seeds(
    effect_size: np.ndarray, n: np.ndarray, *, alpha: np.ndarray, power: float = 0.8, most: int = 1000
) -> np.ndarray:
    """How many more than n units (R,) two-sided paired t tests need to decide with probability `power`, (R,) of int.

    `effect_size` (R,) are d_z, taken as true, and `alpha` (R,) the levels of the tests. None where it takes more than
    `most`, or there is no effect to be found.
    """
    from scipy.special import nctdtr, stdtrit

    size = np.abs(effect_size)

    def enough(more: np.ndarray) -> np.ndarray:
        # One side of the test: deciding on the wrong one adds nothing near such a power, but its tail is NaN at times.
        # So is that of the right one, where it is almost certain.
        units = n + more
        return ~(1 - nctdtr(units - 1, size * np.sqrt(units), -stdtrit(units - 1, alpha / 2)) < power)

    low, high = np.maximum(0, 2 - n), np.full(len(n), most)
    found = (size > 0) & enough(high)
    while (low < high).any():  # bisection, as power grows with the number of units
        middle = (low + high) // 2
        there = enough(middle)
        low, high = np.where(there, low, np.minimum(middle + 1, high)), np.where(there, middle, high)
    needed = low.astype(object)
    needed[~found] = None
    return needed


def summary(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each row of `values` (R, U) how many are there, their mean and their standard deviation (ddof=1): n, mean, sd.

    The mean of none and the deviation of fewer than two are NaN.
    """
    exists = ~np.isnan(values)
    n = exists.sum(axis=1)
    # Measured from the row's smallest value, equal values have exactly their own mean and no deviation.
    start = np.min(values, axis=1, where=exists, initial=math.inf)
    start[n == 0] = math.nan
    above = np.where(exists, values - start[:, None], 0.0)
    shift = above.sum(axis=1) / np.maximum(n, 1)
    squares = np.where(exists, (above - shift[:, None]) ** 2, 0.0).sum(axis=1)
    sd = np.full(len(values), math.nan)
    np.divide(squares, n - 1, out=sd, where=n >= 2)
    return n.astype(np.int64), start + shift, np.sqrt(sd)


def _largest(values: np.ndarray) -> np.ndarray:
    return np.max(np.abs(values), axis=1, where=~np.isnan(values), initial=0.0)


def _t_test(deltas: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Both ends of the intervals and the p-values of complete rows (R, n)."""
    from scipy.stats import ttest_1samp

    result: Any = ttest_1samp(deltas, 0.0, axis=1)
    interval = result.confidence_interval(level)
    return interval.low, interval.high, result.pvalue


def _signflip_test(deltas: np.ndarray) -> np.ndarray:
    """p-values of complete rows (R, n) whose largest entry is 1; every row sees the same flips.

    What is permuted are the signs, so that one product with them serves all rows.
    """
    from scipy.stats import permutation_test

    def total(signs: np.ndarray, axis: int) -> np.ndarray:
        assert axis == -1
        return np.round(signs @ deltas.T, 10)  # sums that are equal but for rounding must tie

    signs, flips = np.ones(deltas.shape[1]), np.random.default_rng(0)
    options = {"permutation_type": "samples", "vectorized": True, "n_resamples": NUM_FLIPS, "axis": -1, "rng": flips}
    return np.asarray(permutation_test((signs,), total, **options).pvalue)


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
