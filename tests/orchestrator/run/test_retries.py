"""Failed trials tried again: when asked, and within a run when more room may help."""

import pytest

from orchestrator.run.campaign import Campaign
from orchestrator.run.trial_runner import TrialRunner
from orchestrator.store import Store
from tests.orchestrator.run import fakes


def rows_of(uri):
    return {row["trial_id"]: row for row in Store.open(uri).trials().to_pylist()}


def failed(uri):
    return {name for name, row in rows_of(uri).items() if row["state"] == "FAIL"}


@pytest.fixture
def failing(tmp_path):
    """A finished run in which every third search trial failed."""
    uri = str(tmp_path)
    fakes.play(uri, fakes.studies(), workload=fakes.failing_toy)
    assert len(failed(uri)) == 4
    return uri


@pytest.mark.slow
def test_failures_are_kept_unless_a_retry_is_asked_for(failing):
    before = rows_of(failing)
    campaign = fakes.play(failing, fakes.studies())
    assert campaign.num_new == 0
    assert rows_of(failing) == before


@pytest.mark.slow
def test_a_retried_trial_gets_the_same_configuration_and_replaces_its_failure(failing):
    before, again = rows_of(failing), failed(failing)
    fakes.play(failing, fakes.studies(), retry=again)
    after = rows_of(failing)
    assert failed(failing) == set()
    for name in again:
        assert after[name]["attempts"] == before[name]["attempts"] + 1 == 2
        assert (after[name]["params"], after[name]["seed"]) == (before[name]["params"], before[name]["seed"])
        assert after[name]["error_type"] is None
    assert {name: after[name] for name in before if name not in again} == {
        name: before[name] for name in before if name not in again
    }


@pytest.mark.slow
def test_only_some_are_retried_if_asked(failing):
    one = min(failed(failing))
    fakes.play(failing, fakes.studies(), retry=[one])
    assert one not in failed(failing)
    assert len(failed(failing)) == 3


@pytest.mark.slow
def test_a_retry_that_fails_again_is_a_failure_with_one_attempt_more(failing):
    again = failed(failing)
    fakes.play(failing, fakes.studies(), workload=fakes.failing_toy, retry=again)
    assert failed(failing) == again
    assert {rows_of(failing)[name]["attempts"] for name in again} == {2}


@pytest.mark.slow
def test_a_better_trial_found_by_a_retry_is_confirmed_on_all_seeds(tmp_path):
    uri, planned = str(tmp_path / "one"), fakes.studies()
    fakes.play(uri, planned)
    search = [row for row in fakes.table(uri) if row["phase"] == "search" and row["state"] == "COMPLETE"]
    best = min(search, key=lambda row: row["value"])

    def without_the_best(assignment, corpus):
        if assignment.trial_id == best["trial_id"]:
            raise RuntimeError("made to fail")
        return fakes.ToyRun(assignment)

    other = str(tmp_path / "other")
    fakes.play(other, planned, workload=without_the_best)
    (lost,) = failed(other)
    fakes.play(other, planned, retry=[lost])
    confirmed = [row["params"] for row in fakes.table(other) if row["phase"] == "confirm"]
    assert confirmed.count(rows_of(other)[lost]["params"]) == 2


class _Hungry(fakes.ToyRun):
    """Runs out of memory unless it has four times the room."""

    def train_epoch(self):
        if self.assignment.scale < 4 and self.assignment.number == 1:
            raise MemoryError("DefaultCPUAllocator: can't allocate memory")
        return super().train_epoch()


def play_growing(uri, times, most=64):
    planned = fakes.studies(search={"trials": 3, "pruner": {"kind": "none"}}, confirm={"seeds": 0})
    store = Store.create(uri, fakes.record(planned))
    campaign = Campaign(store, planned, fakes.PROVENANCE)
    campaign.grow(times, lambda scale: scale <= most)
    scales = []
    while (assignment := campaign.next()) is not None:
        scales.append((assignment.number, assignment.scale))
        runner = TrialRunner(assignment, fakes.corpus(), store, lambda trial, corpus: _Hungry(trial))
        while not campaign.report(assignment.trial_id, runner.stretch()):
            pass
    assert campaign.done
    return scales, {row["number"]: row for row in rows_of(uri).values()}


def test_a_trial_out_of_memory_starts_anew_with_twice_the_room(tmp_path):
    scales, rows = play_growing(str(tmp_path), times=2)
    assert scales == [(0, 1), (1, 1), (1, 2), (1, 4), (2, 1)]
    assert {row["state"] for row in rows.values()} == {"COMPLETE"}
    assert [rows[number]["attempts"] for number in range(3)] == [1, 3, 1]


@pytest.mark.parametrize(("times", "most"), [(1, 64), (5, 2), (0, 64)])
def test_it_fails_where_it_may_not_grow_or_there_is_no_more_room(tmp_path, times, most):
    scales, rows = play_growing(str(tmp_path), times, most)
    assert max(scale for _, scale in scales) == (2 if times else 1)
    assert rows[1]["state"] == "FAIL"
    assert rows[1]["error_type"] == "MemoryError"


def test_no_other_error_is_tried_again(tmp_path):
    planned = fakes.studies(search={"trials": 3}, confirm={"seeds": 0})
    store = Store.create(str(tmp_path), fakes.record(planned))
    campaign = Campaign(store, planned, fakes.PROVENANCE)
    campaign.grow(2, lambda scale: True)
    while (assignment := campaign.next()) is not None:
        runner = TrialRunner(assignment, fakes.corpus(), store, fakes.failing_toy)
        while not campaign.report(assignment.trial_id, runner.stretch()):
            pass
    assert [row["state"] for row in fakes.table(str(tmp_path))].count("FAIL") == 1


@pytest.mark.slow
def test_the_best_model_is_kept_where_the_experiment_says_so(tmp_path):
    uri = str(tmp_path)
    fakes.play(uri, fakes.studies(confirm={"seeds": 2, "keep": "best"}))
    confirmed = {row["trial_id"] for row in fakes.table(uri) if row["phase"] == "confirm"}
    assert set(Store.open(uri).files.names("models")) == {f"{name}.safetensors" for name in confirmed}
    assert Store.open(uri).files.folders("running") == []
