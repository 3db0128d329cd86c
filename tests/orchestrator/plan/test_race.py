"""How many seeds a race asks for, and what its looks spend of the error rate."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import t, ttest_1samp

from orchestrator.plan.race import Race

RACE = Race(min=5, max=20, until=0.02)


@st.composite
def races(draw: st.DrawFn) -> Race:
    low = draw(st.integers(2, 30))
    return Race(min=low, max=draw(st.integers(low + 1, 300)), until=1.0)


@pytest.mark.parametrize(
    ("low", "high", "looks"),
    [(5, 20, (5, 10, 20)), (5, 12, (5, 10, 12)), (3, 4, (3, 4)), (2, 17, (2, 4, 8, 16, 17)), (5, 10, (5, 10))],
)
def test_the_looks_double_from_the_fewest_seeds_and_end_with_the_most(
    low: int, high: int, looks: tuple[int, ...]
) -> None:
    assert Race(min=low, max=high, until=1.0).looks == looks


@pytest.mark.slow
@given(races())
def test_each_look_follows_the_one_before_until_the_last_stays(race: Race) -> None:
    reached = [race.next_look(0)]
    while reached[-1] < race.max:
        reached.append(race.next_look(reached[-1]))
    assert tuple(reached) == race.looks
    assert race.next_look(race.max) == race.next_look(race.max + 1) == race.max
    assert race.next_look(race.min + 1) == race.looks[1]


@pytest.mark.slow
@given(races())
def test_the_shares_of_the_looks_sum_to_one_in_proportion_to_their_seeds(race: Race) -> None:
    assert sum(map(race.share, race.looks)) == pytest.approx(1.0)
    assert race.share(race.min) / race.share(race.max) == pytest.approx(race.min / race.max)


def test_pairs_that_failed_seeds_left_incomplete_spend_the_share_of_the_look_they_came_to() -> None:
    assert [RACE.share(n) for n in (2, 4, 5)] == [5 / 35] * 3
    assert [RACE.share(n) for n in (6, 10)] == [10 / 35] * 2
    assert [RACE.share(n) for n in (11, 19, 20)] == [20 / 35] * 3
    assert RACE.share(25) == 20 / 35  # another experiment in the storage may have trained more


@pytest.mark.parametrize("alpha", [0.05, 0.01])
@pytest.mark.parametrize(("num_deltas", "num_seeds"), [(5, 5), (4, 5), (7, 10), (20, 20)])
def test_deltas_are_precise_once_half_of_scipys_interval_is_within_the_limit(
    num_deltas: int, num_seeds: int, alpha: float
) -> None:
    deltas = np.random.default_rng(0).normal(0.3, 0.1, num_deltas)
    low, high = ttest_1samp(deltas, 0.0).confidence_interval(1 - alpha * RACE.share(num_seeds))
    half = (high - low) / 2
    assert Race(min=5, max=20, until=half * 1.001, alpha=alpha).precise(list(deltas), num_seeds)
    assert not Race(min=5, max=20, until=half * 0.999, alpha=alpha).precise(list(deltas), num_seeds)


def test_a_limit_that_is_just_reached_is_precise() -> None:
    half = float(t.ppf(1 - 0.05 * (5 / 35) / 2, 1))  # deltas of -1 and 1 have the standard error 1
    assert Race(min=5, max=20, until=half * (1 + 1e-12)).precise([-1.0, 1.0], 5)
    assert not Race(min=5, max=20, until=half * (1 - 1e-12)).precise([-1.0, 1.0], 5)


def test_fewer_than_two_deltas_are_never_precise_and_equal_ones_always() -> None:
    assert not RACE.precise([], 5)
    assert not RACE.precise([0.0], 5)
    assert RACE.precise([0.1] * 5, 5)


def test_where_the_mean_lies_does_not_decide() -> None:
    deltas = np.random.default_rng(1).normal(0.0, 0.01, 5)
    answers = {Race(min=5, max=20, until=0.02).precise(list(deltas + mean), 5) for mean in (0.0, 1.0, -5.0)}
    assert len(answers) == 1
