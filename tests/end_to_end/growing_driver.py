"""A driver on a cluster that grows: `python -m tests.end_to_end.growing_driver STORAGE ADDRESS NUM_SEARCHED`.

Its workers write a line for each epoch into the file `$EPOCHS_LOG`: when, where, of which trial. From the sixth on,
trials of a phase pause in their middle until a file of the phase's name is in the folder `$EPOCHS_HOLD`, so that what a
test waits for can happen however slow the machine is.
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

LOG, HOLD = "EPOCHS_LOG", "EPOCHS_HOLD"
EPOCHS, EPOCH_S = 9, 0.15
FIRST_HELD, HELD_AT = 5, 4  # trials from this number on pause in this epoch, past their last rung


@dataclass(frozen=True)
class Epoch:
    """One line of the log."""

    at: float
    node_id: str
    trial_id: str
    phase: str
    epoch: int


class TracedRun(fakes.ToyRun):
    """A toy that takes its time and says where."""

    def train_epoch(self) -> dict[str, float]:
        assignment, node_id = self.assignment, ray.get_runtime_context().get_node_id()
        line = [time.time(), node_id, assignment.trial_id, assignment.phase, len(self.measurements)]
        descriptor = os.open(os.environ[LOG], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(descriptor, f"{json.dumps(line)}\n".encode())
        os.close(descriptor)
        held = len(self.measurements) == HELD_AT and not self._early
        while held and not Path(os.environ[HOLD], assignment.phase).exists():
            time.sleep(0.05)
        time.sleep(EPOCH_S)
        return super().train_epoch()

    @property
    def _early(self) -> bool:
        return self.assignment.phase == "search" and self.assignment.number < FIRST_HELD


def traced(assignment: Assignment, corpus: Corpus) -> TracedRun:
    """The workload."""
    return TracedRun(assignment)


def epochs(log: Path) -> list[Epoch]:
    """What the workers wrote so far."""
    return [Epoch(*json.loads(line)) for line in log.read_text().splitlines()] if log.exists() else []


def drive(uri: str, address: str, num_searched: int) -> Finished:
    """Start or go on with a search, and then one long trial alone."""
    search = {"trials": num_searched, "startup": 4, "pruner": {"kind": "asha", "min_epochs": 3, "reduction": 3}}
    planned = fakes.studies(config={"training.epochs": EPOCHS}, search=search, confirm={"seeds": 1})
    with Lease(Files.at(uri)) as lease:
        store = Store.create(uri, fakes.record(planned))
        workload = "tests.end_to_end.growing_driver:traced"
        return run(store, lease, planned, fakes.corpora, demand=Demand(), address=address, workload=workload)


if __name__ == "__main__":
    sys.exit(drive(sys.argv[1], sys.argv[2], int(sys.argv[3])).interrupted)
