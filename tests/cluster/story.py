"""A sweep that is submitted from a laptop, loses one of its workers, then its head, and is resumed on a new one."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from msa_models.data import synthetic
from tests.cluster.conftest import SETTINGS, WITH_TOKEN, Cluster
from tests.cluster.hosts import SHARED, Host
from tests.cluster.watch import Checkpoint, Watch

CORPUS = {"num_train": 600, "num_valid": 100, "num_test": 100, "layout": "utterances"}
CORPUS |= {"text_width": 1500, "audio_width": 1000, "vision_width": 1000}
RUNG = 60  # a checkpoint is written there, and every few seconds
EXPERIMENT = {  # JSON is YAML
    "method": "concat",
    "data": {"source": "synthetic", "options": CORPUS},
    "objective": {"metric": "valid/mae"},
    "config": {"training": {"epochs": 2 * RUNG}},
    "space": {"training.learning_rate": {"low": 1e-4, "high": 1e-3, "log": True}},
    "search": {"trials": 10, "startup": 10, "pruner": {"kind": "asha", "min_epochs": RUNG, "reduction": 2}},
    "confirm": {"seeds": 2},
}
NUM_PLANNED = 12
STORAGE = f"{SHARED}/run"


@dataclass(frozen=True, kw_only=True)
class Story:
    """What was seen."""

    intruder: subprocess.CompletedProcess[str]  # of the host without a token
    received_bytes: dict[str, int]  # by worker, from its joining until the loss of one
    num_begun: dict[str, int]  # trials of each worker by then
    writers: dict[str, int]  # by host, the group of its files
    at_loss: set[str]  # trials that the lost worker trained
    interrupted: set[str]  # trials that ran when the head was lost
    checkpoints: dict[str, list[Checkpoint]]  # all that were seen of each trial, as they appeared
    results_before: dict[str, bytes]  # files of the trials that were finished when the head was lost
    results_after: dict[str, bytes]
    rows: dict[str, dict[str, Any]]  # in the end
    lost_lease: dict[str, Any]  # as the driver on the lost head left it
    next_lease: dict[str, Any]  # as the driver that resumed the run took it
    exit_code: int  # of the client of the resumed run
    output: str


def told(cluster: Cluster) -> Story:
    """Let it happen."""
    one, two, laptop = cluster.host("one"), cluster.host("two"), cluster.host("laptop")
    watch = Watch(cluster.network.shared / "run")
    _joined(cluster.join(one, 2), cluster.join(two, 1))
    intruding = cluster.join(cluster.host("intruder", token=False), 1, environment=SETTINGS)
    received = {host.name: -host.received_bytes for host in (one, two)}
    submitted = submit(cluster, laptop, "sweep", "experiment.yaml", "--storage", STORAGE)

    def trained_by(host: Host) -> set[str]:
        newest = {trial_id: watch.checkpoints[trial_id][-1:] for trial_id in watch.running}
        return {trial_id for trial_id, last in newest.items() if last and last[0].writer == host.group}

    def under_way() -> bool:
        """The second worker is in the middle of a trial: nothing is being decided about it, nor will be soon."""
        hosts = {row["host"] for row in watch.rows.values()}
        newest = [watch.checkpoints[trial_id][-1] for trial_id in trained_by(two)]
        return hosts == {"one", "two"} and any(
            each.epoch % RUNG < RUNG / 2 and (each.epoch % RUNG or each.age_s > 0.5) for each in newest
        )

    watch.until("both workers finish trials, and the second is in the middle of another", under_way, submitted)
    for host in (one, two):
        received[host.name] += host.received_bytes
    num_begun = {
        host.name: sum(row["host"] == host.name for row in watch.rows.values()) + len(trained_by(host))
        for host in (one, two)
    }
    two.power_off()
    at_loss = trained_by(two)
    watch.until("its trial goes on elsewhere", lambda: not at_loss & trained_by(two), submitted)
    cluster.head.power_off()
    submitted.kill()
    lost_lease = watch.lease
    interrupted, results_before = watch.running, watch.results
    one.run("ray", "stop", "--force")
    cluster.start_head()
    _joined(cluster.join(one, 2), cluster.join(cluster.host("two"), 1))
    resumed = submit(cluster, laptop, "resume", STORAGE)
    watch.until("another driver has the lease", lambda: watch.lease["token"] != lost_lease["token"], resumed)
    next_lease = watch.lease
    watch.until("the resumed run ends", lambda: resumed.poll() is not None, resumed)
    return Story(
        intruder=subprocess.CompletedProcess(intruding.args, intruding.wait(), intruding.communicate()[0]),
        received_bytes=received,
        num_begun=num_begun,
        writers={host.name: host.group for host in (one, two)},
        at_loss=at_loss,
        interrupted=interrupted,
        checkpoints=watch.checkpoints,
        results_before=results_before,
        results_after=watch.results,
        rows=watch.rows,
        lost_lease=lost_lease,
        next_lease=next_lease,
        exit_code=resumed.returncode,
        output=resumed.communicate()[0],
    )


def seconds(lease: dict[str, Any], name: str) -> float:
    """A moment that a lease tells."""
    return datetime.fromisoformat(lease[name]).timestamp()


def submit(cluster: Cluster, laptop: Host, *command: str) -> subprocess.Popen[str]:
    """`msa submit` in a folder that holds the experiment; it watches the job until its end."""
    folder = laptop.home / "work"
    folder.mkdir(exist_ok=True)
    (folder / "experiment.yaml").write_text(json.dumps(EXPERIMENT))
    return laptop.start(
        *["msa", "submit", "--address", f"http://{cluster.head.address}:8265", "--insecure", "--", *command],
        environment=WITH_TOKEN,
        folder=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def corpus_bytes() -> int:
    """What the corpus of the experiment takes."""
    splits = synthetic.generate(synthetic.Options(**CORPUS)).splits.values()
    return sum(array.nbytes for split in splits for array in split.inputs.values())


def _joined(*starting: subprocess.Popen[str]) -> None:
    for each in starting:
        said = each.communicate()[0]
        assert each.returncode == 0, said
