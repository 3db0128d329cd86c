"""The tests of an ablation against statsmodels, enumeration and textbooks; and numbers that do not exist."""

from __future__ import annotations

import itertools
import math
import operator
import statistics
import sys
from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import chi2, norm, t
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower
from statsmodels.stats.weightstats import DescrStatsW

from orchestrator.findings.statistics import NUM_FLIPS, holm, more_seeds, paired, smallest_signflip_p, summary

NAN = math.nan


def deltas(num_rows: int, num_seeds: int, mean: float = 0.4, missing: float = 0.0) -> np.ndarray:
    generator = np.random.default_rng(num_rows + num_seeds)
    found = generator.normal(mean, 1.0, (num_rows, num_seeds))
    found[generator.random(found.shape) < missing] = NAN
    return found


@pytest.mark.parametrize("missing", [0.0, 0.2], ids=["complete", "with gaps"])
def test_the_t_test_is_that_of_statsmodels_row_by_row(missing: float) -> None:
    rows = deltas(60, 8, missing=missing)
    share = np.tile([1.0, 5 / 35, 10 / 35], 20)
    found = paired(rows, alpha=0.1, share=share)
    for index, row in enumerate(rows):
        peer = DescrStatsW(row[~np.isnan(row)])
        assert found.n[index] == peer.nobs
        assert found.delta[index] == pytest.approx(peer.mean)
        assert found.sd[index] == pytest.approx(statistics.stdev(row[~np.isnan(row)]))
        assert found.effect_size[index] == pytest.approx(found.delta[index] / found.sd[index])
        assert found.p[index] == pytest.approx(min(1.0, peer.ttest_mean(0)[1] / share[index]))
        interval = peer.tconfint_mean(alpha=0.1 * share[index])
        assert (found.ci_low[index], found.ci_high[index]) == pytest.approx(interval)


@pytest.mark.parametrize("num_seeds", [2, 3, 5, 8, 10])
def test_the_sign_flip_test_is_that_of_all_flips_in_exact_arithmetic(num_seeds: int) -> None:
    rows = np.random.default_rng(num_seeds).integers(-4, 7, (30, num_seeds)) / 10  # tenths tie, and are rounded
    rows[:, 0] += 0.1 * (rows == rows[:, :1]).all(axis=1)
    found = paired(rows)
    for p, row in zip(found.p_signflip, rows, strict=True):
        assert p == pytest.approx(enumerated(row))


def enumerated(row: np.ndarray) -> float:
    tenths = [round(10 * value) for value in row]
    totals = [sum(map(operator.mul, signs, tenths)) for signs in itertools.product((1, -1), repeat=len(tenths))]
    more, less = (sum(side * total >= side * sum(tenths) for total in totals) for side in (1, -1))
    return min(1.0, 2 * min(more, less) / len(totals))


@pytest.mark.slow
def test_random_flips_come_close_to_all_of_them_and_do_not_depend_on_other_rows() -> None:
    rows = deltas(3, 16)
    signs = np.array(list(itertools.product((1, -1), repeat=16)))
    exact = (np.abs(signs @ rows.T) >= np.abs(rows.sum(axis=1)) - 1e-9).mean(axis=0)
    found = paired(rows).p_signflip
    assert np.abs(found - exact).max() < 0.015
    assert paired(rows[1:2]).p_signflip[0] == found[1]
    assert paired(deltas(1, 16, mean=50.0)).p_signflip[0] == pytest.approx(2 / (NUM_FLIPS + 1))


@pytest.mark.parametrize("num_seeds", range(2, 14))
def test_deltas_of_one_sign_have_the_smallest_p_that_the_sign_flip_test_reaches(num_seeds: int) -> None:
    assert paired(deltas(1, num_seeds, mean=50.0)).p_signflip[0] == smallest_signflip_p(num_seeds)


def test_five_seeds_cannot_bring_the_sign_flip_test_below_a_sixteenth() -> None:
    assert smallest_signflip_p(5) == 0.0625
    assert smallest_signflip_p(6) < 0.05
    assert smallest_signflip_p(1) == smallest_signflip_p(0) == 1.0


def test_the_sign_flip_test_pays_for_its_share_and_can_be_left_out() -> None:
    rows = deltas(4, 6, mean=2.0)
    whole, share = paired(rows).p_signflip, np.full(4, 0.5)
    assert paired(rows, share=share).p_signflip == pytest.approx(np.minimum(1.0, 2 * whole))
    assert np.isnan(paired(rows, guards=False).p_signflip).all()
    assert paired(rows, share=share).p_bootstrap == pytest.approx(np.minimum(1.0, 2 * paired(rows).p_bootstrap))
    assert np.isnan(paired(rows, guards=False).p_bootstrap).all()


@pytest.mark.parametrize("bound", [0.2, 0.7, 2.0])
def test_no_effect_beyond_a_bound_is_tested_as_in_statsmodels(bound: float) -> None:
    rows, share = deltas(30, 7, missing=0.1), np.tile([1.0, 0.5], 15)
    found = paired(rows, share=share, smallest_effect=np.full(30, bound)).p_tost
    peers = [DescrStatsW(row[~np.isnan(row)]).ttost_mean(-bound, bound)[0] for row in rows]
    assert found == pytest.approx(np.minimum(1.0, peers / share))


def test_no_effect_is_said_of_equal_zeros_and_never_without_a_bound_or_a_spread() -> None:
    rows = np.array([[0.0] * 4, [0.3] * 4, [0.3, NAN, NAN, NAN]])
    found = paired(rows, smallest_effect=np.full(3, 0.5)).p_tost
    assert found[0] == 0.0
    assert np.isnan(found[1:]).all()
    assert np.isnan(paired(rows).p_tost).all()


def test_a_single_seed_has_a_delta_and_nothing_else() -> None:
    found = paired(np.array([[NAN, 0.3, NAN], [NAN, NAN, NAN]]))
    assert found.n.tolist() == [1, 0]
    assert found.n.dtype == np.int64
    assert found.delta[0] == 0.3
    assert np.isnan(found.delta[1])
    for name in ("sd", "ci_low", "ci_high", "p", "p_signflip", "p_bootstrap", "effect_size"):
        assert np.isnan(getattr(found, name)).all(), name


@pytest.mark.parametrize("row", [[0.0] * 4, [0.0, NAN, 0.0], [1e-17, -2e-16, 0.0, 1.1e-16]], ids=str)
def test_deltas_that_are_all_zero_but_for_rounding_show_no_difference(row: list[float]) -> None:
    found = paired(np.array([row]), share=np.array([0.1]))
    assert (found.p[0], found.p_signflip[0], found.p_bootstrap[0]) == (1.0, 1.0, 1.0)
    assert (found.delta[0], found.sd[0], found.ci_low[0], found.ci_high[0], found.effect_size[0]) == (0,) * 5


@pytest.mark.parametrize("row", [[0.3] * 5, [0.1 + 0.2, 0.3, 0.3], [-0.7, NAN, -0.7], [1e-5 + 1e-21, 1e-5]], ids=str)
def test_deltas_without_a_spread_decide_nothing(row: list[float]) -> None:
    found = paired(np.array([row]))
    assert found.delta[0] == pytest.approx(np.nanmean(row))
    assert found.sd[0] == 0.0
    for name in ("ci_low", "ci_high", "p", "p_signflip", "p_bootstrap", "effect_size"):
        assert np.isnan(getattr(found, name)).all(), name


def test_a_spread_that_is_small_but_no_rounding_error_is_tested() -> None:
    small = np.array([[0.3, 0.3 + 1e-11, 0.3 - 1e-11]])
    assert paired(small).p[0] < 1e-9


def test_no_rows_and_no_seeds_give_empty_answers() -> None:
    assert paired(np.zeros((0, 5))).p.shape == (0,)
    assert np.isnan(paired(np.zeros((2, 0))).p).all()
    assert holm(np.zeros(0)).shape == (0,)


@pytest.mark.slow
def test_holm_is_that_of_statsmodels_over_the_p_values_that_exist() -> None:
    p = np.random.default_rng(0).random(20) ** 3
    p[3] = p[5]
    assert holm(p) == pytest.approx(multipletests(p, method="holm")[1], rel=1e-15)
    with_gaps = np.insert(p, [0, 7, 20], NAN)
    assert np.isnan(with_gaps).tolist() == np.isnan(holm(with_gaps)).tolist()
    assert holm(with_gaps)[~np.isnan(with_gaps)].tolist() == holm(p).tolist()
    assert np.isnan(holm(np.array([NAN, NAN]))).all()


def test_holm_multiplies_by_how_many_are_left_and_never_goes_down() -> None:
    assert holm(np.array([0.04, 0.01, 0.03, 0.6])) == pytest.approx([0.09, 0.04, 0.09, 0.6])


def more(effect_size: float, n: int, *, alpha: float, **options: int) -> int | None:
    (found,) = more_seeds(np.array([effect_size]), np.array([n]), alpha=np.array([alpha]), **options)
    return found


def test_half_a_standard_deviation_takes_34_pairs_as_in_the_textbooks() -> None:
    assert more(0.5, 5, alpha=0.05) == more(-0.5, 5, alpha=0.05) == 34 - 5


@pytest.mark.parametrize("effect_size", [0.2, 0.7, 1.158, 1.5, 4.0])
@pytest.mark.parametrize("alpha", [0.05, 0.05 / 7, 0.05 / 40])
def test_as_many_seeds_more_have_the_power_and_one_less_has_not(effect_size: float, alpha: float) -> None:
    found = more(effect_size, 2, alpha=alpha)
    assert found is not None
    assert power(effect_size, 2 + found, alpha) >= 0.8
    assert power(effect_size, 1 + found, alpha) < 0.8


def power(effect_size: float, n: int, alpha: float) -> float:
    """Of the two-sided t test of n deltas of sd 1: given their sd it is the normal distribution's, averaged over it."""
    sd = np.sqrt(chi2.ppf((np.arange(20_000) + 0.5) / 20_000, n - 1) / (n - 1))
    bound, mean = t.isf(alpha / 2, n - 1) * sd, effect_size * math.sqrt(n)
    return float((norm.sf(bound - mean) + norm.cdf(-bound - mean)).mean())


def test_an_effect_that_is_too_small_or_does_not_exist_has_no_number_of_seeds() -> None:
    assert more(0.0, 5, alpha=0.05) is None
    assert more(NAN, 1, alpha=0.05) is None
    assert more(0.05, 5, alpha=0.05) is None
    assert more(0.5, 5, alpha=0.05, most=28) is None
    assert more(0.5, 5, alpha=0.05, most=29) == 29


@pytest.mark.parametrize("effect_size", [4.0, 6.449, 7.539, 50.0, 1e6])
@pytest.mark.parametrize("n", [10, 26, 38])
def test_an_effect_that_is_plain_needs_no_more_seeds(effect_size: float, n: int) -> None:
    assert more(effect_size, n, alpha=0.05) == 0


def test_how_many_seeds_would_decide_is_found_for_many_rows_as_for_each_alone_and_as_in_statsmodels() -> None:
    random = np.random.default_rng(0)
    sizes, n = random.normal(0, 0.5, 200), random.integers(2, 30, 200)
    alpha = 0.05 / random.integers(1, 1000, 200)
    found = more_seeds(sizes, n, alpha=alpha).tolist()
    assert found == [more(*row, alpha=level) for *row, level in zip(sizes, n, alpha, strict=True)]
    assert sum(each is None for each in found) > 20
    for size, number, level, each in zip(sizes, n, alpha, found, strict=True):
        if each != 0:  # of a single side: the other one's tail is NaN at times
            less = 1000 if each is None else each - 1
            before, after = (
                TTestPower().power(abs(size), number + less + one, level / 2, alternative="larger") for one in (0, 1)
            )
            assert before < 0.8
            assert each is None or after >= 0.8


def test_a_summary_is_that_of_numpy_without_its_warnings() -> None:
    values = deltas(40, 6, missing=0.3)
    values[0], values[1, 1:] = NAN, NAN
    values[2] = 0.1
    n, mean, sd = summary(values)
    for index, row in enumerate(values):
        present = row[~np.isnan(row)].tolist()
        assert n[index] == len(present)
        assert mean[index] == pytest.approx(statistics.fmean(present) if present else NAN, nan_ok=True)
        assert sd[index] == pytest.approx(statistics.stdev(present) if len(present) > 1 else NAN, nan_ok=True)
    assert (mean[2], sd[2]) == (0.1, 0.0)


@pytest.mark.slow
def test_thousands_of_rows_are_computed_at_once_and_not_one_by_one() -> None:
    rows = deltas(1_000, 20, missing=0.1)
    paired(rows[:2])  # everything is imported
    assert num_calls(lambda: paired(rows)) < 1.5 * num_calls(lambda: paired(rows[:100]))


def num_calls(compute: Callable[[], object]) -> int:
    """The calls of Python and of C functions that it takes: unlike seconds, the same on every machine."""
    count = 0

    def look(_: object, event: str, __: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(look)
    try:
        compute()
    finally:
        sys.setprofile(None)
    return count
