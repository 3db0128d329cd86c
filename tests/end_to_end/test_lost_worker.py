"""A worker that dies: its trial starts anew, even where no worker was kept for anything more."""

import os
from pathlib import Path

import pytest

from orchestrator.run.ray_backend.cluster import Demand
from orchestrator.run.ray_backend.driver import run
from orchestrator.store import Files, Lease, Store
from tests.orchestrator.run import fakes

LAST = 3
DIED = "DIED_FILE"


def deadly(assignment, corpus):
    """The workload: the process of the last trial dies, once."""
    if assignment.number == LAST and not Path(os.environ[DIED]).exists():
        Path(os.environ[DIED]).touch()
        os._exit(1)
    return fakes.ToyRun(assignment)


@pytest.mark.slow
@pytest.mark.parametrize(("retries", "state", "attempts"), [(1, "COMPLETE", 2), (0, "FAIL", 1)])
def test_the_last_trial_of_a_run_starts_anew_when_its_worker_dies(tmp_path, monkeypatch, retries, state, attempts):
    monkeypatch.setenv(DIED, str(tmp_path / "died"))
    planned = fakes.studies(search={"trials": LAST + 1, "pruner": {"kind": "none"}}, confirm={"seeds": 0})
    storage = tmp_path / "storage"
    with Lease(Files.at(storage)) as lease:
        store = Store.create(storage, fakes.record(planned))
        demand = Demand(max_concurrent=1, retries=retries)
        finished = run(store, lease, planned, fakes.corpora, demand=demand, workload=f"{__name__}:deadly")
    rows = {row["number"]: row for row in store.trials().to_pylist()}
    assert not finished.interrupted
    assert [rows[number]["state"] for number in range(LAST)] == ["COMPLETE"] * LAST
    assert (rows[LAST]["state"], rows[LAST]["attempts"]) == (state, attempts)
