"""How many threads a trial computes in."""

from dataclasses import replace

import pytest
import torch

from orchestrator.run.campaign import Campaign
from orchestrator.run.messages import Assignment
from orchestrator.run.workload import train
from orchestrator.store import Store
from tests.orchestrator.run import fakes


@pytest.fixture
def assignment(tmp_path) -> Assignment:
    planned = fakes.studies()
    found = Campaign(Store.create(str(tmp_path), fakes.record(planned)), planned, fakes.PROVENANCE).next()
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("cpu", "scale", "changes", "expected"),
    [
        (1.0, 1, {}, 1),
        (0.5, 1, {}, 1),
        (2.0, 1, {}, 2),
        (3.9, 1, {}, 3),
        (2.0, 2, {}, 4),
        (1.0, 1, {"resources.cpu": 3}, 3),
        (4.0, 1, {"training.batch_size": 8}, 4),
    ],
)
def test_a_thread_computes_in_each_whole_slot(assignment: Assignment, cpu, scale, changes, expected) -> None:
    found = replace(assignment, scale=scale, changes=changes).on(cpu)
    assert found.threads == expected
    assert Assignment.from_json(found.to_json()) == found


def test_a_training_takes_its_threads_whatever_the_environment_says(
    assignment: Assignment, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", taken.append)
    for threads in (1, 3):
        train(replace(assignment, threads=threads), fakes.corpus())
    assert taken == [1, 3]
