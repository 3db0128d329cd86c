"""The time of an ablation, from epochs that are trained, or from some of their steps."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from orchestrator.run import workload
from orchestrator.run.preparation import Prepared, prepare
from orchestrator.views.plan_costs import estimated
from search_spaces.loading import validate


@pytest.fixture(scope="module")
def prepared() -> Prepared:
    options = {"num_train": 32, "num_valid": 24, "num_test": 8, "steps": 4}
    experiment = {
        "method": "concat",
        "data": {"source": "synthetic", "options": options},
        "objective": {"metric": "valid/mae"},
        "config": {"training.epochs": 5, "encoder.width": 8, "encoder.heads": 2, "training.batch_size": 2},
        "ablation": {"leave_one_out": ["text"], "tuning": "none", "seeds": 2},
    }
    return prepare(validate(experiment), ablation=True)


def estimate(prepared: Prepared, seconds_a_look: float) -> workload.Estimate:
    """By a clock that goes on whenever it is looked at: after each step of 16, and each batch of an evaluation."""
    looks = itertools.count()
    return workload.estimate_time(prepared.plan.studies, prepared.corpora, clock=lambda: seconds_a_look * next(looks))


@pytest.mark.slow
def test_epochs_that_are_short_are_trained(prepared: Prepared) -> None:
    found = estimate(prepared, 0.01)
    assert not found.of_parts
    assert list(found.epoch_s.values()) == pytest.approx([0.17])  # 16 steps, and the look at the end
    trials = 2 * len(prepared.plan.studies)
    assert found.slot_hours == pytest.approx(trials * 5 * 0.17 / 3600)


def test_of_long_ones_some_steps_are_enough_and_it_is_said(prepared: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[Any] = []
    step = workload.Training.advance

    def counted(self: Any, pause: Any) -> Any:
        return step(self, lambda: taken.append(self) or pause())

    monkeypatch.setattr(workload.Training, "advance", counted)
    found = estimate(prepared, 3_600.0)
    assert found.of_parts
    assert len(taken) == 2, "one step of each of two configurations"
    # A step takes two looks, one more is before and behind it; of 24 samples 16 are evaluated, in two looks as well.
    assert list(found.epoch_s.values()) == pytest.approx([3_600.0 * (16 * 2 + 24 / 16 * 2)])
    said = estimated(found.slot_hours, found.most_slot_hours, found.epoch_s, of_parts=True)
    assert said.endswith("here, reckoned from the first steps of one)")
