"""A driver that was stopped, suspended or frozen changes nothing once another one may be at work."""

from __future__ import annotations

import ast
import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from orchestrator.store import Files, Lease, LeaseLost, StorageError, Store, lease
from orchestrator.store.experiment_file import write_record
from orchestrator.store.lease import driven_by
from tests.orchestrator.run import fakes
from tests.orchestrator.store.leases import Clock, on_file, write_foreign
from tests.patience import wait_until

ROOT = Path(__file__).parents[3]
LONG_S = 600.0
PREDICTIONS = {"sample_id": np.array(["a"]), "target": np.zeros(1), "prediction": np.zeros(1)}


def suspend(clock: Clock) -> None:
    """A laptop is closed and opened, or a process gets SIGSTOP and SIGCONT."""
    clock.suspended_s += LONG_S


def freeze(clock: Clock) -> None:
    """A virtual machine stands still, and then hears what time it is."""
    clock.set_s += LONG_S


def write_large(store: Store) -> None:
    with store.files.writing("trials/large.parquet") as path:
        Path(path).write_bytes(b"large")


def finish(store: Store) -> None:
    fakes.train(fakes.Campaign(store, fakes.studies(), fakes.PROVENANCE), store.files.uri, most=1)


CHANGES: dict[str, Callable[[Store], Any]] = {
    "files.write": lambda store: store.files.write("trials/x", b"x"),
    "files.write durable": lambda store: store.files.write("trials/x", b"x", durable=True),
    "files.writing": write_large,
    "files.create": lambda store: store.files.create("trials/x", b"x"),
    "files.delete": lambda store: store.files.delete("experiment.json"),
    "files.delete folder": lambda store: store.files.delete("running"),
    "files.sweep": lambda store: store.files.sweep("trials/left.parquet"),
    "begin": lambda store: store.begin({"trial_id": "x"}),
    "write_run": lambda store: store.write_run({"started_at": "2026-03-01T12:00:00+00:00"}),
    "compact": lambda store: store.compact(),
    "experiment.json": lambda store: write_record(store.files, store.record),
    "checkpoint": lambda store: store.checkpoint_write("x", 1, b"x"),
    "predictions": lambda store: store.write_predictions("x", PREDICTIONS),
    "model": lambda store: store.write_model("x", save({"weight": np.zeros(1)})),
}


def content(folder: Path) -> dict[str, bytes]:
    """Every file, those with a dot in front included."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def storage(tmp_path: Path) -> Path:
    """Some finished trials, one that runs, and what a killed writer left behind."""
    folder = tmp_path / "storage"
    planned = fakes.studies()
    store = Store.create(folder, fakes.record(planned))
    campaign = fakes.Campaign(store, planned, fakes.PROVENANCE)
    fakes.train(campaign, str(folder), most=3)
    assert campaign.next() is not None
    (folder / "trials/.left.parquet.1.tmp").write_text("left")
    return folder


@pytest.mark.parametrize("stop", [suspend, freeze])
@pytest.mark.parametrize("change", CHANGES)
def test_a_driver_that_wakes_where_another_one_has_taken_over_changes_nothing(
    storage: Path, clock: Clock, change: str, stop: Callable[[Clock], None]
) -> None:
    with Lease(Files.at(storage)) as mine:
        store = Store.open(mine.files)
        stop(clock)
        write_foreign(Files.at(storage), age_s=0.0)
        before = content(storage)
        with pytest.raises(LeaseLost, match=r"taken over by the driver on node07 .*; stopped, so that no trial is tr"):
            CHANGES[change](store)
        assert content(storage) == before
        with pytest.raises(LeaseLost):
            CHANGES[change](store)
    assert content(storage) == before


@pytest.mark.parametrize("change", CHANGES)
def test_a_driver_that_wakes_and_finds_its_lease_beats_first_and_goes_on(
    storage: Path, clock: Clock, change: str
) -> None:
    with Lease(Files.at(storage)) as mine:
        store, first = Store.open(mine.files), on_file(mine.files)
        suspend(clock)
        before = content(storage)
        CHANGES[change](store)
        assert content(storage) | {"lease.json": b""} != before | {"lease.json": b""}
        assert on_file(mine.files)["beat"] > first["beat"]
        assert not mine.lost


def test_a_driver_looks_at_its_lease_again_before_a_beat_and_a_half_when_another_one_may_have_it(
    tmp_path: Path, clock: Clock
) -> None:
    files = Files.at(tmp_path)
    with Lease(files, ttl_s=60.0, beat_s=10.0) as mine:
        clock.passed_s += 14.9
        write_foreign(files, age_s=0.0)
        with pytest.raises(LeaseLost, match="taken over"):
            mine.check()


@pytest.mark.parametrize("where", ["files", "far"])
def test_a_driver_that_beats_asks_nothing_more_of_the_storage_for_its_writes(
    where: str, tmp_path: Path, clock: Clock, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    files: Files = request.getfixturevalue("far") if where == "far" else Files.at(tmp_path)
    asked = list[str]()
    whole = Files.read_small

    def counted(self: Files, path: str, most: int) -> bytes | None:
        asked.append(path)
        return whole(self, path, most)

    with Lease(files) as mine:
        monkeypatch.setattr(Files, "read_small", counted)
        for number in range(100):
            clock.passed_s += 0.1
            mine.files.write(f"trials/{number}", b"x")
        clock.set_s -= LONG_S  # a clock that is put back is no reason to look, either
        mine.files.write("trials/x", b"x")
    assert len(asked) == 1  # as it is given back


def test_on_an_object_store_who_is_overwritten_as_he_wakes_has_lost(far: Files, clock: Clock) -> None:
    with Lease(far) as mine:
        suspend(clock)
        clock.meanwhile = lambda: write_foreign(far, age_s=0.0)  # while it settles
        with pytest.raises(LeaseLost, match="node07"):
            mine.files.write("trials/x", b"x")
    assert on_file(far)["token"] == "theirs"
    assert not far.exists("trials/x")


def test_a_driver_that_is_stopped_between_reading_and_writing_its_lease_does_not_take_it_back(
    far: Files, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Files.read_small

    def read_and_stand_still(self: Files, path: str, most: int) -> bytes | None:
        data = whole(self, path, most)
        suspend(clock)
        write_foreign(far, age_s=0.0)
        return data

    with Lease(far) as mine:
        suspend(clock)
        with monkeypatch.context() as patch:
            patch.setattr(Files, "read_small", read_and_stand_still)
            with pytest.raises(StorageError, match="was stopped while"):
                mine.files.write("trials/x", b"x")
        assert on_file(far)["token"] == "theirs"
        with pytest.raises(LeaseLost, match="node07"):
            mine.files.write("trials/x", b"x")
        monkeypatch.setattr(Files, "read_small", read_and_stand_still)  # nor does who gives back his own
    assert on_file(far)["token"] == "theirs"


def test_a_heartbeat_that_took_longer_than_the_time_to_live_says_nothing(
    far: Files, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Files.write

    def late(self: Files, path: str, data: bytes, **options: Any) -> None:
        whole(self, path, data, **options)
        suspend(clock)

    with Lease(far) as mine:
        suspend(clock)
        with monkeypatch.context() as patch:
            patch.setattr(Files, "write", late)
            with pytest.raises(LeaseLost, match="a heartbeat on s3://bucket took longer than 60 s"):
                mine.check()


def test_what_was_given_back_is_not_written_to(tmp_path: Path) -> None:
    with Lease(Files.at(tmp_path)) as mine:
        mine.files.write("x", b"x")
    with pytest.raises(LeaseLost, match="was given back"):
        mine.files.write("x", b"y")
    assert mine.files.read("x") == b"x"


def test_who_is_stopped_under_the_lock_keeps_nobody_waiting_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "_LOCK_S", 0.1)
    with (tmp_path / ".lease.lock").open("w") as stopped:
        fcntl.flock(stopped, fcntl.LOCK_EX)
        with (
            pytest.raises(StorageError, match=r"has kept .*lease\.lock locked for") as caught,
            Lease(Files.at(tmp_path)),
        ):
            pytest.fail("it is locked")
    assert len(str(caught.value).splitlines()) == 1


def test_a_worker_looks_every_few_seconds_whether_its_driver_still_holds_the_storage(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, asked = Files.at(tmp_path), list[str]()
    whole = Files.read_small

    def counted(self: Files, path: str, most: int) -> bytes | None:
        asked.append(path)
        return whole(self, path, most)

    with Lease(files) as mine:
        worker = Store.create(driven_by(files, mine.token), fakes.record(fakes.studies()))
        monkeypatch.setattr(Files, "read_small", counted)
        for epoch in range(1, 51):
            clock.passed_s += 0.15
            worker.checkpoint_write("x", epoch, b"x")
        assert len(asked) == 0
        clock.passed_s += 5.0
        worker.checkpoint_write("x", 51, b"x")
        assert len(asked) == 1
        suspend(clock)
        worker.checkpoint_write("x", 52, b"x")
        suspend(clock)
        write_foreign(files, age_s=0.0)
        before = content(tmp_path)
        for write in ("checkpoint", "predictions", "model"):
            with pytest.raises(LeaseLost, match="the driver of this worker has lost its lease: the driver on node07"):
                CHANGES[write](worker)
        files.delete("lease.json")
        with pytest.raises(LeaseLost, match="nobody"):
            worker.checkpoint_write("x", 53, b"x")
        assert content(tmp_path) == {name: data for name, data in before.items() if name != "lease.json"}


def test_whoever_holds_a_lease_changes_the_storage_by_what_it_guards() -> None:
    """`with Lease(...)` without `as` writes through files that look at nothing."""
    sources = {path: path.read_text() for path in sorted((ROOT / "orchestrator").rglob("*.py"))}
    items = [
        (path.name, item)
        for path, source in sources.items()
        if "Lease(" in source
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.With)
        for item in node.items
        if "Lease(" in ast.unparse(item.context_expr)
    ]
    assert len(items) >= 4
    assert [name for name, item in items if item.optional_vars is None] == []


DRIVER = """
import sys, time
from orchestrator.run.campaign import Campaign
from orchestrator.store import Files, Lease, Store
from orchestrator.store.lease import driven_by
from tests.orchestrator.run import fakes

class Slow(fakes.ToyRun):
    def train_epoch(self):
        time.sleep(0.02)
        return super().train_epoch()

planned = fakes.studies(search={"trials": 40, "pruner": {"kind": "none"}})
try:
    with Lease(Files.at(sys.argv[1]), ttl_s=2.0, beat_s=0.5) as lease:
        store = Store.create(lease.files, fakes.record(planned))
        print("begun", flush=True)
        campaign = Campaign(store, planned, fakes.PROVENANCE)
        workers = driven_by(Files.at(sys.argv[1]), lease.token, every_s=0.5)
        fakes.train(campaign, workers, workload=lambda *given: Slow(given[0]))
except ValueError as error:
    print(type(error).__name__, error, flush=True)
"""


@pytest.mark.slow
def test_a_driver_that_is_stopped_until_another_one_is_at_work_writes_nothing_when_it_goes_on(tmp_path: Path) -> None:
    command = [sys.executable, "-c", DRIVER, str(tmp_path)]
    stopped = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert stopped.stdout is not None
    try:
        assert stopped.stdout.readline().strip() == "begun"
        wait_until(lambda: len(list(tmp_path.glob("trials/*.parquet"))) >= 3, process=stopped)
        os.kill(stopped.pid, signal.SIGSTOP)
        other = taken(tmp_path, stopped.pid)
        try:
            planned = fakes.studies(search={"trials": 40, "pruner": {"kind": "none"}})
            store = Store.create(other.files, fakes.record(planned))
            campaign = fakes.Campaign(store, planned, fakes.PROVENANCE)
            fakes.train(campaign, str(tmp_path), most=5)
            before = content(tmp_path)
            os.kill(stopped.pid, signal.SIGCONT)
            said, _ = stopped.communicate()
            after = content(tmp_path)
            ours = (
                f"LeaseLost the lease on {tmp_path} was taken",
                "OutOfReach the driver of this worker has lost its lease",
            )
            assert said.startswith(ours)  # whoever of the two writes first
            assert f"(pid {os.getpid()})" in said
            assert len(said.splitlines()) == 1
            assert {**after, "lease.json": b""} == {**before, "lease.json": b""}
            fakes.train(campaign, str(tmp_path))
            assert campaign.done
        finally:
            other.__exit__(None, None, None)
    finally:
        stopped.kill()
        stopped.wait()
    rows = fakes.table(str(tmp_path))
    assert len(rows) == len({row["trial_id"] for row in rows}) == 42


def taken(folder: Path, stopped: int) -> Lease:
    """The lease of a driver on this machine that is stopped, once its heartbeat is old."""
    held = list[Lease]()

    def take() -> bool:
        other = Lease(Files.at(folder), ttl_s=3.0, beat_s=0.5)
        try:
            held.append(other.__enter__())
        except StorageError as error:
            if "locked" in str(error):  # stopped in the very millisecond of a heartbeat
                os.kill(stopped, signal.SIGCONT)
                os.kill(stopped, signal.SIGSTOP)
            return False
        return True

    wait_until(take)
    return held[0]
