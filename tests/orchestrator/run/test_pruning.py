from types import SimpleNamespace

import numpy as np
import pytest

from msa_models.metrics import Direction
from orchestrator.run.pruning import Rungs, quantile, rung_epochs


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [((1, 3, 27), (1, 3, 9)), ((3, 3, 27), (3, 9)), ((3, 3, 28), (3, 9, 27)), ((5, 2, 5), ()), ((4, 4, 3), ())],
)
def test_rungs_lie_below_the_last_epoch(arguments, expected):
    assert rung_epochs(*arguments) == expected


@pytest.mark.slow
@pytest.mark.parametrize("direction", Direction)
def test_decisions_are_those_of_ray_tunes_own_scheduler(direction):
    from ray.tune.schedulers.async_hyperband import AsyncHyperBandScheduler

    rng = np.random.default_rng(0)
    theirs = AsyncHyperBandScheduler(
        metric="value",
        mode=direction.value[:3],
        time_attr="epoch",
        max_t=27,
        grace_period=1,
        reduction_factor=3,
        brackets=1,
    )
    ours = Rungs(reduction=3, direction=direction)
    num_pruned = 0
    for number in range(200):
        trial = SimpleNamespace(trial_id=str(number))
        theirs.on_trial_add(None, trial)  # pyright: ignore[reportArgumentType]
        for epoch in rung_epochs(1, 3, 27):
            value = float(rng.normal())
            stopped = theirs.on_trial_result(None, trial, {"epoch": epoch, "value": value}) == "STOP"  # pyright: ignore
            assert ours.prune(number, epoch, value) == stopped
            if stopped:
                num_pruned += 1
                break
    assert 100 < num_pruned < 200


def test_a_trial_that_reports_a_rung_twice_counts_once():
    once, twice = Rungs(reduction=3, direction=Direction.MINIMIZE), Rungs(reduction=3, direction=Direction.MINIMIZE)
    for number, value in enumerate([3.0, 2.0, 1.0, 2.5]):
        once.prune(number, 1, value)
        twice.prune(number, 1, value)
        twice.prune(number, 1, value)
    assert [once.prune(9, 1, value) for value in (0.5, 1.5, 2.2)] == [
        twice.prune(9, 1, value) for value in (0.5, 1.5, 2.2)
    ]


def test_a_trial_that_reports_a_rung_twice_is_not_compared_with_itself():
    rungs = Rungs(reduction=3, direction=Direction.MINIMIZE)
    for number, value in enumerate([3.0, 1.0]):
        rungs.record(number, 1, value)
    assert [rungs.prune(2, 1, 1.5), rungs.prune(2, 1, 1.5)] == [False, False]


@pytest.mark.parametrize("direction", Direction)
def test_trials_that_are_all_equally_good_go_on(direction):
    rungs = Rungs(reduction=3, direction=direction)
    assert not any(rungs.prune(number, 1, 0.5) for number in range(5))


@pytest.mark.parametrize("reduction", [2, 3, 4, 5, 7])
def test_the_quantile_of_ordered_values_is_that_of_numpy_bit_for_bit(reduction):
    rng = np.random.default_rng(reduction)
    for length in [*range(1, 40), 997]:
        ordered = sorted(rng.normal(size=length).tolist())
        assert quantile(ordered, 1 - 1 / reduction) == np.quantile(ordered, 1 - 1 / reduction)
