"""Over simulated studies without any effect, false alarms are as rare as promised, whatever ended a race."""

from __future__ import annotations

import numpy as np
import pytest

from tests.benchmarks.error_rates import UNTIL, alarms, differences, greedy, precise, race, shares, significant

STUDIES, MOST = 1_000, 0.06


@pytest.mark.parametrize("num_seeds", [3, 5, 10, 20])
def test_with_fixed_seeds_at_most_one_study_in_twenty_raises_a_false_alarm(num_seeds: int) -> None:
    assert alarms(significant(differences(STUDIES, num_seeds)[1])) <= MOST


def test_a_race_that_precision_stops_raises_few_false_alarms_in_some_hundred_studies() -> None:
    assert 0 < raced(1.0, rho=0.8, num_studies=300) <= MOST


@pytest.mark.slow
@pytest.mark.parametrize("rho", [0.0, 0.8, 1.0])
@pytest.mark.parametrize("until", UNTIL)
def test_a_race_that_precision_stops_raises_no_more_false_alarms_than_fixed_seeds(until: float, rho: float) -> None:
    assert raced(until, rho) <= MOST


@pytest.mark.slow
def test_without_shares_a_race_that_the_tested_split_stops_raises_too_many_false_alarms() -> None:
    assert raced(0.5, rho=1.0, naive=True) > MOST


def test_with_shares_even_stopping_at_the_first_significant_look_raises_no_more_false_alarms() -> None:
    _, test = differences(STUDIES)
    planned, naive = greedy(race(1.0), test), greedy(race(1.0), test, naive=True)
    assert alarms(significant(test, planned, shares(race(1.0), planned))) <= MOST
    assert alarms(significant(test, naive)) > MOST


@pytest.mark.parametrize(("until", "looks"), [(0.5, {10, 20}), (1.0, {5, 10, 20}), (2.8, {5, 10})], ids=str)
def test_the_simulated_races_stop_at_different_looks(until: float, looks: set[int]) -> None:
    stops = precise(race(until), differences(300)[0])
    assert looks <= set(np.unique(stops).tolist())


def test_a_planted_effect_is_found_more_often_with_more_seeds_and_cells_without_one_stay_quiet() -> None:
    found = [significant(differences(300, num_seeds, effect=1.0)[1]) for num_seeds in (5, 10, 20)]
    rates = [float(each[:, 0].mean()) for each in found]
    assert rates == sorted(rates)
    assert rates[-1] > 0.85
    assert all(alarms(each[:, 1:]) <= MOST for each in found)


def raced(until: float, rho: float, num_studies: int = STUDIES, *, naive: bool = False) -> float:
    """The rate of false alarms on the test split in races that the validation split stops."""
    valid, test = differences(num_studies, rho=rho)
    stops = precise(race(until), valid, naive=naive)
    return alarms(significant(test, stops, None if naive else shares(race(until), stops)))
