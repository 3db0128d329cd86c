"""A trial that runs out of memory gets twice the room from Ray itself."""

import pytest

from orchestrator.run.ray_backend.cluster import Demand, cluster
from orchestrator.run.ray_backend.driver import run
from orchestrator.store import Files, Lease, Store
from tests.orchestrator.run import fakes


class Hungry(fakes.ToyRun):
    """Runs out of memory in a slot of its own; every other trial is content with one."""

    def train_epoch(self):
        if self.assignment.number == 1 and self.assignment.scale == 1:
            raise MemoryError("DefaultCPUAllocator: can't allocate memory")
        return super().train_epoch()


def hungry(assignment, corpus):
    """The workload."""
    return Hungry(assignment)


@pytest.mark.slow
def test_a_trial_out_of_memory_is_trained_with_twice_the_slots_where_the_experiment_allows(tmp_path):
    planned = fakes.studies(search={"trials": 4, "pruner": {"kind": "none"}}, confirm={"seeds": 0})
    with cluster(None):  # of both runs, since a start of Ray is dear
        for grow, ends in ((True, ("COMPLETE", 2)), (False, ("FAIL", 1))):
            storage = tmp_path / str(grow)
            with Lease(Files.at(storage)) as lease:
                store = Store.create(storage, fakes.record(planned))
                demand = Demand(cpu=0.5, max_concurrent=2, grow=grow)
                run(store, lease, planned, fakes.corpora, demand=demand, workload=f"{__name__}:hungry")
            rows = {row["number"]: row for row in store.trials().to_pylist()}
            assert {row["state"] for number, row in rows.items() if number != 1} == {"COMPLETE"}
            assert (rows[1]["state"], rows[1]["attempts"]) == ends
