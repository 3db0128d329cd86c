"""A run whose time is over ends in order, and what goes on with it comes to what one without a limit does."""

import os
import time
from pathlib import Path

import pytest

from orchestrator.run.ray_backend.cluster import Demand
from orchestrator.run.ray_backend.driver import Ending, run
from orchestrator.run.time_limit import TimeLimit
from orchestrator.store import Files, Lease, Store
from tests.orchestrator.run import fakes

NUM_BEFORE = 3  # trials that are finished in time
LATE = "LATE_FILE"


class EndlessRun(fakes.ToyRun):
    """An epoch that does not end in time once the first few trials are finished."""

    def train_epoch(self):
        if self.assignment.number >= NUM_BEFORE:
            Path(os.environ[LATE]).touch()
            time.sleep(3_600)
        return super().train_epoch()


def endless(assignment, corpus):
    """The workload."""
    return EndlessRun(assignment)


@pytest.mark.slow
def test_a_run_whose_time_is_over_ends_in_order_and_loses_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv(LATE, str(tmp_path / "late"))
    planned, storage = fakes.studies(), tmp_path / "storage"
    # the limit's clock stands still until there is work that cannot be done in time
    limit = TimeLimit(ends_at=60.0, margin_s=6.0, why="", clock=lambda: 57.0 if (tmp_path / "late").exists() else 0.0)
    with Lease(Files.at(storage)) as lease:
        store = Store.create(storage, fakes.record(planned))
        finished = run(
            store,
            lease,
            planned,
            fakes.corpora,
            demand=Demand(max_concurrent=1),
            workload=f"{__name__}:endless",
            origin=fakes.PROVENANCE,
            limit=limit,
        )
    assert (finished.ended, finished.num_new) == (Ending.OUT_OF_TIME, NUM_BEFORE)
    assert [trial["trial_id"][-5:] for trial in store.running()] == [f"{NUM_BEFORE:05d}"]
    assert not Files.at(storage).exists("lease.json")
    fakes.play(str(storage), planned)
    fakes.play(str(tmp_path / "whole"), planned)
    assert fakes.table(str(storage)) == fakes.table(str(tmp_path / "whole"))
