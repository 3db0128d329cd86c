"""Trials that take too long, by a clock that only training moves."""

import json

import pytest

from orchestrator.run.campaign import Campaign
from orchestrator.run.messages import Failure, Report
from orchestrator.run.trial_runner import STRETCH_S, TrialRunner
from orchestrator.run.watchdog import Watchdog
from orchestrator.store import Store
from orchestrator.store.failure_types import TRIAL_TIME, FailureType, failure_type_of
from search_spaces.schema import FIRST_WORD_S
from tests.orchestrator.run import fakes
from tests.orchestrator.run.watch import Watch

SHORT = {"search": {"trials": 3, "pruner": {"kind": "none"}}, "confirm": {"seeds": 1}}


def play(uri, planned, watch, retry=(), **how):
    """Run it all with an epoch of a second, one slot."""
    store = Store.create(str(uri), fakes.record(planned))
    campaign = Campaign(
        store, planned, fakes.PROVENANCE, retry=lambda failed: {trial_id: {} for trial_id in retry}, **how
    )
    fakes.train(campaign, str(uri), workload=watch.toy, clock=watch)
    return {(row["phase"], row["number"]): row for row in store.trials().to_pylist()}


class SlowWatch(Watch):
    """An epoch of search trial 1 takes three seconds, of each confirm trial two."""

    def toy(self, assignment, corpus):
        run = super().toy(assignment, corpus)
        self.epoch_s = {("search", 1): 3.0, ("confirm", 0): 2.0}.get((assignment.phase, assignment.number), 1.0)
        return run


def test_a_trial_that_takes_too_long_fails_of_time_after_the_epoch_in_which_it_is_over(tmp_path):
    rows = play(tmp_path, fakes.studies(**SHORT), SlowWatch(), time_s=10.0)
    assert [rows["search", number]["state"] for number in range(3)] == ["COMPLETE", "FAIL", "COMPLETE"]
    late = rows["search", 1]
    assert (late["error_type"], late["epochs"], late["duration_s"], late["attempts"]) == (TRIAL_TIME, 4, 12.0, 1)
    assert late["error_message"] == "its time was over after 12s, at epoch 4 (resources.trial_time)"
    assert failure_type_of(late["error_type"], late["error_message"]) is FailureType.TIME
    assert rows["confirm", 0]["state"] == "FAIL"


def test_or_it_is_complete_at_its_best_epoch_so_far(tmp_path):
    planned = fakes.studies(**SHORT)
    rows = play(tmp_path, planned, SlowWatch(), time_s=10.0, keep_best=True)
    late = rows["search", 1]
    assert (late["state"], late["epochs"], late["duration_s"]) == ("COMPLETE", 4, 12.0)
    assert late["value"] == late["valid/mae"] is not None
    assert late["warning"] == "its time was over after 12s, at epoch 4 (resources.trial_time)"
    confirm = rows["confirm", 0]
    assert (confirm["state"], confirm["epochs"]) == ("COMPLETE", 5)
    assert confirm["test/mae"] is not None
    assert Store.open(str(tmp_path)).predictions([confirm["trial_id"]]).num_rows == fakes.NUM_TEST


def test_a_retry_goes_on_from_its_checkpoint_and_has_the_time_once_more(tmp_path):
    planned = fakes.studies(**SHORT)
    late = play(tmp_path, planned, SlowWatch(), time_s=10.0)["search", 1]
    again = play(tmp_path, planned, SlowWatch(), time_s=10.0, retry=[late["trial_id"]])["search", 1]
    assert (again["state"], again["epochs"], again["duration_s"]) == ("FAIL", 8, 24.0)
    once_more = play(tmp_path, planned, SlowWatch(), time_s=10.0, retry=[late["trial_id"]])["search", 1]
    assert (once_more["state"], once_more["epochs"], once_more["duration_s"]) == ("COMPLETE", 9, 27.0)


def test_time_before_an_interruption_counts_and_another_limit_holds_at_once(tmp_path):
    planned, watch = fakes.studies(**SHORT), Watch()
    store = Store.create(str(tmp_path), fakes.record(planned))
    first = Campaign(store, planned, fakes.PROVENANCE, time_s=100.0)
    assignment = first.next()
    assert assignment is not None
    assert assignment.time_s == 100.0
    runner = TrialRunner(assignment, fakes.corpus(), store, watch.toy, watch)
    assert runner.stretch().total_s == STRETCH_S + 1
    rows = play(tmp_path, planned, watch, time_s=8.0)
    assert (rows["search", 0]["state"], rows["search", 0]["duration_s"]) == ("FAIL", 8.0)


@pytest.mark.parametrize(("keep_best", "begun"), [(True, 1), (True, 2), (False, 2)])
def test_of_several_trainings_in_turn_the_best_is_kept_once_each_has_begun(tmp_path, keep_best, begun):
    search = {"trials": 1, "seeds": 2, "pruner": {"kind": "asha", "min_epochs": 9, "rungs": "seeds"}}
    planned = fakes.studies(search=search, confirm={"seeds": 0})
    time_s = {1: 5.0, 2: 12.0}[begun]
    row = play(tmp_path, planned, Watch(), time_s=time_s, keep_best=keep_best)["search", 0]
    assert row["state"] == ("COMPLETE" if keep_best and begun == 2 else "FAIL")
    assert row["duration_s"] == time_s


def heard(total_s, busy_s):
    return Report(measurements=[], host="", pid=1, started=0.0, busy_s=busy_s, total_s=total_s)


@pytest.fixture
def clock():
    return Watch()


@pytest.fixture
def assignment(tmp_path):
    planned = fakes.studies(**SHORT)
    store = Store.create(str(tmp_path), fakes.record(planned))
    found = Campaign(store, planned, fakes.PROVENANCE, time_s=1_000.0).next()
    assert found is not None
    return found


def test_a_worker_that_says_nothing_is_given_up_once(clock, assignment):
    dog = Watchdog(60.0, clock)
    dog.begin("a", assignment)
    clock.now = 50.0
    dog.hear("a", heard(40.0, 40.0))
    clock.now = 110.0
    assert dog.given_up() == {}
    clock.now = 111.0
    assert json.dumps({name: failure.message for name, failure in dog.given_up().items()}) == (
        '{"a": "its worker said nothing for 1m1s (resources.silent_after)"}'
    )
    assert dog.given_up() == {}


@pytest.mark.parametrize(("longest_s", "grace_s"), [(10.0, FIRST_WORD_S), (400.0, 800.0)])
def test_a_worker_that_is_stuck_in_a_trial_whose_time_is_over_is_given_up(clock, assignment, longest_s, grace_s):
    dog = Watchdog(None, clock)
    dog.begin("a", assignment)
    dog.hear("a", heard(899.0, longest_s))
    dog.hear("a", heard(900.0, 1.0))
    clock.now = 100.0 + grace_s
    assert dog.given_up() == {}
    clock.now += 1.0
    (failure,) = dog.given_up().values()
    assert failure.error_type == TRIAL_TIME
    assert "in an epoch that does not end" in failure.message


def test_a_worker_that_has_ended_is_not_waited_for(clock, assignment):
    dog = Watchdog(60.0, clock)
    dog.begin("a", assignment)
    dog.end("a")
    clock.now = 10_000.0
    assert dog.given_up() == {}


def test_a_trial_that_is_lost_because_its_time_is_over_has_failed_at_once(tmp_path):
    planned = fakes.studies(**SHORT)
    store = Store.create(str(tmp_path), fakes.record(planned))
    campaign = Campaign(store, planned, fakes.PROVENANCE, restarts=5)
    assignment = campaign.next()
    assert assignment is not None
    campaign.lose(assignment.trial_id, Failure(error_type=TRIAL_TIME, message="", traceback=""))
    assert [row["state"] for row in fakes.table(str(tmp_path))] == ["FAIL"]
