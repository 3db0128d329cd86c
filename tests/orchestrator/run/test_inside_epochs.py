"""Epochs longer than a stretch: cut inside, taken up by whoever comes next, and decided on at their ends alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from orchestrator.run.campaign import Campaign
from orchestrator.run.messages import Report
from orchestrator.run.trial_runner import STRETCH_S, TrialRunner
from orchestrator.store import Store
from tests.orchestrator.run import fakes

NUM_STEPS = 3  # of an epoch


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass
class LongRun(fakes.ToyRun):
    """The toy, whose every step takes longer than a stretch is to last."""

    clock: Clock = field(default_factory=Clock)
    taken: int = 0

    @property
    def inside(self) -> bool:
        return self.taken > 0

    def advance(self, pause: Callable[[], bool]) -> dict[str, float] | None:
        while self.taken < NUM_STEPS:
            self.clock.now += STRETCH_S + 1.0
            self.taken += 1
            if pause():
                return None
        self.taken = 0
        return self.train_epoch()

    def snapshot(self) -> bytes:
        return json.dumps([self.taken, self.measurements]).encode()

    def restore(self, data: bytes | memoryview) -> None:
        self.taken, self.measurements = json.loads(bytes(data))


def studies(rungs: str, seeds: int) -> Any:
    pruner = {"kind": "asha", "min_epochs": 1, "reduction": 3, "rungs": rungs}
    search = {"trials": 5, "startup": 4, "seeds": seeds, "pruner": pruner}
    return fakes.studies(search=search, confirm={"seeds": 1}, config={"training.epochs": 4})


@pytest.mark.slow
@pytest.mark.parametrize(("rungs", "seeds"), [("epochs", 1), ("epochs", 2), ("both", 2)])
def test_a_run_whose_workers_die_in_every_epoch_equals_one_never_interrupted(
    tmp_path: Any, rungs: str, seeds: int
) -> None:
    planned = studies(rungs, seeds)
    fakes.play(str(tmp_path / "whole"), planned)
    clock, uri, stretches = Clock(), str(tmp_path / "killed"), list[bool]()
    store = Store.create(uri, fakes.record(planned))

    def workload(assignment: Any, corpus: Any) -> LongRun:
        return LongRun(assignment, clock=clock)

    campaign = Campaign(store, planned, fakes.PROVENANCE)
    while (assignment := campaign.next()) is not None:
        over, runner = False, TrialRunner(assignment, fakes.corpus(), store, workload, clock)
        while not over:
            report = runner.stretch()
            stretches.append(report.inside)
            over = campaign.report(assignment.trial_id, report)
            if report.inside:
                runner = TrialRunner(assignment, fakes.corpus(), store, workload, clock)
            if report.inside and len(stretches) % 7 == 0:  # the driver dies, too
                campaign, over = Campaign(store, planned, fakes.PROVENANCE), True
    assert fakes.table(uri) == fakes.table(str(tmp_path / "whole"))
    assert stretches.count(True) > 2 * stretches.count(False)


def test_what_a_trial_comes_to_after_a_rung_is_not_held_against_it_inside_the_next_epoch(tmp_path: Any) -> None:
    planned = fakes.studies()
    store = Store.create(str(tmp_path), fakes.record(planned))
    campaign = Campaign(store, planned, fakes.PROVENANCE)
    trials = [campaign.next() for _ in range(6)]

    def reported(index: int, value: float | None, *, inside: bool) -> bool:
        rows = [] if value is None else [{"epoch": 1, "valid/mae": value}]
        told = Report(measurements=rows, host="", pid=1, started=0.0, busy_s=1.0, inside=inside)
        assignment = trials[index]
        assert assignment is not None
        assert assignment.rungs[0] == 1
        return campaign.report(assignment.trial_id, told)

    assert not reported(0, 0.9, inside=False)  # the first at a rung goes on
    assert [reported(index, 0.9 - index / 10, inside=False) for index in range(1, 5)] == [False] * 4
    assert not reported(0, None, inside=True)  # it is the worst by now, but was decided on
    assert reported(5, 0.9, inside=False)


def test_a_trial_inside_the_epoch_after_a_rung_is_known_there_to_the_next_driver(tmp_path: Any) -> None:
    planned = fakes.studies()
    campaign = Campaign(Store.create(str(tmp_path), fakes.record(planned)), planned, fakes.PROVENANCE)
    first, second = (campaign.next() for _ in range(2))
    assert first is not None
    assert second is not None

    def report(value: float, *, inside: bool) -> Report:
        rows = [{"epoch": 1, "valid/mae": value}]
        return Report(measurements=rows, host="", pid=1, started=0.0, busy_s=1.0, inside=inside)

    assert not campaign.report(first.trial_id, report(0.1, inside=True))  # taken up from inside its second epoch
    assert campaign.report(second.trial_id, report(0.9, inside=False))


def test_a_stretch_ends_after_the_step_in_which_it_is_over_and_its_checkpoint_is_on_file(tmp_path: Any) -> None:
    planned, clock = fakes.studies(), Clock()
    store = Store.create(str(tmp_path), fakes.record(planned))
    assignment = Campaign(store, planned, fakes.PROVENANCE).next()
    assert assignment is not None
    runner = TrialRunner(assignment, fakes.corpus(), store, lambda *_: LongRun(assignment, clock=clock), clock)
    for taken in range(1, NUM_STEPS + 1):
        report = runner.stretch()
        assert (report.measurements, report.inside, report.busy_s) == ([], True, STRETCH_S + 1.0)
        newest = next(store.checkpoint_read(assignment.trial_id))
        assert json.loads(newest) == [taken, []]
    assert [row["epoch"] for row in runner.stretch().measurements] == [1]


def test_a_trial_whose_time_is_over_ends_inside_its_epoch(tmp_path: Any) -> None:
    planned, clock = fakes.studies(), Clock()
    store = Store.create(str(tmp_path), fakes.record(planned))
    campaign = Campaign(store, planned, fakes.PROVENANCE, time_s=2 * STRETCH_S)
    assignment = campaign.next()
    assert assignment is not None
    runner = TrialRunner(assignment, fakes.corpus(), store, lambda *_: LongRun(assignment, clock=clock), clock)
    reports = [runner.stretch(), runner.stretch()]
    assert [campaign.report(assignment.trial_id, each) for each in reports] == [False, True]
    (row,) = store.trials().to_pylist()
    assert (row["state"], row["epochs"], row["duration_s"]) == ("FAIL", 0, 2 * (STRETCH_S + 1.0))
