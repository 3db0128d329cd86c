"""Trials whose worker or node was lost start anew within the run, a few times."""

import pytest

from orchestrator.run.campaign import Campaign
from orchestrator.run.messages import Failure
from orchestrator.run.trial_runner import TrialRunner
from orchestrator.store import Store
from tests.orchestrator.run import fakes

LOST = Failure(error_type="WorkerDied", message="the worker process or its node was lost", traceback="")
RESTARTS = 2


@pytest.fixture
def start(tmp_path):
    """A campaign over a small search."""

    def start(name):
        planned = fakes.studies()
        store = Store.create(tmp_path / name, fakes.record(planned))
        return Campaign(store, planned, fakes.PROVENANCE, restarts=RESTARTS)

    return start


def play(uri, campaign, losses):
    """One trial after the other; `losses`: how often the worker of each search trial is lost before its first report,
    its checkpoint written.
    """
    left, said = dict(losses), []
    while assignment := campaign.next():
        said.append(assignment)
        runner = TrialRunner(assignment, fakes.corpus(), Store.open(uri), fakes.toy)
        if assignment.phase == "search" and left.get(assignment.number):
            left[assignment.number] -= 1
            runner.stretch()
            campaign.lose(assignment.trial_id, LOST)
            continue
        while not campaign.report(assignment.trial_id, runner.stretch()):
            pass
    return said


@pytest.mark.slow
def test_a_lost_trial_is_the_next_one_again_and_nothing_else_changes(tmp_path, start):
    play(tmp_path / "whole", start("whole"), {})
    losing = start("losing")
    said = play(tmp_path / "losing", losing, {0: 1, 2: RESTARTS})
    assert [trial.number for trial in said[:6]] == [0, 0, 1, 2, 2, 2]
    assert said[0] == said[1]
    assert losing.done
    assert fakes.table(tmp_path / "losing") == fakes.table(tmp_path / "whole")
    attempts = {
        row["number"]: row["attempts"] for row in losing._store.trials().to_pylist() if row["phase"] == "search"
    }
    assert {number: times for number, times in attempts.items() if times > 1} == {0: 2, 2: 1 + RESTARTS}


@pytest.mark.slow
def test_a_trial_that_is_lost_once_too_often_is_a_failure(tmp_path, start):
    campaign = start("losing")
    play(tmp_path / "losing", campaign, {2: RESTARTS + 1})
    assert campaign.done
    (row,) = [row for row in fakes.table(tmp_path / "losing") if row["state"] == "FAIL"]
    assert (row["number"], row["error_type"]) == (2, "WorkerDied")


def test_only_a_trial_that_is_lost_may_come_once_all_is_handed_out(start):
    campaign = start("whole")
    campaign.studies[0].num_seeds = 0
    trials = [campaign.next() for _ in range(11)]
    assert not campaign.exhausted
    trials.append(campaign.next())
    assert campaign.exhausted
    assert not campaign.done
    campaign.lose(trials[3].trial_id, LOST)
    assert not campaign.exhausted
    assert campaign.num_waiting == 1
    assert campaign.next() == trials[3]


def test_a_trial_that_is_lost_comes_again_before_those_that_were_interrupted_with_it(tmp_path, start):
    before = start("losing")
    assert [trial.number for _ in range(3) if (trial := before.next())] == [0, 1, 2]
    campaign = Campaign(Store.open(tmp_path / "losing"), fakes.studies(), fakes.PROVENANCE, restarts=RESTARTS)
    first = campaign.next()
    assert first is not None
    campaign.lose(first.trial_id, LOST)
    assert [trial.number for _ in range(3) if (trial := campaign.next())] == [0, 1, 2]
