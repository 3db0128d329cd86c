"""Ten kills of a real run at random moments, the short form of `python -m tests.end_to_end.kill_harness`."""

import pytest

from tests.end_to_end import toy_driver
from tests.end_to_end.kill_harness import harness, rendered


@pytest.mark.parametrize("kind", toy_driver.KINDS)
def test_what_is_to_be_killed_can_be_planned(kind: str) -> None:
    _, planned = toy_driver.KINDS[kind]()
    assert planned


@pytest.mark.slow
def test_ten_kills_of_driver_and_workers_lose_double_and_change_nothing() -> None:
    tally = harness(num_kills=10, seed=0, plan=[("sweep", 1)])
    assert dict(tally.faults) == {}, rendered(tally)
    assert tally.num_kills >= 10
    assert tally.num_compared == tally.num_storages > 0
    assert tally.most_lost["sweep"] <= toy_driver.EPOCHS_BETWEEN_CHECKPOINTS["sweep"]
    assert set(tally.lease_s) == {0.0}  # the lease of a killed driver is free at once
