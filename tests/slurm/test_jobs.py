"""Jobs of a real SLURM: one that loses a node and is cancelled, and one that the time limit ends, beside another."""

from __future__ import annotations

import json
import math
import re
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from tests.cluster.conftest import SETTINGS
from tests.cluster.watch import Watch
from tests.end_to_end.kill_harness import first_difference, results
from tests.patience import wait_until
from tests.patient_ray import on_path
from tests.slurm.real_slurm import SHARED, Slurm

pytestmark = pytest.mark.slow

CORPUS = {"num_train": 600, "num_valid": 100, "num_test": 100, "layout": "utterances"}
CORPUS |= {"text_width": 1500, "audio_width": 1000, "vision_width": 1000}
RUNG = 60
EXPERIMENT: dict[str, Any] = {  # JSON is YAML
    "method": "concat",
    "data": {"source": "synthetic", "options": CORPUS},
    "objective": {"metric": "valid/mae"},
    "config": {"training": {"epochs": 2 * RUNG}},
    "space": {"training.learning_rate": {"low": 1e-4, "high": 1e-3, "log": True}},
    "search": {"trials": 6, "startup": 4, "pruner": {"kind": "asha", "min_epochs": RUNG, "reduction": 2}},
    "confirm": {"seeds": 2},
}
NUM_PLANNED = 8
ENDED = ("CANCELLED", "COMPLETED", "FAILED", "NODE_FAIL", "TIMEOUT")


class Run:
    """One storage, and the jobs that work on it one after another."""

    def __init__(self, cluster: Slurm, name: str) -> None:
        self.cluster, self.name, self.job = cluster, name, ""
        self.storage = cluster.shared / name
        self.watch = Watch(self.storage)

    def submit(self, *options: str) -> None:
        """`msa slurm`, with a Ray that has time to come up."""
        setup = f"export PATH={SHARED}/bin:$PATH"
        on_path(self.cluster.folder_of("bin"))
        told = self.cluster("msa", "slurm", "--setup", setup, *options, environment=SETTINGS).stdout
        self.job = re.findall(r"submitted job (\d+): ", told)[0]

    @property
    def said(self) -> str:
        """What the job wrote, Ray's own lines aside."""
        output = self.storage / "slurm" / f"{self.job}.out"
        return output.read_text() if output.exists() else ""

    @property
    def hosts(self) -> set[str]:
        """Where trials have finished."""
        return {row["host"] for row in self.watch.rows.values()}

    def until(self, what: str, happens: Callable[[], object]) -> None:
        """Fails if the job is over before, or nothing happens for very long; with all that was said."""
        wait_until(lambda: happens() or self.state in ENDED, what, seen=lambda: self.seen, every_s=0.3)
        assert happens(), f"{what} did not happen: {self.seen}"

    @property
    def state(self) -> str:
        """As SLURM has it; an ending counts once all processes are gone."""
        return self.cluster.fact(self.job, "JobState")

    def until_state(self, state: str) -> None:
        self.until(f"job {self.job} is {state}", lambda: self.state == state)

    @property
    def seen(self) -> str:
        rays = [path.read_text()[-3000:] for path in (self.storage / "slurm").glob("*.ray")]
        return "\n".join((f"{self.state}, {sorted(self.watch.rows)}", self.said[-3000:], *rays, self.cluster.said()))


def write_experiment(cluster: Slurm, **resources: Any) -> None:
    (cluster.shared / "experiment.yaml").write_text(json.dumps(EXPERIMENT | {"resources": resources}))


def finished_once(run: Run, before: Mapping[str, bytes]) -> None:
    """All that was planned is there, nothing twice, and what was finished before stays byte for byte."""
    rows = run.watch.rows.values()
    assert Counter(row["phase"] for row in rows) == {"search": NUM_PLANNED - 2, "confirm": 2}
    assert len({(row["phase"], row["number"]) for row in rows}) == NUM_PLANNED
    assert sum(path.startswith("trials/") for path in run.watch.results) == NUM_PLANNED
    assert {row["state"] for row in rows} <= {"COMPLETE", "PRUNED"}
    assert before
    assert before.items() <= run.watch.results.items()


def test_a_job_of_two_nodes_outlives_one_ends_in_order_and_goes_on_as_another(cluster: Slurm) -> None:
    write_experiment(cluster, cpu=2)  # one slot a node
    run = Run(cluster, "run")
    run.submit("--nodes", "2", "--", "sweep", "experiment.yaml", "--storage", "run")
    run.until("both nodes train", lambda: run.hosts == {"n1", "n2"} and len(run.watch.running) == 2)
    told = cluster("msa", "status", "run").stdout
    assert re.search(rf"(?m)^job +{run.job} RUNNING on n\[1-2\], \S+ left$", told), told
    cluster.nodes["n2"].power_off()
    trials = len(run.watch.rows) + 2  # one may have been on its way
    run.until("it goes on without the lost node", lambda: len(run.watch.rows) >= trials)
    run.until("SLURM knows of the loss", lambda: cluster.state_of("n2").startswith("down"))
    cluster("scancel", run.job)
    run.until_state("CANCELLED")
    last = r"go on with: msa slurm --setup .* --nodes 2 -- resume run\n\Z"
    wait_until(lambda: re.search(last, run.said), "its last line", seen=lambda: run.seen)
    assert not (run.storage / "lease.json").exists(), run.seen
    before = run.watch.results
    run.submit("--cpus-per-node", "2", "--", "resume", "run")
    run.until_state("COMPLETED")
    finished_once(run, before)


def test_the_time_limit_costs_a_job_that_is_queued_again_nothing_also_beside_another(cluster: Slurm) -> None:
    write_experiment(cluster)  # one slot: SLURM gives a job one CPU of two
    whole, cut = Run(cluster, "whole"), Run(cluster, "cut")
    whole.submit("--sbatch=--nodelist=n1", "--", "sweep", "experiment.yaml", "--storage", "whole")
    whole.until("it runs", lambda: whole.state == "RUNNING")
    began = time.monotonic()
    whole.until("it trains", lambda: whole.watch.rows)
    minutes = math.ceil(1.25 * (time.monotonic() - began) / 48)  # 48 s of each are used; all takes three times as long
    limit = ("--time", str(minutes), "--requeue")
    cut.submit("--sbatch=--nodelist=n1", *limit, "--", "sweep", "experiment.yaml", "--storage", "cut")
    cut.until("it is out of time, with results", lambda: cluster.fact(cut.job, "Restarts") != "0" and cut.watch.rows)
    before = cut.watch.results
    for run in (whole, cut):
        run.until_state("COMPLETED")
        finished_once(run, before if run is cut else run.watch.results)
    assert not first_difference(results(whole.storage), results(cut.storage))
