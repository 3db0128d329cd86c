"""The guard beside the t test against all resamples one by one, and flags against published bounds."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from orchestrator.findings.contrasts import flags
from orchestrator.findings.statistics import MOST_EXACT, bootstrap_t, smallest_bootstrap_p

NAN = np.nan


def one_by_one(row: np.ndarray) -> float:
    """The share of the n^n resamples whose |t|, around the mean of the row, is as large as that of the row."""
    observed, large = abs(row.mean()) * len(row) ** 0.5 / row.std(ddof=1), []
    for chosen in itertools.product(range(len(row)), repeat=len(row)):
        drawn = row[list(chosen)]
        alone = len(set(chosen)) == 1
        large.append(alone or abs(drawn.mean() - row.mean()) * len(row) ** 0.5 >= observed * drawn.std(ddof=1) - 1e-12)
    return float(np.mean(large))


@pytest.mark.parametrize("n", [2, 3, 4, 5])
def test_the_bootstrap_of_few_units_is_that_of_all_resamples(n: int) -> None:
    rows = np.random.default_rng(n).normal(0.8, 1.0, (2, n))
    assert bootstrap_t(rows) == pytest.approx([one_by_one(row) for row in rows])


@pytest.mark.parametrize("n", [6, 7, 12])
def test_the_bootstrap_of_more_units_is_that_of_draws(n: int) -> None:
    row, draws = np.random.default_rng(n).normal(0.7, 1.0, n), np.random.default_rng(0)
    drawn = row[draws.integers(n, size=(40_000, n))]
    with np.errstate(divide="ignore"):
        t = np.abs(drawn.mean(axis=1) - row.mean()) / drawn.std(axis=1)
    assert bootstrap_t(row[None])[0] == pytest.approx((t >= abs(row.mean()) / row.std()).mean(), abs=0.012)


def test_the_bootstrap_knows_neither_units_nor_signs_nor_the_other_rows() -> None:
    rows = np.random.default_rng(0).normal(0.5, 1.0, (5, 9))
    found = bootstrap_t(rows)
    assert bootstrap_t(-1e-4 * rows[2:3])[0] == pytest.approx(found[2], abs=1e-12)


@pytest.mark.parametrize("n", [2, 4, 5, MOST_EXACT, 20])
def test_nothing_is_more_certain_than_the_bootstrap_can_be(n: int) -> None:
    row = 1e6 + np.random.default_rng(n).normal(size=(1, n))
    assert bootstrap_t(row)[0] == pytest.approx(smallest_bootstrap_p(n))
    assert smallest_bootstrap_p(1) == smallest_bootstrap_p(0) == 1.0


@pytest.mark.parametrize(("n", "bound"), [(5, 1.764), (10, 2.482), (20, 3.001)])
def test_an_outlier_is_one_beyond_the_published_bound_of_grubbs_test(n: int, bound: float) -> None:
    """Two-sided at 0.01, as in the tables of Grubbs and Beck (1972)."""
    rows = np.array([[*np.linspace(-1, 1, n - 1), value] for value in np.geomspace(1, 60, 3_000)])
    farthest = (rows[:, -1] - rows.mean(axis=1)) / rows.std(axis=1, ddof=1)
    outlying, _ = flags(rows)
    assert farthest[outlying].min() == pytest.approx(bound, abs=0.002)
    assert farthest[~outlying].max() <= farthest[outlying].min()


def test_flags_are_rare_among_normal_deltas_and_frequent_among_skewed_ones() -> None:
    draws = np.random.default_rng(0)
    for n, common in ((5, 0.05), (10, 0.2), (20, 0.5)):
        outlying, skewed = flags(draws.normal(size=(4_000, n)))
        assert 0.005 < outlying.mean() < 0.015
        assert skewed.mean() < 0.015
        assert skewed.any() == (n >= 8)
        outlying, skewed = flags(draws.lognormal(size=(1_000, n)))
        assert (outlying | skewed).mean() > common


def test_what_is_missing_or_constant_is_not_flagged() -> None:
    rows = np.array([[1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, NAN], [NAN] * 4, [1.0, 5.0, NAN, NAN]])
    assert not np.any(flags(rows))
    spike = np.array([[0.0, 0.0, 0.0, NAN, 0.0, 1.0, NAN]])
    assert flags(spike)[0].tolist() == flags(spike[:, [0, 1, 2, 4, 5]])[0].tolist() == [True]
