"""A cluster that grows while a run has more to do than slots, and shrinks when it has less, or is killed."""

from __future__ import annotations

import signal
from collections import Counter
from pathlib import Path

import pytest

from orchestrator.store import Store
from tests.end_to_end import growing_driver
from tests.end_to_end.growing_cluster import Sight, growing_cluster
from tests.end_to_end.growing_driver import NUM_SEARCHED, epochs
from tests.patience import LIMIT_S, wait_until

pytestmark = pytest.mark.slow


@pytest.fixture
def log(tmp_path, monkeypatch) -> Path:
    """Where the workers write down their epochs."""
    path = tmp_path / "epochs.log"
    monkeypatch.setenv(growing_driver.LOG, str(path))
    return path


def check_all_finished_once(storage: Path) -> None:
    """All planned trials are on file, each once, and none failed."""
    rows = Store.open(storage).trials().to_pylist()
    assert Counter(row["phase"] for row in rows) == {"search": NUM_SEARCHED, "confirm": 1}
    assert {row["state"] for row in rows} <= {"COMPLETE", "PRUNED"}
    assert len({row["trial_id"] for row in rows}) == len(rows)


def joined(sights: list[Sight]) -> list[str]:
    """The nodes that were not there at first, in their order."""
    return list(dict.fromkeys(node for sight in sights for node in sight.nodes if node not in sights[0].nodes))


def amid_a_trial(nodes: list[str], log: Path) -> str:
    """One of these nodes where a trial is past its last rung, with some epochs to go, or ''."""
    return next((each.node_id for each in epochs(log)[-5:] if each.node_id in nodes and each.epoch == 4), "")


def test_nodes_that_join_are_used_and_no_node_that_is_killed_or_removed_takes_a_trial_with_it(tmp_path, log):
    with growing_cluster(version=1, max_nodes=2) as cluster:
        command = (growing_driver.__name__, str(tmp_path / "storage"), cluster.address)
        driver = cluster.join(*command, out=tmp_path / "driver.out")
        wait_until(lambda: amid_a_trial(joined(cluster.sights), log), seen=lambda: cluster.sights[-1:])
        killed = amid_a_trial(joined(cluster.sights), log)
        cluster.kill(killed)
        assert driver.wait(timeout=LIMIT_S) == 0, (tmp_path / "driver.out").read_text()
        sights = cluster.sights
    check_all_finished_once(tmp_path / "storage")

    first: dict[str, float] = {}
    for each in epochs(log):
        first.setdefault(each.node_id, each.at)
    used = [node for node in joined(sights) if node in first]
    for node in used:
        alive = next(sight.at for sight in sights if node in sight.nodes)
        print(f"node {node[-2:]}: first epoch {first[node] - alive:.1f} s after it was alive")
    assert len(used) >= 2

    on_killed = {each.trial_id for each in epochs(log) if each.node_id == killed}
    assert any(each.trial_id in on_killed and each.node_id != killed for each in epochs(log))
    times = Counter((each.trial_id, each.epoch) for each in epochs(log) if each.trial_id not in on_killed)
    assert set(times.values()) == {1}

    last_trial = [each for each in epochs(log) if each.trial_id == epochs(log)[-1].trial_id]
    while_alone = [len(sight.nodes) for sight in sights if last_trial[0].at < sight.at < last_trial[-1].at]
    assert min(while_alone, default=3) < 3, "idle nodes must go while the last trial is trained"


def test_what_a_run_asks_for_dies_with_its_driver_and_another_driver_goes_on(tmp_path, log):
    with growing_cluster(version=2, max_nodes=1) as cluster:

        def look() -> list[Sight]:
            return cluster.sights[-1:]

        command = (growing_driver.__name__, str(tmp_path / "storage"), cluster.address)
        driver = cluster.join(*command, out=tmp_path / "driver.out")
        wait_until(lambda: any(len(each.nodes) == 2 and "PENDING" in each.groups for each in cluster.sights), seen=look)
        driver.send_signal(signal.SIGKILL)
        wait_until(
            lambda: set(cluster.sights[-1].groups) == {"REMOVED"} and len(cluster.sights[-1].nodes) == 1, seen=look
        )
        num_before = len(Store.open(tmp_path / "storage").finished_ids())
        driver = cluster.join(*command, out=tmp_path / "driver.out")
        assert driver.wait(timeout=LIMIT_S) == 0, (tmp_path / "driver.out").read_text()
    assert 0 < num_before <= NUM_SEARCHED
    check_all_finished_once(tmp_path / "storage")
