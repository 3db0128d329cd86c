"""What the run asks of an autoscaler while trials come and go; the rest of tuning needs Ray (tests/end_to_end)."""

from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from msa_models.metrics import Direction
from orchestrator.run.messages import Assignment, Failure, Report
from orchestrator.run.output import Silent
from orchestrator.store.steering import Steering

pytestmark = pytest.mark.slow  # imports ray.tune


@dataclass
class EndlessCampaign:
    """Always has a trial more."""

    num_waiting: int = 100
    exhausted: bool = False
    num_lost: int = 0
    num_put_back: int = 0
    stopped: str = ""

    def lose(self, trial_id: str, failure: Failure) -> None:
        self.num_lost += 1

    def reports(self, trial_ids: list[str], report: Report) -> list[str]:
        return trial_ids

    def together(self, assignment: Assignment) -> list[Assignment]:
        return [assignment]

    def put_back(self, trial_id: str) -> None:
        self.num_put_back += 1

    def next(self) -> Assignment:
        return Assignment(
            trial_id="trial",
            study_id="study",
            phase="search",
            number=0,
            seed=0,
            method="cpsl",
            modalities=("text",),
            data_fingerprint="",
            params={},
            config={},
            metric="valid/mae",
            direction=Direction.MINIMIZE,
            rungs=(),
        )


@dataclass
class NotedHeadroom:
    """Remembers what was asked for last."""

    asked: list[int] = field(default_factory=list)

    def ask(self, num_trials: int, slots: int = 0) -> None:
        self.asked.append(num_trials)


@pytest.fixture
def run(monkeypatch):
    """A run on a cluster of two slots; the test turns the clock and says what Ray does."""
    from orchestrator.run.ray_backend import tune_state

    class Run:
        def __init__(self):
            self.slots, self.clock, self.campaign, self.headroom = 2, 100.0, EndlessCampaign(), NotedHeadroom()
            self.state = tune_state.TuneState(
                cast(Any, self.campaign), lambda: self.slots, print, cast(Any, self.headroom)
            )

        def suggest(self, ray_id, after_s=0.0):
            self.clock += after_s
            return self.state.suggest(ray_id)

        def fill(self):
            for ray_id in ("a", "b"):
                assert isinstance(self.suggest(ray_id), dict)
                self.state.start(ray_id)

    running = Run()
    monkeypatch.setattr(tune_state.time, "monotonic", lambda: running.clock)
    return running


def test_a_run_asks_for_room_once_every_slot_has_a_trial_with_a_worker(run):
    run.suggest("a")
    run.suggest("b")
    run.suggest("c")
    assert set(run.headroom.asked) == {0}
    run.state.start("a")
    run.state.start("b")
    run.suggest("c")
    assert run.headroom.asked[-1] == 100


def test_a_node_that_joins_is_left_to_the_trials_until_they_have_workers_there(run):
    run.fill()
    run.suggest("c")
    assert run.headroom.asked[-1] == 100
    run.slots = 3
    assert isinstance(run.suggest("c", after_s=2), dict)
    assert run.suggest("d", after_s=2) is None
    assert run.headroom.asked[-1] == 0
    run.state.start("c")
    run.suggest("d", after_s=2)
    assert run.headroom.asked[-1] == 100


def test_the_moment_between_two_trials_changes_nothing_but_a_trial_that_waits_for_a_worker_does(run):
    run.fill()
    run.suggest("c")
    before = len(run.headroom.asked)
    run.state.lose("a", Failure(error_type="WorkerDied", message="", traceback=""))
    assert isinstance(run.suggest("c", after_s=0.1), dict)
    run.suggest("d", after_s=0.1)
    assert len(run.headroom.asked) == before
    run.suggest("d", after_s=1.1)
    assert run.headroom.asked[before:] == [0]


def test_a_run_with_nothing_left_to_hand_out_asks_for_nothing(run):
    run.fill()
    run.suggest("c")
    run.campaign.exhausted = True
    assert run.suggest("c", after_s=0.1) == "FINISHED"
    assert run.headroom.asked[-1] == 0


def test_a_paused_run_puts_trials_back_at_their_next_report_and_hands_out_nothing_until_it_goes_on(run, monkeypatch):
    class Asked:
        wanted = Steering()

    report = Report(measurements=[], host="here", pid=1, started=0.0, busy_s=0.0)
    run.state = type(run.state)(cast(Any, run.campaign), lambda: run.slots, lambda _: None, steered=cast(Any, Asked))
    run.fill()
    assert not run.state.report("a", report)
    Asked.wanted = Steering(paused=True)
    assert not run.state.drained  # which Ray Tune asks for again and again
    assert run.suggest("c") == "FINISHED"  # so that Ray Tune ends and keeps no idle workers
    assert run.state.report("a", report)
    Asked.wanted = Steering()  # which comes too late for this Ray Tune
    assert not run.state.drained
    assert run.state.report("b", report)
    assert (run.campaign.num_put_back, run.suggest("c")) == (2, "FINISHED")
    run.state.rest()
    assert isinstance(run.suggest("c"), dict)


def test_a_run_among_others_leaves_idle_workers_and_new_nodes_to_those_who_wait(run, monkeypatch):
    @dataclass
    class Shared:
        num_others: int = 1  # as its first look, before there is a state, has found
        others_wait: bool = False
        is_due: bool = False
        told: list[tuple[int, bool]] = field(default_factory=list)

        def look(self, trials: int, *, waits: bool = False) -> None:
            self.told.append((trials, waits))
            self.is_due, self.others_wait = False, True

    others, said = Shared(), []

    class Heard(Silent):
        def say(self, line: str) -> None:
            said.append(line)

    run.state = type(run.state)(
        cast(Any, run.campaign),
        lambda: run.slots,
        lambda _: None,
        cast(Any, run.headroom),
        listener=Heard(),
        sharing=cast(Any, others),
    )
    run.fill()
    run.suggest("c", after_s=2)
    assert run.headroom.asked[-1] == 100
    run.slots, others.is_due = 1, True
    assert not run.state.drained
    assert others.told == [(102, False)]
    assert said == ["2 runs share the cluster: this one trains at most 1 trial at a time"]
    run.suggest("c", after_s=2)
    assert run.headroom.asked[-1] == 0
    assert run.state.leaves_workers
    run.state.lose("a", Failure(error_type="WorkerDied", message="", traceback=""))
    assert run.suggest("c", after_s=2) is None  # it has its share
    run.state.lose("b", Failure(error_type="WorkerDied", message="", traceback=""))
    assert not run.state.leaves_workers
    assert isinstance(run.suggest("c"), dict)
    assert not run.state.leaves_workers  # the worker between two trials


def test_a_run_that_others_leave_no_slot_says_what_it_waits_for(run):
    @dataclass
    class Shared:
        num_others: int = 2
        others_wait: bool = False
        is_due: bool = True

        def look(self, trials: int, *, waits: bool = False) -> None:
            self.is_due = False

    others, said = Shared(), []

    class Heard(Silent):
        def say(self, line: str) -> None:
            said.append(line)

        def waits(self, what: str) -> None:
            said.append(f"waits for {what}")

    run.state = type(run.state)(
        cast(Any, run.campaign), lambda: run.slots, lambda _: None, listener=Heard(), sharing=cast(Any, others)
    )
    run.slots = 0
    assert run.suggest("a") is None  # all that Ray Tune calls while nothing runs
    assert said == ["waits for a slot, which other runs have", "3 runs share the cluster: this one waits"]
    others.is_due = True
    assert run.suggest("a") is None
    assert len(said) == 2  # it is said once
    run.slots, others.num_others, others.is_due = 2, 0, True
    assert isinstance(run.suggest("a"), dict)
    assert said[2:] == ["this run has the cluster for itself again"]
