"""A run whose time is over ends in order, and what goes on with it comes to what one without a limit does.

Before that a worker of it says nothing any more and is given up, since a start of Ray is dear.
"""

import os
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from orchestrator.run import watchdog
from orchestrator.run.ray_backend.cluster import Demand
from orchestrator.run.ray_backend.driver import Ending, run
from orchestrator.run.time_limit import TimeLimit
from orchestrator.store import Files, Lease, Store
from tests.orchestrator.run import fakes

STUCK, NUM_BEFORE = 1, 3  # the trial whose worker says nothing, once; and how many are finished in time
SIGNS = "FOLDER_OF_SIGNS"


class EndlessRun(fakes.ToyRun):
    """Its second trial has an epoch that does not end, and so have all once the first few are finished."""

    def train_epoch(self):
        stuck, late = (Path(os.environ[SIGNS]) / sign for sign in ("stuck", "late"))
        number = self.assignment.number
        if number >= NUM_BEFORE or (number == STUCK and not stuck.exists()):
            (late if number >= NUM_BEFORE else stuck).touch()
            time.sleep(3_600)
        return super().train_epoch()


def endless(assignment, corpus):
    """The workload."""
    return EndlessRun(assignment)


@pytest.mark.slow
def test_a_run_whose_time_is_over_ends_in_order_and_loses_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv(SIGNS, str(tmp_path))
    planned, storage = fakes.studies(), tmp_path / "storage"
    # the clocks stand still until a worker is stuck, and until there is work that cannot be done in time
    limit = TimeLimit(ends_at=60.0, margin_s=6.0, why="", clock=lambda: 57.0 if (tmp_path / "late").exists() else 0.0)
    waited = SimpleNamespace(monotonic=lambda: 1_000.0 if (tmp_path / "stuck").exists() else 0.0)
    monkeypatch.setattr(watchdog, "time", waited)
    with Lease(Files.at(storage)) as lease:
        store = Store.create(storage, fakes.record(planned))
        finished = run(
            store,
            lease,
            planned,
            fakes.corpora,
            demand=Demand(max_concurrent=1, silent_s=100.0),
            workload=f"{__name__}:endless",
            origin=fakes.PROVENANCE,
            limit=limit,
        )
    assert (finished.ended, finished.num_new) == (Ending.OUT_OF_TIME, NUM_BEFORE)
    assert [trial["trial_id"][-5:] for trial in store.running()] == [f"{NUM_BEFORE:05d}"]
    assert [row["attempts"] for row in store.trials().to_pylist()] == [1, 2, 1]
    assert not Files.at(storage).exists("lease.json")
    fakes.play(str(storage), planned)
    fakes.play(str(tmp_path / "whole"), planned)
    assert fakes.table(str(storage)) == fakes.table(str(tmp_path / "whole"))
