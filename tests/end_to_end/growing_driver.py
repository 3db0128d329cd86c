"""A driver on a cluster that grows: `python -m tests.end_to_end.growing_driver STORAGE ADDRESS`.

Its workers write a line for each epoch into `epochs.log` next to the storage: when, where, of which trial.
"""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import ray

from msa_models.data import Corpus
from orchestrator.run.messages import Assignment
from orchestrator.run.ray_backend.cluster import Demand
from orchestrator.run.ray_backend.driver import Finished, run
from orchestrator.store import Files, Lease, Store
from tests.orchestrator.run import fakes

LOG = "EPOCHS_LOG"
NUM_SEARCHED, EPOCHS = 50, 9
EPOCH_S = {"search": 0.15, "confirm": 1.2}  # the one confirm trial goes on while all other slots idle


@dataclass(frozen=True)
class Epoch:
    """One line of the log."""

    at: float
    node_id: str
    trial_id: str
    epoch: int


class TracedRun(fakes.ToyRun):
    """A toy that takes its time and says where."""

    def train_epoch(self) -> dict[str, float]:
        line = [time.time(), ray.get_runtime_context().get_node_id(), self.assignment.trial_id, len(self.measurements)]
        descriptor = os.open(os.environ[LOG], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(descriptor, f"{json.dumps(line)}\n".encode())
        os.close(descriptor)
        time.sleep(EPOCH_S[self.assignment.phase])
        return super().train_epoch()


def traced(assignment: Assignment, corpus: Corpus) -> TracedRun:
    """The workload."""
    return TracedRun(assignment)


def epochs(log: Path) -> list[Epoch]:
    """What the workers wrote so far."""
    return [Epoch(*json.loads(line)) for line in log.read_text().splitlines()] if log.exists() else []


def drive(uri: str, address: str) -> Finished:
    """Start or go on with a search, and then one long trial alone."""
    search = {"trials": NUM_SEARCHED, "startup": 4, "pruner": {"kind": "asha", "min_epochs": 3, "reduction": 3}}
    planned = fakes.studies(config={"training.epochs": EPOCHS}, search=search, confirm={"seeds": 1})
    with Lease(Files.at(uri)) as lease:
        store = Store.create(uri, fakes.record(planned))
        workload = "tests.end_to_end.growing_driver:traced"
        return run(store, lease, planned, fakes.corpora, demand=Demand(), address=address, workload=workload)


if __name__ == "__main__":
    sys.exit(drive(sys.argv[1], sys.argv[2]).interrupted)
