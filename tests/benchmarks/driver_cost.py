"""What the driver pays for a trial when 100 to 100,000 are finished: CPU time and memory of its process.

The shipped search space of CP-SL, TPE and ASHA, up to three reports a trial, and forty workers that only sleep, so that
the driver is what is measured. Each row is a driver process of its own that goes on from a storage with so many trials,
and is looked at while it finishes `WINDOW` more. CPU time, because it does not mind who else is on the machine, though
caches do. The limit is flat cost: `ratio` is to the first row. Of ten studies with 100 trials in all nearly every
suggestion is still a random one, which costs next to nothing.
"""

from __future__ import annotations

import json
import os
import pkgutil
import random
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from functools import wraps
from pathlib import Path
from typing import Any

import optuna
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from msa_models.data import Corpus
from orchestrator.plan.corpora import CorpusInfo
from orchestrator.plan.plan import plan
from orchestrator.plan.studies import Study, search_trial_id
from orchestrator.run.campaign import Campaign
from orchestrator.run.messages import Assignment
from orchestrator.run.ray_backend.cluster import _ENVIRONMENT, Demand
from orchestrator.run.ray_backend.driver import run
from orchestrator.store import Files, Lease, Store, proof
from orchestrator.store.schema import trial_schema
from search_spaces.loading import load
from tests.orchestrator.run import fakes

SLOTS = 40
WARM_UP, WINDOW = 60, 150  # trials; the first of a driver wait for their workers to start
NUM_NEW = WARM_UP + WINDOW + SLOTS  # and the last ones leave slots free
TRIAL_S, EPOCHS = 2.0, 9
FINISHED = (100, 1_000, 10_000, 100_000)
NUM_CONFIGURATIONS = 500
KINDS = {"one study": 1, "ten studies": 10}
PARTS = {  # of the driver, by what is called: the innermost one pays
    "suggest": ("orchestrator.run.search_state:SearchState", ("suggestion", "begin")),
    "store": ("orchestrator.store.store:Store", ("begin", "finish")),
    "decide": ("orchestrator.run.campaign:Campaign", ("next", "report", "done", "exhausted")),
}


class SleepingRun(fakes.ToyRun):
    """A toy that takes two seconds."""

    def train_epoch(self) -> dict[str, float]:
        time.sleep(TRIAL_S / EPOCHS)
        return super().train_epoch()


def sleeping(assignment: Assignment, corpus: Corpus) -> SleepingRun:
    """The workload."""
    return SleepingRun(assignment)


def studies(num_studies: int, num_trials: int) -> tuple[Study, ...]:
    """So many studies, of so many search trials in all."""
    overrides = {
        "training.epochs": EPOCHS,
        "search.trials": num_trials // num_studies,
        "search.pruner.min_epochs": 1,
        "confirm.seeds": 0,
        "studies": {f"clip_{clip}": {"config": {"training.gradient_clip": clip}} for clip in range(1, num_studies + 1)},
    }
    loaded = load("cpsl", [f"{name}={json.dumps(value)}" for name, value in overrides.items()])
    return plan(loaded.experiment, CorpusInfo.of(fakes.corpus()), loaded.places).studies


def prefill(uri: str, planned: Sequence[Study], num_finished: int) -> None:
    """Finished trials of a random search, in one file as after a compaction."""
    store = Store.create(uri, fakes.record(tuple(planned)))
    rows = sorted(finished_rows(planned, num_finished), key=lambda row: row["trial_id"])
    folder = Path(uri) / "trials"
    folder.mkdir()
    table = pa.Table.from_pylist(rows, schema=trial_schema(store.metrics))
    path = "trials/compact-000001.parquet"
    pq.write_table(table, store.files.path(path), row_group_size=200, compression="zstd")
    proof.seal_parquet(path, store.files.path(path))


def finished_rows(planned: Sequence[Study], number: int) -> Iterator[dict[str, Any]]:
    """So many of all studies in turn; configurations come again and again."""
    asked = {study.study_id: _configurations(study, min(number, NUM_CONFIGURATIONS)) for study in planned}
    draw, now = random.Random(0), datetime.now(UTC)
    for index in range(number):
        study, mine = planned[index % len(planned)], index // len(planned)
        params, config = asked[study.study_id][mine % len(asked[study.study_id])]
        value, pruned = draw.lognormvariate(0, 0.5), draw.random() < 0.6
        yield {
            "trial_id": search_trial_id(study.study_id, mine),
            "study_id": study.study_id,
            "method": study.method,
            "dataset": study.dataset,
            "variant": study.variant.name,
            "modalities": "+".join(study.variant.modalities),
            "phase": "search",
            "seed": mine,
            "number": mine,
            "state": "PRUNED" if pruned else "COMPLETE",
            "objective": study.metric,
            "value": value,
            "intermediate_values": json.dumps({"1": value + 0.1} if pruned else {"1": value + 0.1, "3": value}),
            "params": params,
            "config": config,
            "epochs": 1 if pruned else EPOCHS,
            "best_epoch": 1,
            "duration_s": TRIAL_S,
            "started_at": now,
            "finished_at": now,
            "data_fingerprint": study.data_fingerprint,
            "versions": "{}",
            "attempts": 1,
        }


def _configurations(study: Study, number: int) -> list[tuple[str, str]]:
    """Random ones, as the parameters and the configuration of a row."""
    search = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    found = [search.ask(dict(study.distributions)).params for _ in range(number)]
    return [(json.dumps(params, sort_keys=True), json.dumps(study.config(params), sort_keys=True)) for params in found]


class Meter:
    """CPU seconds of this process, and of them those in each of the `PARTS`; only one thread calls them."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = defaultdict(float)
        self._inside: list[float] = []  # what the calls within each open call have spent
        for part, (path, names) in PARTS.items():
            owner = pkgutil.resolve_name(path)
            for name in names:
                self._measure(part, owner, name)

    def _measure(self, part: str, owner: Any, name: str) -> None:
        attribute = owner.__dict__[name]
        inner: Callable[..., Any] = getattr(attribute, "fget", attribute)

        @wraps(inner)
        def measured(*args: Any, **kwargs: Any) -> Any:
            began = time.thread_time()
            self._inside.append(0.0)
            try:
                return inner(*args, **kwargs)
            finally:
                took = time.thread_time() - began
                self.spent[part] += took - self._inside.pop()
                if self._inside:
                    self._inside[-1] += took

        setattr(owner, name, property(measured) if isinstance(attribute, property) else measured)

    def read(self) -> dict[str, float]:
        """All there is to know now."""
        return {**self.spent, "total": time.process_time(), "rss": float(psutil.Process().memory_info().rss)}


def drive(kind: str, uri: str, num_before: int) -> dict[str, float]:
    """What each of `WINDOW` trials costs: ms of CPU and kB of memory."""
    os.environ.update(_ENVIRONMENT)
    import ray

    meter, readings = Meter(), []
    finish = Campaign._finish

    def finish_and_read(*args: Any, **kwargs: Any) -> None:
        finish(*args, **kwargs)
        readings.append(meter.read())

    Campaign._finish = finish_and_read
    planned = studies(KINDS[kind], num_before + NUM_NEW)
    ray.init(address="local", num_cpus=SLOTS, log_to_driver=False, include_dashboard=False)
    with Lease(Files.at(uri)) as lease:
        demand = Demand(max_concurrent=SLOTS)
        run(Store.open(uri), lease, planned, fakes.corpora, demand=demand, workload=f"{__spec__.name}:sleeping")
    ray.shutdown()
    first, last = readings[WARM_UP], readings[WARM_UP + WINDOW]
    cost = {name: (last[name] - first[name]) / WINDOW for name in last}
    return {name: value / 1e3 if name == "rss" else value * 1e3 for name, value in cost.items()}


def measured(kind: str, num_finished: int) -> dict[str, float]:
    """The same, in a driver process of its own."""
    with tempfile.TemporaryDirectory() as uri:
        num_before = max(0, num_finished - WARM_UP - WINDOW // 2)
        prefill(uri, studies(KINDS[kind], num_before + NUM_NEW), num_before)
        command = [sys.executable, "-m", __name__, kind, uri, str(num_before)]
        return json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout.splitlines()[-1])


def main() -> None:
    """A table in ms of CPU a trial."""
    print(
        f"{'':<12} {'finished':>8} {' '.join(f'{part:>8}' for part in (*PARTS, 'Ray', 'all'))} {'ratio':>6} {'kB':>6}"
    )
    base = None
    for kind in KINDS:
        for num_finished in FINISHED:
            cost = measured(kind, num_finished)
            base = base or cost["total"]
            ray = cost["total"] - sum(cost[part] for part in PARTS)
            cells = [*(cost[part] for part in PARTS), ray, cost["total"]]
            print(
                f"{kind:<12} {num_finished:>8} {' '.join(f'{cell:>8.2f}' for cell in cells)} "
                f"{cost['total'] / base:>6.2f} {cost['rss']:>6.0f}",
                flush=True,
            )


if __name__ == "__main__":
    print(json.dumps(drive(sys.argv[1], sys.argv[2], int(sys.argv[3]))))
