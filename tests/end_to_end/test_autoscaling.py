"""A cluster that grows while a run has more to do than slots, and shrinks when it has less, or is killed; and one that
two runs share.
"""

from __future__ import annotations

import signal
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

from orchestrator.store import Store
from tests.end_to_end import growing_driver
from tests.end_to_end.growing_cluster import Sight, growing_cluster
from tests.end_to_end.growing_driver import HELD_AT, epochs
from tests.patience import LIMIT_S, wait_until

pytestmark = pytest.mark.slow
FEW, ENDLESS = 20, 1_000  # trials of a search: the first five decide


@pytest.fixture
def log(tmp_path, monkeypatch) -> Path:
    """Where the workers write down their epochs."""
    path = tmp_path / "epochs.log"
    monkeypatch.setenv(growing_driver.LOG, str(path))
    monkeypatch.setenv(growing_driver.HOLD, str(tmp_path))
    return path


def check_all_finished_once(storage: Path) -> None:
    """All planned trials are on file, each once, and none failed."""
    rows = Store.open(storage).trials().to_pylist()
    assert Counter(row["phase"] for row in rows) == {"search": FEW, "confirm": 1}
    assert {row["state"] for row in rows} <= {"COMPLETE", "PRUNED"}
    assert len({row["trial_id"] for row in rows}) == len(rows)


def joined(sights: list[Sight]) -> list[str]:
    """The nodes that were not there at first, in their order."""
    return list(dict.fromkeys(node for sight in sights for node in sight.nodes if node not in sights[0].nodes))


def used(nodes: list[str], log: Path) -> set[str]:
    """Those of these nodes on which something was trained."""
    return {each.node_id for each in epochs(log)}.intersection(nodes)


def amid_a_trial(nodes: list[str], log: Path) -> str:
    """One of these nodes where a trial pauses past its last rung, with some epochs to go, or ''."""
    latest = {each.trial_id: each for each in epochs(log)}
    held = (each for each in latest.values() if each.epoch == HELD_AT)
    return next((each.node_id for each in held if each.node_id in nodes), "")


def test_nodes_that_join_are_used_and_no_node_that_is_killed_or_removed_takes_a_trial_with_it(tmp_path, log):
    with growing_cluster(version=1, max_nodes=2) as cluster:
        command = (growing_driver.__name__, str(tmp_path / "storage"), cluster.address, str(FEW))
        driver = cluster.join(*command, out=tmp_path / "driver.out")

        def alive() -> list[str]:
            return [node for node in joined(cluster.sights) if node in cluster.sights[-1].nodes]

        wait_until(lambda: len(used(joined(cluster.sights), log)) >= 2 and amid_a_trial(alive(), log), seen=alive)
        killed = amid_a_trial(alive(), log)
        cluster.kill(killed)
        wait_until(lambda: killed not in alive(), "its worker may train on until it misses its node", seen=alive)
        (tmp_path / "search").touch()
        wait_until(lambda: any(each.phase == "confirm" for each in epochs(log)), "the last trial begins", seen=alive)
        wait_until(lambda: len(alive()) < 2, "idle nodes go while the last trial is trained", seen=alive)
        (tmp_path / "confirm").touch()
        assert driver.wait(timeout=LIMIT_S) == 0, (tmp_path / "driver.out").read_text()
    check_all_finished_once(tmp_path / "storage")

    on_killed = {each.trial_id for each in epochs(log) if each.node_id == killed}
    assert any(each.trial_id in on_killed and each.node_id != killed for each in epochs(log))
    times = Counter((each.trial_id, each.epoch) for each in epochs(log) if each.trial_id not in on_killed)
    assert set(times.values()) == {1}


def test_what_a_run_asks_for_dies_with_its_driver_and_another_driver_goes_on(tmp_path, log):
    with growing_cluster(version=2, max_nodes=1) as cluster:

        def look() -> list[Sight]:
            return cluster.sights[-1:]

        command = (growing_driver.__name__, str(tmp_path / "storage"), cluster.address, str(FEW))
        driver = cluster.join(*command, out=tmp_path / "driver.out")
        wait_until(lambda: any(len(each.nodes) == 2 and "PENDING" in each.groups for each in cluster.sights), seen=look)
        wait_until(lambda: any((tmp_path / "storage" / "trials").glob("*.parquet")), "a trial is finished", seen=look)
        driver.send_signal(signal.SIGKILL)
        for phase in ("search", "confirm"):
            (tmp_path / phase).touch()
        wait_until(
            lambda: set(cluster.sights[-1].groups) == {"REMOVED"} and len(cluster.sights[-1].nodes) == 1, seen=look
        )
        num_before = len(Store.open(tmp_path / "storage").finished_ids())
        driver = cluster.join(*command, out=tmp_path / "driver.out")
        assert driver.wait(timeout=LIMIT_S) == 0, (tmp_path / "driver.out").read_text()
    assert 0 < num_before <= FEW
    check_all_finished_once(tmp_path / "storage")


def test_two_runs_that_share_a_cluster_have_one_of_its_two_slots_each(tmp_path, log):
    first, second = tmp_path / "first", tmp_path / "second"
    num_searched = {first: ENDLESS, second: FEW}
    begun = {
        first: lambda: any(each.epoch == HELD_AT for each in epochs(log)),
        second: lambda: any(second.glob("running/*")),
    }
    drivers = []
    with growing_cluster(version=2, max_nodes=0, cpus_of_head=2) as cluster:
        for storage, has_begun in begun.items():
            command = (growing_driver.__name__, str(storage), cluster.address, str(num_searched[storage]))
            drivers.append(cluster.join(*command, out=tmp_path / f"{storage.name}.out"))
            wait_until(has_begun, seen=(tmp_path / f"{storage.name}.out").read_text)
        for phase in ("search", "confirm"):
            (tmp_path / phase).touch()
        assert drivers[1].wait(timeout=LIMIT_S) == 0
        assert drivers[0].poll() is None, (tmp_path / "first.out").read_text()
    check_all_finished_once(second)
    ends = sorted(row["finished_at"] for row in Store.open(second).trials().to_pylist())
    rows = sorted(Store.open(first).trials().to_pylist(), key=lambda row: row["started_at"])
    beside = [row for row in rows if ends[0] <= row["started_at"] and row["finished_at"] <= ends[-1]]
    assert beside
    assert all(one["finished_at"] <= other["started_at"] for one, other in pairwise(beside))
