"""A driver process with trials of half a second, for the kill harness to kill: `python -m …toy_driver sweep STORAGE 1`.

Its workers write a line for each epoch into the file that `$TOY_LOG` names, so that epochs trained twice can be
counted; with `$TOY_TRIAL_S` trials take so many seconds. On its stdout it says in JSON how long it paused for the
lease, and how it ended.
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from msa_models.data import Corpus
from orchestrator.findings import grid
from orchestrator.plan.studies import Study
from orchestrator.run import endings, trial_runner
from orchestrator.run.launch import record_of
from orchestrator.run.messages import Assignment
from orchestrator.run.provenance import provenance
from orchestrator.run.ray_backend.cluster import Demand
from orchestrator.run.ray_backend.driver import run
from orchestrator.store import Files, Lease, Store
from orchestrator.store import lease as of_the_lease
from orchestrator.store.record import Record
from tests.orchestrator.run import fakes

TOY_LOG, TOY_TRIAL_S = "TOY_LOG", "TOY_TRIAL_S"
TRIAL_S = 0.5  # of all its epochs
STRETCH_S = 0.2  # in the place of the product's five seconds, so that there are several in a trial
DONE, INTERRUPTED = 0, 3


class SlowRun(fakes.PlantedRun):
    """A toy that takes its time and leaves a trace."""

    def train_epoch(self) -> dict[str, float]:
        epoch, assignment = len(self.measurements) + 1, self.assignment
        line = f"{assignment.trial_id} {assignment.phase} {epoch} {os.getpid()}\n"
        descriptor = os.open(os.environ[TOY_LOG], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(descriptor, line.encode())
        os.close(descriptor)
        time.sleep(float(os.environ.get(TOY_TRIAL_S, TRIAL_S)) / assignment.config["training"]["epochs"])
        return super().train_epoch()


def slow(assignment: Assignment, corpus: Corpus) -> SlowRun:
    """The workload."""
    trial_runner.STRETCH_S = STRETCH_S  # of the worker's process, and of no test that imports this module
    return SlowRun(assignment)


def sweep() -> tuple[Record, tuple[Study, ...]]:
    """Search with pruning, then confirm: 17 trials of up to 27 epochs."""
    search = {"trials": 14, "startup": 4, "seed": 0, "pruner": {"kind": "asha", "min_epochs": 3, "reduction": 3}}
    planned = fakes.studies(config={"training.epochs": 27}, search=search, confirm={"seeds": 3})
    return fakes.record(planned), planned


def ablation() -> tuple[Record, tuple[Study, ...]]:
    """A search of the full method, and a race of three cells for seeds: 31 trials of 3 epochs."""
    prepared = fakes.ablation(seeds={"min": 3, "max": 12, "until": 0.05}, tuning="shared")
    return record_of(prepared), prepared.plan.studies


KINDS: dict[str, Callable[[], tuple[Record, tuple[Study, ...]]]] = {"sweep": sweep, "ablation": ablation}
EPOCHS = {"sweep": 27, "ablation": 3}
# The stretch ends with the epoch in which its time is over, and the one after it may be under way.
EPOCHS_BETWEEN_CHECKPOINTS = {kind: math.ceil(STRETCH_S * epochs / TRIAL_S) + 1 for kind, epochs in EPOCHS.items()}


def drive(kind: str, uri: str, slots: int) -> int:
    """Go on with the run, and collect the grid of an ablation that is done."""
    record, planned = KINDS[kind]()
    files, pauses_s = Files.at(uri), list[float]()

    def pause(seconds: float) -> None:
        pauses_s.append(seconds)
        time.sleep(seconds)

    of_the_lease.time = SimpleNamespace(sleep=pause, monotonic=time.monotonic)  # pyright: ignore[reportAttributeAccessIssue]
    with Lease(files) as lease:
        _say(lease_s=sum(pauses_s))
        store = Store.create(uri, record)
        demand = Demand(max_concurrent=slots)
        finished = run(store, lease, planned, fakes.corpora, demand=demand, workload=f"{__spec__.name}:slow")
        if kind == "ablation" and not finished.interrupted:
            grid.write(store)
    _say(num_new=finished.num_new, interrupted=finished.interrupted)
    return INTERRUPTED if finished.interrupted else DONE


def undisturbed(kind: str, uri: Path) -> Path:
    """A storage of a run that nobody kills, made in this process: without Ray, and without taking its time."""
    record, planned = KINDS[kind]()
    fakes.play(str(uri), planned, workload=fakes.planted, kept=record, origin=provenance())
    if kind == "ablation":
        grid.write(Store.open(uri))
    return uri


def compact(uri: str) -> int:
    """Fold the files of the storage, holding its lease."""
    files = Files.at(uri)
    with Lease(files):
        store = Store.open(uri)
        _say(compacting=True)
        store.compact()
    return DONE


def _say(**facts: Any) -> None:
    print(json.dumps(facts), flush=True)


def main() -> int:
    """As `msa` does, Ctrl-C while Ray starts or ends is an interruption."""
    kind, uri, *rest = sys.argv[1:]
    try:
        return compact(uri) if kind == "compact" else drive(kind, uri, int(rest[0]))
    except KeyboardInterrupt:
        return INTERRUPTED


if __name__ == "__main__":
    endings.interrupted_by(endings.ANY_RUN)
    code = main()
    endings.over(lambda: endings.leave(code))
    if endings.left_behind():
        endings.leave(code)
    sys.exit(code)
