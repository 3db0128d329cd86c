"""Trials per second when a trial costs nothing: the ceiling that suggesting, recording and Ray put on short trials.

The peer is Ray Tune itself with the same class Trainable interface, actors reused, random search and no files at all;
both run one after the other on two slots in one process. Start-up is left out: the clock runs between the first and the
last report.
"""

import tempfile
import time

from msa_models.data import Corpus
from orchestrator.run.messages import Assignment
from orchestrator.run.output import captured
from orchestrator.run.ray_backend.cluster import Demand, cluster
from orchestrator.run.ray_backend.driver import run
from orchestrator.store import Files, Lease, Store
from tests.orchestrator.run import fakes

NUM_TRIALS = 200
SLOTS = 2


def instant(assignment: Assignment, corpus: Corpus) -> fakes.ToyRun:
    """The workload: one epoch of no time."""
    return fakes.ToyRun(assignment)


def ours(sampler: str) -> float:
    """Trials per second of a search with this sampler."""
    search = {"trials": NUM_TRIALS, "sampler": sampler, "pruner": {"kind": "none"}}
    planned = fakes.studies(config={"training.epochs": 1}, search=search, confirm={"seeds": 0})
    with tempfile.TemporaryDirectory() as uri, Lease(Files.at(uri)) as lease:
        store = Store.create(uri, fakes.record(planned))
        demand = Demand(max_concurrent=SLOTS)
        run(store, lease, planned, fakes.corpora, demand=demand, workload="tests.benchmarks.throughput:instant")
        record = store.runs()[-1]
        assert record["num_finished"] == NUM_TRIALS
        return NUM_TRIALS / record["wall_s"]


def bare_tune() -> float:
    """Trials per second of Ray Tune alone."""
    from ray import tune

    class Nothing(tune.Trainable):
        def setup(self, config: dict) -> None: ...
        def reset_config(self, new_config: dict) -> bool:
            return True

        def step(self) -> dict:
            return {"value": 0.0, "at": time.time(), "done": True}

    with tempfile.TemporaryDirectory() as scratch:
        results = tune.Tuner(
            tune.with_resources(Nothing, {"cpu": 1}),
            param_space={"x": tune.uniform(0, 1)},
            tune_config=tune.TuneConfig(num_samples=NUM_TRIALS, reuse_actors=True, max_concurrent_trials=SLOTS),
            run_config=tune.RunConfig(
                storage_path=scratch, verbose=0, checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False)
            ),
        ).fit()
        moments = [result.metrics["at"] for result in results if result.metrics]
    return NUM_TRIALS / (max(moments) - min(moments))


def main() -> None:
    """A table of rates and their ratio to the peer's."""
    with tempfile.TemporaryDirectory() as folder, cluster(None):
        with captured(Files.at(folder)):
            peer = bare_tune()
        rates = {"ours, random": ours("random"), "ours, tpe": ours("tpe")}
    print(f"{'bare Ray Tune':<16} {peer:6.1f} trials/s")
    for name, rate in rates.items():
        print(f"{name:<16} {rate:6.1f} trials/s, {rate / peer:.2f} of the peer")
