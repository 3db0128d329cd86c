"""A worker that dies: its trial starts anew, even where no worker was kept for anything more."""

import os
from pathlib import Path

import pytest

from orchestrator.run.ray_backend.cluster import Demand, cluster
from orchestrator.run.ray_backend.driver import run
from orchestrator.store import Files, Lease, Store
from tests.orchestrator.run import fakes

LAST = 3
DIED = "DIED_FILE"


def deadly(assignment, corpus):
    """The workload: the process of the last trial dies, once for each file that is named."""
    if assignment.number == LAST and not (died := Path(os.environ[DIED], str(assignment.seed))).exists():
        died.touch()
        os._exit(1)
    return fakes.ToyRun(assignment)


@pytest.mark.slow
def test_the_last_trial_of_a_run_starts_anew_when_its_worker_dies(tmp_path, monkeypatch):
    monkeypatch.setenv(DIED, str(tmp_path))
    with cluster(None):  # of both runs, since a start of Ray is dear
        for seed, (retries, state, attempts) in enumerate([(1, "COMPLETE", 2), (0, "FAIL", 1)]):
            search = {"trials": LAST + 1, "seed": seed, "pruner": {"kind": "none"}}
            planned = fakes.studies(search=search, confirm={"seeds": 0})
            storage = tmp_path / f"storage of {seed}"
            with Lease(Files.at(storage)) as lease:
                store = Store.create(storage, fakes.record(planned))
                demand = Demand(max_concurrent=1, retries=retries)
                finished = run(store, lease, planned, fakes.corpora, demand=demand, workload=f"{__name__}:deadly")
            rows = {row["number"]: row for row in store.trials().to_pylist()}
            assert not finished.interrupted
            assert [rows[number]["state"] for number in range(LAST)] == ["COMPLETE"] * LAST
            assert (rows[LAST]["state"], rows[LAST]["attempts"]) == (state, attempts)
