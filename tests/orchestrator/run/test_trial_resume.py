"""A real trial taken up by another worker from the checkpoint of any epoch: the bits of one never interrupted."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import pytest

from orchestrator.run import trial_runner
from orchestrator.run.campaign import Campaign
from orchestrator.run.launch import record_of
from orchestrator.run.messages import Assignment, Outcome
from orchestrator.run.preparation import Prepared, prepare
from orchestrator.run.trial_runner import TrialRunner
from orchestrator.run.workload import train
from orchestrator.store import Store
from search_spaces.loading import validate
from tests import tiny_encoders
from tests.orchestrator.run.fakes import PROVENANCE

EPOCHS = 5
METRICS = {"regression": "valid/mae", "classification": "valid/f1_macro"}
Trained = tuple[list[dict[str, float]], Outcome, dict[str, Any]]  # measurements, the end, the table of predictions


def trial(method: str, task: str, folder: Any) -> tuple[Prepared, Assignment, Store]:
    """The first confirm trial of a sweep without a search, whose every epoch ends a stretch."""
    experiment = validate(
        {
            "method": method,
            "data": {
                "source": "synthetic",
                "task": task,
                "options": {"num_train": 32, "num_valid": 12, "num_test": 8, "steps": 4},
            },
            "objective": {"metric": METRICS[task]},
            "config": {"training.epochs": EPOCHS, "encoder.width": 8, "encoder.heads": 2, "training.batch_size": 16},
            "ablation": {"leave_one_out": ["text"], "tuning": "none", "seeds": 2},
        }
    )
    prepared = prepare(experiment, ablation=True)
    store = Store.create(folder, record_of(prepared))
    assignment = Campaign(store, prepared.plan.studies, PROVENANCE).next()
    assert assignment is not None
    return prepared, dataclasses.replace(assignment, rungs=tuple(range(1, EPOCHS))), store


def trained(prepared: Prepared, assignment: Assignment, store: Store) -> tuple[Trained, list[bytes]]:
    """Train to the end, with the checkpoint that was the newest after each stretch."""
    corpus = prepared.corpora[assignment.data_fingerprint]
    runner, measurements, checkpoints = TrialRunner(assignment, corpus, store, train), [], []
    while True:
        report = runner.stretch()
        measurements += report.measurements
        if report.end is not None:
            assert isinstance(report.end, Outcome), report.end
            predictions = store.predictions([assignment.trial_id]).to_pydict()
            return (measurements, report.end, predictions), checkpoints
        checkpoints.append(next(store.checkpoint_read(assignment.trial_id)))


def fine_tuned(kind: str, task: str, folder: Any) -> tuple[Prepared, Assignment, Store]:
    """The same with a tiny text encoder that is fine-tuned, its warm-up ending inside an epoch."""
    prepared, assignment, store = trial("cpsl", task, folder)
    text = {"name": f"tiny-{kind}", "mode": "finetune", "warmup": 0.45, "learning_rate": 1e-3}
    corpora = {
        name: tiny_encoders.with_tokens(corpus, tiny_encoders.pretrained(kind))
        for name, corpus in prepared.corpora.items()
    }
    config = {**assignment.config, "text_encoder": text}
    return dataclasses.replace(prepared, corpora=corpora), dataclasses.replace(assignment, config=config), store


def assert_taken_up(make: Callable[[Any], tuple[Prepared, Assignment, Store]], folder: Any) -> None:
    """From any checkpoint, by another worker: the same end, and the same checkpoints until then."""
    whole, checkpoints = trained(*make(folder / "whole"))
    assert len(checkpoints) == EPOCHS - 1
    for epoch, checkpoint in enumerate(checkpoints, 1):
        prepared, assignment, store = make(folder / str(epoch))
        store.checkpoint_write(assignment.trial_id, epoch, checkpoint)
        resumed, later = trained(prepared, assignment, store)
        assert resumed == whole
        assert later == checkpoints[epoch - 1 :]


@pytest.fixture(autouse=True)
def endless_stretches(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow the machine, an epoch is not cut."""
    monkeypatch.setattr(trial_runner, "STRETCH_S", math.inf)


@pytest.mark.slow
@pytest.mark.parametrize("task", METRICS)
@pytest.mark.parametrize("method", ["cpsl", "pase", "concat"])
def test_a_trial_taken_up_from_any_checkpoint_ends_with_the_bits_of_one_never_interrupted(
    tmp_path: Any, method: str, task: str
) -> None:
    assert_taken_up(lambda folder: trial(method, task, folder), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("task", METRICS)
@pytest.mark.parametrize("kind", ["bert", "deberta"])
def test_a_trial_that_fine_tunes_taken_up_from_any_checkpoint_ends_with_the_same_bits(
    tmp_path: Any, kind: str, task: str
) -> None:
    assert_taken_up(lambda folder: fine_tuned(kind, task, folder), tmp_path)
