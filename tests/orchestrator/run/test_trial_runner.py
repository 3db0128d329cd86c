"""How long a stretch lasts, by a clock that only training and checkpoints move."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from orchestrator.run.campaign import Campaign
from orchestrator.run.trial_runner import TrialRunner
from orchestrator.store import Store
from tests.orchestrator.run import fakes


@dataclass
class Clock:
    """Seconds that have gone by."""

    now: float = 0.0

    def perf_counter(self) -> float:
        return self.now


@dataclass
class SlowRun(fakes.ToyRun):
    """An epoch takes a second, and each snapshot as long as the next entry says."""

    clock: Clock = field(default_factory=Clock)
    snapshots_s: list[float] = field(default_factory=list)

    def train_epoch(self) -> dict[str, float]:
        self.clock.now += 1.0
        return super().train_epoch()

    def snapshot(self) -> bytes:
        self.clock.now += self.snapshots_s.pop(0)
        return super().snapshot()


def test_a_stretch_lasts_five_seconds_and_ten_times_what_the_last_checkpoint_took(tmp_path: Any) -> None:
    clock, snapshots_s = Clock(), [0.4, 3.0, 0.1, 0.0, 0.0]
    planned = fakes.studies(config={"training.epochs": 100}, search={"trials": 1, "pruner": {"kind": "none"}})
    store = Store.create(tmp_path, fakes.record(planned))
    assignment = Campaign(store, planned, fakes.PROVENANCE).next()
    assert assignment is not None
    assert assignment.rungs == ()

    def workload(assignment: Any, corpus: Any) -> SlowRun:
        return SlowRun(assignment, clock=clock, snapshots_s=snapshots_s)

    one = TrialRunner(assignment, fakes.corpus(), store, workload, clock.perf_counter)
    stretches = [one.stretch() for _ in range(4)]
    # One epoch more than is due, as the limit must be over; what a checkpoint takes does not count as training.
    assert [len(stretch.measurements) for stretch in stretches] == [6, 6, 31, 6]
    assert [stretch.busy_s for stretch in stretches] == [6.0, 6.0, 31.0, 6.0]
    assert [stretch.total_s for stretch in stretches] == [6.0, 12.0, 43.0, 49.0]
    again = TrialRunner(assignment, fakes.corpus(), store, workload, clock.perf_counter)
    assert again.stretch().total_s == 49.0 + 6.0


def test_only_confirm_trials_are_given_the_test_split(tmp_path: Any) -> None:
    given: list[tuple[str, set[str]]] = []

    def workload(assignment: Any, corpus: Any) -> fakes.ToyRun:
        given.append((assignment.phase, set(corpus.splits)))
        return fakes.ToyRun(assignment)

    fakes.play(str(tmp_path), fakes.studies(search={"trials": 2}, confirm={"seeds": 1}), workload=workload)
    without = ("search", {"train", "valid"})
    assert given == [without, without, ("confirm", {"train", "valid", "test"})]
