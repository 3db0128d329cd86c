"""Verdicts: what is said of cells, controls and steps, with bounds and without, and what the guard adds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from orchestrator.findings.contrasts import columns
from orchestrator.findings.statistics import more_seeds
from orchestrator.plan.race import Race

METRICS = ("valid/mae", "valid/corr", "test/mae", "test/corr")
NOISE = np.array([0.5, -1.2, 0.9, -0.4, 1.1, -0.9, 0.3, -0.6, 1.2, -0.9]) / 100


def found(*means: float, kinds: Any = None, num_units: int = 10, **options: Any) -> dict[str, np.ndarray]:
    """The columns of entries whose MAE (and, with the other sign, correlation) differs by so much, as (E, M)."""
    signs = np.array([1.0, -1.0, 1.0, -1.0])
    deltas = np.array([[sign * (mean + NOISE[:num_units]) for sign in signs] for mean in means])
    options = {"alpha": 0.05, "race": None, "objective": "valid/mae", "metrics": METRICS} | options
    kinds = ["full"] * len(means) if kinds is None else kinds
    flat = columns(deltas, **{"kinds": kinds, "twins": range(len(means))} | options)
    return {name: np.reshape(values, (len(means), 4)) for name, values in flat.items()}


def test_a_cell_is_worse_where_what_it_lacks_helps_on_every_metric() -> None:
    rows = found(0.1, -0.1, 0.0)
    assert rows["verdict"].tolist() == [["helps"] * 4, ["hurts"] * 4, ["undecided"] * 4]
    assert rows["variant_is"].tolist() == [["worse"] * 4, ["better"] * 4, ["undecided"] * 4]
    assert (rows["guard"] == "agrees").all()
    assert (rows["flag"] == "").all()


@pytest.mark.parametrize("alpha", [0.01, 0.2])
def test_intervals_are_those_of_scipy_at_the_level_that_is_asked_for(alpha: float) -> None:
    rows = found(0.1, -0.1, alpha=alpha)
    for row, mean in enumerate((0.1, -0.1)):
        expected = ttest_1samp(mean + NOISE, 0.0).confidence_interval(1 - alpha)
        assert (rows["ci_low"][row, 0], rows["ci_high"][row, 0]) == pytest.approx(tuple(expected))


def test_no_effect_is_said_of_the_objective_and_within_its_bounds_only() -> None:
    rows = found(0.001, 0.1, smallest_effect=0.03)
    assert rows["verdict"][0].tolist() == ["no effect", "undecided"] * 2
    assert rows["variant_is"][0].tolist() == ["no effect", "undecided"] * 2
    assert rows["verdict"][1, 0] == "helps"
    assert np.isnan(rows["p_tost"][:, [1, 3]]).all()
    assert found(0.001, smallest_effect=0.003)["verdict"][0, 0] == "undecided"


def test_a_difference_below_the_smallest_effect_is_none_however_significant() -> None:
    assert found(0.012, smallest_effect=None)["verdict"][0, 0] == "helps"
    assert found(0.012, smallest_effect=0.03)["verdict"][0, 0] == "no effect"


def test_statements_of_no_effect_are_corrected_within_their_family() -> None:
    alone, many = found(0.01, smallest_effect=0.017), found(*[0.01] * 8, smallest_effect=0.017)
    assert alone["p_tost"][0, 0] == many["p_tost"][0, 0]
    assert many["p_tost_holm"][:, 0] == pytest.approx(8 * alone["p_tost"][0, 0])
    assert (alone["verdict"][0, 0], many["verdict"][0, 0]) == ("no effect", "undecided")


def test_how_many_more_would_decide_is_asked_at_the_level_that_the_look_of_a_race_may_spend() -> None:
    race = Race(min=5, max=20, until=1.0)
    rows = found(0.004, 0.003, race=race)
    assert rows["verdict"][:, 0].tolist() == ["undecided"] * 2
    level = np.full(2, 0.05 * race.share(10) / 2)
    expected = more_seeds(rows["effect_size"][:, 0], np.full(2, 10), alpha=level)
    assert rows["more_seeds"][:, 0].tolist() == expected.tolist()


def test_what_compares_the_same_as_another_entry_is_paid_for_once() -> None:
    twice, once = found(0.004, 0.004, 0.003, twins=[0, 0, 2]), found(0.004, 0.003)
    for name in ("p_holm", "more_seeds", "verdict", "guard"):
        assert twice[name][[0, 2]].tolist() == once[name].tolist(), name
        assert twice[name][1].tolist() == twice[name][0].tolist(), name


def test_there_is_no_verdict_on_a_single_pair() -> None:
    assert found(0.1, num_units=1)["verdict"][0].tolist() == [None] * 4


def test_a_control_is_in_no_family_of_the_others() -> None:
    rows, alone = found(0.01, 0.006, 0.006, kinds=["full", "control", "full"]), found(0.01, 0.006)
    assert rows["p_holm"][1].tolist() == rows["p"][1].tolist()
    assert rows["p_holm"][[0, 2], 0] == pytest.approx(alone["p_holm"][:, 0])
    assert found(0.1, kinds=["control"])["variant_is"][0].tolist() == ["worse"] * 4


def test_a_step_is_no_variant() -> None:
    rows = found(-0.1, 0.1, kinds=["step", None])
    assert rows["verdict"][:, 0].tolist() == ["helps", None]
    assert rows["variant_is"][:, 0].tolist() == [None, None]


def test_one_search_has_an_interval_and_neither_p_values_nor_a_verdict() -> None:
    rows, tested = found(0.1, decidable=False, smallest_effect=0.01), found(0.1)
    for name in ("p", "p_holm", "p_signflip", "p_bootstrap", "p_tost", "p_tost_holm"):
        assert np.isnan(rows[name].astype(float)).all(), name
    for name in ("verdict", "variant_is", "guard", "flag", "carries_over", "more_seeds"):
        assert set(rows[name].ravel()) == {None}, name
    assert rows["ci_low"].tolist() == tested["ci_low"].tolist()


def test_the_guard_disagrees_where_the_verdict_leans_on_normality_and_cannot_tell_with_few_units() -> None:
    skewed = found(0.0062, num_units=10)
    assert skewed["verdict"][0, 0] == "undecided"
    assert found(0.045, num_units=5)["guard"][0, 0] == "agrees"
    assert found(0.015, num_units=5)["guard"][0, 0] == "disagrees"
    assert found(0.1, num_units=3)["guard"][0, 0] == "cannot tell"
    assert found(*[0.15] * 40, num_units=5)["guard"][0, 0] == "cannot tell"


def test_differences_that_are_not_as_normal_ones_are_flagged() -> None:
    assert found(0.0)["flag"][0, 0] == ""
    deltas = np.array([[[*NOISE[:9], 0.2]] * 4])
    options: dict[str, Any] = {"alpha": 0.05, "race": None, "objective": "valid/mae", "metrics": METRICS}
    assert columns(deltas, kinds=["full"], twins=[0], **options)["flag"][0] == "outlying, skewed"
