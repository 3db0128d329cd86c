"""The configuration that a study has chosen, and the confirm trials that are of it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from msa_models.metrics import Direction
from orchestrator.store.record import Record
from orchestrator.store.selection import best_trial, chosen_params, configurations, confirm_trials, one_per_seed, placed
from tests.orchestrator.findings import ablations

SPACE = {"encoder.width": "a distribution", "gate.depth": "a distribution"}


def tuned(**changes: Any) -> Record:
    """A record with a full method that searches, and a variant that does as `changes` say."""
    record = ablations.record(["full", "without gate"])
    searching = {"space": SPACE, "config": {"encoder": {"width": 0}, "gate": {"depth": 0}}}
    record["studies"]["mosi-full"] |= searching | {"planned": {"search": 9, "confirm": 5}}
    record["studies"]["mosi-without gate"] |= {"config": {"encoder": {"width": 0}, "gate": None}, **changes}
    return Record.of(record)


def searched(number: int, value: float | None, params: str = '{"encoder.width": 1}', **changes: Any) -> dict[str, Any]:
    row = {"study_id": "mosi-full", "phase": "search", "state": "COMPLETE", "number": number, "value": value}
    return row | {"trial_id": f"s{number}", "params": params, "seed": 0, "finished_at": None} | changes


def confirmed(record: Record, seed: int, config: str, **changes: Any) -> dict[str, Any]:
    return ablations.row(record.plain(), "mosi-full", seed) | {"config": config} | changes


def test_the_best_complete_search_trial_is_chosen_and_of_equals_the_first() -> None:
    rows = [searched(3, 0.5), searched(2, 0.5), searched(0, 0.7), searched(1, 0.1, state="PRUNED"), searched(4, None)]
    assert best_trial(rows, Direction.MINIMIZE) is rows[1]
    assert best_trial(rows, Direction.MAXIMIZE) is rows[2]
    assert best_trial(rows[3:], Direction.MINIMIZE) is None


@pytest.mark.parametrize("direction", Direction)
def test_a_value_that_is_no_number_is_never_the_best(direction: Direction) -> None:
    rows = [searched(0, float("nan")), searched(1, 0.5), searched(2, float("inf")), searched(3, -float("inf"))]
    assert best_trial(rows, direction) is rows[1]
    assert best_trial([rows[0], *rows[2:]], direction) is None


def test_configurations_are_the_complete_ones_and_then_the_pruned_ones_each_once() -> None:
    def at(number: int, value: float | None, width: int, state: str) -> dict[str, Any]:
        return searched(number, value, f'{{"encoder.width": {width}}}', state=state)

    rows = [at(0, 0.1, 1, "PRUNED"), at(1, 0.9, 2, "COMPLETE"), at(2, 0.5, 3, "COMPLETE"), at(3, None, 4, "FAIL")]
    rows += [at(4, 0.05, 3, "PRUNED"), at(5, 0.01, 5, "PRUNED")]
    found = configurations(rows, Direction.MINIMIZE)
    assert [params["encoder.width"] for params in found] == [3, 2, 5, 1]
    assert configurations([row for row in rows if row["state"] != "COMPLETE"], Direction.MINIMIZE) == []


def test_a_follower_takes_the_best_of_its_leader_as_far_as_it_has_those_parameters() -> None:
    record = tuned(space={"encoder.width": "a distribution"}, leader="mosi-full")
    params = '{"encoder.width": 64, "gate.depth": 3}'
    found = chosen_params(record, [searched(0, 0.5, params), searched(0, 0.1, study_id="mosi-without gate")])
    assert found == {
        "mosi-full": {"encoder.width": 64, "gate.depth": 3},
        "mosi-without gate": {"encoder.width": 64},
    }


def test_a_study_that_searches_nothing_has_no_parameters_and_one_that_has_not_found_any_has_not_chosen() -> None:
    assert chosen_params(tuned(), []) == {"mosi-full": None, "mosi-without gate": {}}
    unsearched = {"space": SPACE, "planned": {"search": 0, "confirm": 5}}
    assert chosen_params(tuned(**unsearched), [])["mosi-without gate"] == {}
    record = tuned(leader="mosi-full", space={"encoder.width": "a distribution"})
    assert chosen_params(record, [searched(0, None, state="FAIL")])["mosi-without gate"] is None


def test_parameters_are_put_in_their_places_and_the_configuration_given_is_left_alone() -> None:
    config = {"encoder": {"width": 1, "depth": 2}, "seed": 3}
    assert placed(config, {"encoder.width": 8, "seed": 4}) == {"encoder": {"width": 8, "depth": 2}, "seed": 4}
    assert config == {"encoder": {"width": 1, "depth": 2}, "seed": 3}


def test_only_complete_confirm_trials_of_the_chosen_configuration_count_whoever_trained_them() -> None:
    record = tuned()
    mine = '{"gate": {"depth": 3},   "encoder": {"width": 64}}'  # other white space and order, the same configuration
    other = '{"encoder": {"width": 32}, "gate": {"depth": 3}}'
    rows = [
        searched(0, 0.5, '{"encoder.width": 64, "gate.depth": 3}'),
        searched(1, 0.6, '{"encoder.width": 32, "gate.depth": 3}'),
        confirmed(record, 1, mine),
        confirmed(record, 2, mine, study_id="of another experiment"),
        confirmed(record, 3, other),
        confirmed(record, 4, mine, state="FAIL"),
        confirmed(record, 5, mine, modalities="text"),
        confirmed(record, 5, mine, method="concat"),
        confirmed(record, 5, mine, data_fingerprint="another"),
        confirmed(record, 6, mine),
    ]
    assert list(confirm_trials(record, rows)["mosi-full"]) == [1, 2, 6]
    assert list(confirm_trials(record, rows, planned=True)["mosi-full"]) == [1, 2]
    assert confirm_trials(record, rows[2:])["mosi-full"] == {}


@pytest.mark.parametrize("reverse", [False, True])
def test_of_a_seed_trained_twice_the_newest_trial_counts(reverse: bool) -> None:
    record = ablations.record(["full"])
    older, newer = ablations.row(record, "mosi-full", 2), ablations.row(record, "mosi-full", 2)
    newer |= {"trial_id": "a", "finished_at": datetime(2027, 1, 1, tzinfo=UTC)}
    rows = [ablations.row(record, "mosi-full", 3), older, newer]
    found = one_per_seed(reversed(rows) if reverse else rows)
    assert [(seed, row["trial_id"]) for seed, row in found.items()] == [(2, "a"), (3, "mosi-full-3")]
